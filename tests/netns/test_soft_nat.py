"""Routers in software behave as declared, and as the simulator says: with plain UDP sockets."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from typing import Any, NamedTuple

import pytest

from tests.sim.nat import Nat as SimulatedNat
from tests.sim.trace import Why
from tunnel.wire.endpoint import Endpoint

from . import conntrack
from .lab import Host, Lab, SoftRouter, SoftwareNat
from .namespace import LabError
from .probes import Servers, arrives, home_with_host, is_dropped, make_servers, seen, where
from .wait import wait_until
from .world import World

pytestmark = pytest.mark.root

BEHAVIOURS = ("endpoint-independent", "address-dependent", "address-and-port-dependent")
ALLOCATIONS = ("preserving", "sequential", "random", "random-in-block")
PUBLIC = "198.51.100.7"
IP_MTU_DISCOVER, IP_RECVERR, IP_PMTUDISC_PROBE, UDP_SEGMENT = 10, 11, 3, 103


def soft_home(lab: Lab, **nat: object) -> tuple[SoftRouter, Host]:
    home, pi = home_with_host(lab, software=True, **nat)
    assert isinstance(home, SoftRouter)
    return home, pi


def simulated_answers(nat: SimulatedNat) -> tuple[list[bool], list[bool]]:
    """Which of three destinations see a socket alike, and which of them reach another one that has
    sent to the first of them: by the table alone."""
    remotes = [
        Endpoint("203.0.113.10", 3478),
        Endpoint("203.0.113.10", 3479),
        Endpoint("203.0.113.11", 3478),
    ]
    first = [nat.outbound(Endpoint("192.168.1.2", 5000), remote, 0.0) for remote in remotes]
    opened = nat.outbound(Endpoint("192.168.1.2", 5001), remotes[0], 0.0)
    assert isinstance(opened, Endpoint)
    reached = [not isinstance(nat.inbound(remote, opened, 0.0), Why) for remote in remotes]
    return [external == first[0] for external in first], reached


def measured_answers(
    servers: Servers, pi: Host, expected: list[bool]
) -> tuple[list[bool], list[bool]]:
    """The same, by probing; what is `expected` to be let in may take its time."""
    inside = pi.udp_socket()
    first = [seen(inside, server) for server in servers]
    assert {external[0] for external in first} == {PUBLIC}
    opened = pi.udp_socket()
    external = seen(opened, servers.first)
    reached = [
        arrives(server, external, opened) if comes else not is_dropped(server, external, opened)
        for server, comes in zip(servers, expected, strict=True)
    ]
    return [endpoint == first[0] for endpoint in first], reached


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_every_combination_is_as_simulated(lab: Lab, allocation: str) -> None:
    servers = make_servers(lab)
    home, pi = soft_home(lab)
    for mapping, filtering in itertools.product(BEHAVIOURS, repeat=2):
        nat = SoftwareNat(mapping=mapping, filtering=filtering, allocation=allocation)  # type: ignore[arg-type]
        home.set_software_nat(nat)
        expected = simulated_answers(nat.simulated(PUBLIC))
        assert measured_answers(servers, pi, expected[1]) == expected, nat


def test_ports_are_those_the_simulator_gives(lab: Lab) -> None:
    """The same table and seed: the same ports, one by one."""
    servers = make_servers(lab)
    home, pi = soft_home(lab)
    inside = pi.udp_socket(5000)
    for number, allocation in enumerate(ALLOCATIONS):
        nat = SoftwareNat(mapping=BEHAVIOURS[2], allocation=allocation, seed=number + 1)  # type: ignore[arg-type]
        home.set_software_nat(nat)
        table = nat.simulated(PUBLIC)
        expected = [
            table.outbound(Endpoint(*where(inside))._replace(host=pi.ip4), Endpoint(*where(s)), 0.0)
            for s in servers
        ]
        assert [seen(inside, server) for server in servers] == expected, allocation


def test_sequential_ports_count_up(lab: Lab) -> None:
    servers = make_servers(lab)
    _, pi = soft_home(lab, mapping=BEHAVIOURS[2], allocation="sequential")
    ports = [seen(pi.udp_socket(), server)[1] for server in servers for _ in range(3)]
    assert all(later - earlier in (1, 1 - 64512) for earlier, later in itertools.pairwise(ports))


@pytest.mark.parametrize("size", [64, 512, 2048])
def test_each_host_has_a_block(lab: Lab, size: int) -> None:
    servers = make_servers(lab)
    home, pi = soft_home(lab, allocation="random-in-block", block_size=size)
    blocks: list[int] = []
    for host in (pi, home.host("laptop")):
        ports = {seen(host.udp_socket(), servers.first)[1] for _ in range(40)}
        assert len(ports) == 40
        numbers = {(port - 1024) // size for port in ports}
        assert len(numbers) == 1
        blocks += numbers
    assert blocks[0] != blocks[1]


def test_a_block_is_used_up_until_the_timeout(lab: Lab) -> None:
    """NATs as measured, 9."""
    servers = make_servers(lab)
    home, pi = soft_home(lab, allocation="random-in-block", block_size=64, udp_timeout=3)
    sockets = [pi.udp_socket() for _ in range(65)]
    for opened in sockets[:64]:
        seen(opened, servers.first)
    assert is_dropped(sockets[64], where(servers.first), servers.first)
    assert home.packets()["ports exhausted"] == 1
    wait_until(lambda: home.entries() == 0)
    seen(sockets[64], servers.first)


@pytest.mark.parametrize("hairpin", [False, True])
def test_hairpin(lab: Lab, hairpin: bool) -> None:
    """RFC 4787 REQ-9: the source is the external endpoint; and an answer comes back."""
    servers = make_servers(lab)
    home, pi = soft_home(lab, hairpin=hairpin)
    one, two = pi.udp_socket(), home.host("laptop").udp_socket()
    external_one, external_two = seen(one, servers.first), seen(two, servers.first)
    assert is_dropped(one, external_two, two), "filtered: it has not sent there yet"
    expected = arrives if hairpin else is_dropped
    assert expected(two, external_one, one)
    assert expected(one, external_two, two)
    if hairpin:
        two.sendto(b"whose", external_one)
        assert one.recvfrom(64) == (b"whose", external_two)
    assert (home.packets().get("hairpin", 0) > 0) == hairpin
    assert (home.packets().get("no hairpin", 0) > 0) != hairpin


def test_hosts_of_the_lan_and_the_router_itself_are_not_translated(lab: Lab) -> None:
    home, pi = soft_home(lab)
    laptop = home.host("laptop")
    inside = pi.udp_socket(5000)
    assert arrives(laptop.udp_socket(), (pi.ip4, 5000), inside)
    own = home.udp_socket(53, address="192.168.1.1")
    assert arrives(inside, ("192.168.1.1", 53), own)
    assert arrives(own, (pi.ip4, 5000), inside)
    assert home.packets() == {}


def test_what_it_tracks_occupies_a_port(lab: Lab) -> None:
    """NATs as measured, 2: and it tracks before it looks at the time to live."""
    servers = make_servers(lab)
    home, pi = soft_home(lab, allocation="preserving", shares_ports=True, unsolicited="track")
    inside = pi.udp_socket(5000)
    external = seen(inside, servers.other_host)
    assert external == (PUBLIC, 5000)
    # Two hops: the internet, then the router, where it ends.
    servers.first.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 2)
    assert is_dropped(servers.first, external, inside)
    assert home.entries() == 2
    assert seen(inside, servers.first) != external


def test_two_tracking_routers_meet_only_after_openers(lab: Lab) -> None:
    """As the kernel's do (NATs as measured, 2 and 3)."""
    options: dict[str, Any] = {"software": True, "unsolicited": "track", "allocation": "preserving"}
    for opener in (False, True):
        with Lab() as lab:
            servers = make_servers(lab)
            _, pi = home_with_host(lab, shares_ports=True, **options)
            other = lab.home_router("homeB", public="198.51.100.8", shares_ports=True, **options)
            one, two = pi.udp_socket(5000), other.host("q").udp_socket(6000)
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


