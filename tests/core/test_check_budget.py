"""What may be sent to endpoints that have proven nothing."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from tests.core.ends import key, seeded
from tunnel.core.check_budget import (
    ENDPOINT_BURST,
    ENDPOINT_RATE,
    HOST_BURST,
    HOST_RATE,
    PEER_BURST,
    PEER_HOST_BURST,
    PEER_HOST_RATE,
    PEER_RATE,
    STRANGER_BURST,
    STRANGER_RATE,
    CheckBudget,
)
from tunnel.core.checks import Outgoing
from tunnel.core.path import RELAYED
from tunnel.core.punch_schedule import PUNCH_ROUNDS
from tunnel.core.traversal import Traversal
from tunnel.wire.check import Confirm, Ping, Pong
from tunnel.wire.endpoint import Endpoint

VICTIM = Endpoint("203.0.113.66", 53)
PING = Ping(1).pack()
NOW = 1000.0


def make_peer(number: int) -> Any:
    return SimpleNamespace(key=key(number).public_key, traversal=Traversal(seeded(number)))


class Sender:
    def __init__(self) -> None:
        self.budget = CheckBudget()
        self.drops: Counter[str] = Counter()

    def send(
        self, peer: Any, *endpoints: Endpoint, now: float = NOW, payload: bytes | None = PING
    ) -> int:
        """How many of these leave."""
        checks = [Outgoing(endpoint, payload) for endpoint in endpoints]
        return len(list(self.budget.admit(peer, checks, self.drops, now)))


def ports(count: int, host: str = VICTIM.host) -> list[Endpoint]:
    return [Endpoint(host, 1000 + number) for number in range(count)]


def hosts(count: int, first: int = 0) -> list[Endpoint]:
    return [Endpoint(f"2001:db8::{number:x}", 7) for number in range(first, first + count)]


def test_a_punch_to_all_that_a_peer_may_announce_is_not_held_back() -> None:
    sender, peer = Sender(), make_peer(1)
    endpoints = [*hosts(30), *ports(4)]
    assert sender.send(peer, *endpoints, payload=None) == len(endpoints)
    for offset in PUNCH_ROUNDS:
        assert sender.send(peer, *endpoints, now=NOW + 0.03 + offset) == len(endpoints)
    assert not sender.drops


def test_one_endpoint_whoever_is_said_to_be_there() -> None:
    sender = Sender()
    peers = [make_peer(number) for number in range(1, 6)]
    sent = sum(sender.send(peer, VICTIM, payload=p) for peer in peers * 50 for p in (PING, None))
    assert sent == ENDPOINT_BURST
    assert sender.drops == {"sent: over the budget of checks": 500 - ENDPOINT_BURST}
    sent = sum(sender.send(peers[0], VICTIM, now=NOW + t / 100) for t in range(1000))
    assert abs(sent - 10 * ENDPOINT_RATE) <= 1


def test_one_address_for_one_peer() -> None:
    sender, peer = Sender(), make_peer(1)
    assert sum(sender.send(peer, *ports(8)) for _ in range(50)) == PEER_HOST_BURST
    sent = sum(sender.send(peer, *ports(8), now=NOW + t / 100) for t in range(1, 1001))
    assert abs(sent - 10 * PEER_HOST_RATE) <= 1


def test_one_address_for_all_peers() -> None:
    sender = Sender()
    peers = [make_peer(number) for number in range(1, 40)]
    sent = sum(sender.send(peer, *ports(8)) for _ in range(50) for peer in peers)
    # Of a peer's ports each is counted on its own, too, and all peers name the same ones.
    assert sent == 8 * ENDPOINT_BURST
    sent += sum(
        sender.send(peer, *[Endpoint(VICTIM.host, 2000 + 100 * number + n) for n in range(60)])
        for number, peer in enumerate(peers)
    )
    assert sent <= HOST_BURST + HOST_RATE
    assert sent >= HOST_BURST


def test_one_ipv6_site_for_all_peers() -> None:
    """Other addresses of one /64 are no other victim; those of its neighbour are."""
    sender = Sender()
    peers = [make_peer(number) for number in range(1, 100)]

    def spray(site: int) -> int:
        return sum(
            sender.send(peer, *[Endpoint(f"2001:db8:0:{site}::{number:x}:{n:x}", 7)])
            for n in range(20)
            for number, peer in enumerate(peers)
        )

    assert spray(1) == HOST_BURST
    assert spray(2) > HOST_BURST / 2


def test_ever_more_strangers() -> None:
    """A thousand addresses are not the way around."""
    sender, peer = Sender(), make_peer(1)
    assert sender.send(peer, *hosts(1000)) == STRANGER_BURST
    assert sender.send(make_peer(2), *hosts(10)) == 10, "another's budget is untouched"
    sent = sum(sender.send(peer, *hosts(10, 2000 + 10 * t), now=NOW + t / 10) for t in range(100))
    assert abs(sent - 10 * STRANGER_RATE) <= STRANGER_RATE
    # Those that are known go on being checked.
    assert sender.send(peer, *hosts(int(STRANGER_BURST)), now=NOW + 20) == STRANGER_BURST


def test_one_peer_wherever_it_is_said_to_be() -> None:
    sender, peer = Sender(), make_peer(1)
    endpoints = hosts(int(STRANGER_BURST))
    assert sum(sender.send(peer, *endpoints) for _ in range(50)) == PEER_BURST
    sent = sum(sender.send(peer, *endpoints, now=NOW + t / 100) for t in range(1, 1001))
    assert abs(sent - 10 * PEER_RATE) <= 1


def test_what_is_proven_relayed_or_an_answer_is_not_held_back() -> None:
    sender, peer = Sender(), make_peer(1)
    assert sum(sender.send(peer, RELAYED) for _ in range(500)) == 500
    for answer in (Pong(1, 2, VICTIM).pack(), Confirm(1).pack(), b""):
        assert sum(sender.send(peer, VICTIM, payload=answer) for _ in range(500)) == 500
    path = peer.traversal.path_table.add(VICTIM, NOW, None)
    assert sum(sender.send(peer, VICTIM) for _ in range(500)) == ENDPOINT_BURST
    path.proven_at = NOW
    assert sum(sender.send(peer, VICTIM) for _ in range(500)) == 500


def test_initiations_count_like_checks() -> None:
    sender, peer = Sender(), make_peer(1)
    budget, drops = sender.budget, sender.drops
    routes = [RELAYED, VICTIM]
    assert list(budget.admit_initiation(peer, routes, drops, NOW)) == routes
    assert sender.send(peer, *[VICTIM] * 40) == ENDPOINT_BURST - 1
    drops.clear()
    assert list(budget.admit_initiation(peer, routes, drops, NOW)) == [RELAYED]
    assert drops.total() == 1
