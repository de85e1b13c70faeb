"""What newer nodes may say, and what is no nature."""

from __future__ import annotations

import pytest

from tunnel.errors import Malformed
from tunnel.wire.check import parse_check
from tunnel.wire.nature import Behaviour, MappingState, Nature


def test_nothing_known() -> None:
    assert Nature().pack() == bytes.fromhex("0a01000000000000 0000 0000")
    assert parse_check(Nature().pack()) == Nature()


def test_a_newer_version_says_more_and_other_things() -> None:
    newer = bytes.fromhex("0a02ffff7f09ee03 ffff 0101 010203")
    assert parse_check(newer) == Nature(
        Behaviour.UNKNOWN,
        Behaviour.UNKNOWN,
        None,
        None,
        MappingState.UNKNOWN,
        3,
        *[True] * 6,
    )


def test_no_version() -> None:
    with pytest.raises(Malformed, match=r"^nature version$"):
        parse_check(bytes([10]) + bytes(11))


def test_more_routers_than_the_field_holds() -> None:
    assert parse_check(Nature(routers=1000).pack()) == Nature(routers=255)


@pytest.mark.parametrize("behaviour", Behaviour)
def test_which_mappings_vary(behaviour: Behaviour) -> None:
    assert behaviour.varies is (behaviour > Behaviour.ENDPOINT_INDEPENDENT)
