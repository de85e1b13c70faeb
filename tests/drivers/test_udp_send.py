"""What is sent by one call where there is no UDP_SEGMENT, and what waits while the system takes no
more."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.drivers.test_udp import Wrapped, receive_all
from tunnel.core.machine import Transmit
from tunnel.dataplane.train import join
from tunnel.drivers.network import configure_interface
from tunnel.drivers.tun import TunDevice
from tunnel.drivers.udp import UdpSocket
from tunnel.drivers.udp_mtu import PROBE
from tunnel.drivers.udp_send import Sender
from tunnel.wire.endpoint import Endpoint

LOCALHOST = "127.0.0.1"

InNamespace = Callable[[Callable[[], None]], None]


class Reluctant(Wrapped):
    """A socket that takes `room` more datagrams or trains, then fails with `number`."""

    def __init__(self, real: socket.socket, number: int = errno.EAGAIN) -> None:
        super().__init__(real)
        self.room, self.number = 0, number

    def sendto(self, data: bytes, address: tuple[str, int]) -> int:
        self._take()
        return self._real.sendto(data, address)

    def sendmsg(self, *arguments: object) -> int:
        self._take()
        return self._real.sendmsg(*arguments)  # type: ignore[arg-type]

    def _take(self) -> None:
        if self.room == 0:
            raise OSError(self.number, os.strerror(self.number))
        self.room -= 1


class Setting:
    """A socket whose system takes what it is told to, and one to send to."""

    def __init__(self, number: int = errno.EAGAIN, *, gso: bool = True) -> None:
        self.a, self.b = UdpSocket(LOCALHOST, 0, gso=gso), UdpSocket(LOCALHOST, 0)
        self.sender: Sender = self.a._sender
        self.system = Reluctant(self.a._socket, number)
        self.sender._socket = self.system  # type: ignore[assignment]
        self.there = Endpoint(LOCALHOST, self.b.port)
        self.calls = 0
        self.a.call_when_blocked(self.note)

    def note(self) -> None:
        self.calls += 1

    def send(self, data: bytes | memoryview, size: int | None = None) -> bool:
        return self.a.transmit(Transmit(data, self.there, size))

    def received(self, count: int) -> list[bytes]:
        return [datagram for datagram, _ in receive_all(self.b, count)]

    def close(self) -> None:
        self.a.close()
        self.b.close()


@pytest.fixture
def setting() -> Iterator[Setting]:
    setting = Setting()
    yield setting
    setting.close()


def test_what_is_not_taken_waits_in_order(setting: Setting) -> None:
    assert not setting.a.is_blocked
    buffer = bytearray(b"first")
    assert setting.send(memoryview(buffer))
    buffer[:] = b"other"  # it was the caller's again
    assert setting.a.is_blocked
    setting.system.room = 1
    assert setting.send(b"aabbc", 2)
    assert setting.send(b"last")
    assert setting.calls == 1
    assert setting.received(0) == []
    setting.a.flush()
    assert setting.a.is_blocked
    assert setting.received(1) == [b"first"]
    setting.system.room = 2
    setting.a.flush()
    assert not setting.a.is_blocked
    assert setting.received(4) == [b"aa", b"bb", b"c", b"last"]
    assert not setting.a.errors
    setting.system.room = 1
    assert setting.send(b"at once")
    assert setting.received(1) == [b"at once"]
    assert setting.send(b"again")
    assert (setting.calls, setting.sender._held_length) == (2, 5 + 512)


def test_a_train_waits_with_what_is_left_of_it() -> None:
    """Its datagrams leave one by one here, with a time to live of their own."""
    setting = Setting(gso=False)
    setting.system.room = 2
    assert setting.a.transmit(Transmit(b"aabbccd", setting.there, 2, ttl=9))
    assert setting.received(2) == [b"aa", b"bb"]
    setting.system.room = 1
    setting.a.flush()
    assert setting.received(1) == [b"cc"]
    setting.system.room = 9
    setting.a.flush()
    assert setting.received(1) == [b"d"]
    assert setting.sender._held_length == 0
    setting.close()


def test_a_full_queue_drops_the_newest(setting: Setting) -> None:
    sent = [bytes([i]) * 60_000 for i in range(10)]
    taken = [setting.send(data, 1000) for data in sent]
    assert taken == [True] * 4 + [False] * 6
    assert setting.a.errors == {"send queue full": 60 * 6}
    for i in range(4):
        setting.system.room = 1
        setting.a.flush()
        assert setting.received(60) == [bytes([i]) * 1000] * 60
    assert not setting.a.is_blocked


def test_small_ones_fill_it_too(setting: Setting) -> None:
    taken = sum(setting.send(b"x") for _ in range(1000))
    assert 400 < taken < 600
    assert setting.a.errors == {"send queue full": 1000 - taken}


def test_a_full_interface_drops() -> None:
    setting = Setting(errno.ENOBUFS)
    assert not setting.send(b"aab", 2)
    assert not setting.send(b"c")
    assert not setting.a.is_blocked
    assert setting.calls == 0
    assert setting.a.errors == {"ENOBUFS": 2}
    setting.system.room = 1
    assert setting.send(b"through")
    assert setting.received(1) == [b"through"]
    setting.close()


def test_without_anybody_to_call_nothing_waits() -> None:
    setting = Setting()
    setting.sender.on_blocked = None
    assert not setting.send(b"aab", 2)
    assert not setting.a.is_blocked
    assert setting.a.errors == {"EAGAIN": 2}
    setting.close()


def test_a_socket_that_is_full_waits_for_ever() -> None:
    setting = Setting()
    assert setting.send(b"patient")
    for _ in range(100):
        setting.a.flush()
    setting.system.room = 1
    setting.a.flush()
    assert setting.received(1) == [b"patient"]
    setting.close()


def test_an_unfragmented_one_stays_so() -> None:
    setting = Setting()
    whole = Transmit(b"whole", setting.there, dont_fragment=True)
    assert setting.a.transmit(whole)
    assert list(setting.sender._held) == [whole]
    setting.a.flush()
    assert list(setting.sender._held) == [whole]
    setting.system.room = 1
    setting.a.flush()
    assert setting.received(1) == [b"whole"]
    setting.close()


def test_what_waits_may_turn_out_impossible() -> None:
    setting = Setting()
    assert setting.send(b"first")
    assert setting.send(bytes(70_000))
    assert setting.send(b"last")
    setting.system.room = 9
    setting.a.flush()
    assert setting.received(2) == [b"first", b"last"]
    assert setting.a.errors == {"EMSGSIZE": 1}
    setting.close()


# One by one


def count_calls(opened: UdpSocket, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What each sendmmsg returns from now on."""
    outgoing = opened._sender._outgoing
    assert outgoing is not None
    real, calls = outgoing._call, []

    def call(*arguments: object) -> int:
        calls.append(real(*arguments))
        return calls[-1]  # type: ignore[no-any-return]

    monkeypatch.setattr(outgoing, "_call", call)
    return calls


