"""docs/protocol.md, "Primitives" and "Keys"."""

from __future__ import annotations

import hashlib
import hmac

from nacl import bindings
from nacl.exceptions import CryptoError


class Refused(Exception):
    """What came is to be dropped."""


def hash_of(data: bytes) -> bytes:
    return hashlib.blake2s(data).digest()


def mac_of(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2s(data, key=key, digest_size=16).digest()


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.blake2s).digest()


def kdf(count: int, chaining_key: bytes, data: bytes) -> list[bytes]:
    secret = _hmac(chaining_key, data)
    outputs = [_hmac(secret, b"\1")]
    while len(outputs) < count:
        outputs.append(_hmac(secret, outputs[-1] + bytes([len(outputs) + 1])))
    return outputs


def public_of(private: bytes) -> bytes:
    return bytes(bindings.crypto_scalarmult_base(private))


def exchange(private: bytes, public: bytes) -> bytes:
    try:
        return bytes(bindings.crypto_scalarmult(private, public))
    except CryptoError as error:
        raise Refused("all zero") from error


Cipher = str
"""As libsodium names it, in ``nacl.bindings``."""
CHACHA, XCHACHA = "chacha20poly1305_ietf", "xchacha20poly1305_ietf"
AEGIS128L = "aegis128l"


def seal(
    cipher: Cipher, key: bytes, nonce: bytes, plaintext: bytes, associated: bytes = b""
) -> bytes:
    encrypt = getattr(bindings, f"crypto_aead_{cipher}_encrypt")
    return bytes(encrypt(plaintext, associated, nonce, key))


def open_sealed(
    cipher: Cipher, key: bytes, nonce: bytes, sealed: bytes, associated: bytes = b""
) -> bytes:
    decrypt = getattr(bindings, f"crypto_aead_{cipher}_decrypt")
    try:
        return bytes(decrypt(sealed, associated, nonce, key))
    except CryptoError as error:
        raise Refused("tag") from error


def seal_blob(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes = b"") -> bytes:
    return nonce + seal(XCHACHA, key, nonce, plaintext, associated)


def open_blob(key: bytes, blob: bytes, associated: bytes = b"") -> bytes:
    return open_sealed(XCHACHA, key, blob[:24], blob[24:], associated)


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    try:
        bindings.crypto_sign_open(signature + message, public)
    except CryptoError as error:
        raise Refused("signature") from error


def derive_key(label: str, *inputs: bytes) -> bytes:
    state = hashlib.blake2s(person=b"punchtun")
    for part in (label.encode("ascii"), *inputs):
        state.update(len(part).to_bytes(8, "little") + part)
    return state.digest()
