"""The handshake pattern IKpsk2 (Noise specification rev 34 §7.5, §9), any prologue and payload.

::

    IKpsk2:
      <- s
      ...
      -> e, es, s, ss
      <- e, ee, se, psk

``handshake.py`` makes WireGuard's messages with it; published vectors drive it as it is.
"""

from __future__ import annotations

from tunnel.errors import AuthenticationFailed
from tunnel.noise.keys import PresharedKey, PrivateKey, PublicKey
from tunnel.noise.primitives import KEY_LENGTH, TAG_LENGTH
from tunnel.noise.symmetric import SymmetricState

SEALED_STATIC_LENGTH = KEY_LENGTH + TAG_LENGTH


class HandshakeState:
    """One handshake, seen from one end. Each end calls its two methods once, in order.

    Reading raises AuthenticationFailed and then leaves the state as it was, so that a forged
    message can't end the handshake of the true one. Ephemeral keys are handed in, and must be new.
    """

    __slots__ = ("_ephemeral", "_remote_ephemeral", "_static", "_symmetric", "remote_static")

    remote_static: PublicKey
    """Known to the initiator from the start, to the responder after `read_message_1`."""

    def __init__(
        self, *, prologue: bytes, static: PrivateKey, remote_static: PublicKey | None = None
    ) -> None:
        """The initiator names the responder as `remote_static`; the responder names nobody."""
        self._static = static
        self._symmetric = SymmetricState()
        self._symmetric.mix_hash(prologue)
        if remote_static is not None:
            self.remote_static = remote_static
        self._symmetric.mix_hash((remote_static or static.public_key).data)

    def write_message_1(self, ephemeral: PrivateKey, payload: bytes) -> bytes:
        """Initiator: ephemeral key, sealed static key, sealed payload.

        AuthenticationFailed if the responder's key is of low order: no such responder exists.
        """
        symmetric = self._symmetric
        self._ephemeral = ephemeral
        _mix_ephemeral(symmetric, ephemeral.public_key)
        symmetric.mix_key(ephemeral.exchange(self.remote_static))
        sealed_static = symmetric.encrypt_and_hash(self._static.public_key.data)
        symmetric.mix_key(self._static.exchange(self.remote_static))
        return ephemeral.public_key.data + sealed_static + symmetric.encrypt_and_hash(payload)

    def read_message_1(self, message: bytes) -> bytes:
        """Responder: the payload; `remote_static` says whose it is."""
        remote_ephemeral, rest = _take_ephemeral(message)
        symmetric = self._symmetric.copy()
        _mix_ephemeral(symmetric, remote_ephemeral)
        symmetric.mix_key(self._static.exchange(remote_ephemeral))
        # Not shorter than a tag, or decrypting would have failed; PublicKey wants exactly 32 bytes.
        if len(rest) < SEALED_STATIC_LENGTH:
            raise AuthenticationFailed("short message")
        remote_static = PublicKey(symmetric.decrypt_and_hash(rest[:SEALED_STATIC_LENGTH]))
        symmetric.mix_key(self._static.exchange(remote_static))
        payload = symmetric.decrypt_and_hash(rest[SEALED_STATIC_LENGTH:])
        self._symmetric = symmetric
        self._remote_ephemeral = remote_ephemeral
        self.remote_static = remote_static
        return payload

    def write_message_2(
        self, ephemeral: PrivateKey, preshared: PresharedKey, payload: bytes
    ) -> bytes:
        """Responder: ephemeral key, sealed payload. The preshared key may depend on who asked."""
        symmetric = self._symmetric
        _mix_ephemeral(symmetric, ephemeral.public_key)
        symmetric.mix_key(ephemeral.exchange(self._remote_ephemeral))
        symmetric.mix_key(ephemeral.exchange(self.remote_static))
        symmetric.mix_key_and_hash(preshared.data)
        return ephemeral.public_key.data + symmetric.encrypt_and_hash(payload)

    def read_message_2(self, message: bytes, preshared: PresharedKey) -> bytes:
        """Initiator: the payload."""
        remote_ephemeral, rest = _take_ephemeral(message)
        symmetric = self._symmetric.copy()
        _mix_ephemeral(symmetric, remote_ephemeral)
        symmetric.mix_key(self._ephemeral.exchange(remote_ephemeral))
        symmetric.mix_key(self._static.exchange(remote_ephemeral))
        symmetric.mix_key_and_hash(preshared.data)
        payload = symmetric.decrypt_and_hash(rest)
        self._symmetric = symmetric
        return payload

    @property
    def handshake_hash(self) -> bytes:
        """After both messages: the same 32 bytes at both ends, and in no other handshake."""
        return self._symmetric.handshake_hash

    def split(self) -> tuple[bytes, bytes]:
        """After both messages, the transport keys: to the responder, to the initiator."""
        return self._symmetric.split()


def _take_ephemeral(message: bytes) -> tuple[PublicKey, bytes]:
    if len(message) < KEY_LENGTH:
        raise AuthenticationFailed("short message")
    return PublicKey(message[:KEY_LENGTH]), message[KEY_LENGTH:]


def _mix_ephemeral(symmetric: SymmetricState, ephemeral: PublicKey) -> None:
    """Token "e". Handshakes with a preshared key mix it into the key as well (§9.2)."""
    symmetric.mix_hash(ephemeral.data)
    symmetric.mix_key(ephemeral.data)
