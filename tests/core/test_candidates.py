from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.core.candidates import (
    Address,
    HostAddress,
    admit_candidates,
    gather_candidates,
    is_public,
    merge_observed,
    rank_hosts,
)
from tunnel.wire.candidate import MAX_CANDIDATES, Candidate, CandidateKind
from tunnel.wire.endpoint import Endpoint

HOST, REFLEXIVE = CandidateKind.HOST, CandidateKind.SERVER_REFLEXIVE


def interfaces(*texts: str) -> list[HostAddress]:
    return [HostAddress(ipaddress.ip_interface(text)) for text in texts]


TUNNEL = [address.interface for address in interfaces("10.9.0.1/24", "fd77::1/64")]


def admitted(
    *hosts: str, local: list[HostAddress] | None = None, port: int = 7, routes: Sequence[str] = ()
) -> list[str]:
    announced = [Candidate(HOST, Endpoint(host, port)) for host in hosts]
    networks = [ipaddress.ip_network(route) for route in routes]
    found = admit_candidates(announced, local or [], TUNNEL, routes=networks)
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
    "192.0.0.1",
    "192.88.99.1",
    "::ffff:8.8.8.8",
    "::8.8.8.8",
    "64:ff9b::808:808",
    "64:ff9b:1::808:808",
    "100::1",
    "2002:808:808::1",
    "2001:0:808:808::1",
    "4000::1",
    "5f00::1",
]
ANYWHERE = ("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0", "::/1", "8000::/1")


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
def test_private_where_the_prefix_is_shared_or_routed(host: str, local: str) -> None:
    assert admitted(host, local=interfaces(local)) == [host]
    elsewhere = interfaces("192.168.9.7/24", "fd12:3457::1/64")
    assert admitted(host, local=elsewhere) == []
    prefix = str(ipaddress.ip_interface(local).network)
    assert admitted(host, local=elsewhere, routes=[prefix]) == [host]
    assert admitted(host, local=elsewhere, routes=["192.168.77.0/24", "fd00::/16"]) == []


@pytest.mark.parametrize("host", [*PRIVATE, *NEVER])
def test_no_default_route_makes_anybody_our_neighbour(host: str) -> None:
    wide = [*ANYWHERE, "192.0.0.0/4", "64:ff9b::/96", "169.254.0.0/16", "224.0.0.0/4", "2002::/16"]
    assert admitted(host, local=interfaces("198.51.100.7/0", "2a00::7/0"), routes=wide) == []


@pytest.mark.parametrize("host", NEVER)
def test_what_is_nobodys_address_is_not_checked_on_the_link_either(host: str) -> None:
    prefix = f"{host}/{'112' if ':' in host else '16'}"
    local = interfaces(str(ipaddress.ip_interface(prefix).network[9]) + prefix[len(host) :])
    assert admitted(host, local=local) == []


def test_no_broadcast_of_a_routed_prefix() -> None:
    routes = ["192.168.2.0/24"]
    hosts = ["192.168.2.0", "192.168.2.255", "192.168.2.9"]
    assert admitted(*hosts, routes=routes) == ["192.168.2.9"]


def test_not_where_we_are_seen_ourselves() -> None:
    ours, neighbour = Endpoint("203.0.113.7", 4000), Endpoint("203.0.113.7", 4001)
    announced = [Candidate(REFLEXIVE, ours), Candidate(REFLEXIVE, neighbour)]
    found = admit_candidates(announced, [], [], own_endpoints=[ours])
    assert found == (Candidate(REFLEXIVE, neighbour),)


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
        Candidate(HOST, Endpoint("2001:db8::7", 51000)),
        Candidate(HOST, Endpoint("192.168.8.7", 51000)),
        Candidate(REFLEXIVE, Endpoint("203.0.113.7", 4000)),
    )


def address(
    text: str, *, temporary: bool = False, deprecated: bool = False, out: bool = False
) -> HostAddress:
    return HostAddress(ipaddress.ip_interface(text), temporary, deprecated, out)


RANKED = [
    address("2001:db8::7e4/64", temporary=True, out=True),
    address("192.168.8.7/24", out=True),
    address("2001:db8::7/64", out=True),
    address("10.0.0.7/24", out=True),
    address("fd12::7/64", out=True),
    address("fd34::7/64"),
    address("172.17.0.1/16"),
    address("172.18.0.1/16"),
    address("2001:db8::bad/64", temporary=True, deprecated=True, out=True),
    address("2001:db8::b/64", deprecated=True, out=True),
]


def test_hosts_by_rank_whatever_order_the_kernel_has() -> None:
    ranks = [2, 8, 6, 1, 0, 9, 5, 7, 4, 3]
    shuffled = [RANKED[rank] for rank in ranks]
    # Within a rank (192.168.8.7 and 10.0.0.7, …) the kernel's order stays.
    assert rank_hosts(shuffled) == RANKED
    assert rank_hosts([*shuffled, *shuffled]) == RANKED
    assert rank_hosts([]) == []


