"""What ``punchtun revoke`` says to people."""

from __future__ import annotations

import pytest

from tunnel.cli.node import format_revoked
from tunnel.cli.status_view import format_status


@pytest.mark.parametrize(
    ("told", "words"),
    [([], "nobody is online to be told"), (["nas", "tv"], "told nas, tv")],
)
def test_a_member(told: list[str], words: str) -> None:
    line = format_revoked({"name": "pi", "public_key": "abc", "told": told})
    assert line.startswith(f"punchtun: pi is revoked; {words}.")


def test_an_invitation() -> None:
    line = format_revoked({"name": "pi", "public_key": None, "told": []})
    assert line == "punchtun: the invitation for pi is withdrawn"


@pytest.mark.parametrize("is_revoked", [False, True])
def test_the_status_of_a_machine_that_is_revoked_begins_with_that(is_revoked: bool) -> None:
    nat = {"mapping": None, "filtering": None, "hairpin": None, "present": None, "evidence": []}
    status = {
        "node": {
            "name": "pi",
            "addresses": [],
            "interface": "t",
            "flood": None,
            "is_revoked": is_revoked,
        },
        "network": {"id": "1", "cidr": "10.9.0.0/24"},
        "server": {
            "url": "u",
            "state": "unreachable",
            "rtt_ms": None,
            "refusal": None,
            "relay_refusal": None,
        },
        "nat": nat,
        "peers": [],
    }
    assert ("REVOKED" in format_status(status).splitlines()[0]) is is_revoked
