from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tunnel.core.machine import Transmit
from tunnel.dataplane.train import join
from tunnel.drivers import udp, udp_address, udp_open
from tunnel.drivers.network import configure_interface
from tunnel.drivers.tun import TunDevice
from tunnel.drivers.udp import UdpSocket
from tunnel.drivers.udp_mtu import PROBE
from tunnel.errors import OperatorError, UsageError
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.sieve import MOST_NUMBERS, assemble, pack_program

IP_RECVTTL, IPV6_RECVHOPLIMIT = 12, 51


@pytest.fixture(
    params=[(True, True), (True, False), (False, True), (False, False)],
    ids=["trains", "gso only", "gro only", "singly"],
)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[UdpSocket, UdpSocket]]:
    gso, gro = request.param
    a, b = UdpSocket(None, 0, gso=gso, gro=gro), UdpSocket(None, 0, gso=gso, gro=gro)
    yield a, b
    a.close()
    b.close()


def receive_all(receiver: UdpSocket, count: int) -> list[tuple[bytes, Endpoint]]:
    """The next `count` datagrams; fails if they stop coming."""
    received: list[tuple[bytes, Endpoint]] = []
    while len(received) < count:
        assert select.select([receiver], [], [], 10)[0], f"{len(received)} of {count} arrived"
        for datagrams, source in receiver.receive(4):
            received += [(datagram, source) for datagram in datagrams]
    assert receiver.receive(1) == []
    return received


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_datagrams_arrive_with_their_source(pair: tuple[UdpSocket, UdpSocket], host: str) -> None:
    a, b = pair
    for data in (b"one", b"", b"x" * 1200, bytearray(b"two"), memoryview(b"three")):
        assert a.transmit(Transmit(data, Endpoint(host, b.port)))
    assert receive_all(b, 5) == [
        (data, Endpoint(host, a.port)) for data in (b"one", b"", b"x" * 1200, b"two", b"three")
    ]
    assert not a.errors
    assert not b.errors


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_trains_arrive_as_their_datagrams(pair: tuple[UdpSocket, UdpSocket], host: str) -> None:
    a, b = pair
    sent = [bytes([i]) * 1200 for i in range(100)] + [b"short"]
    for transmit in join([Transmit(data, Endpoint(host, b.port)) for data in sent]):
        assert a.transmit(transmit)
    assert [data for data, _ in receive_all(b, 101)] == sent


def test_a_train_is_one_system_call_each_way() -> None:
    a, b = UdpSocket(None, 0), UdpSocket(None, 0)
    if not (a.sends_trains and b.receives_trains):
        pytest.skip("this kernel has no UDP_SEGMENT or UDP_GRO")
    for host in ("127.0.0.1", "::1"):
        [train] = join([Transmit(bytes(1400), Endpoint(host, b.port))] * 46)
        assert a.transmit(train)
        assert select.select([b], [], [], 10)[0]
        [(datagrams, _)] = b.receive(1)
        assert [len(datagram) for datagram in datagrams] == [1400] * 46
    a.close()
    b.close()


def test_between_a_socket_with_and_one_without_trains() -> None:
    with_trains, without = (
        UdpSocket("127.0.0.1", 0),
        UdpSocket("127.0.0.1", 0, gso=False, gro=False),
    )
    for a, b in ((with_trains, without), (without, with_trains)):
        assert a.transmit(Transmit(b"aabbc", Endpoint("127.0.0.1", b.port), segment_size=2))
        assert [data for data, _ in receive_all(b, 3)] == [b"aa", b"bb", b"c"]
    with_trains.close()
    without.close()


def test_a_train_too_large_for_one_call_is_sent_singly() -> None:
    a, b = UdpSocket("127.0.0.1", 0), UdpSocket("127.0.0.1", 0)
    train = Transmit(bytes(200 * 10), Endpoint("127.0.0.1", b.port), segment_size=10)
    assert a.transmit(train)
    assert len(receive_all(b, 200)) == 200
    assert a.errors == ({"train refused": 1} if a.sends_trains else {})
    a.close()
    b.close()


