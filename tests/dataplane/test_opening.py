"""The opening loops against `packet_of` and `split_bundle`, whatever happens on the way.

What members may send who lie is in test_lies.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataplane.arrivals import AREA_LENGTH, Arrival, Opened, Receiver, arrive
from tests.dataplane.ciphers import AEGIS, CHACHA, CIPHERS, COUNTER, RECEIVER, Cipher, Guard
from tests.dataplane.test_sealing import ciphers, seal
from tests.wire.messages import words
from tests.wire.superpackets import TCP, UDP, Superpacket, superpackets
from tests.wire.test_packet import ipv4, ipv6
from tests.wire.test_segment import same_zero
from tunnel.dataplane.opening import START, Opener, Run
from tunnel.dataplane.sealing import MAX_TABLES, Sealer
from tunnel.dataplane.train import split
from tunnel.errors import Malformed
from tunnel.wire.segment import cut_superpacket
from tunnel.wire.train import (
    MAX_SEGMENTS,
    TRAIN,
    TRAIN_OVERHEAD,
    pack_train,
    packet_of,
    split_bundle,
)
from tunnel.wire.transport import HEADER_LENGTH
from tunnel.wire.virtio import GSO_NONE, NO_VIRTIO, parse_virtio

# What is sent


class Sent(NamedTuple):
    """A frame, and the packets it stands for."""

    frame: bytes
    place: int
    payload: bytes
    counter: int

    @property
    def packets(self) -> list[bytes]:
        if self.payload[:1] == bytes([TRAIN]):
            return [packet_of(self.payload, self.place)]
        return split_bundle(self.payload)


def sealed(cipher: Cipher, payloads: list[bytes], counter: int, first: int = 0) -> list[Sent]:
    """In consecutive places."""
    return [
        Sent(
            cipher.seal(place, counter + place - first, payload),
            place,
            payload,
            counter + place - first,
        )
        for place, payload in enumerate(payloads, first)
    ]


def bundled(cipher: Cipher, bundles: list[bytes], counter: int) -> list[Sent]:
    """All at place 0."""
    return [
        Sent(cipher.seal(0, number, payload), 0, payload, number)
        for number, payload in enumerate(bundles, counter)
    ]


small = st.one_of(
    superpackets(most=2, sizes=st.integers(1, 40)).map(
        lambda s: (s if s.version == 4 else replace(s, options=b"")).left
    ),
    st.binary(max_size=60).map(ipv4),
    st.binary(max_size=60).map(ipv6),
)
bundles = st.lists(small, min_size=1, max_size=5).map(b"".join)


@st.composite
def traffic(draw: st.DrawFn, cipher: Cipher) -> list[Sent]:
    """Trains and bundles, as a peer would send them."""
    counter = draw(st.one_of(st.integers(0, 2**64 - 10_000), st.just(2**32 - 20)))
    sent: list[Sent] = []
    size = draw(st.integers(1, 1400))
    for _ in range(draw(st.integers(1, 4))):
        first = counter + len(sent)
        if draw(st.booleans()):
            same = st.one_of(st.just(size), st.integers(1, 1400))
            superpacket = draw(superpackets(most=12, sizes=same))
            sent += sealed(cipher, superpacket.frames, first)
        else:
            sent += bundled(cipher, draw(st.lists(bundles, min_size=1, max_size=4)), first)
    return sent


def disturbed(draw: st.DrawFn, sent: list[Sent]) -> list[Sent]:
    """Lost, doubled, and in another order, here and there."""
    arriving = list(sent)
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(arriving)))
        to = draw(st.integers(0, len(arriving)))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            del arriving[at : at + draw(st.integers(1, 5))]
        elif kind == 1:
            arriving[to:to] = arriving[at : at + draw(st.integers(1, 5))]
        elif kind == 2:
            moved = arriving[at : at + 3]
            del arriving[at : at + 3]
            arriving[to:to] = moved
        else:
            arriving[at : at + 4] = arriving[at : at + 4][::-1]
    return arriving


@st.composite
def journeys(draw: st.DrawFn) -> tuple[Cipher, list[Sent], list[Arrival]]:
    cipher = draw(ciphers)
    arriving = disturbed(draw, draw(traffic(cipher)))
    arrivals = arrive(
        [sent.frame for sent in arriving],
        offset=draw(st.sampled_from([0, 0, 1, 64])),
        gap=draw(st.sampled_from([0, 0, 1, 16, 300])),
        most=draw(st.sampled_from([64, 3])),
    )
    return cipher, arriving, arrivals


def normal(packets: list[bytes]) -> list[bytes]:
    return [same_zero(packet) if _has_tcp(packet) else packet for packet in packets]


def _has_tcp(packet: bytes) -> bool:
    try:
        same_zero(packet)
    except Malformed:
        return False
    return True


def received(receiver: Receiver, arrivals: list[Arrival]) -> list[Opened]:
    return [opened for arrival in arrivals for opened in receiver.receive(arrival)]


# What arrives is what was sent


@given(journeys())
def test_journeys(journey: tuple[Cipher, list[Sent], list[Arrival]]) -> None:
    """Each frame that arrives gives the packets it stands for, in order, and is in one run."""
    cipher, arriving, arrivals = journey
    all_opened = received(Receiver(cipher), arrivals)
    assert all(opened.length > 0 for opened in all_opened)
    assert all(opened.superpackets is not None for opened in all_opened)
    assert sum(opened.run.frames for opened in all_opened) == len(arriving)
    at = 0
    for opened in all_opened:
        frames = arriving[at : at + opened.run.frames]
        assert [frame.counter for frame in frames] == [
            opened.run.counter + number for number in range(len(frames))
        ]
        assert opened.run.place == frames[0].place
        assert opened.run.receiver == RECEIVER
        assert normal(opened.packets) == normal([p for frame in frames for p in frame.packets])
        at += len(frames)


@given(superpackets(), ciphers, st.sampled_from([0, 1, 500]), st.sampled_from([0, 7]))
def test_an_undamaged_train_is_the_superpacket_again(
    superpacket: Superpacket, cipher: Cipher, gap: int, offset: int
) -> None:
    """Byte for byte, and with the virtio header it had: sealed and opened in whole trains."""
    guard = Guard(cipher)
    receiver = Receiver(cipher)
    stride = 0
    parts: list[tuple[bytes, bytes]] = []
    packets: list[bytes] = []
    trains = seal(Sealer(guard.pointer), guard.direction, superpacket)
    for train in trains:
        stride = stride or min(
            len(train), 20 + len(superpacket.block) - 4 + superpacket.size + guard.tag_length
        )
        for arrival in arrive(split(train, stride), gap=gap, offset=offset):
            (opened,) = receiver.receive(arrival)
            assert opened.superpackets is not None
            parts += opened.superpackets
            packets += opened.packets
    assert normal(packets) == normal(cut_superpacket(superpacket.virtio, superpacket.packet))
    if len(parts) == 1:
        assert parts == [(superpacket.virtio, superpacket.packet)]


@given(superpackets(most=30, sizes=st.integers(1, 1400)), ciphers, st.data())
def test_any_frames_of_a_train(
    superpacket: Superpacket, cipher: Cipher, data: st.DataObject
) -> None:
    """Consecutive frames are one superpacket, or a packet."""
    frames = sealed(cipher, superpacket.frames, COUNTER)
    first = data.draw(st.integers(0, superpacket.last))
    stop = data.draw(st.integers(first, superpacket.last)) + 1
    frames = frames[first:stop]
    all_opened = received(Receiver(cipher), arrive([sent.frame for sent in frames]))
    is_train = len(frames) > 1
    assert all_opened[0].run == Run(RECEIVER, COUNTER + first, first, 0, len(frames), is_train)
    (opened,) = all_opened
    assert opened.superpackets is not None
    ((virtio, packet),) = opened.superpackets
    assert (parse_virtio(virtio).gso_type == GSO_NONE) == (len(frames) == 1)
    assert normal(cut_superpacket(virtio, packet)) == normal([f.packets[0] for f in frames])


@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)
@pytest.mark.parametrize("size", [1, 500, 1348, 4050, 8860, 12_000, 30_000])
def test_as_long_as_can_be(cipher: Cipher, size: int) -> None:
    """Also where few large frames fill the area to its end."""
    around = HEADER_LENGTH + TRAIN_OVERHEAD + 40 + cipher.direct.tag_length
    full, left = divmod(65_536, around + size)
    full = min(full, MAX_SEGMENTS - 1)
    rest = min(size, left - around)
    most = full + (rest > 0)
    s = Superpacket(4, TCP, size, bytes(full * size + max(0, rest)))
    frames = [sent.frame for sent in sealed(cipher, s.frames, COUNTER)]
    (arrival,) = arrive(frames, most=MAX_SEGMENTS)
    assert len(arrival.datagrams) == most
    (opened,) = Receiver(cipher).receive(arrival)
    assert opened.superpackets == [(s.virtio, s.packet)]


def test_more_frames_than_a_train_has() -> None:
    """As recvmmsg may bring them, in small steps."""
    receiver = Receiver(CHACHA)
    frames = bundled(CHACHA, [ipv4(bytes([n % 256])) for n in range(900)], COUNTER)
    (arrival,) = arrive([sent.frame for sent in frames], most=900)
    opened = receiver.receive(arrival)
    assert [one.run.frames for one in opened] == [900]
    assert opened[0].packets == [packet for sent in frames for packet in sent.packets]
    s = Superpacket(4, UDP, 1, bytes(256))
    frames = sealed(CHACHA, s.frames, COUNTER) * 3
    (arrival,) = arrive([sent.frame for sent in frames], most=900)
    opened = receiver.receive(arrival)
    assert [(one.run.slot, one.run.frames) for one in opened] == [(n, 256) for n in (0, 256, 512)]
    assert all(one.superpackets == [(s.virtio, s.packet)] for one in opened)


def test_what_no_area_of_ours_could_hold() -> None:
    """A last frame longer than the others, and more than fits into a packet: C would write it."""
    guard = Guard(CHACHA)
    opener = Opener(area := bytearray(300_000), guard.pointer)
    s = Superpacket(4, UDP, 100, bytes(500))
    *frames, last = sealed(CHACHA, s.frames, COUNTER)
    longer = CHACHA.seal(last.place, last.counter, last.payload + b"x")
    arrival = Arrival([*[sent.frame for sent in frames], longer], 0, len(longer))
    arrival.put(area)
    run = Run(RECEIVER, COUNTER, 0, 0, 5, True)
    size = len(longer) - 1
    assert opener.open_run(guard.direction, 0, arrival.stride, size, run, len(longer)) == -2
    assert opener.open_run(guard.direction, 0, arrival.stride, size, run, size) == -1
    for count, length in ((2, 65_000), (70, 1000)):
        block = pack_train(count - 1, length, s.headers)
        payloads = [block + bytes(length)] * count
        arrival = Arrival([one.frame for one in sealed(CHACHA, payloads, COUNTER)], 0, length + 64)
        arrival.put(area)
        run = run._replace(frames=count)
        where = 0, length + 64, arrival.size, run, arrival.size
        assert opener.open_run(guard.direction, *where) == -2


def test_many_sizes() -> None:
    """More than there are tables."""
    receiver = Receiver(AEGIS)
    for size in [*range(1, MAX_TABLES + 9), 1, 2]:
        s = Superpacket(6, UDP, size, bytes(size * 3))
        frames = [sent.frame for sent in sealed(AEGIS, s.frames, COUNTER)]
        (opened,) = received(receiver, arrive(frames))
        assert opened.superpackets == [(s.virtio, s.packet)]


def test_two_ciphers_by_turns() -> None:
    """Peers may have agreed on different ones; strides may be the same."""
    guards = {cipher: Guard(cipher) for cipher in CIPHERS}
    area = bytearray(AREA_LENGTH)
    opener = Opener(area, guards[AEGIS].pointer)
    for buffer in guards[AEGIS].buffers:
        guards[CHACHA].pointer(buffer)
    for cipher, size in [(AEGIS, 100), (CHACHA, 116), (AEGIS, 100), (CHACHA, 116)]:
        s = Superpacket(4, UDP, size, bytes(range(200)) * 2)
        (arrival,) = arrive([sent.frame for sent in sealed(cipher, s.frames, COUNTER)])
        arrival.put(area)
        (run,) = opener.find_runs(0, arrival.stride, arrival.length)
        length = opener.open_run(
            guards[cipher].direction, 0, arrival.stride, arrival.size, run, arrival.last_length
        )
        assert run.frames == len(s.frames)
        begin, end = opener.finish_train(run.place, run.frames, START, length)
        assert opener.view[begin:end] == s.virtio + s.packet


# Runs


def frame_of(receiver: int, counter: int, place: int, kind: int = 4) -> bytes:
    header = bytes((kind, place, 0, 0)) + receiver.to_bytes(4, "little")
    return header + counter.to_bytes(8, "little") + bytes(32)


RUNS = [
    ("a train", [(1, 5, 0), (1, 6, 1), (1, 7, 2)], [(5, 0, 0, 3)]),
    ("the middle of one", [(1, 5, 7), (1, 6, 8)], [(5, 7, 0, 2)]),
    ("bundles", [(1, 5, 0), (1, 6, 0), (1, 7, 0)], [(5, 0, 0, 3)]),
    (
        "one place, but 0",
        [(1, 5, 3), (1, 6, 3), (1, 7, 3)],
        [(5, 3, 0, 1), (6, 3, 1, 1), (7, 3, 2, 1)],
    ),
    ("bundles, one is missing", [(1, 5, 0), (1, 7, 0), (1, 8, 0)], [(5, 0, 0, 1), (7, 0, 1, 2)]),
    ("a bundle and a train", [(1, 5, 0), (1, 6, 0), (1, 7, 1)], [(5, 0, 0, 2), (7, 1, 2, 1)]),
    ("a bundle rides", [(1, 5, 0), (1, 6, 1), (1, 7, 0)], [(5, 0, 0, 2), (7, 0, 2, 1)]),
    ("another's rides", [(1, 5, 0), (1, 6, 1), (2, 7, 0)], [(5, 0, 0, 2), (7, 0, 2, 1)]),
    ("two trains", [(1, 5, 1), (1, 6, 2), (1, 7, 0), (1, 8, 1)], [(5, 1, 0, 2), (7, 0, 2, 2)]),
    ("one is missing", [(1, 5, 0), (1, 6, 1), (1, 8, 3), (1, 9, 4)], [(5, 0, 0, 2), (8, 3, 2, 2)]),
    ("swapped", [(1, 5, 0), (1, 7, 2), (1, 6, 1)], [(5, 0, 0, 1), (7, 2, 1, 1), (6, 1, 2, 1)]),
    ("twice", [(1, 5, 3), (1, 5, 3)], [(5, 3, 0, 1), (5, 3, 1, 1)]),
    ("another receiver", [(1, 5, 0), (2, 6, 1)], [(5, 0, 0, 1), (6, 1, 1, 1)]),
    ("another counter", [(1, 5, 0), (1, 7, 1)], [(5, 0, 0, 1), (7, 1, 1, 1)]),
    ("another place", [(1, 5, 0), (1, 6, 2)], [(5, 0, 0, 1), (6, 2, 1, 1)]),
    ("another kind between", [(1, 5, 0), (1, 6, 1, 3), (1, 7, 2)], [(5, 0, 0, 1), (7, 2, 2, 1)]),
    ("another kind first", [(1, 5, 0, 3), (1, 6, 1), (1, 7, 2)], [(6, 1, 1, 2)]),
    ("no frames at all", [(1, 5, 0, 1), (1, 6, 1, 2)], []),
    ("place 255 and 0", [(1, 5, 254), (1, 6, 255), (1, 7, 0)], [(5, 254, 0, 2), (7, 0, 2, 1)]),
    ("the last counter", [(1, 2**64 - 1, 0), (1, 0, 1)], [(2**64 - 1, 0, 0, 1), (0, 1, 1, 1)]),
    ("the last receiver", [(2**32 - 1, 5, 0), (2**32 - 1, 6, 1)], [(5, 0, 0, 2)]),
]


@pytest.mark.parametrize(
    ("frames", "expected"), [row[1:] for row in RUNS], ids=[r[0] for r in RUNS]
)
@pytest.mark.parametrize("gap", [0, 5])
def test_runs(
    frames: list[tuple[int, ...]], expected: list[tuple[int, int, int, int]], gap: int
) -> None:
    area = bytearray(AREA_LENGTH)
    (arrival,) = arrive([frame_of(*frame) for frame in frames], offset=3, gap=gap)
    arrival.put(area)
    runs = Opener(area, Guard(AEGIS).pointer).find_runs(3, arrival.stride, arrival.length)
    assert [(run.counter, run.place, run.slot, run.frames) for run in runs] == expected
    assert all(run.receiver == frames[run.slot][0] for run in runs)


@pytest.mark.parametrize("first", [0, 250, 255])
@pytest.mark.parametrize("rides", [False, True])
def test_a_place_too_many(first: int, rides: bool) -> None:
    """The place has one byte, and what is counted on from it is none."""
    area = bytearray(AREA_LENGTH)
    frames = [frame_of(1, 5 + n, first + n) for n in range(256 - first)]
    beyond = bytearray(frame_of(1, 5 + len(frames), 0))
    beyond[2] = 1
    frames.append(bytes(beyond))
    if rides:
        frames.append(frame_of(1, 5 + len(frames), 0))
    (arrival,) = arrive(frames, most=300)
    arrival.put(area)
    runs = Opener(area, Guard(AEGIS).pointer).find_runs(0, arrival.stride, arrival.length)
    found = [(run.place, run.slot, run.frames) for run in runs]
    assert found == [(first, 0, 256 - first), (0, len(frames) - 1, 1)][: 1 + rides]


def test_zeros_behind_256_frames() -> None:
    area = bytearray(AREA_LENGTH)
    frames = [frame_of(1, 5 + n, 0) for n in range(256)] + [bytes(48)] * 9
    arrival = Arrival(frames, 0, 48)
    arrival.put(area)
    runs = Opener(area, Guard(AEGIS).pointer).find_runs(0, arrival.stride, arrival.length)
    assert [(run.slot, run.frames) for run in runs] == [(0, 256)]


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)
def test_what_earlier_frames_left_behind(cipher: Cipher, step: int) -> None:
    """What is too short for a frame does not become one by what lies behind it in the area."""
    frames = [cipher.seal(n * step, n, bytes([0x45, n]) * 30) for n in range(9)]
    receiver = Receiver(cipher)
    for count in (1, 2, 8):
        for length in (1, 5, 15, 16, 30):
            receiver.receive(Arrival(frames, 0, len(frames[0]) + 9))
            cut = [*frames[:count], frames[count][:length]]
            runs = [one.run for one in receiver.receive(Arrival(cut, 0, len(frames[0]) + 9))]
            assert [(run.slot, run.frames) for run in runs] == [(0, count + (length >= 16))]
        receiver.receive(Arrival(frames, 0, len(frames[0]) + 9))
        tiny = [frame[:5] for frame in frames]
        for opened in receiver.receive(Arrival(tiny, 0, len(frames[0]) + 9)):
            assert opened.length == -1


@pytest.mark.parametrize("reserved", [2, 3])
def test_reserved_bytes(reserved: int) -> None:
    area = bytearray(AREA_LENGTH)
    frame = bytearray(frame_of(1, 5, 0))
    frame[reserved] = 1
    opener = Opener(area, Guard(AEGIS).pointer)
    for frames in ([bytes(frame)], [bytes(frame)] * 2):
        arrival = Arrival(frames, 0, len(frame))
        arrival.put(area)
        assert opener.find_runs(0, arrival.stride, arrival.length) == []


@given(
    st.lists(
        st.tuples(words(2), st.integers(0, 12), st.integers(0, 12), st.sampled_from([4, 4, 4, 1])),
        max_size=40,
    ),
    st.sampled_from([0, 1, 90]),
)
def test_runs_by_their_definition(frames: list[tuple[int, ...]], gap: int) -> None:
    area = bytearray(AREA_LENGTH)
    opener = Opener(area, Guard(AEGIS).pointer)
    for arrival in arrive([frame_of(*frame) for frame in frames], gap=gap):
        arrival.put(area)
        expected: list[Run] = []
        before: tuple[int, ...] | None = None
        for slot, (receiver, counter, place, kind) in enumerate(frames[: len(arrival.datagrams)]):
            # The next of a train, or one more that is by itself, as those before it in the run.
            follows = before == (receiver, counter - 1, place - 1 if place else 0, 4)
            if kind != 4:
                pass
            elif follows and expected[-1].frames > 1 and expected[-1].is_train != bool(place):
                expected.append(Run(receiver, counter, place, slot, 1, False))
            elif follows:
                frames_now = expected[-1].frames + 1
                expected[-1] = expected[-1]._replace(frames=frames_now, is_train=bool(place))
            else:
                expected.append(Run(receiver, counter, place, slot, 1, False))
            before = receiver, counter, place, kind
        assert opener.find_runs(0, arrival.stride, arrival.length) == expected
        frames = frames[len(arrival.datagrams) :]


# Strangers


@given(st.integers(1, 80), st.integers(1, 200), st.binary(max_size=9), words(8))
def test_datagrams_of_any_size(stride: int, count: int, tail: bytes, seed: int) -> None:
    """Also many that are too short for anything."""
    receiver = Receiver(AEGIS)
    datagrams = [
        bytes([4, n % 256, 0, 0, seed]).ljust(stride, b"\0")[:stride] for n in range(count)
    ]
    if tail:
        datagrams.append(tail[:stride])
    for opened in receiver.receive(Arrival(datagrams, 0, stride)):
        assert opened.length == -1


@given(st.binary(min_size=1, max_size=3000), st.integers(1, 3000), st.integers(0, 4000), ciphers)
def test_any_bytes(content: bytes, size: int, offset: int, cipher: Cipher) -> None:
    datagrams = split(content, size)
    for opened in Receiver(cipher).receive(Arrival(datagrams, offset, size)):
        assert opened.length == -1


@given(journeys(), st.data())
def test_what_was_changed_on_the_way(
    journey: tuple[Cipher, list[Sent], list[Arrival]], data: st.DataObject
) -> None:
    """One datagram: no run with it opens, and all others give their packets."""
    cipher, arriving, arrivals = journey
    if not arrivals:
        return
    which = data.draw(st.integers(0, len(arrivals) - 1))
    arrival = arrivals[which]
    slot = data.draw(st.integers(0, len(arrival.datagrams) - 1))
    datagram = bytearray(arrival.datagrams[slot])
    at = data.draw(st.one_of(st.integers(0, len(datagram) - 1), st.integers(0, 15)))
    if slot == len(arrival.datagrams) - 1 and data.draw(st.booleans()):
        del datagram[max(1, at) :]
    else:
        datagram[at] ^= 1 << data.draw(words(3) if at else st.sampled_from([1, 2]))
    arrival.datagrams[slot] = bytes(datagram)
    receiver = Receiver(cipher)
    begin = sum(len(a.datagrams) for a in arrivals[:which])
    for opened in receiver.receive(arrival):
        first, stop = opened.run.slot, opened.run.slot + opened.run.frames
        if first <= slot < stop:
            assert opened.length < 0
        else:
            frames = arriving[begin + first : begin + stop]
            assert normal(opened.packets) == normal([p for f in frames for p in f.packets])


@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)
def test_every_bit_of_a_train(cipher: Cipher) -> None:
    s = Superpacket(4, UDP, 3, b"seven b")
    frames = [sent.frame for sent in sealed(cipher, s.frames, COUNTER)]
    receiver = Receiver(cipher)
    for slot, frame in enumerate(frames):
        for bit in range(len(frame) * 8):
            flipped = bytearray(frame)
            flipped[bit // 8] ^= 1 << bit % 8
            changed = [*frames[:slot], bytes(flipped), *frames[slot + 1 :]]
            for opened in receiver.receive(Arrival(changed, 0, len(frames[0]))):
                run = opened.run
                assert (opened.length < 0) == (run.slot <= slot < run.slot + run.frames)
    for length in range(len(frames[2])):
        cut = [*frames[:2], frames[2][:length]]
        for opened in receiver.receive(Arrival(cut, 0, len(frames[0]))):
            run = opened.run
            assert (opened.length < 0) == (run.slot + run.frames == 3)


@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)
def test_another_key(cipher: Cipher) -> None:
    s = Superpacket(4, UDP, 3, b"seven b")
    frames = [sent.frame for sent in sealed(cipher, s.frames, COUNTER)]
    receiver = Receiver(replace(cipher, first=0))
    assert [o.length for o in receiver.receive(Arrival(frames, 0, len(frames[0])))] == [-1]
    assert [o.length for o in receiver.receive(Arrival(frames[:1], 0, len(frames[0])))] == [-1]


# Bundles


@given(bundles, ciphers)
def test_bundles(bundle: bytes, cipher: Cipher) -> None:
    """The virtio header of each says whether its checksum is left, and where it belongs."""
    (opened,) = received(Receiver(cipher), arrive([cipher.seal(0, 1, bundle)]))
    assert opened.packets == split_bundle(bundle)
    assert opened.superpackets is not None
    at = 0
    for virtio, packet in opened.superpackets:
        is_left = bundle[at] & 0x80
        assert (virtio == NO_VIRTIO) == (not is_left)
        if is_left:
            assert parse_virtio(virtio).flags == 1
        at += len(packet)


@given(bundles, st.binary(max_size=20), ciphers)
def test_padding(bundle: bytes, padding: bytes, cipher: Cipher) -> None:
    (opened,) = received(Receiver(cipher), arrive([cipher.seal(0, 1, bundle + b"\0" + padding)]))
    assert opened.packets == split_bundle(bundle)


@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)
def test_the_longest_bundle(cipher: Cipher) -> None:
    packet = replace(
        Superpacket(4, UDP), payload=bytes(65_507 - 16 - 28 - cipher.direct.tag_length)
    )
    (opened,) = received(Receiver(cipher), arrive([cipher.seal(0, 1, packet.left)]))
    assert opened.packets == split_bundle(packet.left)


def test_a_keep_alive() -> None:
    for cipher in CIPHERS:
        (opened,) = received(Receiver(cipher), arrive([cipher.seal(0, 1, b"")]))
        assert (opened.length, opened.superpackets) == (0, [])
