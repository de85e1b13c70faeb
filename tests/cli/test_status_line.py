"""The line about the NAT in ``punchtun status``."""

from __future__ import annotations

from typing import Any

import pytest

from tunnel.cli.status_view import format_flood, format_nat

UNKNOWN: dict[str, Any] = {
    "mapping": None,
    "filtering": None,
    "hairpin": None,
    "present": None,
    "evidence": [],
}
INDEPENDENT = "endpoint-independent"


@pytest.mark.parametrize(
    ("known", "line"),
    [
        ({}, "NAT mapping not known yet, filtering not known yet"),
        (
            {"mapping": INDEPENDENT, "filtering": "address-dependent", "hairpin": False},
            f"NAT mapping {INDEPENDENT}, filtering address-dependent, does not hairpin",
        ),
        (
            {"mapping": INDEPENDENT, "filtering": INDEPENDENT, "hairpin": True, "present": True},
            f"NAT mapping {INDEPENDENT}, filtering {INDEPENDENT}, hairpins",
        ),
        (
            {"mapping": INDEPENDENT, "filtering": INDEPENDENT, "present": False},
            f"no NAT; filtering {INDEPENDENT}",
        ),
        (
            {"evidence": ["router 2 is 100.64.0.1: a carrier-grade NAT stands before us"]},
            "NAT mapping not known yet, filtering not known yet; behind a carrier's NAT, too",
        ),
    ],
)
def test_line(known: dict[str, Any], line: str) -> None:
    assert format_nat(UNKNOWN | known) == line


def test_a_flood_is_a_line() -> None:
    assert format_flood(None) == []
    flood = {"since_s": 8.04, "datagrams_per_s": 150_000, "read_share": 0.002}
    assert format_flood(flood) == [
        "flooded by strangers for 8 s, with some 150000 datagrams a second, of which 0.20% are read"
    ]
