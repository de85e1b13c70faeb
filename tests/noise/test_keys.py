from __future__ import annotations

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.noise import vectors
from tunnel.errors import AuthenticationFailed
from tunnel.noise.keys import PresharedKey, PrivateKey, PublicKey, SigningKey, VerifyKey

KEYS = [PublicKey, VerifyKey, PrivateKey, PresharedKey, SigningKey]
PUBLIC = [PublicKey, VerifyKey]
SECRET = [PrivateKey, PresharedKey, SigningKey]

keys_of_32 = st.binary(min_size=32, max_size=32)

# Points of small order (RFC 7748 §6.1; the list of cr.yp.to/ecdh.html#validate), and the encodings
# of 0 and 1 that are not reduced.
LOW_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("vector", vectors.primitives("x25519"))
def test_x25519_known_answer(vector: dict[str, bytes]) -> None:
    private = PrivateKey(vector["private"])
    assert private.public_key == PublicKey(vector["public"])
    assert private.exchange(PublicKey(vector["other_public"])) == vector["shared"]


@pytest.mark.parametrize("vector", vectors.primitives("ed25519"))
def test_ed25519_known_answer(vector: dict[str, bytes]) -> None:
    signing = SigningKey(vector["seed"])
    assert signing.verify_key == VerifyKey(vector["public"])
    assert signing.sign(vector["message"]) == vector["signature"]
    signing.verify_key.verify(vector["message"], vector["signature"])


@pytest.mark.parametrize("text", LOW_ORDER)
def test_low_order_key_is_refused(text: str) -> None:
    with pytest.raises(AuthenticationFailed, match="low-order"):
        PrivateKey(b"p" * 32).exchange(PublicKey(bytes.fromhex(text)))


@given(keys_of_32, keys_of_32)
def test_exchange_is_mutual(a: bytes, b: bytes) -> None:
    ours, theirs = PrivateKey(a), PrivateKey(b)
    assert ours.exchange(theirs.public_key) == theirs.exchange(ours.public_key)


@given(keys_of_32, st.binary(max_size=50), st.data())
def test_signature_of_another_message_is_refused(
    seed: bytes, message: bytes, data: st.DataObject
) -> None:
    key = SigningKey(seed)
    signed = bytearray(message + key.sign(message))
    signed[data.draw(st.integers(0, len(signed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(AuthenticationFailed, match=r"^signature$"):
        key.verify_key.verify(bytes(signed[:-64]), bytes(signed[-64:]))


@pytest.mark.parametrize("length", [0, 63, 65])
def test_signature_of_another_length_is_refused(length: int) -> None:
    key = SigningKey(b"s" * 32)
    with pytest.raises(AuthenticationFailed):
        key.verify_key.verify(b"", (key.sign(b"") * 2)[:length])


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("data", [b"", bytes(31), bytes(33), bytearray(32), 32, None])
def test_only_32_bytes_make_a_key(kind: type, data: object) -> None:
    with pytest.raises(ValueError, match="takes 32 bytes"):
        kind(data)


@pytest.mark.parametrize("kind", KEYS)
def test_keys_are_values(kind: type) -> None:
    assert kind(b"a" * 32) == kind(b"a" * 32)
    assert hash(kind(b"a" * 32)) == hash(kind(b"a" * 32))
    assert kind(b"a" * 32) != kind(b"b" * 32)
    assert kind(b"a" * 32) != b"a" * 32
    assert all(kind(b"a" * 32) != other(b"a" * 32) for other in KEYS if other is not kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind(b"a" * 32).data = b"b" * 32


@pytest.mark.parametrize("kind", SECRET)
@given(keys_of_32)
def test_repr_does_not_show_secrets(kind: type, data: bytes) -> None:
    key = kind(data)
    shown = (repr(key) + str(key)).encode()
    as_public = str(PublicKey(data)).encode()
    assert data not in shown
    assert data.hex().encode() not in shown
    assert repr(data)[2:-1].encode() not in shown
    assert as_public not in shown


@pytest.mark.parametrize("kind", [PrivateKey, SigningKey])
def test_generate_asks_for_32_random_bytes(kind: type) -> None:
    asked: list[int] = []

    def random_bytes(length: int) -> bytes:
        asked.append(length)
        return b"r" * length

    assert kind.generate(random_bytes) == kind(b"r" * 32)  # type: ignore[attr-defined]
    assert asked == [32]


@pytest.mark.parametrize("kind", PUBLIC)
@given(keys_of_32)
def test_text_form_is_43_characters_and_parses(kind: type[PublicKey], data: bytes) -> None:
    key = kind(data)
    assert len(str(key)) == 43
    assert kind.parse(str(key)) == key
    assert str(key) in repr(key)


GOOD = str(PublicKey(b"k" * 32))


@pytest.mark.parametrize(
    "text",
    ["", GOOD[:-1], GOOD + "=", GOOD + "A", GOOD[:-1] + "t", "!" + GOOD[1:], "é" + GOOD[1:]]
    + [GOOD[:20] + between + GOOD[20:] for between in (" ", "\n", "!")]
    + [GOOD[:5] + "+" + GOOD[6:], GOOD[:5] + "/" + GOOD[6:]],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="43 base64url characters"):
        PublicKey.parse(text)


@given(st.text(max_size=50))
def test_parse_gives_a_key_or_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert str(PublicKey.parse(text)) == text


def test_public_keys_are_ordered_by_their_bytes() -> None:
    first, second = PublicKey(b"\x01" + b"z" * 31), PublicKey(b"\x02" + b"a" * 31)
    assert sorted([second, first]) == [first, second]


@pytest.mark.parametrize(
    ("value", "is_canonical"),
    [(0, True), (2**255 - 20, True), (2**255 - 19, False), (2**255, False), (2**256 - 1, False)],
)
def test_a_public_key_has_one_canonical_form(value: int, is_canonical: bool) -> None:
    assert PublicKey(value.to_bytes(32, "little")).is_canonical is is_canonical


def test_every_own_key_is_canonical() -> None:
    for number in range(256):
        assert PrivateKey(bytes([number]) * 32).public_key.is_canonical
