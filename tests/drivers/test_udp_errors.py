"""What ICMP tells of datagrams sent, and what becomes of those sent or received next."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import gevent
import pytest

from tests.netns.host import Host
from tests.netns.internet import Internet
from tests.netns.lab import Lab
from tunnel.core.machine import Transmit
from tunnel.drivers import udp, udp_errors, udp_mtu
from tunnel.drivers.loop import MachineLoop
from tunnel.drivers.network import configure_interface
from tunnel.drivers.tun import TunDevice
from tunnel.drivers.udp import UdpSocket
from tunnel.wire.endpoint import Endpoint

Told = list[tuple[Endpoint, int | None]]

WAYS = [(None, "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), (None, "::1")]
"""What the socket listens on, and where it sends."""


def closed_port(host: str) -> Endpoint:
    other = UdpSocket(host, 0)
    other.close()
    return Endpoint(host, other.port)


def is_readable(opened: UdpSocket, timeout: float = 0.0) -> bool:
    return bool(select.select([opened], [], [], timeout)[0])


def next_datagrams(opened: UdpSocket) -> list[bytes]:
    assert is_readable(opened, 10), "nothing arrived"
    return [datagram for datagrams, _ in opened.receive(9) for datagram in datagrams]


# On one socket


@pytest.mark.parametrize(("listen", "host"), WAYS)
def test_a_closed_port_is_told(listen: str | None, host: str) -> None:
    a, gone = UdpSocket(listen, 0), closed_port(host)
    assert a.transmit(Transmit(b"anybody?", gone))
    assert is_readable(a, 10)
    assert a.receive(9) == []
    assert a.has_errors
    assert a.read_errors() == [(gone, None)]
    assert a.errors == {"ECONNREFUSED": 1}
    assert not is_readable(a)
    assert not a.has_errors
    assert a.read_errors() == []
    a.close()
    assert a.read_errors() == []


@pytest.mark.parametrize(("listen", "host"), WAYS)
def test_what_is_sent_after_an_error_is_not_lost(listen: str | None, host: str) -> None:
    a, b, gone = UdpSocket(listen, 0), UdpSocket(host, 0), closed_port(host)
    there = Endpoint(host, b.port)
    could_send_trains = a.sends_trains
    for transmit, datagrams in (
        (Transmit(b"plain", there), [b"plain"]),
        (Transmit(b"far", there, ttl=9), [b"far"]),
        (Transmit(b"whole", there, dont_fragment=True), [b"whole"]),
        (Transmit(b"aabbc", there, 2), [b"aa", b"bb", b"c"]),
    ):
        assert a.transmit(Transmit(b"anybody?", gone))
        assert is_readable(a, 10)  # the error is pending
        assert a.transmit(transmit)
        assert a.has_errors
        assert next_datagrams(b) == datagrams
    assert a.sends_trains == could_send_trains
    assert not a.errors
    assert a.read_errors() == [(gone, None)]
    assert a.errors == {"ECONNREFUSED": 4}
    a.close()
    b.close()


@pytest.mark.parametrize(("listen", "host"), WAYS)
def test_what_is_received_after_an_error_is_not_lost(listen: str | None, host: str) -> None:
    a, b, gone = UdpSocket(listen, 0), UdpSocket(host, 0), closed_port(host)
    assert a.transmit(Transmit(b"anybody?", gone))
    assert is_readable(a, 10)
    assert b.transmit(Transmit(b"hello", Endpoint(host, a.port)))
    assert next_datagrams(a) == [b"hello"]
    assert a.read_errors() == [(gone, None)]
    a.close()
    b.close()


def test_a_call_reads_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "_ERRORS", 3)  # the kernel sends no more than 50 ICMP at a time
    a, gone = UdpSocket(None, 0), [closed_port("127.0.0.1") for _ in range(5)]
    for endpoint in gone:
        assert a.transmit(Transmit(b"anybody?", endpoint))
    told = a.read_errors()
    assert len(told) == 3
    assert a.has_errors
    assert is_readable(a)
    told += a.read_errors()
    assert {endpoint for endpoint, _ in told} == set(gone)
    assert not a.has_errors
    a.close()


# In the event loop


class Machine:
    """Sends what it is given, once."""

    def __init__(self, *transmits: Transmit) -> None:
        self.transmits = list(transmits)
        self.received: list[bytes] = []

    def receive_datagrams(
        self, datagrams: list[bytes], source: Endpoint, now: float, local: int
    ) -> list[bytes]:
        self.received += datagrams
        return []

    def datagrams_to_send(self, now: float) -> list[Transmit]:
        transmits, self.transmits = self.transmits, []
        return transmits

    def get_timer(self) -> float | None:
        return None

    def handle_timer(self, now: float) -> None: ...


class ListeningMachine(Machine):
    """Answers what it is told with a datagram to `friend`."""

    friend: Endpoint | None = None

    def __init__(self, *transmits: Transmit) -> None:
        super().__init__(*transmits)
        self.told: Told = []

    def receive_error(self, endpoint: Endpoint, mtu: int | None, now: float) -> None:
        self.told.append((endpoint, mtu))
        if self.friend is not None:
            self.transmits.append(Transmit(b"told", self.friend))


class CountingSocket(UdpSocket):
    turns = 0
    """How often the loop was woken for it."""

    def receive(self, budget: int) -> list[tuple[list[bytes], Endpoint]]:
        self.turns += 1
        return super().receive(budget)


def run_for_a_while(machine: Machine, *sockets: UdpSocket) -> None:
    """Long enough for a loop that spins to turn some thousand times."""
    loop = MachineLoop(machine, sockets)
    loop.start()
    loop.settle(0.0)
    gevent.sleep(0.2)
    loop.close()


@pytest.mark.parametrize("local", [0, 1])
def test_the_loop_tells_the_machine_and_settles(local: int) -> None:
    sockets, b = [CountingSocket(None, 0), CountingSocket(None, 0)], UdpSocket(None, 0)
    gone = closed_port("127.0.0.1")
    machine = ListeningMachine(Transmit(b"anybody?", gone, local=local))
    machine.friend = Endpoint("127.0.0.1", b.port)
    run_for_a_while(machine, *sockets)
    assert machine.told == [(gone, None)]
    assert next_datagrams(b) == [b"told"]
    assert [one.turns for one in sockets] == [1 - local, local]
    for opened in (*sockets, b):
        opened.close()


@pytest.mark.parametrize("kind", [Machine, ListeningMachine])
def test_the_loop_never_spins(monkeypatch: pytest.MonkeyPatch, kind: type[Machine]) -> None:
    """Whether or not anybody wants to know."""
    monkeypatch.setattr(udp, "_ERRORS", 4)
    a, b, gone = CountingSocket(None, 0), UdpSocket(None, 0), [closed_port("::1") for _ in range(9)]
    there = Endpoint("::1", b.port)
    machine = kind(
        *[Transmit(b"anybody?", endpoint) for endpoint in gone],
        Transmit(b"hello", there),
        Transmit(bytes(65_600), there, dont_fragment=True),
    )
    run_for_a_while(machine, a)
    assert 1 <= a.turns <= 5
    assert not is_readable(a)
    assert a.errors == {"ECONNREFUSED": 9, "EMSGSIZE": 1}
    assert next_datagrams(b) == [b"hello"]
    if isinstance(machine, ListeningMachine):
        assert set(machine.told) == {(there, 65_536), *((endpoint, None) for endpoint in gone)}
    a.close()
    b.close()


def test_an_error_nobody_noticed() -> None:
    a, b, gone = CountingSocket(None, 0), UdpSocket(None, 0), closed_port("127.0.0.1")
    assert a.transmit(Transmit(b"anybody?", gone))
    assert a.transmit(Transmit(b"hello", Endpoint("127.0.0.1", b.port)))
    a._failures.has_queued = False
    machine = ListeningMachine()
    run_for_a_while(machine, a)
    assert (machine.told, a.turns) == ([(gone, None)], 1)
    a.close()
    b.close()


def test_errors_among_datagrams() -> None:
    """A socket that never runs dry still tells."""
    a, b, gone = CountingSocket(None, 0), UdpSocket(None, 0), closed_port("127.0.0.1")
    for number in range(100):  # Longer and longer: each is an arrival.
        assert b.transmit(Transmit(bytes(number + 1), Endpoint("127.0.0.1", a.port)))
    machine = ListeningMachine(Transmit(b"anybody?", gone))
    loop = MachineLoop(machine, [a])
    loop.settle(0.0)
    loop._readable(0)
    assert machine.told == [(gone, None)]
    assert 30 <= len(machine.received) < 100
    a.close()
    b.close()


def test_unfragmented_datagrams_travel_alone() -> None:
    sent: list[Transmit] = []

    class Outlet:
        def transmit(self, transmit: Transmit) -> None:
            sent.append(transmit)

    there = Endpoint("127.0.0.1", 9)
    whole = [Transmit(b"p" * size, there, dont_fragment=True) for size in (4, 3)]
    rest = [Transmit(letter, there) for letter in (b"aaa", b"bb")]
    machine = Machine(whole[0], rest[0], rest[1], whole[1])
    MachineLoop(machine, [Outlet()]).settle(0.0)  # type: ignore[list-item]
    assert sent == [whole[0], Transmit(b"aaabb", there, 3), whole[1]]


# Through a network


class Packet(NamedTuple):
    """As it was on the wire."""

    length: int
    """Bytes, IP header included."""
    dont_fragment: bool
    is_fragment: bool


def parse(packet: bytes) -> Packet:
    if packet[0] >> 4 == 6:
        return Packet(len(packet), True, packet[6] == 44)
    flags = int.from_bytes(packet[6:8], "big")
    return Packet(len(packet), bool(flags & 0x4000), bool(flags & 0x3FFF))


class Tap:
    """The UDP packets and fragments that a host sends."""

    def __init__(self, host: Host) -> None:
        every = socket.htons(3)  # ETH_P_ALL: what is sent too
        self._socket = host.inside(
            lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, every)
        )
        self._socket.setblocking(False)

    def sent(self) -> list[Packet]:
        """Since the last call. Complete when a sending call has returned."""
        packets: list[Packet] = []
        while True:
            try:
                data, address = self._socket.recvfrom(65_536)
            except BlockingIOError:
                return packets
            protocol = data[9] if data[0] >> 4 == 4 else data[6]
            if address[2] == socket.PACKET_OUTGOING and protocol in (17, 44):
                packets.append(parse(data))

    def close(self) -> None:
        self._socket.close()


class Route(NamedTuple):
    """From `a` through a router, whose next link carries 1300 bytes, to `b`."""

    a: UdpSocket
    b: UdpSocket
    there: Endpoint
    tap: Tap
    headers: int
    """Bytes of IP and UDP."""


class Hosts(NamedTuple):
    near: Host
    router: Internet
    far: Host


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with Lab() as lab:
        a = lab.public_host("a", "203.0.113.10", ipv6="2001:db8::10")
        b = lab.public_host("b", "203.0.113.11", ipv6="2001:db8::11")
        b.set_mtu(1300)
        yield Hosts(a, lab.internet(), b)


@pytest.fixture(params=["dual4", "dual6", "only4"])
def route(request: pytest.FixtureRequest, hosts: Hosts) -> Iterator[Route]:
    near, router, far = hosts
    a = near.inside(lambda: UdpSocket("0.0.0.0" if request.param == "only4" else None, 0))
    b = far.inside(lambda: UdpSocket(None, 0))
    is_ipv6 = request.param == "dual6"
    host = far.ip6 if is_ipv6 else far.ip4
    tap = Tap(near)
    assert host is not None
    yield Route(a, b, Endpoint(host, b.port), tap, 48 if is_ipv6 else 28)
    for family in ("-4", "-6"):  # what the kernel has learned of the path
        near.run(["ip", family, "route", "flush", "cache"])
    router.nft("table inet refuse\ndelete table inet refuse\n")
    for opened in (a, b, tap):
        opened.close()


@pytest.mark.root
def test_a_router_tells_its_mtu(route: Route) -> None:
    for _ in range(2):  # the second time the kernel has an opinion, which does not matter
        assert route.a.transmit(Transmit(bytes(1400), route.there, dont_fragment=True))
        assert route.tap.sent() == [Packet(1400 + route.headers, True, False)]
        assert is_readable(route.a, 10)
        assert route.a.read_errors() == [(route.there, 1300)]
        assert not is_readable(route.a)
    assert not is_readable(route.b)
    assert route.a.errors == {"EMSGSIZE": 2}


@pytest.mark.root
def test_other_datagrams_are_fragmented(route: Route) -> None:
    """Before, between and after: by the router, or for IPv6 by ourselves once we know."""
    is_ipv6 = route.there.is_ipv6
    for turn in range(3):
        assert route.a.transmit(Transmit(b"x" * 1400, route.there))
        if turn == 0 and is_ipv6:
            assert is_readable(route.a, 10)
            assert route.a.read_errors() == [(route.there, 1300)]
            assert route.tap.sent() == [Packet(1448, True, False)]
            continue
        assert next_datagrams(route.b) == [b"x" * 1400]
        sent = route.tap.sent()
        if is_ipv6:
            assert all(packet.is_fragment and packet.length <= 1300 for packet in sent)
        else:
            assert sent == [Packet(1428, False, False)]
        assert route.a.transmit(Transmit(bytes(1400), route.there, dont_fragment=True))
        assert route.tap.sent() == [Packet(1400 + route.headers, True, False)]
        assert is_readable(route.a, 10)
        assert route.a.read_errors() == [(route.there, 1300)]
    assert not is_readable(route.b)


@pytest.mark.root
def test_what_fits_arrives_unfragmented(route: Route) -> None:
    whole = bytes(1300 - route.headers)
    assert route.a.transmit(Transmit(whole, route.there, dont_fragment=True))
    assert route.a.transmit(Transmit(b"aabbc", route.there, 2, dont_fragment=True))
    assert next_datagrams(route.b) == [whole, b"aa", b"bb", b"c"]
    assert all(packet.dont_fragment for packet in route.tap.sent())
    assert not route.a.errors


@pytest.mark.root
def test_our_own_interface_tells_its_mtu(route: Route) -> None:
    other = Endpoint(route.there.host, 9)
    for endpoint in (route.there, other, route.there):
        assert not route.a.transmit(Transmit(bytes(1480), endpoint, dont_fragment=True))
    assert route.a.errors == {"EMSGSIZE": 3}
    assert is_readable(route.a)
    assert sorted(route.a.read_errors()) == sorted([(route.there, 1500), (other, 1500)])
    assert not is_readable(route.a)
    assert route.a.errors == {"EMSGSIZE": 3}
    assert route.a.transmit(Transmit(bytes(1600), route.there))
    sent = route.tap.sent()
    assert len(sent) == 2
    assert all(packet.is_fragment for packet in sent)


@pytest.mark.root
def test_a_hop_limit_that_ran_out_is_no_error(route: Route) -> None:
    for _ in range(3):
        assert route.a.transmit(Transmit(b"opener", route.there, ttl=1))
        assert is_readable(route.a, 10)
        assert route.a.transmit(Transmit(b"for you", route.there))
        assert next_datagrams(route.b) == [b"for you"]
    assert route.a.read_errors() == []
    assert not is_readable(route.a)
    assert not route.a.errors


@pytest.mark.root
def test_the_router_at_which_a_hop_limit_ran_out_is_told(route: Route) -> None:
    for _ in range(2):
        assert route.a.transmit(Transmit(b"opener", route.there, ttl=1))
        assert is_readable(route.a, 10)
        assert route.a.take_time_exceeded() == []
        assert route.a.read_errors() == []
        [(endpoint, router)] = route.a.take_time_exceeded()
        assert endpoint == route.there
        if route.there.is_ipv6:
            assert router.startswith(("fe80:", "2001:db8:"))
        else:
            assert router == "192.0.2.1"
    assert route.a.take_time_exceeded() == []


@pytest.mark.root
def test_the_loop_tells_the_machine_of_routers(route: Route) -> None:
    class Tracer(Machine):
        heard: tuple[Endpoint, str, int] | None = None

        def receive_time_exceeded(
            self, endpoint: Endpoint, router: str, now: float, local: int
        ) -> None:
            self.heard = (endpoint, router, local)

    machine = Tracer(Transmit(b"opener", route.there, ttl=1))
    run_for_a_while(machine, route.a)
    assert machine.heard is not None
    assert machine.heard[0] == route.there
    assert machine.heard[2] == 0


@pytest.mark.root
@pytest.mark.parametrize(
    ("reason", "ipv4", "ipv6"),
    [
        ("no-route", "ENETUNREACH", "ENETUNREACH"),
        ("host-unreachable", "EHOSTUNREACH", "EHOSTUNREACH"),
        ("port-unreachable", "ECONNREFUSED", "ECONNREFUSED"),
        ("admin-prohibited", "EHOSTUNREACH", "EACCES"),
    ],
)
def test_a_router_tells_that_there_is_no_way(
    route: Route, hosts: Hosts, reason: str, ipv4: str, ipv6: str
) -> None:
    hosts.router.nft(
        f"""table inet refuse {{
            chain forward {{
                type filter hook forward priority 0;
                udp dport 9 reject with icmpx type {reason}
            }}
        }}"""
    )
    nowhere = Endpoint(route.there.host, 9)
    assert route.a.transmit(Transmit(b"anybody?", nowhere))
    assert is_readable(route.a, 10)
    assert route.a.transmit(Transmit(b"hello", route.there))
    assert next_datagrams(route.b) == [b"hello"]
    assert route.a.read_errors() == [(nowhere, None)]
    assert not is_readable(route.a)
    assert route.a.errors == {ipv6 if nowhere.is_ipv6 else ipv4: 1}


def checksum(data: bytes) -> bytes:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def too_large(packet: bytes, mtu: int) -> bytes:
    """What a router would say about `packet`, seeming to come from where that was sent."""
    if packet[0] >> 4 == 6:
        message = struct.pack("!BBHI", 2, 0, 0, mtu) + packet[:1200]
        addresses = packet[24:40] + packet[8:24]
        pseudo = addresses + struct.pack("!II", len(message), 58)
        message = message[:2] + checksum(pseudo + message) + message[4:]
        return struct.pack("!IHBB", 6 << 28, len(message), 58, 64) + addresses + message
    message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + packet[:28]
    message = message[:2] + checksum(message) + message[4:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0, 64, 1, 0)
    header += packet[16:20] + packet[12:16]
    return header[:10] + checksum(header) + header[12:] + message


@pytest.mark.root
@pytest.mark.parametrize("listen", [None, "0.0.0.0"])
def test_an_answer_may_come_late(
    in_namespace: Callable[[Callable[[], None]], None], listen: str | None
) -> None:
    """The datagram left unfragmented, the socket is in its usual mode again: a kernel in mode
    IP_PMTUDISC_DONT does not tell then. (In the lab the answer is there before the call returns.)
    """

    def udp_packets(tun: TunDevice) -> list[bytes]:
        packets = tun.read(99)
        return [p for p in packets if (p[6] if p[0] >> 4 == 6 else p[9]) in (17, 44)]

    def check() -> None:
        tun = TunDevice("pt0", offload=False)
        configure_interface("pt0", ["10.7.0.1/24", "fd00::1/64"], 1500)
        a = UdpSocket(listen, 0)
        for host in ("10.7.0.2", "fd00::2")[: 2 if listen is None else 1]:
            there = Endpoint(host, 9)
            assert a.transmit(Transmit(bytes(1400), there, dont_fragment=True))
            [packet] = udp_packets(tun)
            assert parse(packet).dont_fragment
            assert not is_readable(a)
            for _ in range(100):  # an IPv6 address is there at once, its local route a little later
                for mtu in (0, 1300):  # 0: a router older than RFC 1191
                    assert tun.write([too_large(packet, mtu)]) == 1
                if is_readable(a, 0.1):
                    break
            assert a.read_errors() == [(there, 1300)]
            assert not is_readable(a)
            assert a.transmit(Transmit(bytes(1400), there))
            packets = [parse(packet) for packet in udp_packets(tun)]
            assert packets == [Packet(1428, False, False)] or all(p.is_fragment for p in packets)

    in_namespace(check)


def test_a_sandbox_without_these_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp_mtu, "_OMIT", 99)
    monkeypatch.setattr(udp_errors, "_IP_RECVERR", 99)
    a, b = UdpSocket(None, 0), UdpSocket(None, 0)
    for is_whole in (False, True):
        there = Endpoint("127.0.0.1", b.port)
        assert a.transmit(Transmit(b"hello", there, dont_fragment=is_whole))
        assert next_datagrams(b) == [b"hello"]
    a.close()
    b.close()
