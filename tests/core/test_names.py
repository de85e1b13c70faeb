"""Whose a name is, and the lines that tell it."""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.ends import Network, key
from tunnel.core.names import format_names, name_members, parse_names

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


LINES = b"10.81.7.1 attic.punchtun\nfd00::1 attic.punchtun\n10.81.7.2 pi.punchtun\n"


def test_lines_of_names() -> None:
    names = {
        "attic": [ipaddress.ip_address("10.81.7.1"), ipaddress.ip_address("fd00::1")],
        "pi": [ipaddress.ip_address("10.81.7.2")],
    }
    assert format_names(names) == LINES
    assert parse_names(LINES) == (names, 0)
    assert parse_names(b"") == ({}, 0)


@pytest.mark.parametrize(
    "line",
    [
        "10.81.7.2 pi.example.org",
        "10.81.7.2 punchtun",
        "10.81.7.2 .punchtun",
        "10.81.7.2 a.pi.punchtun",
        "10.81.7.2 pi.punchtun localhost",
        "10.81.7.2 pi.punchtun ",
        "10.81.7.2\tpi.punchtun",
        " 10.81.7.2 pi.punchtun",
        "10.81.7.2 pi.punchtun\r",
        "10.81.7.2 pi.punchtun # mine",
        "10.81.7.2 Pi.punchtun",
        "10.81.7.2 -pi.punchtun",
        "10.81.7.2 pi-.punchtun",
        f"10.81.7.2 {64 * 'a'}.punchtun",
        "# punchtun end /var/lib/punchtun/default",
        "10.81.7 pi.punchtun",
        "010.81.7.2 pi.punchtun",
        "10.81.7.2%1 pi.punchtun",
        "fd00::1%eth0 pi.punchtun",
        "FD00::1 pi.punchtun",
        "fd00:0::1 pi.punchtun",
        "127.0.0.1 pi.punchtun",
        "127.9.9.9 pi.punchtun",
        "0.0.0.0 pi.punchtun",
        "0.0.0.1 pi.punchtun",
        "255.255.255.255 pi.punchtun",
        "224.0.0.1 pi.punchtun",
        "169.254.1.1 pi.punchtun",
        ":: pi.punchtun",
        "::1 pi.punchtun",
        "::7f00:1 pi.punchtun",
        "::ffff:7f00:1 pi.punchtun",
        "::ffff:127.0.0.1 pi.punchtun",
        "ff02::1 pi.punchtun",
        "fe80::1 pi.punchtun",
    ],
)
def test_lines_that_give_no_member_a_name(line: str) -> None:
    named, _ = parse_names(LINES)
    assert parse_names(line.encode() + b"\n" + LINES) == (named, 1)


ADDRESSES = st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="fd00::/8")
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)


@given(st.dictionaries(LABELS, st.lists(ADDRESSES, min_size=1)))
def test_what_was_written_is_read(names: dict[str, list[ipaddress.IPv4Address]]) -> None:
    assert parse_names(format_names(names)) == (names, 0)


@given(
    st.lists(
        st.binary(max_size=20)
        | st.builds(lambda a, n: f"{a} {n}".encode(), st.ip_addresses(), st.text(max_size=9))
        | st.builds(lambda a, n: f"{a} {n}.punchtun".encode(), st.ip_addresses(), LABELS)
    )
)
def test_of_any_text_only_lines_of_names_are_taken(lines: list[bytes]) -> None:
    text = b"\n".join(lines)
    names, _ = parse_names(text)
    assert {*format_names(names).splitlines()} <= {*text.split(b"\n")}
    for address in [each for named in names.values() for each in named]:
        assert not address.is_loopback
        assert not address.is_unspecified
        assert not address.is_multicast
