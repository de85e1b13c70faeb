"""mac1, mac2 and the cookie reply (WireGuard white paper §5.3, §5.4.4, §5.4.7).

mac1 shows that a sender knows whom it talks to: without it there is no answer at all. Under load a
receiver answers with a cookie instead of computing; the sender comes again with mac2, which shows
that it receives at the address it sends from. Both are the last 32 bytes of a datagram.
"""

from __future__ import annotations

from nacl import bindings
from nacl.exceptions import CryptoError

from tunnel.errors import AuthenticationFailed
from tunnel.noise.handshake import Construction
from tunnel.noise.keys import PublicKey, RandomBytes
from tunnel.noise.primitives import blake2s, constant_time_equal, mac
from tunnel.wire.confidential import Confidential
from tunnel.wire.handshake import MAC_LENGTH, NO_MAC, CookieReply

COOKIE_REFRESH_TIME = 120.0
"""Seconds a cookie and the secret behind it are good for (white paper §6.1 and §5.4.7)."""

_MACS_LENGTH = 2 * MAC_LENGTH
_SENDER = slice(4, 8)
_SECRET_LENGTH = 32
_NONCE_LENGTH = 24


class CookieChecker(Confidential):
    """The side that receives handshake messages, as the owner of one public key."""

    def __init__(
        self, construction: Construction, public_key: PublicKey, random_bytes: RandomBytes
    ) -> None:
        self._mac1_key = blake2s(construction.mac1_label + public_key.data)
        self._cookie_key = blake2s(construction.cookie_label + public_key.data)
        self._random_bytes = random_bytes
        self._secret = b""
        self._secret_made_at = 0.0

    def has_valid_mac1(self, datagram: bytes) -> bool:
        """Whether the sender knows our public key. No proof of where it is, or when it was."""
        if len(datagram) < _MACS_LENGTH:
            return False
        expected = mac(self._mac1_key, datagram[:-_MACS_LENGTH])
        return constant_time_equal(expected, datagram[-_MACS_LENGTH:-MAC_LENGTH])

    def has_valid_mac2(self, datagram: bytes, source: bytes, now: float) -> bool:
        """Whether the sender received a cookie at `source` (packed endpoint) a short time ago."""
        if len(datagram) < _MACS_LENGTH or not self._holds_secret(now):
            return False
        cookie = mac(self._secret, source)
        return constant_time_equal(mac(cookie, datagram[:-MAC_LENGTH]), datagram[-MAC_LENGTH:])

    def create_reply(self, datagram: bytes, source: bytes, now: float) -> CookieReply:
        """The cookie for `source`, sealed to the mac1 of `datagram`, which must be valid.

        64 bytes on the wire, never more than the datagram it answers.
        """
        if not self._holds_secret(now):
            self._secret = self._random_bytes(_SECRET_LENGTH)
            self._secret_made_at = now
        nonce = self._random_bytes(_NONCE_LENGTH)
        sealed = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
            mac(self._secret, source),
            bytes(datagram[-_MACS_LENGTH:-MAC_LENGTH]),
            nonce,
            self._cookie_key,
        )
        return CookieReply(int.from_bytes(datagram[_SENDER], "little"), nonce, sealed)

    def _holds_secret(self, now: float) -> bool:
        return bool(self._secret) and now - self._secret_made_at < COOKIE_REFRESH_TIME


class CookieGenerator(Confidential):
    """The side that sends handshake messages to the owner of one public key."""

    def __init__(self, construction: Construction, remote_static: PublicKey) -> None:
        self._mac1_key = blake2s(construction.mac1_label + remote_static.data)
        self._cookie_key = blake2s(construction.cookie_label + remote_static.data)
        self._last_mac1 = b""
        self._cookie = b""
        self._cookie_received_at = 0.0

    def stamp(self, datagram: bytes, now: float) -> bytes:
        """`datagram` with its last 32 bytes replaced by mac1 and mac2 (zero without a cookie)."""
        if len(datagram) < _MACS_LENGTH:
            raise ValueError("no room for mac1 and mac2")
        body = bytes(datagram[:-_MACS_LENGTH])
        self._last_mac1 = mac(self._mac1_key, body)
        body += self._last_mac1
        if self._cookie and now - self._cookie_received_at < COOKIE_REFRESH_TIME:
            return body + mac(self._cookie, body)
        return body + NO_MAC

    def consume_reply(self, reply: CookieReply, now: float) -> None:
        """Keep the cookie for the messages to come. The refused one is not stamped again here.

        Raises AuthenticationFailed("cookie reply") for one that doesn't answer the last message
        stamped, or answers it a second time.
        """
        if not self._last_mac1:
            raise AuthenticationFailed("cookie reply")
        try:
            cookie = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
                reply.cookie, self._last_mac1, reply.nonce, self._cookie_key
            )
        except CryptoError:
            raise AuthenticationFailed("cookie reply") from None
        self._cookie = cookie
        self._cookie_received_at = now
        # One reply for one message: a reply caught and sent again must not renew an old cookie.
        self._last_mac1 = b""
