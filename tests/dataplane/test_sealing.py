"""The sealing loops against PyNaCl's public functions, one frame at a time."""

from __future__ import annotations

import struct
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataplane.ciphers import AEGIS, CHACHA, CIPHERS, COUNTER, RECEIVER, Cipher, Guard
from tests.wire.messages import words
from tests.wire.superpackets import TCP, UDP, Superpacket, superpackets
from tunnel.dataplane.aead import Direction
from tunnel.dataplane.sealing import BASE, GATHERINGS, LARGEST_PACKET, MAX_TABLES, Sealer, fit
from tunnel.dataplane.train import TRAIN_LENGTH, TRAIN_SEGMENTS
from tunnel.wire.train import TRAIN_OVERHEAD
from tunnel.wire.transport import HEADER_LENGTH

ciphers = st.sampled_from(CIPHERS)
sizes = st.one_of(st.integers(1, 1500), st.sampled_from([1, 2, 1000, 1348, 8900, 20_000, 30_000]))


def expected(
    cipher: Cipher, superpacket: Superpacket, receiver: int = RECEIVER, counter: int = COUNTER
) -> list[bytes]:
    return [
        cipher.seal(place, counter + place, payload, receiver)
        for place, payload in enumerate(superpacket.frames)
    ]


def stride_of(cipher: Cipher, superpacket: Superpacket) -> int:
    around = HEADER_LENGTH + len(superpacket.block) + cipher.direct.tag_length
    return around + superpacket.size


def seal(
    sealer: Sealer,
    direction: Direction,
    superpacket: Superpacket,
    receiver: int = RECEIVER,
    counter: int = COUNTER,
    most: int = TRAIN_SEGMENTS,
) -> list[bytes]:
    """The trains of the superpacket, each with as many frames as fit, and at most `most`."""
    s = superpacket
    sealer.packet[: len(s.packet)] = s.packet
    most = min(most, fit(HEADER_LENGTH + len(s.block) + s.size + direction[0].tag_length))
    trains = []
    for place in range(0, s.last + 1, most):
        count = min(most, s.last + 1 - place)
        first = counter + place
        sealed = sealer.seal_train(
            direction, receiver, first, s.block, place, count, s.size, len(s.packet)
        )
        trains.append(bytes(sealer.sealed[:sealed]))
    return trains


@given(superpackets(sizes=sizes), ciphers, words(32), st.integers(0, 2**64 - 300), words(6))
def test_trains(
    superpacket: Superpacket, cipher: Cipher, receiver: int, counter: int, most: int
) -> None:
    """However the superpacket is divided: the frames are those of the public functions."""
    guard = Guard(cipher)
    trains = seal(Sealer(guard.pointer), guard.direction, superpacket, receiver, counter, most + 1)
    assert b"".join(trains) == b"".join(expected(cipher, superpacket, receiver, counter))


@given(st.lists(st.tuples(superpackets(most=6), ciphers), min_size=2, max_size=5))
def test_one_after_the_other(several: list[tuple[Superpacket, Cipher]]) -> None:
    """Nothing of the one before is left, whatever its sizes and its cipher were."""
    guards = {cipher: Guard(cipher) for cipher in CIPHERS}
    first = guards[AEGIS]
    sealer = Sealer(first.pointer)
    for buffer in first.buffers:
        guards[CHACHA].pointer(buffer)
    for superpacket, cipher in several:
        trains = seal(sealer, guards[cipher].direction, superpacket)
        assert b"".join(trains) == b"".join(expected(cipher, superpacket))


@given(superpackets(most=20), ciphers)
def test_nothing_else_is_written(superpacket: Superpacket, cipher: Cipher) -> None:
    guard = Guard(cipher)
    sealer = Sealer(guard.pointer)
    source, frames = guard.buffers
    for buffer in guard.buffers:
        buffer[:] = Random(0).randbytes(len(buffer))
    before = bytes(source), bytes(frames)
    trains = seal(sealer, guard.direction, superpacket)
    used = max(map(len, trains))
    assert frames[used:] == before[1][used:]
    begin, end = BASE - TRAIN_OVERHEAD, BASE + len(superpacket.packet)
    assert source[:begin] == before[0][:begin]
    assert source[end:] == before[0][end:]


@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)
@pytest.mark.parametrize("version", [4, 6])
def test_as_long_as_can_be(cipher: Cipher, version: int) -> None:
    """A superpacket of 65,535 bytes; a train as long as the kernel takes."""
    headers = Superpacket(version).header_length
    guard = Guard(cipher)
    sealer = Sealer(guard.pointer)
    for size in (1400, 8860, 32_000, 65_300):
        s = Superpacket(version, TCP, size, Random(1).randbytes(65_535 - headers))
        trains = seal(sealer, guard.direction, s)
        assert b"".join(trains) == b"".join(expected(cipher, s))
        assert all(len(train) <= TRAIN_LENGTH for train in trains)


@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)
def test_256_segments(cipher: Cipher) -> None:
    s = Superpacket(6, UDP, 9, Random(1).randbytes(9 * 255 + 1))
    guard = Guard(cipher)
    trains = seal(Sealer(guard.pointer), guard.direction, s)
    assert len(trains) == 4
    assert b"".join(trains) == b"".join(expected(cipher, s))


