"""The lab's NATs behave as declared: proven with plain UDP sockets."""

from __future__ import annotations

import socket

import pytest

from .lab import Lab, Nat
from .probes import arrives, home_with_host, is_dropped, make_servers, seen, where
from .wait import wait_until

pytestmark = pytest.mark.root

MAPPINGS = ("endpoint-independent", "address-dependent", "address-and-port-dependent")


@pytest.mark.parametrize("filtering", MAPPINGS)
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_mapping_and_filtering_are_as_declared(lab: Lab, mapping: str, filtering: str) -> None:
    servers = make_servers(lab)
    _, pi = home_with_host(lab, mapping=mapping, filtering=filtering)

    inside = pi.udp_socket(5000)
    first, same_host, other_host = (seen(inside, server) for server in servers)
    assert {first[0], same_host[0], other_host[0]} == {"198.51.100.7"}
    assert (first == same_host) == (mapping != "address-and-port-dependent")
    assert (first == other_host) == (mapping == "endpoint-independent")

    quiet = pi.udp_socket(5001)
    external = seen(quiet, servers.first)
    assert arrives(servers.first, external, quiet)
    expected = is_dropped if filtering == MAPPINGS[2] else arrives
    assert expected(servers.same_host, external, quiet)
    expected = arrives if filtering == MAPPINGS[0] else is_dropped
    assert expected(servers.other_host, external, quiet)


def test_endpoint_independent_mapping_keeps_the_port(lab: Lab) -> None:
    servers = make_servers(lab)
    _, pi = home_with_host(lab)
    assert seen(pi.udp_socket(5000), servers.first) == ("198.51.100.7", 5000)


def test_two_hosts_with_the_same_port_get_different_external_ports(lab: Lab) -> None:
    servers = make_servers(lab)
    home, pi = home_with_host(lab)
    laptop = home.host("laptop")
    assert seen(pi.udp_socket(5000), servers.first) != seen(laptop.udp_socket(5000), servers.first)


def test_random_ports_use_the_whole_range(lab: Lab) -> None:
    servers = make_servers(lab)
    _, pi = home_with_host(lab, mapping="address-and-port-dependent")
    ports = {seen(pi.udp_socket(), servers.first)[1] for _ in range(64)}
    assert len(ports) > 60
    assert max(ports) - min(ports) > 20000


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_ports_come_from_the_block(lab: Lab, mapping: str) -> None:
    servers = make_servers(lab)
    _, pi = home_with_host(lab, mapping=mapping, ports=(40000, 42047))
    inside = [pi.udp_socket(5000 + number) for number in range(16)]
    for server in servers:
        ports = [seen(socket, server)[1] for socket in inside]
        assert all(40000 <= port <= 42047 for port in ports)
        assert len(set(ports)) == 16


def test_endpoint_independent_mapping_in_a_block_has_one_port_per_socket(lab: Lab) -> None:
    servers = make_servers(lab)
    _, pi = home_with_host(lab, ports=(40000, 40511))
    inside = pi.udp_socket(5000)
    assert len({seen(inside, server) for server in servers}) == 1


def test_sequential_ports_count_up(lab: Lab) -> None:
    servers = make_servers(lab)
    _, pi = home_with_host(lab, mapping="address-and-port-dependent", allocation="sequential")
    inside = pi.udp_socket()
    ports = [seen(inside, server)[1] for server in servers]
    assert ports == [40000, 40001, 40002]
    assert seen(inside, servers.first)[1] == 40000


def test_no_hairpin(lab: Lab) -> None:
    servers = make_servers(lab)
    home, pi = home_with_host(lab, filtering="endpoint-independent")
    laptop = home.host("laptop")
    inside = pi.udp_socket()
    external = seen(inside, servers.first)
    neighbour = laptop.udp_socket()
    assert is_dropped(neighbour, external, inside)
    assert arrives(neighbour, (pi.ip4, where(inside)[1]), inside)


