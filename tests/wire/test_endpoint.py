from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.messages import endpoints
from tunnel.errors import Malformed
from tunnel.wire.endpoint import ENDPOINT_LENGTH, Endpoint, pack_endpoint, unpack_endpoint

GOLDEN = [
    (Endpoint("192.0.2.1", 1), "00000000000000000000ffffc00002010001"),
    (Endpoint("0.0.0.0", 0), "00000000000000000000ffff000000000000"),
    (Endpoint("255.255.255.255", 65535), "00000000000000000000ffffffffffffffff"),
    (Endpoint("::", 0), "000000000000000000000000000000000000"),
    (Endpoint("::1", 258), "000000000000000000000000000000010102"),
    (Endpoint("2001:db8::ff00:42:8329", 443), "20010db8000000000000ff000042832901bb"),
    # Not mapped: the deprecated IPv4-compatible form stays IPv6 (RFC 4291 §2.5.5.1).
    (Endpoint("::102:304", 5), "000000000000000000000000010203040005"),
]


@pytest.mark.parametrize(("endpoint", "golden"), GOLDEN)
def test_golden(endpoint: Endpoint, golden: str) -> None:
    assert pack_endpoint(endpoint).hex() == golden
    assert unpack_endpoint(bytes.fromhex(golden)) == endpoint


@given(endpoints)
def test_round_trip(endpoint: Endpoint) -> None:
    assert unpack_endpoint(pack_endpoint(endpoint)) == endpoint


@given(st.binary(min_size=ENDPOINT_LENGTH, max_size=ENDPOINT_LENGTH))
def test_every_18_bytes_are_one_endpoint(data: bytes) -> None:
    assert pack_endpoint(unpack_endpoint(data)) == data


def test_ipv4_mapped_is_the_same_as_ipv4() -> None:
    mapped = pack_endpoint(Endpoint("::ffff:192.0.2.1", 7))
    assert mapped == pack_endpoint(Endpoint("192.0.2.1", 7))
    assert unpack_endpoint(mapped) == Endpoint("192.0.2.1", 7)


@pytest.mark.parametrize("length", [0, 1, 17, 19, 36])
def test_another_length_is_malformed(length: int) -> None:
    with pytest.raises(Malformed, match=r"^endpoint length$"):
        unpack_endpoint(bytes(length))


@pytest.mark.parametrize(
    "endpoint", [Endpoint("example.org", 1), Endpoint("", 1), Endpoint("192.0.2.1", 65536)]
)
def test_no_endpoint_is_a_local_mistake(endpoint: Endpoint) -> None:
    with pytest.raises((ValueError, OverflowError)):
        pack_endpoint(endpoint)


@pytest.mark.parametrize(
    ("endpoint", "text", "is_ipv6"),
    [
        (Endpoint("192.0.2.1", 7), "192.0.2.1:7", False),
        (Endpoint("2001:db8::1", 7), "[2001:db8::1]:7", True),
    ],
)
def test_text(endpoint: Endpoint, text: str, is_ipv6: bool) -> None:
    assert str(endpoint) == text
    assert endpoint.is_ipv6 is is_ipv6