def test_timeouts(lab: Lab) -> None:
    servers = make_servers(lab)
    home, pi = soft_home(lab, udp_timeout=1, udp_timeout_stream=1)
    kept, forgotten = pi.udp_socket(5000), pi.udp_socket(5001)
    external, lost = seen(kept, servers.first), seen(forgotten, servers.first)

    def refresh_until_the_other_is_gone() -> bool:
        assert seen(kept, servers.first) == external
        return {mapping["source"][1] for mapping in home.mappings()} == {5000}

    wait_until(refresh_until_the_other_is_gone, interval=0.1)
    assert arrives(servers.first, external, kept)
    assert is_dropped(servers.first, lost, forgotten)


def test_flush_reboot_readdress_and_forward(lab: Lab) -> None:
    servers = make_servers(lab)
    home, pi = soft_home(lab, allocation="preserving")
    inside = pi.udp_socket(5000)
    before = seen(inside, servers.first)
    home.flush_mappings(protocol="udp")
    assert is_dropped(servers.first, before, inside)
    assert seen(inside, servers.first) == before
    home.reboot()
    moved = seen(inside, servers.first)
    assert moved != before
    home.change_public_address("198.51.100.9")
    assert is_dropped(servers.first, moved, inside)
    assert seen(inside, servers.first) == ("198.51.100.9", moved[1])
    home.forward_udp(6000, pi, 5000)
    assert arrives(servers.other_host, ("198.51.100.9", 6000), inside)


