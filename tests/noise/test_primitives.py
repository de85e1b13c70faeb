from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.noise import vectors
from tunnel.errors import AuthenticationFailed
from tunnel.noise import primitives

KEY = bytes(range(32))
counters = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize("vector", vectors.primitives("blake2s"))
def test_blake2s_known_answer(vector: dict[str, bytes]) -> None:
    assert primitives.blake2s(vector["data"]) == vector["digest"]


@pytest.mark.parametrize("vector", vectors.primitives("chacha20poly1305"))
def test_chacha20poly1305_known_answer(vector: dict[str, bytes]) -> None:
    assert vector["nonce"][:4] == bytes(4)
    counter = int.from_bytes(vector["nonce"][4:], "little")
    sealed = vector["ciphertext"] + vector["tag"]
    key, plaintext, associated = vector["key"], vector["plaintext"], vector["associated"]
    assert primitives.seal(key, counter, plaintext, associated) == sealed
    assert primitives.open_(key, counter, sealed, associated) == plaintext


@given(st.binary(min_size=1, max_size=32), st.binary())
def test_mac_is_keyed_blake2s_of_16_bytes(key: bytes, data: bytes) -> None:
    expected = hashlib.blake2s(data, key=key, digest_size=16).digest()
    assert primitives.mac(key, data) == expected
    assert len(expected) == 16


@given(st.binary(max_size=100), st.binary(max_size=100), st.integers(1, 3))
def test_kdf_is_hkdf_over_hmac_blake2s(key: bytes, data: bytes, n: int) -> None:
    secret = hmac.new(key, data, "blake2s").digest()
    first = hmac.new(secret, b"\x01", "blake2s").digest()
    second = hmac.new(secret, first + b"\x02", "blake2s").digest()
    third = hmac.new(secret, second + b"\x03", "blake2s").digest()
    assert primitives.kdf(n, key, data) == (first, second, third)[:n]


@pytest.mark.parametrize("n", [0, 4])
def test_kdf_refuses_other_numbers_of_outputs(n: int) -> None:
    with pytest.raises(ValueError, match="1 to 3"):
        primitives.kdf(n, KEY, b"")


@given(counters, st.binary(max_size=200), st.binary(max_size=50))
def test_what_is_sealed_opens(counter: int, plaintext: bytes, associated: bytes) -> None:
    sealed = primitives.seal(KEY, counter, plaintext, associated)
    assert len(sealed) == len(plaintext) + 16
    assert primitives.open_(KEY, counter, sealed, associated) == plaintext


@given(st.binary(max_size=40), st.data())
def test_any_change_is_refused(plaintext: bytes, data: st.DataObject) -> None:
    sealed = bytearray(primitives.seal(KEY, 7, plaintext, b"header"))
    position = data.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(AuthenticationFailed, match=r"^tag$"):
        primitives.open_(KEY, 7, bytes(sealed), b"header")


@pytest.mark.parametrize(
    ("key", "counter", "associated"),
    [(bytes(32), 7, b"header"), (KEY, 8, b"header"), (KEY, 7, b"other"), (KEY, 7, b"")],
)
def test_other_key_counter_or_associated_data_is_refused(
    key: bytes, counter: int, associated: bytes
) -> None:
    sealed = primitives.seal(KEY, 7, b"payload", b"header")
    with pytest.raises(AuthenticationFailed):
        primitives.open_(key, counter, sealed, associated)


@pytest.mark.parametrize("length", range(16))
def test_shorter_than_a_tag_is_refused(length: int) -> None:
    with pytest.raises(AuthenticationFailed):
        primitives.open_(KEY, 0, bytes(length))


@given(st.binary(), st.binary())
def test_constant_time_equal_is_equality(a: bytes, b: bytes) -> None:
    assert primitives.constant_time_equal(a, b) == (a == b)
    assert primitives.constant_time_equal(a, bytes(a))
