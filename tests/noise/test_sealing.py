from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.noise import vectors
from tunnel.errors import AuthenticationFailed
from tunnel.noise.sealing import derive_key, open_blob, seal_blob

KEY = bytes(range(32))
NONCE = bytes(range(24))
parts = st.lists(st.binary(max_size=6), max_size=4)


@pytest.mark.parametrize("vector", vectors.primitives("xchacha20poly1305"))
def test_xchacha20poly1305_known_answer(vector: dict[str, bytes]) -> None:
    blob = vector["nonce"] + vector["ciphertext"] + vector["tag"]
    key, associated = vector["key"], vector["associated"]
    assert seal_blob(key, vector["plaintext"], vector["nonce"], associated) == blob
    assert open_blob(key, blob, associated) == vector["plaintext"]


@given(st.binary(max_size=100), st.binary(max_size=20))
def test_what_is_sealed_opens(plaintext: bytes, associated: bytes) -> None:
    blob = seal_blob(KEY, plaintext, NONCE, associated)
    assert len(blob) == len(plaintext) + 40
    assert open_blob(KEY, blob, associated) == plaintext


def test_every_byte_counts() -> None:
    blob = seal_blob(KEY, b"plaintext", NONCE, b"label")
    for position in range(len(blob)):
        changed = bytearray(blob)
        changed[position] ^= 0x40
        with pytest.raises(AuthenticationFailed, match=r"^blob$"):
            open_blob(KEY, bytes(changed), b"label")


def test_another_key_or_label_is_refused() -> None:
    blob = seal_blob(KEY, b"plaintext", NONCE, b"label")
    with pytest.raises(AuthenticationFailed):
        open_blob(bytes(32), blob, b"label")
    with pytest.raises(AuthenticationFailed):
        open_blob(KEY, blob, b"other")


@pytest.mark.parametrize("length", range(40))
def test_short_blobs_are_refused(length: int) -> None:
    with pytest.raises(AuthenticationFailed):
        open_blob(KEY, bytes(length))


@pytest.mark.parametrize("length", [0, 12, 23, 25])
def test_nonce_of_another_length_is_a_local_mistake(length: int) -> None:
    with pytest.raises(ValueError, match="24 bytes"):
        seal_blob(KEY, b"", bytes(length))


@given(st.binary(max_size=6), parts, st.binary(max_size=6), parts)
def test_derived_keys_are_equal_only_for_equal_inputs(
    label: bytes, inputs: list[bytes], other_label: bytes, other_inputs: list[bytes]
) -> None:
    same = (label, inputs) == (other_label, other_inputs)
    assert (derive_key(label, *inputs) == derive_key(other_label, *other_inputs)) == same


def test_derive_key_does_not_join_its_inputs() -> None:
    keys = {
        derive_key(b"ab", b"c"),
        derive_key(b"a", b"bc"),
        derive_key(b"abc"),
        derive_key(b"abc", b""),
        derive_key(b"", b"abc"),
        derive_key(b"ab", b"", b"c"),
    }
    assert len(keys) == 6
    assert {len(key) for key in keys} == {32}
