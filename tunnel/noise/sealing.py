"""Sealed blobs: what nodes leave with the server for each other, and keys derived for them.

::

    +------------+---------------------------------------+
    | nonce (24) | sealed plaintext, tag 16              |   XChaCha20-Poly1305
    +------------+---------------------------------------+
"""

from __future__ import annotations

import hashlib

from nacl import bindings
from nacl.exceptions import CryptoError

from tunnel.errors import AuthenticationFailed
from tunnel.noise.primitives import TAG_LENGTH

NONCE_LENGTH = 24
OVERHEAD = NONCE_LENGTH + TAG_LENGTH

_PERSON = b"punchtun"


def derive_key(label: bytes, *inputs: bytes) -> bytes:
    """32 bytes: another key for any other label or inputs, as secret as the most secret input.

    Each is hashed with its length before it, so that no two calls hash the same bytes; BLAKE2's
    personalization keeps them apart from every other hash of this program.
    """
    state = hashlib.blake2s(person=_PERSON)
    for part in (label, *inputs):
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()


def seal_blob(key: bytes, plaintext: bytes, nonce24: bytes, associated: bytes = b"") -> bytes:
    """The blob, 40 bytes longer than `plaintext`. 24 random bytes as nonce never repeat."""
    if len(nonce24) != NONCE_LENGTH:
        raise ValueError(f"a nonce has {NONCE_LENGTH} bytes")
    return nonce24 + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        plaintext, associated, nonce24, key
    )


def open_blob(key: bytes, blob: bytes, associated: bytes = b"") -> bytes:
    """The plaintext. Raises AuthenticationFailed("blob"), also for what is too short to be one."""
    if len(blob) < OVERHEAD:
        raise AuthenticationFailed("blob")
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
            blob[NONCE_LENGTH:], associated, blob[:NONCE_LENGTH], key
        )
    except CryptoError:
        raise AuthenticationFailed("blob") from None
