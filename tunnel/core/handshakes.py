"""Receiving initiations: cheap refusals first, and cookies under load (white paper §5.3, §5.4.7).

One MAC is all a stranger costs. X25519 is done only for datagrams that prove knowledge of our
public key and, under load, of a cookie sent to the address they claim.
"""

from __future__ import annotations

from tunnel.core.machine import RandomBytes
from tunnel.core.ratelimit import KeyedRateLimit, TokenBucket
from tunnel.core.source import source_of
from tunnel.errors import AuthenticationFailed
from tunnel.noise.cookie import CookieChecker
from tunnel.noise.handshake import Construction, ReceivedInitiation, consume_initiation
from tunnel.noise.keys import PrivateKey
from tunnel.wire.endpoint import Endpoint, pack_endpoint
from tunnel.wire.handshake import parse_initiation

CALM_RATE = 200.0
"""Initiations a second that are opened without a cookie, and at once."""
SOURCE_RATE, SOURCE_BURST = 20.0, 40.0
"""Those of one source with a cookie (white paper §5.3)."""


class CookieDemanded(Exception):
    """Under load: send this cookie reply to where the initiation came from, and nothing else."""

    def __init__(self, datagram: bytes) -> None:
        super().__init__("cookie demanded")
        self.datagram = datagram


class HandshakeReceiver:
    """Opens initiations addressed to `static`.

    `calm_rate` initiations a second are opened without a cookie; each source (`source_of`)
    may have 20 a second after that (white paper §5.3).
    """

    def __init__(
        self,
        construction: Construction,
        static: PrivateKey,
        random_bytes: RandomBytes,
        calm_rate: float = CALM_RATE,
    ) -> None:
        self._construction = construction
        self._static = static
        self._checker = CookieChecker(construction, static.public_key, random_bytes)
        self._calm = TokenBucket(calm_rate, calm_rate)
        self._per_source = KeyedRateLimit(SOURCE_RATE, SOURCE_BURST)

    def has_valid_mac1(self, datagram: bytes) -> bool:
        """Whether the sender knows our public key: to be asked of responses too."""
        return self._checker.has_valid_mac1(datagram)

    def receive(
        self,
        datagram: bytes,
        source: Endpoint,
        now: float,
        *,
        is_wary: bool = False,
        channel: int | None = None,
    ) -> ReceivedInitiation:
        """Open it. `is_wary`: not without a cookie, however calm it is. `channel`: of the relay, by
        which it came, and then that counts as its source: all channels have one address. Raises
        Malformed, AuthenticationFailed, CookieDemanded."""
        initiation = parse_initiation(datagram)
        if not self._checker.has_valid_mac1(datagram):
            raise AuthenticationFailed("mac1")
        packed = pack_endpoint(source)
        if is_wary or not self._calm.take(now):
            if not self._checker.has_valid_mac2(datagram, packed, now):
                raise CookieDemanded(self._checker.create_reply(datagram, packed, now).pack())
            key = source_of(source) if channel is None else channel
            if not self._per_source.take(key, now):
                raise AuthenticationFailed("too many handshakes from one source")
        return consume_initiation(self._construction, self._static, initiation)
