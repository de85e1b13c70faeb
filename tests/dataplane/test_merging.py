"""Bundles of one flow: what is merged, and cut again, is what was in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.superpackets import TCP, UDP, Superpacket, is_complete
from tunnel.dataplane.merging import LEAST, Merger
from tunnel.wire.packet import parse_ip_header
from tunnel.wire.segment import cut_superpacket
from tunnel.wire.train import LEFT, split_bundle
from tunnel.wire.virtio import VIRTIO_LENGTH

START = 64


def datagram(payload: bytes, version: int = 4, number: int = 0) -> bytes:
    """Of one flow, its checksum left, as a sender's kernel gives it."""
    packet = Superpacket(version, UDP, 1000, payload, identification=number)
    return packet.left


def take_out(bundle: bytes) -> tuple[list[bytes], list[int]]:
    """The packets of a bundle, complete, and how many were merged each time."""
    opened = bytearray(START) + bytearray(bundle) + bytearray(START)
    merger, at, end = Merger(opened), START, START + len(bundle)
    packets: list[bytes] = []
    counts = []
    while at < end:
        before = bytes(opened)
        merged = merger.merge(at, end)
        if merged is None:
            assert opened == before
            first = bytearray(opened[at:end])
            first[0] &= ~LEFT
            length = parse_ip_header(first).length
            packets += split_bundle(bytes(opened[at : at + length]))
            at += length
            continue
        begin, stop, count, at = merged
        assert opened[at:] == before[at:], "what comes after is left alone"
        cut = cut_superpacket(opened[begin : begin + VIRTIO_LENGTH], opened[begin + 10 : stop])
        assert len(cut) == count
        counts.append(count)
        packets += cut
    return packets, counts


def without_number(packet: bytes) -> bytes:
    """Without identification, and the checksum over it."""
    return packet if packet[0] >> 4 == 6 else packet[:4] + packet[6:10] + packet[12:]


def check(bundle: bytes) -> list[int]:
    packets, counts = take_out(bundle)
    assert list(map(without_number, packets)) == list(map(without_number, split_bundle(bundle)))
    assert all(map(is_complete, packets))
    return counts


@pytest.mark.parametrize("version", [4, 6])
def test_one_flow_is_merged_whole(version: int) -> None:
    bundle = b"".join(datagram(bytes([i]) * 64, version, i) for i in range(15))
    assert check(bundle) == [15]
    packets, _ = take_out(bundle)
    assert packets == split_bundle(bundle), "identifications in order come out in order"


def test_no_more_than_the_kernel_takes() -> None:
    bundle = b"".join(datagram(bytes([i]), 4, i) for i in range(150))
    assert check(bundle) == [64, 64, 22]


@pytest.mark.parametrize("version", [4, 6])
def test_flows_by_turns_are_not_merged(version: int) -> None:
    one, other = datagram(b"x" * 64, version), bytearray(datagram(b"y" * 64, version))
    port = 22 if version == 4 else 42
    other[port] ^= 1
    assert check((one + bytes(other)) * 5) == []


def test_what_is_not_alike() -> None:
    base = datagram(b"x" * 64)
    for at in (1, 8, 12, 16, 20, 22):  # type of service, time to live, addresses, ports
        other = bytearray(base)
        other[at] ^= 4
        whole = base * 3 + bytes(other) * 4
        assert take_out(whole)[1] == [3, 4], at
    assert check(base * (LEAST - 1)) == []
    assert check(base * 3 + datagram(b"x" * 63) * 2) == [3]
    assert check(datagram(b"") * 5) == [], "nothing to cut"
    complete = split_bundle(base)[0]
    assert check(complete * 5) == [], "a checksum that is not left"


def test_fragments_are_left_alone() -> None:
    for flags in (0x00, 0x20, 0x60):
        packet = bytearray(datagram(b"x" * 64))
        packet[6] = flags
        opened = bytearray(START) + packet * 5
        assert Merger(opened).merge(START, len(opened)) is None


def test_tcp_is_left_alone() -> None:
    packet = Superpacket(4, TCP, 1000, b"x" * 64).left
    assert check(packet * 5) == []


def test_udp_length_that_lies() -> None:
    packet = bytearray(datagram(b"x" * 64))
    packet[25] += 1
    opened = bytearray(START) + packet * 5
    assert Merger(opened).merge(START, len(opened)) is None


flows = st.tuples(
    st.sampled_from([4, 6]), st.integers(0, 40), st.integers(1, 20), st.binary(min_size=1)
)


@given(st.lists(flows, max_size=6))
def test_any_bundle(runs: list[tuple[int, int, int, bytes]]) -> None:
    packets = [
        datagram((filling * (size + 1))[:size] + bytes([i]), version, i)
        for version, size, count, filling in runs
        for i in range(count)
    ]
    check(b"".join(packets))


@given(st.binary(max_size=400), st.integers(0, 400))
def test_any_bytes(data: bytes, behind: int) -> None:
    """Nothing raises, and nothing outside is touched."""
    opened = bytearray(START) + bytearray(data) + bytes(behind)
    before = bytes(opened)
    merged = Merger(opened).merge(START, START + len(data)) if data else None
    end = START if merged is None else merged[1]
    assert opened[: START - VIRTIO_LENGTH] == before[: START - VIRTIO_LENGTH]
    assert opened[max(end, START) :] == before[max(end, START) :]
    assert len(opened) == len(before)
