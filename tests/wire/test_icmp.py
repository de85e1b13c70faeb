from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.test_packet import DESTINATION4, DESTINATION6, SOURCE4, SOURCE6, ipv4, ipv6
from tunnel.wire.icmp import answer_too_big
from tunnel.wire.packet import parse_ip_header


def unfragmentable(payload: bytes, *, offset: int = 0, protocol: int = 17) -> bytes:
    packet = bytearray(ipv4(payload))
    packet[6:8] = (0x4000 | offset).to_bytes(2, "big")
    packet[9] = protocol
    return bytes(packet)


def internet_sum(data: bytes) -> int:
    """RFC 1071: 0xffff over data that carries its own checksum."""
    padded = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_golden_ipv4() -> None:
    answer = answer_too_big(unfragmentable(bytes(1280)), 1220)
    assert answer is not None
    assert (
        answer[:28].hex(" ", 4) == "45c00240 00000000 400163e9 0a090002 0a090001 030419fd 000004c4"
    )
    assert answer[28:] == unfragmentable(bytes(1280))[: 576 - 28]


def test_golden_ipv6() -> None:
    answer = answer_too_big(ipv6(bytes(1300)), 1300)
    assert answer is not None
    assert answer[:48].hex(" ", 4) == (
        "60000000 04d83a40 fd000000 00000000 00000000 00000002 "
        "fd000000 00000000 00000000 00000001 0200897b 00000514"
    )
    assert answer[48:] == ipv6(bytes(1300))[: 1280 - 48]


@given(st.integers(600, 1400), st.integers(68, 599))
def test_checksums_and_addresses(size: int, mtu: int) -> None:
    packet = unfragmentable(b"\x5a" * (size - 20))
    answer = answer_too_big(packet, mtu)
    assert answer is not None
    header = parse_ip_header(answer)
    assert (header.source, header.destination) == (DESTINATION4, SOURCE4)
    assert header.length == len(answer) <= 576
    assert internet_sum(answer[:20]) == internet_sum(answer[20:]) == 0xFFFF
    assert answer[26:28] == mtu.to_bytes(2, "big")


@given(st.integers(1281, 1500), st.integers(0, 2000))
def test_checksum_ipv6_and_the_least_mtu(size: int, mtu: int) -> None:
    answer = answer_too_big(ipv6(b"\xa5" * (size - 40)), mtu)
    assert (answer is None) is (size <= max(mtu, 1280))
    if answer is None:
        return
    header = parse_ip_header(answer)
    assert (header.source, header.destination) == (DESTINATION6, SOURCE6)
    assert header.length == len(answer) <= 1280
    pseudo = DESTINATION6 + SOURCE6 + struct.pack(">II", len(answer) - 40, 58)
    assert internet_sum(pseudo + answer[40:]) == 0xFFFF
    assert int.from_bytes(answer[44:48], "big") == max(mtu, 1280)


def with_address(packet: bytes, at: int, address: bytes) -> bytes:
    return packet[:at] + address + packet[at + len(address) :]


@pytest.mark.parametrize(
    "packet",
    [
        ipv4(bytes(1280)),
        unfragmentable(bytes(1280), offset=185),
        *[unfragmentable(bytes([kind]) + bytes(1279), protocol=1) for kind in (3, 4, 5, 11, 12)],
        unfragmentable(bytes(1200)),
        with_address(unfragmentable(bytes(1280)), 16, bytes([224, 0, 0, 1])),
        with_address(unfragmentable(bytes(1280)), 16, b"\xff" * 4),
        with_address(unfragmentable(bytes(1280)), 12, bytes(4)),
        ipv6(bytes(1240)),
        with_address(ipv6(b"\x01" + bytes(1300)), 6, b"\x3a"),
        with_address(ipv6(bytes(1300)), 24, b"\xff\x02" + bytes(13) + b"\x01"),
        with_address(ipv6(bytes(1300)), 8, bytes(16)),
    ],
)
def test_never_answered(packet: bytes) -> None:
    assert answer_too_big(packet, 1220) is None


@pytest.mark.parametrize("kind", [0, 8])
def test_an_echo_is_no_error(kind: int) -> None:
    assert answer_too_big(unfragmentable(bytes([kind]) + bytes(1279), protocol=1), 1220)
    assert answer_too_big(with_address(ipv6(b"\x80" + bytes(1300)), 6, b"\x3a"), 1280)
