from __future__ import annotations

import ipaddress

import pytest

from tunnel.core.candidates import admit_candidates, gather_candidates, is_public
from tunnel.core.configuration import LocalInterface
from tunnel.wire.candidate import MAX_CANDIDATES, Candidate, CandidateKind
from tunnel.wire.endpoint import Endpoint

HOST, REFLEXIVE = CandidateKind.HOST, CandidateKind.SERVER_REFLEXIVE


def interfaces(*texts: str) -> list[LocalInterface]:
    return [ipaddress.ip_interface(text) for text in texts]


TUNNEL = interfaces("10.9.0.1/24", "fd77::1/64")


def admitted(*hosts: str, local: list[LocalInterface] | None = None, port: int = 7) -> list[str]:
    announced = [Candidate(HOST, Endpoint(host, port)) for host in hosts]
    found = admit_candidates(announced, local or [], TUNNEL)
    assert all(candidate in announced for candidate in found)
    return [candidate.endpoint.host for candidate in found]


PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.0.1",
    "172.32.0.1",
    "192.167.0.1",
    "192.169.0.1",
    "203.0.113.7",  # documentation and benchmarks: the internet of laboratories
    "198.51.100.7",
    "192.0.2.7",
    "198.18.0.7",
    "2001:db8::7",
    "2a00:1450::7",
]
PRIVATE = [
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.255.1",
    "100.64.0.1",
    "100.127.255.255",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
]
NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "127.255.255.1",
    "169.254.1.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "ff02::1",
]


@pytest.mark.parametrize("host", PUBLIC)
def test_public(host: str) -> None:
    assert is_public(ipaddress.ip_address(host))
    assert admitted(host) == [host]


@pytest.mark.parametrize("host", [*PRIVATE, *NEVER])
def test_not_public(host: str) -> None:
    assert not is_public(ipaddress.ip_address(host))
    assert admitted(host) == []
    assert admitted(host, local=interfaces("192.0.2.1/24", "2001:db8::1/64")) == []


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("192.168.8.20", "192.168.8.7/24"),
        ("10.1.2.3", "10.200.0.1/8"),
        ("100.64.3.4", "100.64.9.9/16"),
        ("fd12:3456::20", "fd12:3456::7/64"),
    ],
)
def test_private_where_the_prefix_is_shared(host: str, local: str) -> None:
    assert admitted(host, local=interfaces(local)) == [host]
    assert admitted(host, local=interfaces("192.168.9.7/24", "fd12:3457::1/64")) == []


def test_never_our_own_nor_inside_the_tunnel() -> None:
    local = interfaces("192.168.8.7/24", "203.0.113.7/24", "2001:db8::7/64", "10.9.0.1/8")
    assert admitted("192.168.8.7", "203.0.113.7", "2001:db8::7", local=local) == []
    assert admitted("10.9.0.2", "10.9.0.1", "fd77::2", local=local) == []
    assert admitted("10.9.1.2", local=local) == ["10.9.1.2"]


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("192.168.8.255", "192.168.8.7/24"),
        ("192.168.8.0", "192.168.8.7/24"),
        ("203.0.113.255", "203.0.113.7/24"),
    ],
)
def test_no_broadcast(host: str, local: str) -> None:
    """A peer must not make us shout at a whole LAN."""
    assert admitted(host, local=interfaces(local)) == []


def test_both_ends_of_a_point_to_point_link() -> None:
    assert admitted("192.168.8.0", local=interfaces("192.168.8.1/31")) == ["192.168.8.0"]


def test_port_zero_and_names_are_no_candidates() -> None:
    assert admitted("8.8.8.8", port=0) == []
    assert admitted("relay", "example.org", "") == []


def test_order_is_kept() -> None:
    hosts = ["8.8.8.8", "192.168.8.9", "2001:db8::9", "9.9.9.9"]
    assert admitted(*hosts, local=interfaces("192.168.8.7/24")) == hosts


def test_gather() -> None:
    seen = [Endpoint("203.0.113.7", 4000), Endpoint("192.168.8.7", 51000)]
    found = gather_candidates(interfaces("192.168.8.7/24", "2001:db8::7/64"), 51000, seen)
    assert found == (
        Candidate(HOST, Endpoint("192.168.8.7", 51000)),
        Candidate(HOST, Endpoint("2001:db8::7", 51000)),
        Candidate(REFLEXIVE, Endpoint("203.0.113.7", 4000)),
    )


def test_gather_what_the_router_forwards() -> None:
    seen, mapped = Endpoint("203.0.113.7", 4000), Endpoint("203.0.113.7", 51000)
    local = interfaces("192.168.8.7/24")
    found = gather_candidates(local, 51000, [seen], mapped)
    assert found == (
        Candidate(HOST, Endpoint("192.168.8.7", 51000)),
        Candidate(CandidateKind.PORT_MAPPED, mapped),
        Candidate(REFLEXIVE, seen),
    )
    # Known already: one check is enough.
    assert gather_candidates(local, 51000, [seen], seen) == gather_candidates(local, 51000, [seen])


def test_a_forwarded_port_is_not_crowded_out() -> None:
    many = interfaces(*(f"2001:db8::{number:x}/64" for number in range(1, 60)))
    seen, mapped = Endpoint("203.0.113.7", 4000), Endpoint("203.0.113.7", 51000)
    found = gather_candidates(many, 51000, [seen], mapped)
    assert len(found) == MAX_CANDIDATES
    assert found[-2:] == (Candidate(CandidateKind.PORT_MAPPED, mapped), Candidate(REFLEXIVE, seen))


def test_gather_no_more_than_a_message_holds() -> None:
    many = interfaces(*(f"2001:db8::{number:x}/64" for number in range(1, 60)))
    seen = Endpoint("203.0.113.7", 4000)
    found = gather_candidates(many, 51000, [seen])
    assert len(found) == MAX_CANDIDATES
    assert found[-1] == Candidate(REFLEXIVE, seen)
    assert found[0] == Candidate(HOST, Endpoint("2001:db8::1", 51000))
