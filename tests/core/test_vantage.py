"""From where the server answers, and what it tells of its addresses."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.core.ends import ACCESS, SERVER, SERVER_KEY, Town, seeded
from tunnel.core.configuration import ServerConfig
from tunnel.core.rendezvous import RendezvousServer
from tunnel.core.vantage import Vantage
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.rendezvous import AnswerFrom, Echoed, Probe, Registered

SECOND = Endpoint("198.51.100.2", 12345)
V6, OTHER_V6 = Endpoint("2001:db8::1", 12345), Endpoint("2001:db8::2", 12345)
SAME, OTHER_PORT, OTHER_ADDRESS, SAME_LATER = AnswerFrom


@pytest.mark.parametrize(
    ("listeners", "local", "alternate", "port", "address"),
    [
        ((), 0, None, 1, None),
        ((None,), 1, None, 0, None),
        ((SERVER,), 0, None, 1, None),
        ((SERVER, SECOND), 0, SECOND, 1, 3),
        ((SERVER, SECOND), 1, SECOND, 0, 2),
        ((SERVER, SECOND), 2, SERVER, 3, 1),
        ((SERVER, SECOND), 3, SERVER, 2, 0),
        ((SERVER, V6), 0, None, 1, None),
        ((SERVER, V6, SECOND, OTHER_V6), 0, SECOND, 1, 5),
        ((SERVER, V6, SECOND, OTHER_V6), 2, OTHER_V6, 3, 7),
        ((None, SECOND), 0, None, 1, None),
        ((SERVER, SERVER._replace(port=7)), 0, None, 1, None),
    ],
)
def test_vantage(
    listeners: tuple[Endpoint | None, ...],
    local: int,
    alternate: Endpoint | None,
    port: int,
    address: int | None,
) -> None:
    vantage = Vantage(listeners)
    assert vantage.alternate(local) == alternate
    assert vantage.answerer(local, SAME) == local
    assert vantage.answerer(local, OTHER_PORT) == port
    assert vantage.answerer(local, OTHER_ADDRESS) == address
    assert vantage.answerer(local, 77) is None


class Outlook(Town):
    """A town that remembers by which of the server's sockets things were sent."""

    def __init__(self, *listeners: Endpoint) -> None:
        super().__init__()
        self.server = RendezvousServer(
            ServerConfig(SERVER_KEY, ACCESS, listeners=listeners),
            now=self.clock.now,
            random_bytes=seeded(1),
            wall_clock=self.clock.wall,
        )
        self.locals: list[int] = []

    def settle(self) -> None:
        for transmit in self.server.datagrams_to_send(self.clock.now):
            self.locals.append(transmit.local)
            node = self.nodes.get(transmit.endpoint)
            if node is not None:
                node.receive(bytes(transmit.data))


def test_the_second_address_is_told() -> None:
    town = Outlook(SERVER, SECOND)
    node = town.add(1)
    node.register(2)
    assert node.take(Registered)[0].alternate == SECOND
    alone = Outlook(SERVER).add(1)
    alone.register(2)
    assert alone.take(Registered)[0].alternate is None


@pytest.mark.parametrize(("place", "local"), [(SAME, 0), (OTHER_PORT, 1), (OTHER_ADDRESS, 3)])
def test_a_probe_is_answered_from_where_it_asks(place: AnswerFrom, local: int) -> None:
    town = Outlook(SERVER, SECOND)
    node = town.add(1)
    town.locals.clear()
    node.send(Probe(7, 0, place))
    assert town.locals == [local]
    assert node.take(Echoed) == [Echoed(7, 0, node.endpoint)]


class Padded(NamedTuple):
    size: int

    def pack(self) -> bytes:
        return Probe(7, 0).pack().ljust(self.size, b"\0")


@pytest.mark.parametrize(("size", "has_time"), [(32, False), (37, False), (38, True), (1400, True)])
def test_a_probe_that_is_long_enough_is_told_the_time(size: int, has_time: bool) -> None:
    town = Outlook(SERVER, SECOND)
    node = town.add(1)
    node.send(Padded(size))  # type: ignore[arg-type]
    (echoed,) = node.take(Echoed)
    assert echoed.wall_time == (int(town.clock.wall() * 1e6) if has_time else None)
    assert len(echoed.pack()) <= size


def test_no_answer_is_longer_than_the_question() -> None:
    assert len(Echoed(7, 0, SECOND).pack()) <= len(Probe(7, 0, OTHER_ADDRESS).pack())


@pytest.mark.parametrize("place", [OTHER_ADDRESS, 77])
def test_from_where_the_server_is_not_it_does_not_answer(place: int) -> None:
    town = Outlook(SERVER)
    node = town.add(1)
    node.send(Probe(7, 0, place))
    assert node.take(Echoed) == []
    assert town.server.drops["probe: no such socket to answer from"] == 1


def test_a_node_that_asks_too_often() -> None:
    town = Outlook(SERVER, SECOND)
    node, other = town.add(1), town.add(2)
    for number in range(50):
        node.send(Probe(number, 0, OTHER_ADDRESS))
    assert len(node.take(Echoed)) == 12
    assert town.server.drops["probe: over the rate limit"] == 38
    other.send(Probe(1, 0, OTHER_PORT))
    assert len(other.take(Echoed)) == 1
    town.advance(10)
    node.send(Probe(99, 0, OTHER_PORT))
    assert len(node.take(Echoed)) == 1


def test_a_late_answer_comes_from_where_it_was_asked() -> None:
    """One from elsewhere comes at once only."""
    town = Outlook(SERVER, SECOND)
    node = town.add(1)
    node.send(Probe(7, 5000, OTHER_PORT))
    town.advance(10)
    assert len(node.take(Echoed)) == 1


def test_probes_do_not_move_a_node() -> None:
    town = Outlook(SERVER, SECOND)
    node, peer = town.add(1), town.add(2)
    peer.heard.clear()
    node.send(Probe(7, 0), local=2)
    before = node.endpoint
    node.move(Endpoint("203.0.113.1", 50_000))
    node.send(Probe(8, 0, OTHER_PORT))
    node.send(Probe(9, 0), local=2)
    assert peer.heard == []
    assert before != node.endpoint
