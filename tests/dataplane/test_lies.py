"""Frames that are authentic and lie: a member may be malicious, and C does not ask.

`Guard` looks at each address. What is opened all the same must be what the plain way, `packet_of`
and `split_bundle`, makes of each frame.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataplane.arrivals import FIRST_PACKET, Arrival, Opened, Receiver, arrive, check_opened
from tests.dataplane.ciphers import AEGIS, CIPHERS, COUNTER, Cipher
from tests.dataplane.test_opening import bundles, normal, small
from tests.dataplane.test_sealing import ciphers
from tests.wire.messages import words
from tests.wire.superpackets import SEEDS, TCP, UDP, Superpacket, superpackets
from tests.wire.test_train import PING
from tunnel.errors import Malformed
from tunnel.wire.segment import cut_superpacket, transport_of
from tunnel.wire.train import MAX_SEGMENTS, TRAIN, packet_of, split_bundle


def receive(
    cipher: Cipher, payloads: list[bytes], place: int = 0, gap: int = 0, step: int = 1
) -> list[Opened]:
    """Sealed as the frames of one train, or with a step of 0 as single ones, and opened."""
    frames = [
        cipher.seal(place + number * step, COUNTER + number, payload)
        for number, payload in enumerate(payloads)
    ]
    receiver = Receiver(cipher)
    return [one for arrival in arrive(frames, gap=gap) for one in receiver.receive(arrival)]


def plainly(payload: bytes, place: int) -> list[bytes] | None:
    """None: Malformed."""
    try:
        if payload[:1] == bytes([TRAIN]):
            return [packet_of(payload, place)]
        return split_bundle(payload) if payload[:1] >= bytes([FIRST_PACKET]) else []
    except Malformed:
        return None


def check_alike(payloads: list[bytes], place: int, all_opened: list[Opened]) -> None:
    """The same as frame by frame."""
    for opened in all_opened:
        check_opened(opened)
        first = opened.run.counter - COUNTER
        frames = payloads[first : first + opened.run.frames]
        assert opened.run.place == (place + first if len(frames) == 1 or opened.run.is_train else 0)
        step = 1 if opened.run.is_train else 0
        plain = [plainly(frame, opened.run.place + n * step) for n, frame in enumerate(frames)]
        if opened.length < 0:
            assert opened.length == -2
            assert opened.run.is_train
        elif opened.superpackets is None:
            assert None in plain
        else:
            expected = [packet for packets in plain for packet in packets or []]
            assert None not in plain
            assert normal(opened.packets) == normal(expected)


def changed(payload: bytes, at: int, *values: int) -> bytes:
    return payload[:at] + bytes(values) + payload[at + len(values) :]


Change = Callable[[bytes], bytes]


@st.composite
def changes(draw: st.DrawFn, length: int) -> Change:
    """Some bytes of the block, the first ones more often."""
    places = st.one_of(st.integers(0, 8), st.integers(0, length - 1))
    values = draw(st.lists(st.tuples(places, words(8)), min_size=1, max_size=3))

    def change(payload: bytes) -> bytes:
        for at, value in values:
            payload = changed(payload, at, value)
        return payload

    return change


few = superpackets(most=8, sizes=st.one_of(st.integers(1, 60), st.integers(1, 1400)))


@given(few, ciphers, st.integers(0, 250), st.sampled_from([0, 9]), st.data())
def test_all_blocks_lie_alike(
    superpacket: Superpacket, cipher: Cipher, place: int, gap: int, data: st.DataObject
) -> None:
    change = data.draw(changes(len(superpacket.block)))
    payloads = [change(frame) for frame in superpacket.frames]
    payloads = payloads[: MAX_SEGMENTS - place]
    check_alike(payloads, place, receive(cipher, payloads, place, gap))


@given(few, ciphers, st.integers(-9, 9), st.data())
def test_the_last_frame_has_another_length(
    superpacket: Superpacket, cipher: Cipher, more: int, data: st.DataObject
) -> None:
    *others, last = superpacket.frames
    length = data.draw(st.one_of(st.just(len(last) + more), st.integers(0, len(others[0]))))
    last = last.ljust(length, b"x")[: max(0, length)]
    payloads = [*others, last]
    check_alike(payloads, 0, receive(cipher, payloads))


@given(few, ciphers, st.data())
def test_one_block_lies(superpacket: Superpacket, cipher: Cipher, data: st.DataObject) -> None:
    """The loop reads the first block only: the others are overwritten."""
    payloads = superpacket.frames
    which = data.draw(st.integers(0, len(payloads) - 1))
    change = data.draw(changes(len(superpacket.block)))
    payloads[which] = change(payloads[which])
    for opened in receive(cipher, payloads):
        check_opened(opened)
        if which:
            whole = cut_superpacket(superpacket.virtio, superpacket.packet)
            assert normal(opened.packets) == normal(whole)


@given(st.integers(1, 400), st.integers(2, 30), ciphers, st.integers(0, 220), st.data())
def test_any_payloads(
    size: int, count: int, cipher: Cipher, place: int, data: st.DataObject
) -> None:
    payloads = []
    for _ in range(count):
        payload = data.draw(st.binary(max_size=80)).ljust(size, b"\x45")[:size]
        kind = data.draw(
            st.sampled_from([b"\x30\x01\x00", b"\x45", b"\xc5", b"\x60", b"", b"\x10"])
        )
        payloads.append((kind + payload)[:size])
    for opened in receive(cipher, payloads, place):
        check_opened(opened)


@given(st.lists(st.one_of(bundles, few.map(lambda s: s.frames[0])), min_size=1), ciphers, st.data())
def test_single_frames(payloads: list[bytes], cipher: Cipher, data: st.DataObject) -> None:
    """Of one size, but the last: opened together."""
    size = data.draw(st.sampled_from([len(payload) for payload in payloads]))
    payloads = [payload.ljust(size, b"\0")[:size] for payload in payloads]
    which = data.draw(st.integers(0, len(payloads) - 1))
    payloads[which] = data.draw(changes(size))(payloads[which])
    payloads[-1] = payloads[-1][: data.draw(st.integers(0, size))]
    all_opened = receive(cipher, payloads, step=0)
    assert len(all_opened) == 1
    check_alike(payloads, 0, all_opened)


# One by one


S = Superpacket(4, TCP, 40, bytes(range(200)))
AROUND = len(S.block)
LIES = [
    ("no train", lambda block: changed(block, 0, 0x31), -2),
    ("a bundle", lambda block: b"\x45" + block[1:], -2),
    ("nothing is left", lambda block: changed(block, 4, 0x45), None),
    ("no segments", lambda block: changed(block, 2, 0, 0), -2),
    ("larger segments", lambda block: changed(block, 2, 0, 41), None),
    ("smaller segments", lambda block: changed(block, 2, 0, 39), None),
    ("segments of one byte", lambda block: changed(block, 2, 0, 1), None),
    ("segments as large as frames", lambda block: changed(block, 2, 0, AROUND + 40 - 4), -2),
    ("segments larger than frames", lambda block: changed(block, 2, 0, AROUND + 41), -2),
    ("the largest segments", lambda block: changed(block, 2, 0xFF, 0xFF), -2),
    ("fewer", lambda block: changed(block, 1, 3), None),
    ("more", lambda block: changed(block, 1, 5), None),
    ("only one", lambda block: changed(block, 1, 0), None),
    ("as many as can be", lambda block: changed(block, 1, 255), None),
    ("a shorter packet", lambda block: changed(block, 6, 0, 40), None),
    ("a packet of one segment more", lambda block: changed(block, 6, 1, 24), None),
    ("the longest packet", lambda block: changed(block, 6, 0xFF, 0xFF), None),
    ("another IP version", lambda block: changed(block, 4, 0xD5), None),
    ("an IP header of 60 bytes", lambda block: changed(block, 4, 0xCF), None),
    ("an IP header of 16 bytes", lambda block: changed(block, 4, 0xC4), None),
    ("an IP header of none", lambda block: changed(block, 4, 0xC0), None),
    ("a fragment", lambda block: changed(block, 10, 0x20), None),
    ("another protocol", lambda block: changed(block, 13, 1), None),
    ("UDP", lambda block: changed(block, 13, UDP), None),
    ("a TCP header of 60 bytes", lambda block: changed(block, 36, 0xF0), None),
    ("a TCP header of 24 bytes", lambda block: changed(block, 36, 0x60), None),
    ("a TCP header of none", lambda block: changed(block, 36, 0x00), None),
]


@pytest.mark.parametrize(("change", "length"), [row[1:] for row in LIES], ids=[r[0] for r in LIES])
@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)
def test_lies(cipher: Cipher, change: Change, length: int | None) -> None:
    """None: `finish_train` raises Malformed; else what `open_run` gives."""
    block = change(S.block)
    assert len(block) == AROUND
    payloads = [block + S.segment(place) for place in range(5)]
    (opened,) = receive(cipher, payloads)
    assert opened.run.frames == 5
    if length is None:
        assert opened.superpackets is None
    else:
        assert opened.length == length
    check_alike(payloads, 0, [opened])
    for place, payload in enumerate(payloads):
        (single,) = receive(cipher, [payload], place)
        check_alike([payload], place, [single])
        assert single.length == len(payload)


@pytest.mark.parametrize("length", range(AROUND + 41))
@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)
def test_every_length_of_the_last(cipher: Cipher, length: int) -> None:
    """Also the last one's that is shorter than the block, or empty."""
    payloads = [*S.frames[:4], (S.frames[4] + bytes(9))[:length]]
    (opened,) = receive(cipher, payloads)
    assert opened.run.frames == 5
    assert (opened.length > 0 and opened.superpackets is not None) == (length == AROUND + 40)
    check_alike(payloads, 0, [opened])


