"""The private functions of PyNaCl beside the public ones, and what if they are missing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import _sodium, bindings
from nacl.exceptions import UnavailableError

from tunnel.noise.frame_cipher import AEGIS_128L, CHACHA20_POLY1305, WIREGUARD_FRAMES, FrameCipher
from tunnel.noise.sodium import DirectAead, find_direct, has_aes
from tunnel.wire.transport import HEADER_LENGTH, pack_header

each = pytest.mark.parametrize("cipher", [AEGIS_128L, CHACHA20_POLY1305], ids=["aegis", "chacha"])


def direct_of(cipher: FrameCipher) -> DirectAead:
    """Not there on any PyNaCl that the tests run with would be a finding."""
    assert cipher.direct is not None, cipher.why_not_direct
    return cipher.direct


def seal(direct: DirectAead, key: bytes, frame: bytearray, length: int) -> None:
    """The payload of `length` bytes behind the header in `frame`, in place."""
    start, own_key = direct.pointer(frame), direct.key(key)
    text = start + HEADER_LENGTH
    ad, nonce = direct.associated_length, start + direct.nonce_offset
    assert (
        direct.encrypt(text, direct.null, text, length, start, ad, direct.null, nonce, own_key) == 0
    )


def open_(direct: DirectAead, key: bytes, frame: bytearray) -> bool:
    start, own_key = direct.pointer(frame), direct.key(key)
    text, length = start + HEADER_LENGTH, len(frame) - HEADER_LENGTH
    ad, nonce = direct.associated_length, start + direct.nonce_offset
    null = direct.null
    return direct.decrypt(text, null, null, text, length, start, ad, nonce, own_key) == 0


@each
@settings(deadline=None)
@given(
    payload=st.binary(max_size=3000), counter=st.integers(0, 2**64 - 1), place=st.integers(0, 255)
)
def test_the_same_as_the_public_functions(
    cipher: FrameCipher, payload: bytes, counter: int, place: int
) -> None:
    direct, key = direct_of(cipher), bytes(range(cipher.key_length))
    header = pack_header(7, counter, place)
    frame = bytearray(header + payload + bytes(cipher.tag_length))
    seal(direct, key, frame, len(payload))
    assert frame == header + cipher.seal(key, header, payload)
    assert open_(direct, key, frame)
    assert frame[HEADER_LENGTH:][: len(payload)] == payload


@each
def test_forgeries_are_refused(cipher: FrameCipher) -> None:
    direct, key = direct_of(cipher), bytes(range(cipher.key_length))
    header = pack_header(7, 8, 9)
    sealed = header + cipher.seal(key, header, b"payload")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 0x10
        assert not open_(direct, key, changed)
    assert open_(direct, key, bytearray(sealed))


@each
def test_a_pointer_holds_its_buffer(cipher: FrameCipher) -> None:
    buffer = bytearray(16)
    pointer = direct_of(cipher).pointer(buffer)
    with pytest.raises(BufferError):
        buffer.append(0)
    del pointer
    buffer.append(0)


@each
def test_a_pointer_into_what_must_not_be_written_is_refused(cipher: FrameCipher) -> None:
    with pytest.raises((BufferError, ValueError)):
        direct_of(cipher).pointer(memoryview(bytes(16)))


def test_wireguard_s_frames_have_no_direct_way_and_say_why() -> None:
    assert WIREGUARD_FRAMES.direct is None
    assert WIREGUARD_FRAMES.why_not_direct


class Mangled:
    """nacl._sodium with other functions in the place of some."""

    def __init__(self, **functions: Any) -> None:
        self.ffi = _sodium.ffi
        self.lib = SimpleNamespace(
            crypto_aead_chacha20poly1305_ietf_encrypt=(
                _sodium.lib.crypto_aead_chacha20poly1305_ietf_encrypt
            ),
            crypto_aead_chacha20poly1305_ietf_decrypt=(
                _sodium.lib.crypto_aead_chacha20poly1305_ietf_decrypt
            ),
        )
        for name, function in functions.items():
            setattr(self.lib, f"crypto_aead_chacha20poly1305_ietf_{name}", function)


def find(library: Any) -> tuple[DirectAead | None, str]:
    return find_direct(
        "crypto_aead_chacha20poly1305_ietf",
        bindings.crypto_aead_chacha20poly1305_ietf_encrypt,
        key_length=32,
        tag_length=16,
        nonce_offset=4,
        associated_length=4,
        library=library,
    )


def test_one_that_is_whole_is_taken() -> None:
    direct, reason = find(Mangled())
    assert direct is not None
    assert reason == ""


LIB = _sodium.lib


@pytest.mark.parametrize(
    ("library", "words"),
    [
        (None, "no module"),
        (SimpleNamespace(), "AttributeError"),
        (SimpleNamespace(ffi=_sodium.ffi, lib=SimpleNamespace()), "AttributeError"),
        (SimpleNamespace(ffi=object(), lib=_sodium.lib), "AttributeError"),
        (Mangled(encrypt=lambda *arguments: 0), "TypeError"),
        # Of the same type, and another cipher (its nonce is shorter: nothing is read beyond).
        (Mangled(encrypt=LIB.crypto_aead_chacha20poly1305_encrypt), "other results"),
        (Mangled(decrypt=LIB.crypto_aead_chacha20poly1305_decrypt), "other results"),
        # Of another type: it must not even be called.
        (Mangled(encrypt=LIB.crypto_aead_chacha20poly1305_ietf_decrypt), "other arguments"),
        (Mangled(decrypt=LIB.crypto_aead_chacha20poly1305_ietf_encrypt), "other arguments"),
        (Mangled(encrypt=LIB.crypto_hash_sha256), "other arguments"),
    ],
)
def test_one_that_is_missing_or_behaves_otherwise_is_not(library: Any, words: str) -> None:
    direct, reason = find(library)
    assert direct is None
    assert words in reason


@pytest.mark.parametrize("has_it", [True, False])
def test_has_aes_is_what_libsodium_says(monkeypatch: pytest.MonkeyPatch, has_it: bool) -> None:
    def encrypt(*arguments: object) -> bytes:
        if not has_it:
            raise UnavailableError("Construction requires hardware acceleration")
        return bytes(16)

    assert has_aes() is bool(_sodium.lib.crypto_aead_aes256gcm_is_available())
    monkeypatch.setattr(bindings, "crypto_aead_aes256gcm_encrypt", encrypt)
    assert has_aes() is has_it
