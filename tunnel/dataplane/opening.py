"""Opening what arrived in one buffer: a train becomes a superpacket again, a bundle its packets.

Frames lie `stride` bytes apart, as the kernel or `recvmmsg` put them. They are opened last to first
into another buffer, each `size` bytes behind the one before it, so that its payload overwrites the
block of the next, which is the same in all of them (`dataplane.sealing`)::

    area      | header | B H S0 S0 S0 | tag | header | B H S1 S1 S1 | tag | header | B H S2 ... |
              '<--------- stride ---------->'

    opened             B H S0 S0 S0 |        third
                                B H S1 S1 S1 |        second
                                         B H S2 S2 S2        first

                       V H S0 S0 S0 S1 S1 S1 S2 S2 S2        V  virtio header, over B

So nothing moves, and there is one call of C a frame. The first frame must be opened before the
others, to learn `size`; the others spoil its end, which is put back. Measured on 45 frames of 1452
bytes (benchmarks/dataplane.py): 24 µs, of which 3 to find them and 2 for the superpacket's
headers. A call of PyNaCl's own function a frame takes 175 µs.

Nothing of what was opened may be used before the replay window has taken the counters in.
"""

from __future__ import annotations

from mmap import mmap
from struct import Struct
from typing import Any, NamedTuple

from tunnel.dataplane.aead import Area, Direction, Pointer
from tunnel.dataplane.headers import Headers
from tunnel.dataplane.sealing import LARGEST_PACKET, keep
from tunnel.errors import Malformed
from tunnel.wire.segment import (
    CHECKSUM_FIELDS,
    HEADER_LENGTHS,
    cut_headers,
    declared_length,
    describe_run,
    transport_of,
)
from tunnel.wire.train import LEFT, MAX_SEGMENTS, TRAIN, TRAIN_OVERHEAD
from tunnel.wire.transport import HEADER_LENGTH, TRANSPORT
from tunnel.wire.virtio import (
    CHECKSUM_LEFT,
    GSO_NONE,
    NO_VIRTIO,
    VIRTIO,
    VIRTIO_LENGTH,
    Virtio,
)

START = 64
"""Where the first payload is opened to: room for a virtio header before its packet."""
_HEADER = 2**128 - 1
_FIXED = 0xFFFF00FF
"""Type and reserved bytes of a header."""
_PLACE, _STEP = 0xFF00, 0x100
"""The place, and what is between one and the next."""
_NO_HEADER = (0, 0)
_ONE = Struct("<QQ")
_FEW = 8
"""Single frames have many sizes. Fewer of one are opened as fast without tables, and 45 of a size
that was there before with them in 20 µs instead of 27, of a new one in 32."""
_NOWHERE: list[Any] = []
_NOTHING = _NOWHERE, _NOWHERE, _NOWHERE


class Run(NamedTuple):
    """Frames of one keypair in consecutive slots, with consecutive counters."""

    receiver: int
    counter: int
    place: int
    """Of the first. Of a train, those of the others follow it; else all are 0."""
    slot: int
    frames: int
    is_train: bool
    """Of one frame: undecided."""


