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


def laid_out(bundles: list[bytes], gap: int) -> bytearray:
    return bytearray(START) + bytearray(gap).join(map(bytearray, bundles)) + bytearray(START)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("each", "size", "given", "taken"),
    [
        (14, 64, 40, 4),  # 64 at most
        (14, 64, 3, 3),
        (1, 1300, 60, 50),  # 64 KiB at most
        (1, 1300, 3, 3),
        (1, 1300, 2, None),  # fewer than LEAST
        (33, 20, 2, None),  # one bundle alone is for `merge`
        (14, 64, 1, None),
    ],
)
def test_bundles_of_one_flow(
    version: int, each: int, size: int, given: int, taken: int | None
) -> None:
    packets = [datagram(bytes([i % 251]) * size, version, i) for i in range(each * given)]
    bundles = [b"".join(packets[i : i + each]) for i in range(0, len(packets), each)]
    length, gap = len(bundles[0]), 48
    opened = laid_out(bundles, gap)
    before = bytes(opened)
    merged = Merger(opened).merge_bundles(START, length, length + gap, given)
    if taken is None:
        assert (merged, opened) == (None, before)
        return
    assert merged is not None
    begin, stop, count, number = merged
    assert (count, number) == (taken * each, taken)
    cut = cut_superpacket(opened[begin : begin + VIRTIO_LENGTH], opened[begin + 10 : stop])
    assert cut == split_bundle(b"".join(packets[:count]))
    end = START + taken * (length + gap) - gap
    assert stop <= end
    assert opened[end:] == before[end:]


def test_bundles_that_are_not_alike_are_left_alone() -> None:
    base = datagram(b"x" * 64)
    length = 3 * len(base)
    for at in (0, 1, 2, 3, 6, 7, 8, 9, 12, 19, 20, 23, 24, 25):
        for which in range(6):
            packets = [bytearray(base) for _ in range(6)]
            packets[which][at] ^= 4
            bundles = [b"".join(packets[:3]), b"".join(packets[3:])]
            opened = laid_out(bundles, 48)
            before = bytes(opened)
            assert Merger(opened).merge_bundles(START, length, length + 48, 2) is None, (at, which)
            assert opened == before
    opened = laid_out([base * 3 + b"\0" * 9] * 2, 48)
    assert Merger(opened).merge_bundles(START, length + 9, length + 57, 2) is None, "padded"


@given(
    st.sampled_from([4, 6]), st.integers(1, 70), st.integers(1, 70), st.integers(1, 70),
    st.integers(1, 60),
)  # fmt: skip
def test_any_bundles(version: int, each: int, size: int, given: int, gap: int) -> None:
    bundle = b"".join(datagram(bytes([i]) * size, version, i) for i in range(each))
    opened = laid_out([bundle] * given, gap)
    merged = Merger(opened).merge_bundles(START, len(bundle), len(bundle) + gap, given)
    if merged is None:
        assert given == 1 or each > 32 or each * given < LEAST
        return
    begin, stop, count, number = merged
    assert number == min(given, 64 // each)
    cut = cut_superpacket(opened[begin : begin + VIRTIO_LENGTH], opened[begin + 10 : stop])
    packets = split_bundle(bundle)
    assert list(map(without_number, cut)) == list(map(without_number, packets * number))
    assert count == len(cut)


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