def test_blocked_udp(lab: Lab) -> None:
    servers = make_servers(lab)
    home, pi = soft_home(lab)
    inside = pi.udp_socket(5000)
    external = seen(inside, servers.first)
    home.block_udp()
    assert is_dropped(inside, where(servers.first), servers.first)
    assert is_dropped(servers.first, external, inside)
    home.unblock()
    assert arrives(inside, where(servers.first), servers.first)


class Told(NamedTuple):
    """An ICMP error, as the socket hears of it that sent the packet."""

    number: int
    by: str
    about: conntrack.Endpoint
    mtu: int


def errors_of(opened: socket.socket) -> Told:
    """The next ICMP error on a socket with IP_RECVERR."""

    def read() -> Told | None:
        try:
            _, extra, _, about = opened.recvmsg(64, 256, socket.MSG_ERRQUEUE)
        except BlockingIOError:
            return None
        [(_, _, data)] = extra
        number, _, _, _, _, mtu, _ = struct.unpack_from("IBBBBII", data)
        return Told(number, socket.inet_ntoa(data[20:24]), about, mtu)

    told = wait_until(read)
    assert told is not None
    return told


def listening_for_errors(host: Host, ttl: int = 64) -> socket.socket:
    opened = host.udp_socket()
    opened.setblocking(False)
    opened.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    return opened


def test_whoever_ends_a_packets_life_says_so(lab: Lab) -> None:
    """Through two routers in software: hop by hop, the quoted headers translated back."""
    servers = make_servers(lab)
    carrier = lab.carrier("cgn", public="192.0.2.33", software=True)
    pi = carrier.home_router("lte", lan="192.168.8.0/24", software=True).host("pi")
    target = where(servers.first)
    for ttl, hop in ((1, "192.168.8.1"), (2, "100.64.0.1"), (3, "192.0.2.1")):
        opened = listening_for_errors(pi, ttl)
        opened.sendto(b"opener", target)
        assert errors_of(opened) == Told(errno.EHOSTUNREACH, hop, target, 0)
    opened = listening_for_errors(pi, 4)
    assert arrives(opened, target, servers.first)


def test_a_hosts_refusal_reaches_who_asked(lab: Lab) -> None:
    """A closed port: outside, inside, and behind a hairpin."""
    servers = make_servers(lab)
    home, pi = soft_home(lab, filtering="endpoint-independent", hairpin=True)
    opened = listening_for_errors(pi)
    opened.sendto(b"x", ("203.0.113.11", 9))
    closed = ("203.0.113.11", 9)
    assert errors_of(opened) == Told(errno.ECONNREFUSED, "203.0.113.11", closed, 0)
    inside = pi.udp_socket()
    external = seen(inside, servers.first)
    inside.close()
    outside = listening_for_errors(lab.public_host("other", "203.0.113.12"))
    neighbour = listening_for_errors(home.host("laptop"))
    for asking in (outside, neighbour):
        asking.sendto(b"x", external)
        assert errors_of(asking) == Told(errno.ECONNREFUSED, PUBLIC, external, 0)


def test_a_router_that_does_not_answer(lab: Lab) -> None:
    servers = make_servers(lab)
    home, pi = soft_home(lab, answers_ttl=False)
    opened = listening_for_errors(pi, 1)
    opened.sendto(b"opener", where(servers.first))
    wait_until(lambda: home.packets() == {"ttl expired": 1})
    with pytest.raises(BlockingIOError):
        opened.recvmsg(64, 256, socket.MSG_ERRQUEUE)


def test_packets_that_are_too_big(lab: Lab) -> None:
    """Told by this router, and by one beyond it; in both directions."""
    servers = make_servers(lab)
    home, pi = soft_home(lab)
    external = seen(inside := listening_for_errors(pi), servers.first)
    outside = servers.first
    outside.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    for opened in (inside, outside):
        opened.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
    vps = where(outside)
    home.set_mtu(1400)
    inside.sendto(bytes(1373), vps)
    assert errors_of(inside) == Told(errno.EMSGSIZE, "192.168.1.1", vps, 1400)
    home.set_mtu(1500)
    pi.set_mtu(1300)
    outside.sendto(bytes(1273), external)
    outside.setblocking(False)
    assert errors_of(outside) == Told(errno.EMSGSIZE, PUBLIC, external, 1300)
    pi.set_mtu(1500)


def test_fragments_are_joined(lab: Lab) -> None:
    servers = make_servers(lab)
    _, pi = soft_home(lab)
    inside = pi.udp_socket()
    external = seen(inside, servers.first)
    for sender, target, receiver in (
        (inside, where(servers.first), servers.first),
        (servers.first, external, inside),
    ):
        sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, 0)
        for size in (1472, 1473, 9000, 60000):
            payload = os.urandom(size)
            sender.sendto(payload, target)
            assert receiver.recv(65536) == payload


