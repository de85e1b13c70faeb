"""Whose a name is."""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools

from tests.core.ends import Network, key
from tunnel.core.names import name_members

NETWORK = Network()
FOUNDER = NETWORK.certificate
OLD = dataclasses.replace(
    NETWORK.certify(key(2), "pi", 2), issued=FOUNDER.issued + 10, serial=FOUNDER.serial + 10
)
YOUNG = dataclasses.replace(
    NETWORK.certify(key(3), "nas", 3), issued=FOUNDER.issued + 20, serial=FOUNDER.serial + 20
)


def addresses(certificate: object) -> list[object]:
    return [each.ip for each in certificate.addresses]  # type: ignore[attr-defined]


def test_every_member_has_its_addresses() -> None:
    named = name_members([FOUNDER, YOUNG, OLD])
    assert list(named) == sorted([FOUNDER.name, "nas", "pi"])
    assert named["pi"] == addresses(OLD)
    assert len(named["pi"]) == 2


def test_a_name_that_two_have_is_the_older_members_in_any_order() -> None:
    usurper = dataclasses.replace(YOUNG, name="pi")
    for order in itertools.permutations([FOUNDER, OLD, usurper]):
        named = name_members(order)
        assert named["pi"] == addresses(OLD)
        assert len(named) == 2


def test_a_name_leads_to_nobody_elses_address() -> None:
    contested, own = OLD.addresses[0], ipaddress.IPv6Interface("fd00::9/64")
    thief = dataclasses.replace(YOUNG, addresses=(contested, own))
    assert name_members([thief, OLD])["nas"] == [own.ip]
    assert "nas" not in name_members([dataclasses.replace(YOUNG, addresses=(contested,)), OLD])