class Opener:
    """Buffers and pointers for all peers: what is opened is overwritten by the next call."""

    def __init__(self, area: Area, pointer: Pointer) -> None:
        """`area`: where datagrams arrive."""
        self._area = area
        self.opened = mmap(-1, START + max(LARGEST_PACKET * 2, len(area)))
        self.view = memoryview(self.opened)
        self._area_pointer = pointer(area)
        self._opened_pointer = pointer(self.opened)
        self._first = self._opened_pointer + START
        self._headers: dict[tuple[int, int], Headers] = {}
        self._slots: dict[tuple[int, int, int], tuple[list[Any], list[Any], list[Any]]] = {}
        self._places: dict[int, list[Any]] = {}
        self._left: dict[tuple[int, int], tuple[bytes, int]] = {}
        self._around = 0
        """Bytes of what goes before the segment, in the frames of the run opened last."""

    # What has arrived

    def find_runs(self, offset: int, stride: int, length: int) -> list[Run]:
        """The frames of transport data among the datagrams from `offset` on, in order. Others, and
        what is too short for one, are in no run: `slot` tells which are missing."""
        if stride < HEADER_LENGTH:
            return []
        count = -(-length // stride)
        if length - (count - 1) * stride < HEADER_LENGTH:
            count -= 1
        if count < 2:
            return self._find_one(offset) if count else []
        if count > MAX_SEGMENTS:
            starts = range(offset, offset + count * stride, stride)
            return self._find_each(b"".join([self._area[at : at + HEADER_LENGTH] for at in starts]))
        shape = stride, count
        headers = self._headers.get(shape) or keep(self._headers, shape, Headers(stride, count))
        content = headers.take(self._area, offset)
        number = int.from_bytes(content, "little")
        first = number & _HEADER
        counter, receiver, place = first >> 64, first >> 32 & 0xFFFFFFFF, (first & _PLACE) >> 8
        if first & _FIXED == TRANSPORT:
            # If the counter ran over, so would the whole number, and be equal to nothing.
            less = headers.of_train(first) - number
            if not less and place + count <= MAX_SEGMENTS:
                return [Run(receiver, counter, place, 0, count, True)]
            if less == headers.places and not place:
                return [Run(receiver, counter, 0, 0, count, False)]
            # A train with a single frame behind it.
            rest = count - 1
            if less == (place + rest) * headers.last_place and place + rest <= MAX_SEGMENTS:
                return [
                    Run(receiver, counter, place, 0, rest, rest > 1),
                    Run(receiver, counter + rest, 0, rest, 1, False),
                ]
        return self._find_each(content)

    def _find_one(self, offset: int) -> list[Run]:
        first, counter = _ONE.unpack_from(self._area, offset)
        if first & _FIXED != TRANSPORT:
            return []
        return [Run(first >> 32, counter, (first & _PLACE) >> 8, 0, 1, False)]

    def _find_each(self, content: bytes) -> list[Run]:
        """One by one: 45 in 9 µs."""
        runs: list[Run] = []
        begin = frames = step = expected = before = 0
        head = _NO_HEADER
        for slot, header in enumerate(_ONE.iter_unpack(content)):
            first, counter = header
            # Place 0 begins a train, or is no train at all.
            its_step = _STEP if first & _PLACE else 0
            if (
                frames
                and counter == expected
                and first == before + its_step
                and (its_step == step or frames == 1)
            ):
                frames += 1
                step = its_step
            else:
                if frames:
                    runs.append(_run(head, begin, frames, step))
                if first & _FIXED != TRANSPORT:
                    frames = 0
                    continue
                head, begin, frames, step = header, slot, 1, 0
            expected, before = counter + 1, first
        if frames:
            runs.append(_run(head, begin, frames, step))
        return runs

    # Opening

    def open_run(
        self,
        direction: Direction,
        offset: int,
        stride: int,
        size: int,
        run: Run,
        last_length: int,
    ) -> int:
        """Open a frame, or those of a train; the last is `last_length` bytes long, the others
        `size`.

        The number of bytes from `START` on: of a single frame its payload, of several a train's
        block and all their segments. -1: not authentic, all of it or a part; -2: the first is, but
        they are no train.
        """
        aead, key = direction
        decrypt, null, adlen = aead.decrypt, aead.null, aead.associated_length
        tag, count, slot = aead.tag_length, run.frames, run.slot
        rest = last_length - HEADER_LENGTH - tag
        if rest < 0:
            return -1
        if count == 1:
            a = self._area_pointer + (offset + slot * stride)
            c, n = a + HEADER_LENGTH, a + aead.nonce_offset
            return -1 if decrypt(self._first, null, null, c, rest + tag, a, adlen, n, key) else rest
        sealed = size - HEADER_LENGTH
        which = offset, stride, aead.nonce_offset
        frames, ciphertexts, nonces = self._slots.get(which, _NOTHING)
        if len(frames) < slot + count:
            frames, ciphertexts, nonces = self._reach(which, slot + count)
        c, a, n = ciphertexts[slot], frames[slot], nonces[slot]
        if decrypt(self._first, null, null, c, sealed, a, adlen, n, key):
            return -1
        opened = self.opened
        cut = opened[START + 2] << 8 | opened[START + 3]
        around = sealed - tag - cut
        length = (count - 1) * cut + rest
        # C writes where it is told. As long as these hold, that is within `opened`: no frame is
        # written further than to `length`, or the last but one to the end of the last's block.
        if (
            opened[START] != TRAIN
            or not TRAIN_OVERHEAD < around < rest <= around + cut
            or length > LARGEST_PACKET + TRAIN_OVERHEAD
        ):
            return -2
        end = START + cut
        spoiled = opened[end : end + around]
        targets = self._places.get(cut, _NOWHERE)
        if len(targets) < count:
            targets = self._place(cut, count)
        last = slot + count - 1
        failed = decrypt(
            targets[count - 1], null, null, ciphertexts[last], rest + tag, frames[last], adlen,
            nonces[last], key,
        )  # fmt: skip
        for m, c, a, n in zip(
            targets[count - 2 : 0 : -1],
            ciphertexts[last - 1 : slot : -1],
            frames[last - 1 : slot : -1],
            nonces[last - 1 : slot : -1],
            strict=True,
        ):
            failed |= decrypt(m, null, null, c, sealed, a, adlen, n, key)
        if failed:
            return -1
        opened[end : end + around] = spoiled
        self._around = around
        return length

    def open_series(
        self,
        direction: Direction,
        offset: int,
        stride: int,
        size: int,
        run: Run,
        last_length: int,
    ) -> bool:
        """Open frames that are no train: the payload of each goes `size` bytes behind that of the
        one before it, from `START` on, and is as much shorter than the frame as header and tag are
        long. False: not authentic, all of them or a part."""
        aead, key = direction
        decrypt, null, adlen = aead.decrypt, aead.null, aead.associated_length
        tag, count, slot = aead.tag_length, run.frames, run.slot
        sealed, rest = size - HEADER_LENGTH, last_length - HEADER_LENGTH
        if rest < tag or sealed < tag:
            return False
        failed, last = 0, slot + count - 1
        if count < _FEW:
            m, a = self._first, self._area_pointer + (offset + slot * stride)
            for _ in range(count - 1):
                c, n = a + HEADER_LENGTH, a + aead.nonce_offset
                failed |= decrypt(m, null, null, c, sealed, a, adlen, n, key)
                m, a = m + size, a + stride
            c, n = a + HEADER_LENGTH, a + aead.nonce_offset
        else:
            which = offset, stride, aead.nonce_offset
            frames, ciphertexts, nonces = self._slots.get(which, _NOTHING)
            if len(frames) <= last:
                frames, ciphertexts, nonces = self._reach(which, last + 1)
            targets = self._places.get(size, _NOWHERE)
            if len(targets) < count:
                targets = self._place(size, count)
            for m, c, a, n in zip(
                targets, ciphertexts[slot:last], frames[slot:last], nonces[slot:last], strict=False
            ):
                failed |= decrypt(m, null, null, c, sealed, a, adlen, n, key)
            m, c, a, n = targets[count - 1], ciphertexts[last], frames[last], nonces[last]
        return not failed | decrypt(m, null, null, c, rest, a, adlen, n, key)

    def finish_train(self, place: int, frames: int, at: int, length: int) -> tuple[int, int]:
        """After frames of a train, the first with this place, were opened to `at`, `length` bytes
        in all: write the virtio header and what the cut changed into the superpacket. Where it
        begins in `opened`, virtio header included, and where it ends. Raises Malformed."""
        opened = self.opened
        begin, end = at + TRAIN_OVERHEAD, at + length
        if length <= TRAIN_OVERHEAD or opened[at] != TRAIN or not opened[begin] & LEFT:
            raise Malformed("train header")
        size, last = opened[at + 2] << 8 | opened[at + 3], opened[at + 1]
        opened[begin] &= ~LEFT
        packet = self.view[begin:end]
        transport = transport_of(packet)
        protocol, start, headers_length = transport
        payload = length - TRAIN_OVERHEAD - headers_length
        rest = declared_length(packet, protocol, start) - headers_length - last * size
        if not 0 < rest <= size:
            raise Malformed("superpacket length")
        ends = place + frames - 1
        expected = (frames - 1) * size + (rest if ends == last else size)
        is_cut_there = frames == 1 or self._around == TRAIN_OVERHEAD + headers_length
        if ends > last or payload != expected or not is_cut_there:
            raise Malformed("place in the train")
        headers = packet[:headers_length]
        if frames <= last:  # Of a whole train the headers are what they were.
            headers[:] = cut_headers(
                headers, place, is_last=ends == last, size=size, payload_length=payload
            )
        virtio = describe_run(headers, size, payload, transport)
        begin -= VIRTIO_LENGTH
        VIRTIO.pack_into(opened, begin, *virtio)
        return begin, end

    def prepare_packet(self, begin: int, end: int) -> tuple[int, int]:
        """The IP packet of a bundle at `begin` in `opened`, which ends by `end`: write a virtio
        header before it, over what was there. Where that begins, and where the packet ends. Raises
        Malformed."""
        opened = self.opened
        first = opened[begin]
        version = (first & ~LEFT) >> 4
        if version == 4 and end - begin >= 20:
            stop = begin + (opened[begin + 2] << 8 | opened[begin + 3])
            start, protocol = (first & 15) * 4, opened[begin + 9]
        elif version == 6 and end - begin >= 40:
            stop = begin + 40 + (opened[begin + 4] << 8 | opened[begin + 5])
            start, protocol = 40, opened[begin + 6]
        else:
            raise Malformed("IP version")
        if start < 20 or not begin + start <= stop <= end:
            raise Malformed("IP length")
        virtio = NO_VIRTIO
        if first & LEFT:
            opened[begin] = first & ~LEFT
            virtio, least = self._left.get((start, protocol)) or self._describe(start, protocol)
            if begin + least > stop:
                raise Malformed("segment headers")
        opened[begin - VIRTIO_LENGTH : begin] = virtio
        return begin - VIRTIO_LENGTH, stop

    def _describe(self, start: int, protocol: int) -> tuple[bytes, int]:
        """The virtio header of a packet whose checksum is left, and how long that must be."""
        if protocol not in CHECKSUM_FIELDS:
            raise Malformed("segment of neither TCP nor UDP")
        virtio = Virtio(CHECKSUM_LEFT, GSO_NONE, 0, 0, start, CHECKSUM_FIELDS[protocol])
        found = virtio.pack(), start + HEADER_LENGTHS[protocol]
        return keep(self._left, (start, protocol), found)

    # Tables, made when first needed

    def _reach(
        self, which: tuple[int, int, int], count: int
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """Of `count` frames, at least: where the header, the ciphertext and the nonce are."""
        offset, stride, nonce_offset = which
        count = max(count, 2 * len(self._slots.get(which, _NOTHING)[0]))
        begin = self._area_pointer + offset
        frames = [begin + slot * stride for slot in range(count)]
        slots = (
            frames,
            [frame + HEADER_LENGTH for frame in frames],
            [frame + nonce_offset for frame in frames] if nonce_offset else frames,
        )
        return keep(self._slots, which, slots)

    def _place(self, size: int, count: int) -> list[Any]:
        """Where `count` payloads, at least, are opened to, `size` bytes apart."""
        count = max(count, 2 * len(self._places.get(size, _NOWHERE)))
        return keep(self._places, size, [self._first + place * size for place in range(count)])


def _run(header: tuple[int, ...], slot: int, frames: int, step: int) -> Run:
    first, counter = header
    return Run(first >> 32, counter, (first & _PLACE) >> 8, slot, frames, step != 0)