def test_deprecated_addresses_come_after_all_else() -> None:
    seen, mapped = Endpoint("203.0.113.7", 4000), Endpoint("203.0.113.7", 51000)
    alternate = Endpoint("203.0.113.7", 4001)
    found = gather_candidates(RANKED, 5, [seen], mapped, [alternate])
    hosts = [Candidate(HOST, Endpoint(str(a.ip), 5)) for a in RANKED]
    assert found == (
        *hosts[:8],
        Candidate(CandidateKind.PORT_MAPPED, mapped),
        Candidate(REFLEXIVE, seen),
        Candidate(CandidateKind.ALTERNATE_REFLEXIVE, alternate),
        *hosts[8:],
    )


def test_only_deprecated_addresses_are_better_than_none() -> None:
    only = [address("2001:db8::b/64", deprecated=True)]
    assert gather_candidates(only, 5, []) == (Candidate(HOST, Endpoint("2001:db8::b", 5)),)


def test_both_ports_see_the_same() -> None:
    seen = Endpoint("203.0.113.7", 4000)
    found = gather_candidates([], 5, [seen], None, [seen])
    assert found == (Candidate(REFLEXIVE, seen),)


def test_what_does_not_fit_is_what_helps_least() -> None:
    bridges = [address(f"172.{number}.0.1/16") for number in range(20, 60)]
    leaving = [address(f"2001:db8::{n:x}/64", deprecated=True, out=True) for n in range(1, 40)]
    useful = [
        address("2001:db8::7e4/64", temporary=True, out=True),
        address("10.0.0.7/24", out=True),
    ]
    seen = [Endpoint("203.0.113.7", 4000), Endpoint("2001:db8:9::1", 4000)]
    found = gather_candidates([*bridges, *leaving, *useful], 5, seen)
    assert len(found) == MAX_CANDIDATES
    assert [c.endpoint.host for c in found[:2]] == ["2001:db8::7e4", "10.0.0.7"]
    assert [c.endpoint for c in found[-2:]] == seen
    assert all(c.endpoint.host.startswith("172.") for c in found[2:-2])
    # There is room for some of those that are going away, where there are fewer bridges.
    found = gather_candidates([*bridges[:5], *leaving, *useful], 5, seen)
    assert [c.endpoint.host for c in found[7:9]] == [endpoint.host for endpoint in seen]
    assert [c.endpoint.host for c in found[9:]] == [str(a.ip) for a in leaving[:23]]


def test_where_the_server_sees_a_peer_keeps_the_order() -> None:
    seen = Endpoint("203.0.113.7", 4000)
    hosts = [Candidate(HOST, Endpoint("10.0.0.7", 5)), Candidate(HOST, Endpoint("2001:db8::7", 5))]
    late = Candidate(HOST, Endpoint("2001:db8::b", 5))
    other = Candidate(REFLEXIVE, Endpoint("2001:db8:9::1", 4000))
    here = Candidate(REFLEXIVE, seen)
    assert merge_observed([*hosts, other, late], seen) == [*hosts, here, other, late]
    assert merge_observed([*hosts, here, other, late], seen) == [*hosts, here, other, late]
    assert merge_observed(hosts, seen) == [*hosts, here]
    assert merge_observed([], seen) == [here]


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


@given(
    st.lists(st.ip_addresses(), max_size=20),
    st.lists(st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="fc00::/7")),
    st.lists(st.tuples(st.ip_addresses(), st.integers(0, 32)), max_size=5),
)
def test_admitted_is_public_or_near(
    strangers: list[Address], private: list[Address], routes: list[tuple[Address, int]]
) -> None:
    prefixes = [ipaddress.ip_network(f"{ip}/{length}", strict=False) for ip, length in routes]
    announced = [Candidate(HOST, Endpoint(str(ip), 7)) for ip in [*strangers, *private]]
    local = interfaces("10.1.2.3/24", "fd12::7/64")
    found = admit_candidates(announced, local, TUNNEL, routes=prefixes)
    carrier = ipaddress.ip_network("100.64.0.0/10")  # Not public either, and not called private.
    near = [a.network for a in local]
    near += [
        network
        for network in prefixes
        if network.is_private
        or (isinstance(network, ipaddress.IPv4Network) and network.subnet_of(carrier))
    ]
    for candidate in found:
        ip = ipaddress.ip_address(candidate.endpoint.host)
        assert is_public(ip) or any(ip in network for network in near)
        assert not any((ip.is_multicast, ip.is_loopback, ip.is_link_local))
        assert not any(ip in network.network for network in TUNNEL)
    kept = set(found)
    assert list(found) == [c for c in announced if c in kept], "in the order given"
