"""Noise's symmetric state (Noise specification rev 34 §5.1, §5.2).

The cipher state of §5.1 is folded in: during a handshake nothing else uses one.
"""

from __future__ import annotations

from tunnel.noise.primitives import HASH_LENGTH, blake2s, kdf, open_, seal
from tunnel.wire.confidential import Confidential

PROTOCOL_NAME = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"


class SymmetricState(Confidential):
    """Chaining key, transcript hash and, once a key was mixed in, a cipher key and its nonce."""

    __slots__ = ("_chaining_key", "_key", "_nonce", "handshake_hash")

    def __init__(self, protocol_name: bytes = PROTOCOL_NAME) -> None:
        if len(protocol_name) <= HASH_LENGTH:
            self.handshake_hash = protocol_name.ljust(HASH_LENGTH, b"\0")
        else:
            self.handshake_hash = blake2s(protocol_name)
        self._chaining_key = self.handshake_hash
        self._key = b""
        self._nonce = 0

    def copy(self) -> SymmetricState:
        """An independent twin, to try a message on: one that fails must not leave a trace."""
        twin = SymmetricState.__new__(SymmetricState)
        twin.handshake_hash = self.handshake_hash
        twin._chaining_key = self._chaining_key
        twin._key = self._key
        twin._nonce = self._nonce
        return twin

    def mix_key(self, input_key_material: bytes) -> None:
        self._chaining_key, self._key = kdf(2, self._chaining_key, input_key_material)
        self._nonce = 0

    def mix_hash(self, data: bytes) -> None:
        self.handshake_hash = blake2s(self.handshake_hash + data)

    def mix_key_and_hash(self, input_key_material: bytes) -> None:
        self._chaining_key, hashed, self._key = kdf(3, self._chaining_key, input_key_material)
        self._nonce = 0
        self.mix_hash(hashed)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        """The ciphertext, 16 bytes longer; before any key was mixed in, the plaintext itself."""
        ciphertext = plaintext
        if self._key:
            ciphertext = seal(self._key, self._nonce, plaintext, self.handshake_hash)
            self._nonce += 1
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        """The plaintext. Raises AuthenticationFailed and leaves the state as it was."""
        plaintext = ciphertext
        if self._key:
            plaintext = open_(self._key, self._nonce, ciphertext, self.handshake_hash)
            self._nonce += 1
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The transport keys: initiator to responder, responder to initiator."""
        to_responder, to_initiator = kdf(2, self._chaining_key, b"")
        return to_responder, to_initiator
