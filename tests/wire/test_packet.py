from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.errors import Malformed
from tunnel.wire.packet import IpHeader, parse_ip_header

SOURCE4, DESTINATION4 = bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2])
SOURCE6, DESTINATION6 = b"\xfd" + bytes(14) + b"\x01", b"\xfd" + bytes(14) + b"\x02"


def ipv4(payload: bytes = b"", *, words: int = 5, length: int | None = None) -> bytes:
    total = words * 4 + len(payload) if length is None else length
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, total, 0, 0, 64, 17, 0)
    return head + SOURCE4 + DESTINATION4 + bytes(max(0, words * 4 - 20)) + payload


def ipv6(payload: bytes = b"", *, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">IHBB", 6 << 28, size, 17, 64) + SOURCE6 + DESTINATION6 + payload


@pytest.mark.parametrize(
    ("packet", "length"),
    [
        (ipv4(), 20),
        (ipv4(b"x" * 8), 28),
        (ipv4(b"x" * 8, words=15), 68),
        (ipv4(b"x" * 8) + bytes(7), 28),  # padding is not the packet's
    ],
)
def test_ipv4(packet: bytes, length: int) -> None:
    assert parse_ip_header(packet) == IpHeader(SOURCE4, DESTINATION4, length)


@pytest.mark.parametrize(
    ("packet", "length"), [(ipv6(), 40), (ipv6(b"x" * 8), 48), (ipv6(b"x") + b"\0", 41)]
)
def test_ipv6(packet: bytes, length: int) -> None:
    assert parse_ip_header(packet) == IpHeader(SOURCE6, DESTINATION6, length)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        ipv4()[:19],
        ipv4(words=4),
        ipv4(words=0),
        ipv4(length=19),
        ipv4(length=21),
        ipv4(words=6)[:20],
        ipv4(words=6, length=20),
        ipv6()[:39],
        ipv6(length=1),
        b"\x50" + ipv4()[1:],
        bytes(40),
    ],
)
def test_malformed(packet: bytes) -> None:
    with pytest.raises(Malformed):
        parse_ip_header(packet)


@given(st.sampled_from([ipv4(b"x" * 12, words=6), ipv6(b"x" * 12)]), st.integers(0, 60))
def test_cut_short(packet: bytes, length: int) -> None:
    if length < len(packet):
        with pytest.raises(Malformed):
            parse_ip_header(packet[:length])


@given(st.sampled_from([b"", b"\x45", b"\x60"]), st.binary(max_size=80))
def test_any_bytes(head: bytes, rest: bytes) -> None:
    packet = head + rest
    try:
        header = parse_ip_header(packet)
    except Malformed:
        return
    assert len(header.source) == len(header.destination) in (4, 16)
    assert 20 <= header.length <= len(packet)
    assert parse_ip_header(packet[: header.length]) == header


def test_a_borrowed_buffer_may_be_overwritten() -> None:
    buffer = bytearray(ipv4(b"x"))
    header = parse_ip_header(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert header == IpHeader(SOURCE4, DESTINATION4, 21)