@pytest.mark.parametrize("length", range(AROUND + 1))
def test_every_length_of_all(length: int) -> None:
    """Frames that end in the block, also behind frames that did not."""
    receiver = Receiver(AEGIS)
    frames = [AEGIS.seal(n, n, payload) for n, payload in enumerate(S.frames)]
    assert [len(one.packets) for one in receiver.receive(arrive(frames)[0])] == [5]
    for count in (1, 2, 5):
        frames = [AEGIS.seal(n, n, payload[:length]) for n, payload in enumerate(S.frames[:count])]
        (opened,) = receiver.receive(Arrival(frames, 0, len(frames[0])))
        if count > 1:
            assert opened.length == -2
        elif length:
            assert opened.superpackets is None
        else:
            assert opened.length == 0


@pytest.mark.parametrize("size", [1, 2, 255, 256, 1000, 16_000, 30_000, 32_000, 65_000])
@pytest.mark.parametrize("count", [2, 3, 40, 256])
@pytest.mark.parametrize("frame_size", [50, 100, 255, 1400, 21_000, 32_000])
def test_sizes_that_would_write_beyond_the_buffer(size: int, count: int, frame_size: int) -> None:
    """The further apart the frames say they are, the further C would write."""
    count = min(count, 65_536 // (frame_size + 48))
    if count < 2:
        count = 2
    block = changed(S.block, 2, *size.to_bytes(2, "big"))
    payloads = [(block * (frame_size // len(block) + 1))[:frame_size]] * count
    check_alike(payloads, 0, receive(AEGIS, payloads))


def test_a_train_that_is_too_long_for_a_packet() -> None:
    """65,536 bytes and more of segments, in frames that arrived in one call."""
    for last in (1, 2, 40):
        s = Superpacket(6, UDP, 30_000, bytes(30_000 * 2 + 1))
        block = changed(s.block, 1, last)
        payloads = [block + bytes(30_000)] * 2
        payloads += [block + bytes(5400 - len(block))]
        check_alike(payloads, 0, receive(AEGIS, payloads))


# Bundles


@given(bundles, ciphers, st.data())
def test_bundles(bundle: bytes, cipher: Cipher, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.one_of(st.integers(0, 12), st.integers(0, len(bundle) - 1)))
        bundle = changed(bundle, min(at, len(bundle) - 1), data.draw(words(8)))
    bundle = bundle[: data.draw(st.one_of(st.just(len(bundle)), st.integers(1, len(bundle))))]
    if bundle[0] < 0x40:
        return
    check_alike([bundle], 0, receive(cipher, [bundle]))


UDP4 = Superpacket(4, UDP, 9, b"hello").left
BAD_PACKETS = [
    b"\x45",
    b"\xc5",
    PING[:19],
    PING[:-1],
    changed(PING, 0, 0x44),
    changed(PING, 0, 0x40),
    changed(PING, 0, 0x4F),
    changed(PING, 2, 0, 19),
    changed(PING, 2, 0xFF, 0xFF),
    changed(PING, 0, 0x50),
    changed(PING, 0, 0xD5),
    changed(PING, 0, 0xC5),
    changed(PING, 0, 0x01),
    changed(UDP4, 0, 0xC4),
    changed(UDP4, 0, 0xCF),
    changed(UDP4, 3, 27),
    changed(UDP4, 9, 0),
    changed(UDP4, 9, TCP),
    Superpacket(6, UDP).left[:39],
    changed(Superpacket(6, UDP).left, 5, 7),
    changed(Superpacket(6, UDP).left, 4, 0xFF),
    changed(Superpacket(6, TCP).left, 5, 19),
    changed(Superpacket(6, TCP).left, 6, 44),
    SEEDS[3].left,
]


@pytest.mark.parametrize("bad", BAD_PACKETS, ids=bytes.hex)
def test_a_bad_packet_in_a_bundle(bad: bytes) -> None:
    for bundle in (bad, PING + bad, UDP4 + bad):
        (opened,) = receive(AEGIS, [bundle])
        if bundle[0] >= FIRST_PACKET:
            assert plainly(bundle, 0) is None
            assert opened.superpackets is None


@given(st.lists(small, min_size=1, max_size=3), st.sampled_from(BAD_PACKETS), ciphers)
def test_what_is_before_a_bad_packet(packets: list[bytes], bad: bytes, cipher: Cipher) -> None:
    """Of the loops nothing is left behind by which the next call is spoiled."""
    receiver = Receiver(cipher)
    bundle = b"".join(packets)
    for payload in (bundle + bad, bundle):
        frames = [cipher.seal(0, 1, payload)]
        (opened,) = receiver.receive(Arrival(frames, 0, len(frames[0])))
    assert opened.packets == split_bundle(bundle)
    s = SEEDS[0]
    frames = [cipher.seal(n, n, payload) for n, payload in enumerate(s.frames)]
    (opened,) = receiver.receive(Arrival(frames, 0, len(frames[0])))
    assert opened.superpackets is not None
    ((virtio, packet),) = opened.superpackets
    assert (virtio, packet) == (s.virtio, s.packet)
    assert transport_of(packet) == (s.protocol, s.start, s.header_length)
