"""The primitives of Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, by the names the white paper gives them.

libsodium (through PyNaCl) does ChaCha20-Poly1305, the standard library BLAKE2s and HMAC. X25519 and
Ed25519 are methods of the keys, in ``keys.py``.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

from nacl import bindings
from nacl.exceptions import CryptoError

from tunnel.errors import AuthenticationFailed

Buffer = bytes | bytearray | memoryview

KEY_LENGTH = 32
HASH_LENGTH = 32
TAG_LENGTH = 16

_NONCE = struct.Struct("<IQ")


def blake2s(data: bytes) -> bytes:
    """BLAKE2s-256 (RFC 7693): 32 bytes."""
    return hashlib.blake2s(data).digest()


def mac(key: bytes, data: bytes) -> bytes:
    """Keyed BLAKE2s-128, 16 bytes. The key has 1 to 32 bytes (white paper §5.4: Mac)."""
    return hashlib.blake2s(data, digest_size=16, key=key).digest()


def kdf(n: int, key: bytes, data: bytes) -> tuple[bytes, ...]:
    """HKDF (RFC 5869) over HMAC-BLAKE2s: `n` outputs of 32 bytes, 1 to 3 (Noise rev 34 §4.3).

    `key` is the chaining key, RFC 5869's salt.
    """
    if not 1 <= n <= 3:
        raise ValueError(f"kdf gives 1 to 3 outputs, not {n}")
    # The constructor, not its name: given "blake2s" hmac goes through OpenSSL, 2.5 µs against 1.6.
    secret = hmac.digest(key, data, hashlib.blake2s)
    outputs: list[bytes] = []
    previous = b""
    for number in range(1, n + 1):
        previous = hmac.digest(secret, previous + bytes((number,)), hashlib.blake2s)
        outputs.append(previous)
    return tuple(outputs)


def seal(key: bytes, counter: int, plaintext: bytes, associated: bytes = b"") -> bytes:
    """Ciphertext and tag by ChaCha20-Poly1305 (RFC 8439), 16 bytes longer than `plaintext`.

    The nonce is 4 zero bytes and the counter, little-endian (Noise rev 34 §12.3). Never twice with
    one key and counter: that is for the caller to see to.
    """
    nonce = _NONCE.pack(0, counter)
    return bindings.crypto_aead_chacha20poly1305_ietf_encrypt(plaintext, associated, nonce, key)


def open_(key: bytes, counter: int, ciphertext: bytes, associated: bytes = b"") -> bytes:
    """The plaintext of what :func:`seal` made. Raises AuthenticationFailed("tag")."""
    # PyNaCl would subtract the tag, and raise something of cffi's about a negative length.
    if len(ciphertext) < TAG_LENGTH:
        raise AuthenticationFailed("tag")
    nonce = _NONCE.pack(0, counter)
    try:
        return bindings.crypto_aead_chacha20poly1305_ietf_decrypt(
            ciphertext, associated, nonce, key
        )
    except CryptoError:
        raise AuthenticationFailed("tag") from None


def constant_time_equal(a: bytes, b: bytes) -> bool:
    """Whether they are equal; the time taken tells nothing but their lengths."""
    return hmac.compare_digest(a, b)
