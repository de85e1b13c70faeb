"""Answers to STUN Binding requests, which anybody may send: limited per source and in all."""

from __future__ import annotations

from tunnel.core.ratelimit import KeyedRateLimit, TokenBucket
from tunnel.core.source import source_of
from tunnel.errors import AuthenticationFailed
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.stun import pack_binding_success, parse_binding_request

STUN_RATE, STUN_BURST = 10.0, 30.0
"""Answers a second to one source, and at once."""
STUN_TOTAL_RATE, STUN_TOTAL_BURST = 1000.0, 500.0
"""In the 3 s in which a source's 30 come back fewer are answered in all than are kept."""


class StunAnswers:
    def __init__(self) -> None:
        self.count = 0
        total = TokenBucket(STUN_TOTAL_RATE, STUN_TOTAL_BURST)
        self._limit = KeyedRateLimit(STUN_RATE, STUN_BURST, total=total)

    def answer(self, datagram: bytes, source: Endpoint, now: float) -> bytes:
        """Raises Malformed, AuthenticationFailed."""
        transaction = parse_binding_request(datagram)
        if not self._limit.take(source_of(source), now):
            raise AuthenticationFailed("stun: over the rate limit")
        self.count += 1
        return pack_binding_success(transaction, source)