@pytest.mark.parametrize("listen", [None, LOCALHOST])
def test_without_gso_a_train_is_few_calls(
    monkeypatch: pytest.MonkeyPatch, listen: str | None
) -> None:
    a, b = UdpSocket(listen, 0, gso=False), UdpSocket(None, 0)
    there = Endpoint(LOCALHOST, b.port)
    calls = count_calls(a, monkeypatch)
    for size, count, last in ((1400, 45, 1400), (1400, 45, 3), (20, 99, 7), (1401, 2, 1)):
        sent = [bytes([i]) * size for i in range(count)] + [b"x" * last]
        data = bytearray(b"".join(sent))
        assert a.transmit(Transmit(memoryview(data), there, size))
        data[:] = bytes(len(data))
        assert [datagram for datagram, _ in receive_all(b, len(sent))] == sent
    assert calls == [46, 46, 64, 36, 3]
    assert not a.errors
    a.close()
    b.close()


def test_other_families_take_turns() -> None:
    sockets = [UdpSocket(None, 0, gso=False), UdpSocket(LOCALHOST, 0, gso=False)]
    b = UdpSocket(None, 0)
    for _ in range(2):
        for a in sockets:
            assert a.transmit(Transmit(b"aab", Endpoint(LOCALHOST, b.port), 2))
            assert receive_all(b, 2) == [
                (data, Endpoint(LOCALHOST, a.port)) for data in (b"aa", b"b")
            ]
    assert sockets[0].transmit(Transmit(b"ccd", Endpoint("::1", b.port), 2))
    assert [source.host for _, source in receive_all(b, 2)] == ["::1"] * 2
    for opened in (*sockets, b):
        opened.close()


@pytest.mark.root
def test_those_too_large_are_counted_one_by_one(in_namespace: InNamespace) -> None:
    def check() -> None:
        tun = TunDevice("pt0", offload=False)
        configure_interface("pt0", ["10.7.0.1/24"], 1280)
        a = UdpSocket(None, 0, gso=False, mtu_discover=PROBE)
        there = Endpoint("10.7.0.2", 9)
        assert not a.transmit(Transmit(bytes(2 * 1400 + 100), there, 1400))
        assert [len(packet) for packet in tun.read(9)] == [128]
        assert a.errors == {"EMSGSIZE": 2}

    in_namespace(check)


# With a real queue


@pytest.mark.root
@pytest.mark.parametrize("gso", [True, False])
def test_nothing_is_lost_nor_out_of_order(in_namespace: InNamespace, gso: bool) -> None:
    """With a small send buffer before a slow interface."""

    def check() -> None:
        assert os.system("ip link set lo up") == 0
        assert os.system("tc qdisc add dev lo root tbf rate 40mbit burst 70k limit 10m") == 0
        a, b = UdpSocket(LOCALHOST, 0, gso=gso), UdpSocket(LOCALHOST, 0)
        a._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
        calls: list[None] = []
        a.call_when_blocked(lambda: calls.append(None))
        there = Endpoint(LOCALHOST, b.port)
        sent = [i.to_bytes(2, "big") * 600 for i in range(400)]
        received: list[bytes] = []
        for i in range(0, len(sent), 8):
            for transmit in join([Transmit(datagram, there) for datagram in sent[i : i + 8]]):
                assert a.transmit(transmit)
            while a.is_blocked:
                assert select.select([], [a], [], 10)[1], "never writable again"
                a.flush()
                received += [d for datagrams, _ in b.receive(99) for d in datagrams]
        received += [d for d, _ in receive_all(b, len(sent) - len(received))]
        assert received == sent
        assert len(calls) > 3
        assert not a.errors

    in_namespace(check)
