from __future__ import annotations

import hmac
import json
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.messages import endpoints, octets
from tunnel.errors import Malformed
from tunnel.wire.endpoint import Endpoint, pack_endpoint
from tunnel.wire.stun import (
    MAGIC_COOKIE,
    XOR_MAPPED_ADDRESS,
    is_stun,
    pack_binding_success,
    parse_binding_request,
)

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "stun_rfc5769.json").read_text())
REQUEST = bytes.fromhex(VECTORS["request"])
RESPONSES = [
    (Endpoint(*vector["mapped"]), bytes.fromhex(vector["datagram"]))
    for vector in VECTORS["responses"]
]
TRANSACTION = bytes(range(12))
SOFTWARE, USERNAME, CHANGE_REQUEST = 0x8022, 0x0006, 0x0003


def request(*attributes: tuple[int, bytes], kind: int = 1, cookie: int = MAGIC_COOKIE) -> bytes:
    body = b"".join(
        struct.pack(">HH", number, len(value)) + value + bytes(-len(value) % 4)
        for number, value in attributes
    )
    return struct.pack(">HHI", kind, len(body), cookie) + TRANSACTION + body


def attribute(datagram: bytes, number: int) -> bytes:
    """The value of an attribute, found by RFC 8489 §14 alone."""
    at = 20
    while at < len(datagram):
        found, length = struct.unpack_from(">HH", datagram, at)
        if found == number:
            return datagram[at + 4 : at + 4 + length]
        at += 4 + (length + 3) // 4 * 4
    raise LookupError(number)


@pytest.mark.parametrize("datagram", [REQUEST, *(datagram for _, datagram in RESPONSES)])
def test_the_vectors_are_copied_well(datagram: bytes) -> None:
    """FINGERPRINT (RFC 8489 §14.7) and MESSAGE-INTEGRITY (§14.5) of the vectors themselves."""
    assert zlib.crc32(datagram[:-8]) ^ 0x5354554E == int.from_bytes(datagram[-4:], "big")
    shortened = datagram[:2] + struct.pack(">H", len(datagram) - 28) + datagram[4:-32]
    assert hmac.digest(b"VOkJxbRl1RmTxUk/WvJxBt", shortened, "sha1") == datagram[-28:-8]


@pytest.mark.parametrize(("mapped", "datagram"), RESPONSES)
def test_mapped_address_as_in_rfc_5769(mapped: Endpoint, datagram: bytes) -> None:
    ours = pack_binding_success(datagram[8:20], mapped)
    assert attribute(ours, XOR_MAPPED_ADDRESS) == attribute(datagram, XOR_MAPPED_ADDRESS)
    assert ours[:2] == datagram[:2]
    assert ours[4:20] == datagram[4:20]


def test_a_request_with_credentials_is_dropped() -> None:
    """RFC 5769 §2.1 has USERNAME and PRIORITY, which we would have to understand."""
    assert is_stun(REQUEST)
    with pytest.raises(Malformed, match=r"^stun attribute unknown$"):
        parse_binding_request(REQUEST)


@pytest.mark.parametrize(
    "datagram",
    [
        request(),
        request((SOFTWARE, b"")),
        request((SOFTWARE, b"abc"), (0x8028, bytes(4))),
        request((SOFTWARE, b"x" * 500)),
        request((CHANGE_REQUEST, bytes(4))),
    ],
)
def test_requests_that_are_answered(datagram: bytes) -> None:
    assert is_stun(datagram)
    assert parse_binding_request(datagram) == TRANSACTION


@pytest.mark.parametrize(
    "datagram",
    [
        request((USERNAME, b"user")),
        request((SOFTWARE, b"x"), (USERNAME, b"user")),
        request((CHANGE_REQUEST, b"\0\0\0\x02")),  # change port: RFC 5780 §7.2
        request((CHANGE_REQUEST, b"")),
        request((CHANGE_REQUEST, b"\0\0\0\x06" + bytes(4))),
        request(kind=0x0101),
        request(kind=0x0011),
        request(cookie=MAGIC_COOKIE ^ 1),
        request()[:-1],
        request() + bytes(4),
        request((SOFTWARE, b"x"))[:-4],
        request()[:2] + b"\0\2" + request()[4:] + b"\0\0",
        request()[:2] + b"\0\4" + request()[4:] + struct.pack(">HH", SOFTWARE, 4),
    ],
)
def test_requests_that_are_not(datagram: bytes) -> None:
    with pytest.raises(Malformed):
        parse_binding_request(datagram)


@given(octets(12), endpoints)
def test_mapped_address_can_be_read_back(transaction: bytes, mapped: Endpoint) -> None:
    answer = pack_binding_success(transaction, mapped)
    assert len(answer) == (44 if mapped.is_ipv6 else 32)
    value = attribute(answer, XOR_MAPPED_ADDRESS)
    key = MAGIC_COOKIE.to_bytes(4, "big") + transaction
    port = int.from_bytes(value[2:4], "big") ^ (MAGIC_COOKIE >> 16)
    address = bytes(a ^ b for a, b in zip(value[4:], key, strict=False))
    assert value[0] == 0
    assert value[1] == (2 if mapped.is_ipv6 else 1)
    packed = address if mapped.is_ipv6 else bytes(10) + b"\xff\xff" + address
    assert pack_endpoint(mapped) == packed + port.to_bytes(2, "big")


@given(st.binary(max_size=64))
def test_any_attributes_are_a_request_or_malformed(body: bytes) -> None:
    datagram = struct.pack(">HHI", 1, len(body), MAGIC_COOKIE) + TRANSACTION + body
    try:
        assert parse_binding_request(datagram) == TRANSACTION
    except Malformed:
        return
    assert len(body) % 4 == 0


def test_what_is_stun() -> None:
    assert is_stun(request())
    assert not is_stun(request()[:19])
    # Nor what begins as one of our own messages does, whatever its index.
    for kind in range(1, 256):
        assert not is_stun(bytes([kind]) + request()[1:])
    assert not is_stun(request(cookie=0))
    assert not is_stun(b"")


def test_too_short() -> None:
    for length in range(20):
        with pytest.raises(Malformed):
            parse_binding_request(request()[:length])
