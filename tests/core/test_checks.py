"""Checks on their way out."""

from __future__ import annotations

from tests.core.ends import seeded
from tunnel.core.checks import OPENER, CheckQueue
from tunnel.core.path import RELAYED, Path
from tunnel.wire.candidate import CandidateKind
from tunnel.wire.check import UNOBSERVED, Confirm, Ping, Pong, parse_check
from tunnel.wire.endpoint import Endpoint

HERE = Endpoint("203.0.113.1", 4000)
NOW = 1000.0


def path(endpoint: Endpoint = HERE, local: int = 17) -> Path:
    made = Path(endpoint, CandidateKind.PEER_REFLEXIVE, NOW)
    made.local = local
    return made


def test_taken_once_in_order() -> None:
    checks, way = CheckQueue(seeded(1)), path()
    transaction = checks.ping(way, NOW)
    checks.keepalive(way)
    checks.open(way, 4)
    first, second, third = checks.take()
    assert first == (HERE, Ping(transaction).pack(), 17, None)
    assert second == (HERE, b"", 17, None)
    assert third == (HERE, None, 17, 4)
    assert checks.take() == []
    assert (checks.pings, list(way.pending)) == (1, [transaction])


def test_a_pong_goes_by_the_socket_the_ping_came_to() -> None:
    checks, way = CheckQueue(seeded(1)), path()
    checks.pong(Ping(7), way, 0, NOW)
    (sent,) = checks.take()
    assert (sent.endpoint, sent.local) == (HERE, 0)
    pong = parse_check(sent.payload or b"")
    assert isinstance(pong, Pong)
    assert (pong.transaction, pong.observed) == (7, HERE)
    assert list(way.replies) == [pong.reply]
    checks.confirm(Pong(7, 8, HERE), way)
    (sent,) = checks.take()
    assert (sent.local, parse_check(sent.payload or b"")) == (17, Confirm(8))


def test_a_relayed_ping_was_seen_nowhere() -> None:
    checks = CheckQueue(seeded(1))
    checks.pong(Ping(7), path(RELAYED, 0), 0, NOW)
    (sent,) = checks.take()
    pong = parse_check(sent.payload or b"")
    assert isinstance(pong, Pong)
    assert pong.observed == UNOBSERVED


def test_an_opener_is_nothing_that_a_node_takes_for_anything() -> None:
    """It may come through, where routers are fewer than thought."""
    assert len(OPENER) == 1
    assert OPENER[0] == 0