def test_more_sizes_than_tables() -> None:
    guard = Guard(AEGIS)
    sealer = Sealer(guard.pointer)
    for size in [*range(1, MAX_TABLES + 10), 1, 2]:
        s = Superpacket(4, UDP, size, bytes(size * 3))
        assert b"".join(seal(sealer, guard.direction, s)) == b"".join(expected(AEGIS, s))


GOLDEN = {
    AEGIS: """
        04000000 04030201 0807060504030201
        df552c179a58a6f1068d206f7c002c715f3c660fc1f2cb6ba2ccf91b98a9fcf1066bef5b391cd63974af7606
        7aa45a4b1cadd5b0b78f665b16868820a725697100ddb9f80c2d6c
        04010000 04030201 0907060504030201
        fa65905b19b76c518464718e2e9ee7c80c0fd9ebdb441928d07cd19cfb11c72e8284734c24421f2154118314
        333c273d399a9dc0286e1c7baf188ba4af7af506f1c47f
    """,
    CHACHA: """
        04000000 04030201 0807060504030201
        93772a34784fd5b0a5f27edebc0e85a3666f64de9dfa328196d889f6415b4f9e327fd34c87da95db38e95a4b
        15b033d72e6c5aebd8f688
        04010000 04030201 0907060504030201
        a1c44d4ff15cfdb8ab99a2e9ab7382524e3179098961c6289b6cbf30b3a8d0891342152f92556cd48f1efbd2
        7712e83b60b260
    """,
}


@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)
def test_golden(cipher: Cipher) -> None:
    guard = Guard(cipher)
    s = Superpacket(4, UDP, 7, b"ten bytes!")
    (train,) = seal(Sealer(guard.pointer), guard.direction, s)
    assert train == bytes.fromhex(GOLDEN[cipher])


# What does not fit is for the caller to see to; it must not be written beyond the buffers.


@pytest.mark.parametrize(
    ("place", "count", "size", "length"),
    [
        (0, TRAIN_SEGMENTS + 1, 10, 1000),
        (0, 3, 30_000, 65_000),
        (250, 10, 10, 3000),
        (0, 2, 1000, 10),
        (40, 20, 1400, 65_535),
    ],
)
def test_arguments_that_lie(place: int, count: int, size: int, length: int) -> None:
    guard = Guard(AEGIS)
    sealer = Sealer(guard.pointer)
    block = Superpacket(4, UDP).block
    with pytest.raises((IndexError, OverflowError, struct.error)):
        sealer.seal_train(guard.direction, 1, 1, block, place, count, size, length)


# Bundles


@given(st.lists(st.binary(max_size=2000), max_size=6), ciphers, words(32), words(60))
def test_bundles(bundles: list[bytes], cipher: Cipher, receiver: int, counter: int) -> None:
    """One behind the other."""
    guard = Guard(cipher)
    sealer = Sealer(guard.pointer)
    at, expected = 0, b""
    for number, bundle in enumerate(bundles, counter):
        gathering = sealer.gatherings[number % GATHERINGS]
        gathering.view[: len(bundle)] = bundle
        at = sealer.seal_bundle(guard.direction, receiver, number, gathering.start, len(bundle), at)
        expected += cipher.seal(0, number, bundle, receiver)
        assert at == len(expected)
    assert sealer.sealed[:at] == expected


@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)
def test_the_longest_bundle(cipher: Cipher) -> None:
    guard = Guard(cipher)
    sealer = Sealer(guard.pointer)
    bundle, gathering = Random(1).randbytes(LARGEST_PACKET), sealer.gatherings[-1]
    gathering.view[:] = bundle
    end = sealer.seal_bundle(guard.direction, RECEIVER, COUNTER, gathering.start, LARGEST_PACKET, 0)
    assert sealer.sealed[:end] == cipher.seal(0, COUNTER, bundle)


@pytest.mark.parametrize(
    ("length", "at"), [(LARGEST_PACKET + 1, 0), (LARGEST_PACKET, 100), (1, 65_570), (0, 10**9)]
)
def test_a_bundle_that_does_not_fit(length: int, at: int) -> None:
    guard = Guard(CHACHA)
    sealer = Sealer(guard.pointer)
    start = sealer.gatherings[-1].start
    with pytest.raises(ValueError, match=f"a bundle of {length} bytes at {at}"):
        sealer.seal_bundle(guard.direction, RECEIVER, COUNTER, start, length, at)


@given(superpackets(most=4), st.binary(max_size=3000), ciphers)
def test_a_bundle_and_a_train_side_by_side(
    superpacket: Superpacket, bundle: bytes, cipher: Cipher
) -> None:
    """Packets gathered for a bundle are not touched by a train that is sealed meanwhile."""
    guard = Guard(cipher)
    sealer = Sealer(guard.pointer)
    gathering = sealer.gatherings[0]
    gathering.view[: len(bundle)] = bundle
    trains = seal(sealer, guard.direction, superpacket)
    assert b"".join(trains) == b"".join(expected(cipher, superpacket))
    end = sealer.seal_bundle(guard.direction, RECEIVER, COUNTER, gathering.start, len(bundle), 0)
    assert sealer.sealed[:end] == cipher.seal(0, COUNTER, bundle)