@pytest.mark.root
def test_a_train_wider_than_the_route_is_fragmented_or_counted(
    in_namespace: Callable[[Callable[[], None]], None],
) -> None:
    def check() -> None:
        tun = TunDevice("pt0", offload=False)
        configure_interface("pt0", ["10.7.0.1/24", "fd00::1/64"], 1280)
        may, may_not = UdpSocket(None, 0), UdpSocket(None, 0, mtu_discover=PROBE)
        for host in ("10.7.0.2", "fd00::2"):
            train = Transmit(bytes(3 * 1400), Endpoint(host, 9), segment_size=1400)
            assert may.transmit(train)
            assert len(tun.read(99)) == 6
            assert not may_not.transmit(train)
            assert tun.read(99) == []
            narrow = Transmit(bytes(3 * 1200), Endpoint(host, 9), segment_size=1200)
            assert may_not.transmit(narrow)
            assert len(tun.read(99)) == 3
        assert may_not.errors["EMSGSIZE"] == 6

    in_namespace(check)


def test_datagrams_outlive_the_next_receive(pair: tuple[UdpSocket, UdpSocket]) -> None:
    a, b = pair
    a.transmit(Transmit(b"first!", Endpoint("::1", b.port), segment_size=3))
    first = receive_all(b, 2)
    a.transmit(Transmit(b"second", Endpoint("::1", b.port), segment_size=3))
    receive_all(b, 2)
    assert [data for data, _ in first] == [b"fir", b"st!"]


@pytest.mark.parametrize("gro", [True, False])
def test_receive_stops_soon_after_its_budget(gro: bool) -> None:
    a, b = UdpSocket("127.0.0.1", 0), UdpSocket("127.0.0.1", 0, gro=gro)
    sent = [bytes([i % 256]) * (300 - i) for i in range(300)]
    for data in reversed(sent):  # ever longer: each is an arrival by itself
        a.transmit(Transmit(data, Endpoint("127.0.0.1", b.port)))
    assert select.select([b], [], [], 10)[0]
    received = b.receive(1) + b.receive(60)
    assert 61 <= len(received) <= 2 * 128
    received += b.receive(300)
    assert [datagrams for datagrams, _ in received] == [[data] for data in reversed(sent)]
    a.close()
    b.close()


@pytest.mark.parametrize(
    ("listen", "host", "receiver", "level", "option", "answer"),
    [
        (None, "127.0.0.1", socket.AF_INET, socket.IPPROTO_IP, IP_RECVTTL, socket.IP_TTL),
        ("0.0.0.0", "127.0.0.1", socket.AF_INET, socket.IPPROTO_IP, IP_RECVTTL, socket.IP_TTL),
        (
            None,
            "::1",
            socket.AF_INET6,
            socket.IPPROTO_IPV6,
            IPV6_RECVHOPLIMIT,
            socket.IPV6_HOPLIMIT,
        ),
    ],
)
def test_time_to_live(
    listen: str | None, host: str, receiver: int, level: int, option: int, answer: int
) -> None:
    a = UdpSocket(listen, 0)
    with socket.socket(receiver, socket.SOCK_DGRAM) as b:
        b.bind((host, 0))
        b.settimeout(10)
        b.setsockopt(level, option, 1)
        endpoint = Endpoint(host, b.getsockname()[1])
        seen = []
        for transmit in (
            Transmit(b"low", endpoint, ttl=3),
            Transmit(b"as ever", endpoint),
            Transmit(b"xxyy", endpoint, segment_size=2, ttl=4),
        ):
            assert a.transmit(transmit)
        for _ in range(4):
            _, control, _, _ = b.recvmsg(99, 99)
            seen += [int.from_bytes(data, "little") for _, kind, data in control if kind == answer]
    assert (seen[0], seen[2:]) == (3, [4, 4])
    assert seen[1] > 4
    a.close()


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("127.0.0.1", 0, "EINVAL"),
        ("127.0.0.1", 70_000, "EAFNOSUPPORT"),
        ("example.org", 9, "EAFNOSUPPORT"),
        ("::1", 9, "EAFNOSUPPORT"),
        ("255.255.255.255", 9, "EACCES"),
    ],
)
def test_what_cannot_be_sent_is_counted(host: str, port: int, reason: str) -> None:
    a = UdpSocket("0.0.0.0", 0)
    assert not a.is_ipv6
    assert not a.transmit(Transmit(b"x", Endpoint(host, port)))
    assert a.errors == {reason: 1}
    assert not a.transmit(Transmit(b"xyz", Endpoint(host, port), segment_size=2))
    a.close()


def test_a_datagram_too_long_is_counted() -> None:
    a = UdpSocket(None, 0)
    assert not a.transmit(Transmit(bytes(65_508), Endpoint("127.0.0.1", a.port)))
    assert not a.transmit(Transmit(bytes(99_999), Endpoint("127.0.0.1", a.port), 66_000))
    assert a.errors["EMSGSIZE"] == 2
    a.close()