def test_hairpin(lab: Lab) -> None:
    """RFC 4787 REQ-9: the source is the external endpoint; and an answer comes back."""
    servers = make_servers(lab)
    home, pi = home_with_host(lab, filtering="endpoint-independent", hairpin=True)
    one, two = pi.udp_socket(), home.host("laptop").udp_socket()
    external_one, external_two = seen(one, servers.first), seen(two, servers.first)
    for _ in range(2):
        assert arrives(one, external_two, two)
        two.sendto(b"whose", external_one)
        assert one.recvfrom(64) == (b"whose", external_two)
    assert seen(one, servers.other_host) == external_one
    assert arrives(one, ("192.168.1.3", where(two)[1]), two)


def test_entries_are_counted(lab: Lab) -> None:
    servers = make_servers(lab)
    home, pi = home_with_host(lab, udp_timeout=1)
    home.count_entries()
    assert home.peak_entries() == 0
    inside = pi.udp_socket(5000)
    for port in range(4000, 4030):
        inside.sendto(b"x", ("203.0.113.11", port))
    wait_until(lambda: home.entries() == 30)
    wait_until(lambda: not home.mappings())
    seen(inside, servers.first)
    assert (home.entries(), home.peak_entries()) == (1, 30)


def test_a_mapping_expires_and_traffic_keeps_it(lab: Lab) -> None:
    servers = make_servers(lab)
    home, pi = home_with_host(lab, udp_timeout=1, udp_timeout_stream=1)
    kept, forgotten = pi.udp_socket(5000), pi.udp_socket(5001)
    seen(forgotten, servers.first)

    def refresh_until_the_other_is_gone() -> bool:
        seen(kept, servers.first)
        return {mapping["source"][1] for mapping in home.mappings()} == {5000}

    wait_until(refresh_until_the_other_is_gone, interval=0.1)
    assert arrives(servers.first, ("198.51.100.7", 5000), kept)
    assert is_dropped(servers.first, ("198.51.100.7", 5001), forgotten)


def test_an_opening_to_all_expires(lab: Lab) -> None:
    servers = make_servers(lab)
    home, pi = home_with_host(lab, filtering="endpoint-independent", udp_timeout=1)
    inside = pi.udp_socket(5000)
    external = seen(inside, servers.first)
    wait_until(lambda: not home.mappings())
    wait_until(lambda: is_dropped(servers.other_host, external, inside), interval=1.2)


@pytest.mark.parametrize("protocol", [None, "udp"])
def test_after_a_flush_only_an_outbound_packet_heals(lab: Lab, protocol: str | None) -> None:
    servers = make_servers(lab)
    home, pi = home_with_host(lab)
    inside = pi.udp_socket(5000)
    external = seen(inside, servers.first)
    home.flush_mappings(protocol=protocol)
    assert home.mappings() == []
    assert is_dropped(servers.first, external, inside)
    assert is_dropped(servers.first, external, inside)
    assert home.mappings() == []
    assert seen(inside, servers.first) == external
    assert arrives(servers.first, external, inside)


def test_a_tracking_router_poisons_the_port_a_stranger_knocked_on(lab: Lab) -> None:
    """NATs as measured, 2 and 4: whoever is tracked first decides the port."""
    servers = make_servers(lab)
    home, pi = home_with_host(lab, unsolicited="track")
    inside = pi.udp_socket(5000)
    external = seen(inside, servers.first)
    home.flush_mappings()
    assert is_dropped(servers.first, external, inside)
    assert [mapping["source"] for mapping in home.mappings()] == [where(servers.first)]
    poisoned = seen(inside, servers.first)
    assert poisoned != external
    # The kernel lets later flows share the newest mapping of the socket: the poison spreads.
    assert seen(inside, servers.other_host) == poisoned


