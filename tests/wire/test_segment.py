"""Cutting, against what the kernel made of the same superpackets and against plain arithmetic.

tests/netns/test_gso.py asks the kernel itself.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.messages import words
from tests.wire.superpackets import (
    ACK,
    CWR,
    ECE,
    FIN,
    PSH,
    TCP,
    UDP,
    URG,
    Superpacket,
    add_words,
    is_complete,
    superpackets,
)
from tunnel.errors import Malformed
from tunnel.wire.segment import cut_headers, cut_superpacket, describe_run, transport_of
from tunnel.wire.virtio import CHECKSUM_LEFT, GSO_NONE, NO_VIRTIO, Virtio

PAYLOAD = b"ten bytes!"
GOLDEN = [
    (
        Superpacket(
            4,
            TCP,
            4,
            PAYLOAD,
            tcp_options=b"\x01\x01\x08\x0a12345678",
            flags=CWR | ECE | URG | ACK | PSH | FIN,
            identification=0xFFFF,
            sequence=0xFFFFFFFE,
            ecn=2,
        ),
        """4502003effff4000400626a4 0a080002 0a090002
        03e807d0 fffffffe 0000004d 80f901f4 14450000 0101080a3132333435363738
        74656e20627974657321""",
        """45020038ffff4000400626aa 0a080002 0a090002
        03e807d0 fffffffe 0000004d 80f001f4 a0720000 0101080a3132333435363738 74656e20 |
        4502003800004000400626aa 0a080002 0a090002
        03e807d0 00000002 0000004d 807001f4 ac960000 0101080a3132333435363738 62797465 |
        4502003600014000400626ab 0a080002 0a090002
        03e807d0 00000006 0000004d 807901f4 10490000 0101080a3132333435363738 7321""",
    ),
    (
        Superpacket(6, TCP, 5, PAYLOAD, flags=ACK | PSH),
        """60012345001e0640 fd080000000000000000000000000002 fd090000000000000000000000000002
        03e807d0 00000000 0000004d 501801f4 fa3a0000 74656e20627974657321""",
        """6001234500190640 fd080000000000000000000000000002 fd090000000000000000000000000002
        03e807d0 00000000 0000004d 501001f4 633a0000 74656e2062 |
        6001234500190640 fd080000000000000000000000000002 fd090000000000000000000000000002
        03e807d0 00000005 0000004d 501801f4 a7cb0000 7974657321""",
    ),
    (
        Superpacket(4, UDP, 7, PAYLOAD, options=b"\x01\x01\x01\x00", identification=0x1234),
        """4600002a123440004011117a 0a080002 0a090002 01010100 03e807d000121438
        74656e20627974657321""",
        """46000027123440004011117d 0a080002 0a090002 01010100 03e807d0000f2704 74656e20627974 |
        460000231235400040111180 0a080002 0a090002 01010100 03e807d0000b5998 657321""",
    ),
    (
        Superpacket(6, UDP, 9, PAYLOAD, options=bytes([UDP, 0, 1, 4, 0, 0, 0, 0])),
        """60012345001a3c40 fd080000000000000000000000000002 fd090000000000000000000000000002
        1100010400000000 03e807d00012fa39 74656e20627974657321""",
        """6001234500193c40 fd080000000000000000000000000002 fd090000000000000000000000000002
        1100010400000000 03e807d00011cd98 74656e206279746573 |
        6001234500113c40 fd080000000000000000000000000002 fd090000000000000000000000000002
        1100010400000000 03e807d00009d90d 21""",
    ),
]


@pytest.mark.parametrize(("superpacket", "packet", "cut"), GOLDEN)
def test_golden(superpacket: Superpacket, packet: str, cut: str) -> None:
    """What Linux 6.18 cut from them."""
    assert superpacket.packet == bytes.fromhex(packet)
    assert superpacket.virtio == Virtio.pack(
        describe_run(superpacket.headers, superpacket.size, 10)
    )
    assert cut_superpacket(superpacket.virtio, superpacket.packet) == [
        bytes.fromhex(segment) for segment in cut.split("|")
    ]


@given(superpackets())
def test_every_segment(superpacket: Superpacket) -> None:
    packets = cut_superpacket(superpacket.virtio, superpacket.packet)
    s, start, end = superpacket, superpacket.start, superpacket.header_length
    assert len(packets) == s.last + 1
    assert b"".join(packet[end:] for packet in packets) == s.payload
    for place, packet in enumerate(packets):
        assert is_complete(packet)
        assert len(packet) <= end + s.size
        expected = replace(
            s,
            payload=s.segment(place),
            identification=(s.identification + place) & 0xFFFF,
            sequence=(s.sequence + place * s.size) & 0xFFFFFFFF,
            flags=s.flags & ~(0 if place == s.last else FIN | PSH) & ~(0 if place == 0 else CWR),
        )
        field = s.field
        assert packet[:field] == expected.packet[:field]
        assert packet[field + 2 :] == expected.packet[field + 2 :]
        assert transport_of(packet) == (s.protocol, start, end)


@given(superpackets())
def test_a_borrowed_buffer_is_not_changed(superpacket: Superpacket) -> None:
    area = bytearray(superpacket.packet)
    packets = cut_superpacket(superpacket.virtio, memoryview(area))
    assert area == superpacket.packet
    area[:] = bytes(len(area))
    assert packets == cut_superpacket(superpacket.virtio, superpacket.packet)


@given(superpackets(), st.data())
def test_a_run_is_cut_into_the_same_segments(superpacket: Superpacket, data: st.DataObject) -> None:
    s = superpacket
    whole = cut_superpacket(s.virtio, s.packet)
    first = data.draw(st.integers(0, s.last))
    stop = data.draw(st.integers(first, s.last)) + 1
    part = s.payload[first * s.size : stop * s.size]
    headers = cut_headers(
        s.headers, first, is_last=stop > s.last, size=s.size, payload_length=len(part)
    )
    virtio = describe_run(headers, s.size, len(part))
    assert virtio.flags == CHECKSUM_LEFT
    assert (virtio.gso_type == GSO_NONE) == (stop == first + 1)
    packets = cut_superpacket(virtio.pack(), headers + part)
    assert [same_zero(packet) for packet in packets] == [
        same_zero(packet) for packet in whole[first:stop]
    ]


def same_zero(packet: bytes) -> bytes:
    """With 0xFFFF for a TCP checksum of 0, which the kernel has only in what it cut."""
    protocol, start, _ = transport_of(packet)
    field = start + 16
    if protocol == TCP and packet[field : field + 2] == b"\0\0":
        return packet[:field] + b"\xff\xff" + packet[field + 2 :]
    return packet


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("protocol", "field"), [(TCP, b"\0\0"), (UDP, b"\xff\xff")])
def test_a_checksum_of_zero(version: int, protocol: int, field: bytes) -> None:
    """Where the kernel cuts, TCP's stays 0; where it only completes, it is 0xFFFF like UDP's."""
    superpacket = Superpacket(version, protocol, 1000, bytes(1500))
    at = superpacket.field
    first, _ = cut_superpacket(superpacket.virtio, superpacket.packet)
    superpacket = replace(superpacket, payload=first[at : at + 2] + bytes(1498))
    first, _ = cut_superpacket(superpacket.virtio, superpacket.packet)
    assert first[at : at + 2] == field
    assert is_complete(first)
    one = replace(superpacket, payload=superpacket.payload[:1000])
    (packet,) = cut_superpacket(one.virtio, one.packet)
    assert packet[at : at + 2] == b"\xff\xff"
    assert is_complete(packet)


@pytest.mark.parametrize(("version", "protocol"), list(product((4, 6), (TCP, UDP))))
@pytest.mark.parametrize("length", [0, 1, 999, 1000])
def test_one_segment(version: int, protocol: int, length: int) -> None:
    """No more than one: the headers stay as they are."""
    s = Superpacket(version, protocol, 1000, bytes(length), flags=0xFF)
    (packet,) = cut_superpacket(s.virtio, s.packet)
    assert is_complete(packet)
    assert packet[: s.field] == s.packet[: s.field]
    assert packet[s.field + 2 :] == s.packet[s.field + 2 :]
    assert describe_run(s.headers, s.size, length).gso_type == GSO_NONE


@pytest.mark.parametrize("version", [4, 6])
def test_tcp_whose_checksum_nobody_began(version: int) -> None:
    """Without the flag the field means nothing, and the kernel begins anew."""
    s = Superpacket(version, TCP, 1000, bytes(2500))
    packet = s.packet[: s.field] + b"\x12\x34" + s.packet[s.field + 2 :]
    virtio = b"\0" + s.virtio[1:]
    assert cut_superpacket(virtio, packet) == cut_superpacket(s.virtio, s.packet)


@given(st.sampled_from([4, 6]), st.sampled_from([TCP, UDP]), st.binary(max_size=99))
def test_plain_packets(version: int, protocol: int, payload: bytes) -> None:
    s = Superpacket(version, protocol, 1000, payload)
    assert cut_superpacket(NO_VIRTIO, s.packet) == [s.packet]
    virtio = Virtio(CHECKSUM_LEFT, GSO_NONE, 0, 0, s.start, s.field - s.start)
    (packet,) = cut_superpacket(virtio.pack(), s.packet)
    assert is_complete(packet)
    assert packet[: s.field] + s.packet[s.field : s.field + 2] + packet[s.field + 2 :] == s.packet


ANY = Superpacket(4, TCP, 100, bytes(250))


def changed(packet: bytes, at: int, value: int) -> bytes:
    return packet[:at] + bytes([value]) + packet[at + 1 :]


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        ANY.packet[:27],
        ANY.packet[:39],
        changed(ANY.packet, 0, 0x55),
        changed(ANY.packet, 0, 0x44),
        changed(ANY.packet, 0, 0x4F)[:60],
        changed(ANY.packet, 6, 0x20),  # more fragments
        changed(ANY.packet, 7, 1),  # a later one
        changed(ANY.packet, 9, 1),  # ICMP
        changed(ANY.packet, 32, 0x40),  # TCP header of 16 bytes
        changed(ANY.packet, 32, 0xF0)[:70],
        Superpacket(4, UDP).packet[:27],
        Superpacket(6, UDP).packet[:47],
        Superpacket(6, TCP).packet[:52],
        Superpacket(6, TCP).packet[:59],
        changed(Superpacket(6, UDP, 10, bytes(99)).packet, 6, 44),  # fragment header
        changed(Superpacket(6, UDP, 10, bytes(99)).packet, 6, 59),  # no next header
        Superpacket(6, UDP, options=bytes([17, 200]) + bytes(6)).packet,
        Superpacket(6, UDP, options=bytes([60, 0]) + bytes(6)).packet[:44],
        Superpacket(6, UDP, extension=59, options=bytes(8)).packet,
    ],
    ids=lambda packet: f"{len(packet)}-{packet[:8].hex()}",
)
def test_what_is_no_tcp_or_udp(packet: bytes) -> None:
    with pytest.raises(Malformed):
        transport_of(packet)
    for kind in (1, 4, 5):
        with pytest.raises(Malformed):
            cut_superpacket(Virtio(1, kind, 40, 100, 20, 16).pack(), packet)


@pytest.mark.parametrize(
    ("version", "protocol", "kinds"),
    [(4, TCP, {1, 0x81}), (6, TCP, {4, 0x84}), (4, UDP, {5}), (6, UDP, {5})],
)
def test_gso_types(version: int, protocol: int, kinds: set[int]) -> None:
    """Others the kernel refuses, or drops; 3 is UFO, which it no longer makes."""
    s = Superpacket(version, protocol, 100, bytes(250))
    for kind in range(1, 256):
        virtio = Virtio(1, kind, s.header_length, 100, s.start, s.field - s.start).pack()
        if kind in kinds:
            assert len(cut_superpacket(virtio, s.packet)) == 3
        else:
            with pytest.raises(Malformed, match=r"^gso type$"):
                cut_superpacket(virtio, s.packet)


def test_a_size_of_nothing() -> None:
    with pytest.raises(Malformed, match=r"^segment size$"):
        cut_superpacket(replace(ANY, size=0).virtio, ANY.packet)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("wrong", [-1, 1])
def test_a_superpacket_with_another_length(version: int, protocol: int, wrong: int) -> None:
    s = Superpacket(version, protocol, 100, bytes(250))
    at = 2 if version == 4 else 4
    length = int.from_bytes(s.packet[at : at + 2], "big") + wrong
    with pytest.raises(Malformed, match=r"^superpacket length$"):
        cut_superpacket(s.virtio, s.packet[:at] + length.to_bytes(2, "big") + s.packet[at + 2 :])
    if protocol == UDP:
        at = s.start + 4
        with pytest.raises(Malformed, match=r"^superpacket length$"):
            cut_superpacket(s.virtio, s.packet[:at] + b"\0\x09" + s.packet[at + 2 :])


@pytest.mark.parametrize(
    ("start", "field", "length"), [(20, 16, 37), (0, 65535, 99), (65535, 6, 99), (99, 0, 100)]
)
def test_a_checksum_outside_the_packet(start: int, field: int, length: int) -> None:
    with pytest.raises(Malformed, match=r"^checksum field$"):
        cut_superpacket(Virtio(1, 0, 0, 0, start, field).pack(), bytes(length))


@pytest.mark.parametrize("version", [4, 6])
def test_longer_than_ip_can_say(version: int) -> None:
    headers = Superpacket(version, UDP).headers
    most = 65_535 - len(headers)
    cut_headers(headers, 0, is_last=True, size=most, payload_length=most)
    with pytest.raises(Malformed, match=r"^segment length$"):
        cut_headers(headers, 0, is_last=True, size=most, payload_length=most + 1)


def test_headers_and_no_more() -> None:
    with pytest.raises(Malformed, match=r"^segment headers$"):
        cut_headers(ANY.packet, 0, is_last=True, size=100, payload_length=100)


@given(superpackets(most=5), st.data())
def test_any_changes(superpacket: Superpacket, data: st.DataObject) -> None:
    """What is cut is always whole packets, whatever was in the superpacket."""
    whole = bytearray(superpacket.virtio + superpacket.packet[:2000])
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, min(len(whole), 120) - 1))] = data.draw(words(8))
    header, packet = bytes(whole[:10]), bytes(whole[10:])
    try:
        packets = cut_superpacket(header, packet)
    except Malformed:
        return
    if len(packets) > 1:
        for cut in packets:
            protocol, start, end = transport_of(cut)
            checked = cut[start:] + bytes(len(cut) % 2)
            assert len(checked) + start <= 65_536
            at = 2 if cut[0] >> 4 == 4 else 4
            assert int.from_bytes(cut[at : at + 2], "big") + (at == 4) * 40 == len(cut)
            assert add_words(cut[: start if at == 2 else 0]) == (0xFFFF if at == 2 else 0)
            assert protocol in (TCP, UDP)
            assert end <= len(cut)