class Wrapped:
    """A socket, in part."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_a_full_send_buffer_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    a = UdpSocket("127.0.0.1", 0)

    class Full:
        def sendmsg(self, *_: object) -> int:
            raise OSError(errno.ENOBUFS, "full")

        def sendto(self, *_: object) -> int:
            raise BlockingIOError(errno.EAGAIN, "full")

    a._sender._socket = Full()  # type: ignore[assignment]
    assert not a.transmit(Transmit(b"x", Endpoint("127.0.0.1", 9)))
    assert not a.transmit(Transmit(b"xyz", Endpoint("127.0.0.1", 9), segment_size=2))
    assert sum(a.errors.values()) >= 2
    assert a.sends_trains
    a.close()


def test_a_card_without_checksums_ends_trains_once(caplog: pytest.LogCaptureFixture) -> None:
    a = UdpSocket("127.0.0.1", 0)
    a._sender.sends_trains = True

    class Card(Wrapped):
        def sendmsg(self, *_: object) -> int:
            raise OSError(errno.EIO, "no checksum offload")

    a._sender._socket = Card(a._socket)
    caplog.set_level("INFO")
    for _ in range(2):
        assert a.transmit(Transmit(b"aab", Endpoint("127.0.0.1", a.port), segment_size=2))
    assert [data for data, _ in receive_all(a, 4)] == [b"aa", b"b"] * 2
    assert len(caplog.records) == 1
    a.close()


def test_icmp_errors_and_a_closed_socket_do_not_raise() -> None:
    a, b = UdpSocket(None, 0), UdpSocket(None, 0)
    gone = Endpoint("127.0.0.1", b.port)
    b.close()
    for _ in range(3):
        assert a.transmit(Transmit(b"anybody?", gone))
        assert a.receive(4) == []
    a.close()
    assert a.receive(4) == []
    assert not a.transmit(Transmit(b"x", gone))
    assert a.errors == {"EBADF": 2}


def test_many_sources_are_forgotten_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp_address, "_ADDRESSES", 3)
    a, others = UdpSocket(None, 0), [UdpSocket(None, 0) for _ in range(7)]
    for other in others:
        other.transmit(Transmit(b"hello", Endpoint("127.0.0.1", a.port)))
    assert [source.port for _, source in receive_all(a, 7)] == [other.port for other in others]
    for other in others:
        assert a.transmit(Transmit(b"hello", Endpoint("127.0.0.1", other.port)))
        assert receive_all(other, 1) == [(b"hello", Endpoint("127.0.0.1", a.port))]
        other.close()
    addresses = a._addresses
    assert max(len(addresses._sources), len(addresses._destinations)) <= 3
    a.close()


@pytest.mark.parametrize("host", [None, "0.0.0.0", "127.0.0.1", "::1"])
def test_a_port_in_use_says_so(host: str | None) -> None:
    a = UdpSocket(host, 0)
    with pytest.raises(OperatorError, match=f"UDP port {a.port} is in use") as failure:
        UdpSocket(host, a.port)
    assert "--listen" in str(failure.value)
    assert "ss -ulpn" in str(failure.value)
    a.close()
    UdpSocket(host, a.port).close()


def test_hosts_that_cannot_be_listened_on() -> None:
    with pytest.raises(OperatorError, match="no address of this machine"):
        UdpSocket("192.0.2.77", 0)
    with pytest.raises(UsageError, match="no IP address"):
        UdpSocket("localhost", 0)


def test_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    make = socket.socket

    def no_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return make(family, kind)

    monkeypatch.setattr(udp_open.socket, "socket", no_ipv6)
    a = UdpSocket(None, 0)
    assert not a.is_ipv6
    assert a.transmit(Transmit(b"me", Endpoint("127.0.0.1", a.port)))
    assert receive_all(a, 1) == [(b"me", Endpoint("127.0.0.1", a.port))]
    a.close()


def test_an_old_kernel_has_no_trains(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(udp, "UDP_SEGMENT", 250)
    monkeypatch.setattr(udp, "UDP_GRO", 251)
    caplog.set_level("INFO")
    a = UdpSocket(None, 0)
    assert not a.sends_trains
    assert not a.receives_trains
    assert len(caplog.records) == 2
    assert a.transmit(Transmit(b"aab", Endpoint("::1", a.port), segment_size=2))
    assert [data for data, _ in receive_all(a, 2)] == [b"aa", b"b"]
    a.close()


NUMBERS = (0x01020304, 0xFFFFFFFE)


def known(number: int, size: int = 100) -> bytes:
    return b"\4\0\0\0" + number.to_bytes(4, "little") + bytes(size - 8)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_sieve_lets_through_what_names_a_number(
    pair: tuple[UdpSocket, UdpSocket], host: str
) -> None:
    a, b = pair
    b.set_sieve(pack_program(assemble(NUMBERS, 0.0)))
    relayed = b"\5" + known(NUMBERS[0])[1:]
    response = b"\2\0\0\0____" + known(NUMBERS[1])[4:]
    strange = (b"\1" + bytes(147), b"", b"\4", known(1), known(NUMBERS[0] + 1), b"\2" + bytes(91))
    good = (known(NUMBERS[0]), known(NUMBERS[1]), relayed, response)
    for stranger, friend in zip(strange, (*good, *good), strict=False):
        a.transmit(Transmit(stranger, Endpoint(host, b.port)))
        a.transmit(Transmit(friend, Endpoint(host, b.port)))
    assert [data for data, _ in receive_all(b, 6)] == [*good, *good][:6]
    assert not b.errors


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_sieve_lets_trains_through_whole(pair: tuple[UdpSocket, UdpSocket], host: str) -> None:
    a, b = pair
    b.set_sieve(pack_program(assemble(NUMBERS, 0.0)))
    sent = [known(NUMBERS[0], 1200)[:-1] + bytes([i]) for i in range(40)]
    for datagrams in ([known(7, 1200)] * 40, sent):
        for train in join([Transmit(data, Endpoint(host, b.port)) for data in datagrams]):
            assert a.transmit(train)
    assert [data for data, _ in receive_all(b, 40)] == sent


def test_a_sieve_is_replaced_and_taken_away(pair: tuple[UdpSocket, UdpSocket]) -> None:
    a, b = pair
    for program, through in (
        (assemble(NUMBERS, 0.0), NUMBERS),
        (assemble((7,), 0.0), (7,)),
        (assemble((7,), 1.0), (7, 8, *NUMBERS)),
        (assemble(None, 0.0), (7, 8, *NUMBERS)),
        (None, (7, 8, *NUMBERS)),
        (None, (7, 8, *NUMBERS)),
    ):
        b.set_sieve(None if program is None else pack_program(program))
        for number in (7, 8, *NUMBERS):
            a.transmit(Transmit(known(number), Endpoint("127.0.0.1", b.port)))
        assert [data for data, _ in receive_all(b, len(through))] == [known(n) for n in through]


def test_a_sieve_of_all_numbers_that_there_may_be(pair: tuple[UdpSocket, UdpSocket]) -> None:
    a, b = pair
    numbers = [number * 2654435761 % (1 << 32) for number in range(1, MOST_NUMBERS + 1)]
    b.set_sieve(pack_program(assemble(numbers, 0.0)))
    for number in numbers:
        a.transmit(Transmit(known(number + 1), Endpoint("127.0.0.1", b.port)))
        a.transmit(Transmit(known(number), Endpoint("127.0.0.1", b.port)))
        assert receive_all(b, 1)[0][0] == known(number)
    assert not b.errors


def test_a_sieve_leaves_the_rest_to_chance(pair: tuple[UdpSocket, UdpSocket]) -> None:
    a, b = pair
    b.set_sieve(pack_program(assemble((7,), 0.5)))
    for _ in range(500):
        a.transmit(Transmit(known(8), Endpoint("127.0.0.1", b.port)))
    a.transmit(Transmit(known(7), Endpoint("127.0.0.1", b.port)))
    received: list[bytes] = []
    while known(7) not in received:
        assert select.select([b], [], [], 10)[0]
        received += [data for datagrams, _ in b.receive(4) for data in datagrams]
    assert 150 < len(received) < 350, "of 500; chance is off by so much once in 10**17 times"


def test_a_sieve_that_the_kernel_refuses(
    pair: tuple[UdpSocket, UdpSocket], caplog: pytest.LogCaptureFixture
) -> None:
    a, b = pair
    b.set_sieve(pack_program(assemble((7,), 0.0)[:-1]))  # It ends without a decision.
    assert b.errors == {"EINVAL": 1}
    assert "reads everything" in caplog.text
    a.transmit(Transmit(known(8), Endpoint("127.0.0.1", b.port)))
    assert receive_all(b, 1)[0][0] == known(8)
