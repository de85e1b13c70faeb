"""How much may be sent to endpoints that have proven nothing yet.

Whoever may name endpoints to us (a member, by its candidates; the server, by where it sees members)
must not aim us at a third. Each path has its own bound (``MAX_UNANSWERED_CHECKS``), but paths are
forgotten when there are many; this is what is remembered beyond them. Openers, pings and
initiations count, whoever made them due. What answers a datagram that came in does not: it is one
for one.

Guessed ports have bounds of their own (``core/port_guessing.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tunnel.core.checks import Outgoing
from tunnel.core.path import RELAYED
from tunnel.core.peer import Peer
from tunnel.core.ratelimit import KeyedRateLimit
from tunnel.core.source import source_of
from tunnel.wire.check import is_ping
from tunnel.wire.endpoint import Endpoint

OVER_BUDGET = "sent: over the budget of checks"

ENDPOINT_RATE, ENDPOINT_BURST = 24.0, 32.0
"""Datagrams a second to one endpoint, whichever peers are said to be there: a punch has 9 rounds
and an opener, and may begin anew with every piece of news."""
PEER_HOST_RATE, PEER_HOST_BURST = 32.0, 96.0
"""To all ports of one address for one peer: some 6 endpoints of it are known at most, that is 60
datagrams a punch."""
HOST_RATE, HOST_BURST = 256.0, 1024.0
"""To all of one IPv4 address or IPv6 /64: a hundred peers may be behind one NAT."""
PEER_RATE, PEER_BURST = 128.0, 512.0
"""For one peer, wherever to: a punch of 34 endpoints sends 340."""
STRANGER_RATE, STRANGER_BURST = 4.0, 64.0
"""Endpoints never sent to before, for one peer: it may announce 32, and others may name 16."""


class CheckBudget:
    def __init__(self) -> None:
        self._endpoints = KeyedRateLimit(ENDPOINT_RATE, ENDPOINT_BURST)
        self._peer_hosts = KeyedRateLimit(PEER_HOST_RATE, PEER_HOST_BURST)
        self._hosts = KeyedRateLimit(HOST_RATE, HOST_BURST)
        self._peers = KeyedRateLimit(PEER_RATE, PEER_BURST)
        self._strangers = KeyedRateLimit(STRANGER_RATE, STRANGER_BURST)

    def admit(
        self, peer: Peer, checks: Sequence[Outgoing], drops: Counter[str], now: float
    ) -> Iterable[Outgoing]:
        """Those that may be sent; the others are counted in `drops`, and are as good as lost."""
        if not checks:
            return checks
        admitted = [
            check
            for check in checks
            if not (check.payload is None or is_ping(check.payload))
            or self._may_send(peer, check.endpoint, now)
        ]
        if len(admitted) < len(checks):
            drops[OVER_BUDGET] += len(checks) - len(admitted)
        return admitted

    def admit_initiation(
        self, peer: Peer, routes: Sequence[Endpoint], drops: Counter[str], now: float
    ) -> Sequence[Endpoint]:
        """Those to which it may be sent; the others are counted in `drops`."""
        admitted = [endpoint for endpoint in routes if self._may_send(peer, endpoint, now)]
        if len(admitted) < len(routes):
            drops[OVER_BUDGET] += len(routes) - len(admitted)
        return admitted

    def _may_send(self, peer: Peer, endpoint: Endpoint, now: float) -> bool:
        if endpoint == RELAYED:
            return True
        path = peer.traversal.path_table.get(endpoint)
        if path is not None and path.proven_at is not None:
            return True
        key = peer.key.data
        return (
            (endpoint in self._endpoints or self._strangers.take(key, now))
            and self._endpoints.take(endpoint, now)
            and self._peer_hosts.take((key, endpoint.host), now)
            and self._hosts.take(source_of(endpoint), now)
            and self._peers.take(key, now)
        )