def test_trains_and_odd_checksums(lab: Lab) -> None:
    """Segmentation offload, and every checksum there is: the receiver's kernel looks at them."""
    servers = make_servers(lab)
    _, pi = soft_home(lab)
    inside = pi.udp_socket()
    train = os.urandom(20 * 1200 + 7)
    inside.sendmsg([train], [(17, UDP_SEGMENT, struct.pack("H", 1200))], 0, where(servers.first))
    assert b"".join(servers.first.recv(2000) for _ in range(21)) == train
    for number in range(0, 65536, 13):
        payload = number.to_bytes(2, "big")
        inside.sendto(payload, where(servers.first))
        assert servers.first.recv(2000) == payload


def test_double_nat_of_different_kinds(lab: Lab) -> None:
    servers = make_servers(lab)
    carrier = lab.carrier(
        "cgn",
        public="192.0.2.33",
        software=True,
        mapping=BEHAVIOURS[2],
        allocation="random-in-block",
        block_size=64,
    )
    inner = carrier.home_router("lte", lan="192.168.8.0/24", software=True, allocation="random")
    kernels = carrier.home_router("home", lan="192.168.9.0/24")
    for host in (inner.host("pi"), kernels.host("q")):
        inside = host.udp_socket()
        ends = [seen(inside, server) for server in servers]
        assert {address for address, _ in ends} == {"192.0.2.33"}
        assert len(ends) == len(set(ends))
        assert len({(port - 1024) // 64 for _, port in ends}) == 1
        for server, end in zip(servers, ends, strict=True):
            assert arrives(server, end, inside)
        assert is_dropped(servers.first, ends[1], inside)


@pytest.mark.parametrize("filtering", BEHAVIOURS)
def test_punchtun_through_them(world: World, filtering: str) -> None:
    """The program itself, against a mapping that varies: direct where the filter lets it in."""
    lab = world.lab
    block: dict[str, Any] = {
        "mapping": BEHAVIOURS[2],
        "allocation": "random-in-block",
        "block_size": 64,
    }
    carrier = lab.carrier("cgn", public="192.0.2.33", software=True, **block)
    steady, a = soft_home(lab, filtering=filtering)
    b = carrier.home_router("lte", lan="192.168.8.0/24").host("b")
    attic = world.found("attic", a)
    camera = world.join("camera", b, attic)
    if filtering == BEHAVIOURS[2]:
        attic.wait_for_state("camera", "relayed", "direct")
    else:
        world.wait_direct(attic, camera)
        before = steady.packets()["in"]
        b.run(["ping", "-n", "-c3", "-i0.1", "-W2", attic.ip4])
        assert steady.packets()["in"] >= before + 3
    assert 0 < steady.peak_entries() < 1000


def test_counters(lab: Lab) -> None:
    servers = make_servers(lab)
    home, pi = soft_home(lab, udp_timeout=1, max_mappings=20)
    inside = pi.udp_socket(5000)
    for port in range(4000, 4030):
        inside.sendto(b"x", ("203.0.113.11", port))
    wait_until(lambda: home.packets().get("table full") == 10)
    assert (home.entries(), home.peak_entries()) == (20, 20)
    wait_until(lambda: home.entries() == 0)
    seen(inside, servers.first)
    assert (home.entries(), home.peak_entries(), home.packets()["out"]) == (1, 20, 21)


def test_tcp_and_ping_are_the_kernels(lab: Lab) -> None:
    servers = make_servers(lab)
    home, pi = soft_home(lab, mapping=BEHAVIOURS[2])
    pi.run(["ping", "-n", "-c1", "-W2", "203.0.113.10"])
    pi.run(["ping", "-n", "-c1", "-W2", "192.168.1.1"])
    listener = lab.public_host("web", "203.0.113.80").inside(socket.socket)
    with listener:
        listener.bind(("203.0.113.80", 80))
        listener.listen()
        with pi.inside(socket.socket) as stream:
            stream.settimeout(2)
            stream.connect(("203.0.113.80", 80))
            accepted, source = listener.accept()
            with accepted:
                accepted.sendall(b"hello")
                assert (stream.recv(9), source[0]) == (b"hello", PUBLIC)
    assert home.packets() == {}
    assert servers.first.fileno() > 0


def test_a_process_that_ended_is_named(lab: Lab) -> None:
    home, _ = soft_home(lab)
    assert home.process.stop() == 0
    with pytest.raises(LabError, match="translator of homeA has ended"):
        home.entries()


@pytest.mark.parametrize(
    "options",
    [
        {"mapping": "symmetric"},
        {"filtering": "none"},
        {"allocation": "lucky"},
        {"unsolicited": "maybe"},
    ],
)
def test_impossible_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        SoftwareNat(**options)  # type: ignore[arg-type]
