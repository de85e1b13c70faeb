from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings
from nacl.exceptions import CryptoError

from tests.noise import vectors
from tests.wire.messages import words
from tunnel.errors import AuthenticationFailed
from tunnel.noise import primitives
from tunnel.noise.frame_cipher import (
    AEGIS_128L,
    CHACHA20_POLY1305,
    WIREGUARD_FRAMES,
    FrameCipher,
    choose_cipher,
    derive_frame_key,
    find_chosen,
)
from tunnel.wire.handshake import OFFER_AEGIS
from tunnel.wire.transport import HEADER_LENGTH, pack_header

OURS = [AEGIS_128L, CHACHA20_POLY1305]
ALL = [*OURS, WIREGUARD_FRAMES]
HEADER = pack_header(0x01020304, 0x05060708090A0B0C, 7)
PAYLOAD = bytes.fromhex("4500001c") + bytes(24)

each = pytest.mark.parametrize("cipher", ALL, ids=["aegis", "chacha", "wireguard"])
ours = pytest.mark.parametrize("cipher", OURS, ids=["aegis", "chacha"])


def key_of(cipher: FrameCipher) -> bytes:
    return bytes(range(cipher.key_length))


def arguments_of(vector: dict[str, bytes]) -> tuple[bytes, bytes, bytes]:
    return vector["associated"], vector["nonce"], vector["key"]


@pytest.mark.parametrize("vector", vectors.primitives("aegis128l"))
def test_aegis_known_answer(vector: dict[str, bytes]) -> None:
    sealed = vector["ciphertext"] + vector["tag"]
    assert AEGIS_128L.encrypt(vector["plaintext"], *arguments_of(vector)) == sealed
    assert AEGIS_128L.decrypt(sealed, *arguments_of(vector)) == vector["plaintext"]


@pytest.mark.parametrize("vector", vectors.primitives("aegis128l_refused"))
def test_aegis_known_refusal(vector: dict[str, bytes]) -> None:
    with pytest.raises(CryptoError):
        AEGIS_128L.decrypt(vector["ciphertext"] + vector["tag"], *arguments_of(vector))


# Header, then what is sealed: an IPv4 packet of 28 bytes, by key 00 01 02 …, at place 7 of a train.
GOLDEN = {
    AEGIS_128L: HEADER.hex()
    + "f33807866dc000291a8a763347ddcf66d301e7abce6f6b8ebf8b60db"
    + "7b04313c141a4b666fdb15bab648df8b7dd6648337b758a950b1970f9b4b9d67",
    CHACHA20_POLY1305: HEADER.hex()
    + "0a53cf11e0e0f7d09771f86b4e1bd15b25315677a794ee519e1a7dcd"
    + "db32e9dc9290c07ad0d387f564c5bf20",
}


@ours
def test_golden_frames(cipher: FrameCipher) -> None:
    assert HEADER.hex() == "04070000040302010c0b0a0908070605"
    frame = HEADER + cipher.seal(key_of(cipher), HEADER, PAYLOAD)
    assert frame.hex() == GOLDEN[cipher]
    assert cipher.open(key_of(cipher), HEADER, frame[HEADER_LENGTH:]) == PAYLOAD


def test_wireguard_is_noise_s_cipher() -> None:
    header = pack_header(9, 77)
    key = key_of(WIREGUARD_FRAMES)
    assert WIREGUARD_FRAMES.seal(key, header, PAYLOAD) == primitives.seal(key, 77, PAYLOAD)


def test_chacha_takes_the_rest_of_the_header_as_associated_data() -> None:
    """So that a frame of ours is none of WireGuard's, and every byte of the header counts."""
    sealed = CHACHA20_POLY1305.seal(bytes(32), HEADER, PAYLOAD)
    expected = bindings.crypto_aead_chacha20poly1305_ietf_encrypt(
        PAYLOAD, HEADER[:4], HEADER[4:], bytes(32)
    )
    assert sealed == expected


@each
@settings(deadline=None)
@given(receiver=words(32), counter=words(64), payload=st.binary(max_size=1500))
def test_what_is_sealed_opens(
    cipher: FrameCipher, receiver: int, counter: int, payload: bytes
) -> None:
    header = pack_header(receiver, counter)
    sealed = cipher.seal(key_of(cipher), header, payload)
    assert len(sealed) == len(payload) + cipher.tag_length
    assert cipher.open(key_of(cipher), header, sealed) == payload


@ours
@pytest.mark.parametrize("position", range(HEADER_LENGTH))
def test_every_byte_of_the_header_counts(cipher: FrameCipher, position: int) -> None:
    sealed = cipher.seal(key_of(cipher), HEADER, PAYLOAD)
    changed = bytearray(HEADER)
    changed[position] ^= 0x40
    with pytest.raises(AuthenticationFailed, match=r"^tag$"):
        cipher.open(key_of(cipher), bytes(changed), sealed)


@pytest.mark.parametrize("position", [1, 2, 3])
def test_what_wireguard_s_tag_leaves_out_must_be_zero(position: int) -> None:
    header = bytearray(pack_header(1, 2))
    sealed = WIREGUARD_FRAMES.seal(bytes(32), bytes(header), PAYLOAD)
    header[position] = 1
    with pytest.raises(AuthenticationFailed, match=r"^tag$"):
        WIREGUARD_FRAMES.open(bytes(32), bytes(header), sealed)


@each
def test_what_is_changed_or_cut_short_is_refused(cipher: FrameCipher) -> None:
    header = pack_header(1, 2)
    sealed = cipher.seal(key_of(cipher), header, PAYLOAD)
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 0x10
        for wrong in (bytes(changed), sealed[:position]):
            with pytest.raises(AuthenticationFailed, match=r"^tag$"):
                cipher.open(key_of(cipher), header, wrong)


@given(words(8), words(8))
def test_aegis_only_where_both_want_it(theirs: int, own: int) -> None:
    chosen = choose_cipher(theirs, own)
    both = bool(theirs & 1 and own & 1)
    assert chosen is (AEGIS_128L if both else CHACHA20_POLY1305)
    assert find_chosen(chosen.choice, theirs) is chosen


@pytest.mark.parametrize(
    ("choice", "offer"), [(1, 0), (1, 0xFE), (2, OFFER_AEGIS), (2, 0xFF), (255, 0xFF)]
)
def test_a_choice_of_what_was_not_offered_is_refused(choice: int, offer: int) -> None:
    with pytest.raises(AuthenticationFailed):
        find_chosen(choice, offer)


def test_keys_of_every_agreement_differ() -> None:
    keys = {
        derive_frame_key(cipher, offer, noise_key)[:16]
        for cipher, offer, noise_key in itertools.product(OURS, range(256), (bytes(32), b"\1" * 32))
    }
    assert len(keys) == 2 * 256 * 2


@ours
def test_golden_keys(cipher: FrameCipher) -> None:
    """From Noise's key 00 01 02 … when AEGIS was offered."""
    golden = {
        AEGIS_128L: "a6112f988f163ac3d3699ddf07072ae4",
        CHACHA20_POLY1305: "3667b4fb9741976fe81cafb20dcc2ff0828c7bc1f40b4db49f6b416d2489bed7",
    }
    assert derive_frame_key(cipher, OFFER_AEGIS, bytes(range(32))).hex() == golden[cipher]
    assert cipher.key_length == len(bytes.fromhex(golden[cipher]))
