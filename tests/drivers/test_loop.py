"""Sockets that the loop opens when they are first sent from, and closes when it is told to; what
waits until they take more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import gevent
import pytest

from tests.drivers.test_udp_send import Reluctant
from tunnel.core.machine import Transmit
from tunnel.drivers.loop import MachineLoop
from tunnel.drivers.udp import UdpSocket
from tunnel.errors import OperatorError
from tunnel.wire.endpoint import Endpoint

Heard = list[tuple[bytes, Endpoint, int]]


class Machine:
    """Sends what it is given, once, and notes what arrives at which socket."""

    def __init__(self) -> None:
        self.transmits: list[Transmit] = []
        self.heard: Heard = []

    def receive_datagrams(
        self, datagrams: list[bytes], source: Endpoint, now: float, local: int
    ) -> list[bytes]:
        self.heard += [(datagram, source, local) for datagram in datagrams]
        return []

    def datagrams_to_send(self, now: float) -> list[Transmit]:
        transmits, self.transmits = self.transmits, []
        return transmits

    def get_timer(self) -> float | None:
        return None

    def handle_timer(self, now: float) -> None: ...


class Setting:
    def __init__(self) -> None:
        self.machine = Machine()
        self.fixed = UdpSocket("127.0.0.1", 0)
        self.opened: list[UdpSocket] = []
        self.loop = MachineLoop(self.machine, [self.fixed], open_socket=self.open)
        self.loop.start()

    def open(self) -> UdpSocket:
        self.opened.append(UdpSocket("127.0.0.1", 0))
        return self.opened[-1]

    def send(self, *transmits: Transmit) -> None:
        self.machine.transmits += transmits
        self.loop.settle(0.0)

    def wait_for(self, condition: Callable[[], object]) -> None:
        with gevent.Timeout(60):
            while not condition():
                gevent.sleep(0.001)

    def close(self) -> None:
        self.loop.close()
        self.fixed.close()


@pytest.fixture
def setting() -> Iterator[Setting]:
    setting = Setting()
    yield setting
    setting.close()


def test_a_number_without_socket_gets_one(setting: Setting) -> None:
    to = Endpoint("127.0.0.1", setting.fixed.port)
    setting.send(Transmit(b"one", to, local=7), Transmit(b"two", to, local=7))
    setting.wait_for(lambda: len(setting.machine.heard) == 2)
    [opened] = setting.opened
    source = Endpoint("127.0.0.1", opened.port)
    assert setting.machine.heard == [(b"one", source, 0), (b"two", source, 0)]
    setting.send(Transmit(b"back", source))
    setting.wait_for(lambda: len(setting.machine.heard) == 3)
    assert setting.machine.heard[2] == (b"back", to, 7)


def test_a_released_number_gets_another(setting: Setting) -> None:
    to = Endpoint("127.0.0.1", setting.fixed.port)
    setting.send(Transmit(b"one", to, local=7), Transmit(b"other", to, local=8))
    setting.loop.release_sockets([7, 9, 0])
    assert [opened.fileno() == -1 for opened in setting.opened] == [True, False]
    assert setting.fixed.fileno() != -1
    setting.send(Transmit(b"two", to, local=7), Transmit(b"last", to, local=0))
    setting.wait_for(lambda: len(setting.machine.heard) == 4)
    former, other, new = (Endpoint("127.0.0.1", opened.port) for opened in setting.opened)
    assert setting.machine.heard == [
        (b"one", former, 0),
        (b"other", other, 0),
        (b"two", new, 0),
        (b"last", to, 0),
    ]


def test_all_are_closed_at_the_end_but_those_given(setting: Setting) -> None:
    to = Endpoint("127.0.0.1", setting.fixed.port)
    setting.send(*[Transmit(b"one", to, local=number) for number in range(2, 6)])
    setting.loop.close()
    assert [opened.fileno() for opened in setting.opened] == [-1] * 4
    assert setting.fixed.fileno() != -1


def test_hundreds_leave_nothing_behind(setting: Setting) -> None:
    before = len(os.listdir("/proc/self/fd"))
    to = Endpoint("127.0.0.1", setting.fixed.port)
    numbers = range(16, 16 + 448)
    for _ in range(2):
        setting.send(*[Transmit(b"guess", to, local=number) for number in numbers])
        assert len({opened.port for opened in setting.opened[-448:]}) == 448
        setting.wait_for(lambda: len(setting.machine.heard) == 448)
        setting.machine.heard.clear()
        setting.loop.release_sockets(numbers)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_socket_that_is_not_to_be_had_costs_its_datagram_only() -> None:
    def refuse() -> UdpSocket:
        raise OperatorError("cannot open UDP port 0: Too many open files")

    machine, fixed = Machine(), UdpSocket("127.0.0.1", 0)
    to = Endpoint("127.0.0.1", fixed.port)
    loop = MachineLoop(machine, [fixed], open_socket=refuse)
    machine.transmits = [Transmit(b"one", to, local=2), Transmit(b"two", to)]
    loop.settle(0.0)
    gevent.sleep(0)
    assert loop.drops == {"socket not to be had": 1}
    assert [datagram for datagrams, _ in fixed.receive(9) for datagram in datagrams] == [b"two"]
    loop.close()
    fixed.close()


def test_without_a_way_to_open_one() -> None:
    machine, fixed = Machine(), UdpSocket("127.0.0.1", 0)
    loop = MachineLoop(machine, [fixed])
    machine.transmits = [Transmit(b"one", Endpoint("127.0.0.1", fixed.port), local=1)]
    loop.settle(0.0)
    assert loop.drops == {"no such socket": 1}
    loop.close()
    fixed.close()


def fill_up(opened: UdpSocket) -> Reluctant:
    """From now on its system takes nothing."""
    system = Reluctant(opened._socket)
    opened._sender._socket = system  # type: ignore[assignment]
    return system


def test_what_waits_is_sent_when_there_is_room(setting: Setting) -> None:
    to = Endpoint("127.0.0.1", setting.fixed.port)
    system = fill_up(setting.fixed)
    setting.send(Transmit(b"one", to, ttl=64), Transmit(b"two", to))
    gevent.sleep(0.01)
    assert setting.machine.heard == []
    system.room = 1
    setting.wait_for(lambda: len(setting.machine.heard) == 1)
    assert setting.fixed.is_blocked
    system.room = 1
    setting.wait_for(lambda: not setting.fixed.is_blocked)
    setting.wait_for(lambda: len(setting.machine.heard) == 2)
    assert [datagram for datagram, _, _ in setting.machine.heard] == [b"one", b"two"]
    assert not setting.fixed.errors
    assert setting.loop._blocked == {}


def test_a_socket_with_room_is_not_watched_for_it(setting: Setting) -> None:
    setting.send(Transmit(b"one", Endpoint("127.0.0.1", setting.fixed.port)))
    assert setting.loop._blocked == {}


def test_a_blocked_socket_is_released(setting: Setting) -> None:
    to = Endpoint("127.0.0.1", setting.fixed.port)
    setting.send(Transmit(b"", to, local=7))
    fill_up(setting.opened[0])
    setting.send(Transmit(b"one", to, local=7))
    assert list(setting.loop._blocked) == [7]
    setting.loop.release_sockets([7])
    assert setting.loop._blocked == {}
    setting.send(Transmit(b"two", to, local=7))
    setting.wait_for(lambda: len(setting.machine.heard) == 2)
    assert [datagram for datagram, _, _ in setting.machine.heard] == [b"", b"two"]


def test_a_blocked_socket_is_replaced(setting: Setting) -> None:
    fill_up(setting.fixed)
    setting.send(Transmit(b"one", Endpoint("127.0.0.1", setting.fixed.port)))
    old = setting.fixed
    setting.fixed = UdpSocket("127.0.0.1", 0)
    setting.loop.replace_socket(0, setting.fixed)
    assert old.fileno() == -1
    system = fill_up(setting.fixed)
    setting.send(Transmit(b"two", Endpoint("127.0.0.1", setting.fixed.port)))
    system.room = 1
    setting.wait_for(lambda: setting.machine.heard)
    assert [datagram for datagram, _, _ in setting.machine.heard] == [b"two"]


def test_what_waits_is_tried_once_more_at_the_end() -> None:
    setting = Setting()
    to = Endpoint("127.0.0.1", setting.fixed.port)
    system = fill_up(setting.fixed)
    setting.send(Transmit(b"good-bye", to))
    system.room = 1
    setting.loop.close()
    assert [datagrams for datagrams, _ in setting.fixed.receive(9)] == [[b"good-bye"]]
    setting.fixed.close()


def test_something_is_done_before_anything_is_sent() -> None:
    """After the machine has said what it sends, so that it can depend on that."""
    machine, socket = Machine(), UdpSocket("127.0.0.1", 0)
    left: list[tuple[int, int]] = []

    def note() -> None:
        left.append((len(machine.transmits), len(socket.receive(9))))

    loop = MachineLoop(machine, [socket], before_sending=note)
    machine.transmits.append(Transmit(b"one", Endpoint("127.0.0.1", socket.port)))
    loop.settle(0.0)
    assert left == [(0, 0)]
    loop.settle(0.0)
    assert left == [(0, 0), (0, 1)]
    loop.close()
    socket.close()
