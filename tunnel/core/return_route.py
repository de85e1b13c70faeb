"""Whether a node receives where its datagrams come from, or only says so.

An authentic frame proves who sent it. Where it came from can be forged, and a server that believed
that would relay to anybody. So a node that is somewhere new is sent a token, and shows it:

    ========  =======================================  ============================================
    state     meaning                                  left by
    ========  =======================================  ============================================
    doubtful  its frames come from there; to there go  its token, or the first frame under keys
              answers, tokens, and thrice the bytes    whose handshake response went there and
              that have come (RFC 9000 §8.1)           nowhere else → proven
    proven    all may go there                         a frame from another source → doubtful
    ========  =======================================  ============================================

A source is an IPv4 address or an IPv6 /64: a NAT that moves a mapping to another port aims at
nobody else. Each address family has a state of its own.
"""

from __future__ import annotations

from tunnel.core.machine import RandomBytes, draw_number
from tunnel.core.source import source_of
from tunnel.noise.primitives import constant_time_equal
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.handshake import parse_response

MAX_RATIO = 3
MAX_CREDIT = 64 * 1024
"""Bytes that may go to a doubtful source at most, however much has come from there."""
CHALLENGE_SPACING = 0.3
MAX_CHALLENGES = 6
"""Tokens sent to one source before another frame has come from there."""


class ReturnRoute:
    def __init__(self) -> None:
        self._proven: dict[bool, bytes] = {}
        """IPv6? → source."""
        self._sure: Endpoint | None = None
        """Found to be proven, since that last changed: asked for with every datagram relayed."""
        self._doubtful: dict[bool, tuple[bytes, int]] = {}
        """IPv6? → source, and bytes that may still go there."""
        self._awaited: tuple[int, bytes] | None = None
        """The index that frames under the new keys name, and where the response went."""
        self._challenge: tuple[int, bool, bytes] | None = None
        """Token, IPv6?, source it is sent to."""
        self._challenged_at = float("-inf")
        self._challenges = 0

    def note_response(self, response: bytes, endpoint: Endpoint) -> None:
        """The response to a handshake has gone there."""
        self._awaited = (parse_response(response).sender, source_of(endpoint))

    def note_copy(self) -> None:
        """It has gone elsewhere as well: whoever has it may be at either place."""
        self._awaited = None

    def note_frame(self, receiver: int, endpoint: Endpoint, size: int) -> None:
        """An authentic frame that names `receiver` has come from there."""
        source, is_ipv6 = source_of(endpoint), endpoint.is_ipv6
        if self._proven.get(is_ipv6) == source:
            return
        if self._awaited == (receiver, source):
            self._prove(source, is_ipv6)
            return
        before, credit = self._doubtful.get(is_ipv6, (source, 0))
        if before != source:
            credit = 0
        self._doubtful[is_ipv6] = (source, min(credit + MAX_RATIO * size, MAX_CREDIT))
        self._challenges = 0

    def is_proven(self, endpoint: Endpoint) -> bool:
        return self._proven.get(endpoint.is_ipv6) == source_of(endpoint)

    def allows(self, endpoint: Endpoint, size: int) -> bool:
        """Whether so many bytes may go there; if so they count as sent."""
        if endpoint is self._sure:
            return True
        source, is_ipv6 = source_of(endpoint), endpoint.is_ipv6
        if self._proven.get(is_ipv6) == source:
            self._sure = endpoint
            return True
        doubtful, credit = self._doubtful.get(is_ipv6, (b"", 0))
        if doubtful != source or credit < size:
            return False
        self._doubtful[is_ipv6] = (source, credit - size)
        return True

    def challenge(self, endpoint: Endpoint, now: float, random_bytes: RandomBytes) -> int | None:
        """A token to send there now, unless it is proven or has just been asked."""
        source, is_ipv6 = source_of(endpoint), endpoint.is_ipv6
        if self._proven.get(is_ipv6) == source:
            return None
        if self._challenge is None or self._challenge[1:] != (is_ipv6, source):
            self._challenge = (draw_number(random_bytes), is_ipv6, source)
            self._challenges = 0
        elif now - self._challenged_at < CHALLENGE_SPACING or self._challenges >= MAX_CHALLENGES:
            return None
        self._challenged_at = now
        self._challenges += 1
        return self._challenge[0]

    def receive_token(self, token: int) -> bool:
        """Whether it is the one that was sent, which proves where that went."""
        if self._challenge is None:
            return False
        sent, is_ipv6, source = self._challenge
        if not constant_time_equal(token.to_bytes(8, "little"), sent.to_bytes(8, "little")):
            return False
        self._prove(source, is_ipv6)
        return True

    def _prove(self, source: bytes, is_ipv6: bool) -> None:
        self._proven[is_ipv6] = source
        self._sure = None
        self._doubtful.pop(is_ipv6, None)
        self._challenge = None
        self._awaited = None
