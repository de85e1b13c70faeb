from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.wire.messages import words
from tests.wire.superpackets import (
    ACK,
    CWR,
    FIN,
    PSH,
    TCP,
    UDP,
    Superpacket,
    is_complete,
    superpackets,
)
from tests.wire.test_packet import ipv4, ipv6
from tunnel.errors import Malformed
from tunnel.wire.packet import parse_ip_header
from tunnel.wire.segment import cut_superpacket
from tunnel.wire.train import (
    LEFT,
    MAX_SEGMENTS,
    TRAIN_OVERHEAD,
    find_left,
    packet_of,
    parse_train,
    split_bundle,
)

TCP4 = Superpacket(
    4, TCP, 4, b"ten bytes!", flags=ACK | PSH | FIN | CWR, identification=0xFFFF, sequence=9
)
UDP6 = Superpacket(6, UDP, 7, b"ten bytes!")
TCP4_HEADERS = """c5000032ffff4000400626b2 0a080002 0a090002
    03e807d0 00000009 0000004d 509901f4 14390000 """
UDP6_HEADERS = """e001234500121140 fd080000000000000000000000000002
    fd090000000000000000000000000002 03e807d00012fa39 """
GOLDEN = [
    (TCP4, "30 02 0004" + TCP4_HEADERS, ["74656e20", "62797465", "7321"]),
    (UDP6, "30 01 0007" + UDP6_HEADERS, ["74656e20627974", "657321"]),
]


def changed(payload: bytes, at: int, *values: int) -> bytes:
    return payload[:at] + bytes(values) + payload[at + len(values) :]


@pytest.mark.parametrize(("superpacket", "begin", "segments"), GOLDEN)
def test_golden(superpacket: Superpacket, begin: str, segments: list[str]) -> None:
    payloads = [bytes.fromhex(begin + segment) for segment in segments]
    assert superpacket.frames == payloads
    packets = cut_superpacket(superpacket.virtio, superpacket.packet)
    assert [packet_of(payload, place) for place, payload in enumerate(payloads)] == packets
    for payload in payloads:
        assert parse_train(payload) == (superpacket.last, superpacket.size, superpacket.headers)


@given(superpackets())
def test_each_frame_stands_for_its_packet(superpacket: Superpacket) -> None:
    payloads = superpacket.frames
    packets = cut_superpacket(superpacket.virtio, superpacket.packet)
    for place, (payload, packet) in enumerate(zip(payloads, packets, strict=True)):
        assert packet_of(payload, place) == packet
        assert packet_of(memoryview(payload), place) == packet
        assert len(payload) == len(packet) + TRAIN_OVERHEAD
        assert parse_train(payload) == (superpacket.last, superpacket.size, superpacket.headers)


@given(superpackets(most=6), st.integers(0, 255))
def test_at_another_place(superpacket: Superpacket, place: int) -> None:
    """Any but the last segment would do anywhere before it; after it there is nothing."""
    *others, last = superpacket.frames
    if place < superpacket.last:
        assert is_complete(packet_of(others[0], place))
        if len(last) < len(others[0]):
            with pytest.raises(Malformed, match=r"^place in the train$"):
                packet_of(last, place)
    else:
        assert is_complete(packet_of(last, superpacket.last))
        with pytest.raises(Malformed, match=r"^place in the train$"):
            packet_of(last, place + 1)


def test_a_checksum_of_zero() -> None:
    """As the kernel has it in what it cut, and in a packet that is not cut."""
    for size, zero in ((8, b"\0\0"), (16, b"\xff\xff")):
        s = Superpacket(4, TCP, size, bytes(16))
        at = s.field
        packet = packet_of(s.frames[0], 0)
        s = replace(s, payload=packet[at : at + 2] + bytes(14))
        packet = packet_of(s.frames[0], 0)
        assert packet[at : at + 2] == zero
        assert packet == cut_superpacket(s.virtio, s.packet)[0]