@pytest.mark.parametrize("opener", [False, True])
def test_two_tracking_routers_meet_only_after_openers(lab: Lab, opener: bool) -> None:
    """NATs as measured, 2 and 3: an opener's TTL ends between the two NATs."""
    servers = make_servers(lab)
    _, pi = home_with_host(lab, unsolicited="track")
    q = lab.home_router("homeB", public="198.51.100.8", unsolicited="track").host("q")
    one, two = pi.udp_socket(5000), q.udp_socket(6000)
    external_one, external_two = seen(one, servers.first), seen(two, servers.first)
    if opener:
        for inside, target in ((one, external_two), (two, external_one)):
            inside.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 2)
            inside.sendto(b"opener", target)
            inside.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
    expected = arrives if opener else is_dropped
    for _ in range(2):
        assert expected(one, external_two, two)
        assert expected(two, external_one, one)


def test_a_reboot_moves_every_mapping(lab: Lab) -> None:
    servers = make_servers(lab)
    home, pi = home_with_host(lab)
    inside = pi.udp_socket(5000)
    externals = {seen(inside, servers.first)}
    for _ in range(3):
        home.reboot()
        moved = {seen(inside, server) for server in servers}
        assert len(moved) == 1, "still endpoint-independent"
        assert not moved & externals
        externals |= moved


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_reboot_moves_the_block(lab: Lab, mapping: str) -> None:
    servers = make_servers(lab)
    home, pi = home_with_host(lab, mapping=mapping, ports=(40000, 40511))
    inside = pi.udp_socket(5000)
    before = seen(inside, servers.first)
    home.reboot()
    assert 40512 <= seen(inside, servers.first)[1] <= 41023
    assert is_dropped(servers.first, before, inside)


def test_a_new_public_address(lab: Lab) -> None:
    servers = make_servers(lab)
    home, pi = home_with_host(lab)
    inside = pi.udp_socket(5000)
    seen(inside, servers.first)
    home.change_public_address("198.51.100.99")
    assert is_dropped(servers.first, ("198.51.100.7", 5000), inside)
    assert is_dropped(servers.first, ("198.51.100.99", 5000), inside)
    assert seen(inside, servers.first) == ("198.51.100.99", 5000)
    assert arrives(servers.first, ("198.51.100.99", 5000), inside)


def test_mappings_show_both_sides(lab: Lab) -> None:
    servers = make_servers(lab)
    home, pi = home_with_host(lab, ports=(40000, 40511))
    inside = pi.udp_socket(5000)
    external = seen(inside, servers.first)
    [mapping] = home.mappings()
    assert mapping["source"] == (pi.ip4, 5000)
    assert mapping["destination"] == mapping["remote"] == where(servers.first)
    assert mapping["external"] == external
    assert 0 < mapping["expires"] <= 30
    assert not mapping["replied"]
    assert arrives(servers.first, external, inside)
    assert home.mappings()[0]["replied"]


def test_a_forwarded_port_is_open_to_all(lab: Lab) -> None:
    servers = make_servers(lab)
    home, pi = home_with_host(lab)
    inside = pi.udp_socket(5000)
    home.forward_udp(6000, pi, 5000)
    assert arrives(servers.other_host, ("198.51.100.7", 6000), inside)
    assert seen(inside, servers.other_host) == ("198.51.100.7", 6000)


def test_blocked_udp(lab: Lab) -> None:
    servers = make_servers(lab)
    home, pi = home_with_host(lab)
    inside = pi.udp_socket(5000)
    seen(inside, servers.first)
    home.block_udp()
    assert is_dropped(inside, where(servers.first), servers.first)
    assert is_dropped(servers.first, ("198.51.100.7", 5000), inside)
    home.unblock()
    assert arrives(inside, where(servers.first), servers.first)


@pytest.mark.parametrize(
    "options",
    [
        {"mapping": "symmetric"},
        {"unsolicited": "maybe"},
        {"allocation": "sequential"},
        {"mapping": "address-and-port-dependent", "allocation": "preserving"},
        {"ports": (2000, 1000)},
        {"hairpin": True},
    ],
)
def test_impossible_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Nat(**options)  # type: ignore[arg-type]