FRAME, LAST_FRAME = TCP4.frames[0], TCP4.frames[2]
UDP_FRAME = UDP6.frames[0]
HEADERS = len(TCP4.headers)
MALFORMED = [
    (b"", 0, "train header"),
    (FRAME[:4], 0, "train header"),
    (changed(FRAME, 0, 0x31), 0, "train header"),
    (changed(FRAME, 4, 0x45), 0, "train header"),  # the checksum is not left
    (changed(FRAME, 4, 0xD5), 0, "IP version"),
    (FRAME[:30], 0, "segment headers"),
    (FRAME[: 4 + HEADERS], 0, "segment length"),  # no segment
    (FRAME + b"!", 0, "segment length"),  # longer than the size
    (changed(FRAME, 2, 0, 0), 0, "segment length"),
    (changed(FRAME, 2, 0, 3), 0, "segment length"),
    (changed(FRAME, 2, 0, 5), 0, "superpacket length"),  # last × 5 bytes are all of it
    (changed(FRAME, 2, 0, 10), 0, "superpacket length"),
    (changed(FRAME, 1, 1), 0, "superpacket length"),
    (changed(FRAME, 1, 3), 0, "superpacket length"),
    (changed(FRAME, 7, HEADERS + 8), 0, "superpacket length"),
    (changed(FRAME, 7, HEADERS + 13), 0, "superpacket length"),
    (changed(FRAME, 7, HEADERS - 1), 0, "superpacket length"),
    (changed(FRAME, 6, 0xFF), 0, "superpacket length"),
    (changed(UDP_FRAME, 9, 8 + 11), 0, "superpacket length"),  # IP's, UDP's is another
    (changed(UDP_FRAME, 49, 8 + 11), 0, "superpacket length"),
    (FRAME[:-1], 0, "place in the train"),
    (FRAME, 2, "place in the train"),
    (LAST_FRAME, 0, "place in the train"),
    (LAST_FRAME[:-1], 2, "place in the train"),
    (LAST_FRAME + b"!", 2, "place in the train"),
    (LAST_FRAME, 3, "place in the train"),
    (changed(FRAME, 10, 0x20), 0, "segment of a fragment"),
    (changed(FRAME, 13, 1), 0, "segment of neither TCP nor UDP"),
    (changed(FRAME, 36, 0x40), 0, "TCP header length"),
]


@pytest.mark.parametrize(("payload", "place", "reason"), MALFORMED, ids=range(len(MALFORMED)))
def test_malformed(payload: bytes, place: int, reason: str) -> None:
    with pytest.raises(Malformed, match=f"^{reason}$"):
        packet_of(payload, place)


def test_the_greatest_train() -> None:
    s = Superpacket(4, UDP, 1, bytes(MAX_SEGMENTS))
    assert packet_of(s.frames[255], 255) == cut_superpacket(s.virtio, s.packet)[255]


def test_more_than_a_packet_can_hold() -> None:
    """However long the payload: no packet has more than 65,535 bytes, and no other exception."""
    s = Superpacket(6, UDP, 65_535, bytes(65_495 - 8))
    (payload,) = s.frames
    assert len(packet_of(payload, 0)) == 65_535
    for more in (1, 40, 48, 49):
        longer = payload + bytes(more)
        for at in (8, 48):
            length = int.from_bytes(longer[at : at + 2], "big") + more
            longer = changed(longer, at, *(length & 0xFFFF).to_bytes(2, "big"))
        with pytest.raises(Malformed):
            packet_of(longer, 0)


@given(superpackets(most=4), words(8), st.data())
def test_any_changes(superpacket: Superpacket, place: int, data: st.DataObject) -> None:
    payload = bytearray(data.draw(st.sampled_from(superpacket.frames))[:2000])
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, min(len(payload), 120) - 1))] = data.draw(words(8))
    try:
        last, size, headers = parse_train(payload)
        packet = packet_of(payload, min(place, last))
    except Malformed:
        return
    assert len(packet) == len(payload) - TRAIN_OVERHEAD
    assert parse_ip_header(packet).length == len(packet)
    assert len(packet) - len(headers) <= size


# Bundles


def completed(superpacket: Superpacket) -> bytes:
    (packet,) = cut_superpacket(replace(superpacket, size=65_535).virtio, superpacket.packet)
    return packet


SMALL = Superpacket(4, UDP, 9, b"hello", identification=0x1234)
SMALL_HEX = "0000211234400040111484 0a080002 0a090002 03e807d0000d{} 68656c6c6f"
PING = bytes.fromhex("4500001c00010000400166cc0a080002 0a090002 0800f7fd00010001")


def test_golden_bundle() -> None:
    """One packet whose checksum is left, one of which it is not, and one that has none."""
    complete = bytes.fromhex("45" + SMALL_HEX.format("9c35"))
    bundle = bytes.fromhex("c5" + SMALL_HEX.format("1433")) + PING + complete
    assert SMALL.left + PING + completed(SMALL) == bundle
    assert split_bundle(bundle) == [complete, PING, complete]


without_extensions = superpackets(most=3).map(
    lambda s: s if s.version == 4 else replace(s, options=b"")
)
any_packet = st.one_of(
    without_extensions.map(lambda s: (s.left, completed(s))),
    st.binary(max_size=99).map(lambda payload: (ipv4(payload),) * 2),
    st.binary(max_size=99).map(lambda payload: (ipv6(payload),) * 2),
    st.binary(max_size=9).map(lambda payload: (ipv4(payload, words=9),) * 2),
)


@given(st.lists(any_packet, max_size=8))
def test_bundles(packets: list[tuple[bytes, bytes]]) -> None:
    bundle = b"".join(sent for sent, _ in packets)
    assert split_bundle(bundle) == [received for _, received in packets]
    assert split_bundle(memoryview(bundle)) == [received for _, received in packets]


@given(st.lists(any_packet, min_size=1, max_size=4), st.integers(1, 60))
def test_a_bundle_cut_short(packets: list[tuple[bytes, bytes]], missing: int) -> None:
    assume(missing < len(packets[-1][0]))
    bundle = b"".join(sent for sent, _ in packets)
    with pytest.raises(Malformed):
        split_bundle(bundle[:-missing])


@pytest.mark.parametrize(
    "bad",
    [
        b"\x45",
        b"\xc5",
        b"\1" + bytes(39),
        b"\x30" + PING[1:],
        b"\x50" + PING[1:],
        b"\xd5" + PING[1:],
        b"\xc5" + PING[1:],  # nothing that has a checksum field
        b"\xc4" + SMALL.left[1:],
        Superpacket(6, UDP, options=bytes([17, 0, 1, 4, 0, 0, 0, 0])).left,
        changed(SMALL.left, 3, 27),
        changed(Superpacket(4, TCP).left, 3, 28)[:28],  # without room for the field
        changed(Superpacket(6, TCP).left, 5, 8)[:48],
    ],
    ids=bytes.hex,
)
def test_a_bundle_with_a_bad_packet(bad: bytes) -> None:
    for bundle in (bad, PING + bad):
        with pytest.raises(Malformed):
            split_bundle(bundle)


def test_an_empty_bundle() -> None:
    assert split_bundle(b"") == []


def test_what_follows_a_zero_byte_is_padding() -> None:
    assert split_bundle(PING + b"\0" + PING) == split_bundle(PING)


@given(st.lists(any_packet, min_size=1, max_size=4), st.data())
def test_any_changes_of_a_bundle(packets: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    bundle = bytearray(b"".join(sent for sent, _ in packets))
    for _ in range(data.draw(st.integers(1, 3))):
        bundle[data.draw(st.integers(0, min(len(bundle), 120) - 1))] = data.draw(words(8))
    try:
        found = split_bundle(bundle)
    except Malformed:
        return
    length = sum(map(len, found))
    assert length == len(bundle) or bundle[length] == 0, "only padding is left out"
    for packet in found:
        assert parse_ip_header(packet).length == len(packet)
        assert not packet[0] & LEFT


@given(without_extensions)
def test_completing_does_not_touch_the_rest(superpacket: Superpacket) -> None:
    (packet,) = split_bundle(superpacket.left)
    at = superpacket.field
    assert find_left(packet) == (superpacket.start, at)
    assert is_complete(packet)
    assert packet[:at] + packet[at + 2 :] == superpacket.packet[:at] + superpacket.packet[at + 2 :]
