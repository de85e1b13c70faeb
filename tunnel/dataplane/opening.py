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
bytes: 23 µs.

Nothing of what was opened may be used before the replay window has taken the counters in.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, NamedTuple

from tunnel.dataplane.aead import Direction, Pointer
from tunnel.dataplane.sealing import LARGEST_PACKET, keep
from tunnel.errors import Malformed
from tunnel.wire.segment import cut_headers, describe_run, transport_of
from tunnel.wire.train import LEFT, MAX_SEGMENTS, TRAIN, TRAIN_OVERHEAD
from tunnel.wire.transport import HEADER_LENGTH, TRANSPORT
from tunnel.wire.virtio import NO_VIRTIO, VIRTIO, VIRTIO_LENGTH

START = 64
"""Where the first payload is opened to: room for a virtio header before its packet."""
MOST_FRAMES = 128
"""In one arrival: UDP_GRO puts at most 64 together."""
_PLACE, _STEP = 0xFF00, 0x100
_ONE = Struct("<QQ")


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

    def __init__(self, area: bytearray, pointer: Pointer) -> None:
        """`area`: where datagrams arrive."""
        self._area = area
        self.opened = bytearray(START + max(LARGEST_PACKET * 2, len(area)))
        self.view = memoryview(self.opened)
        self._area_pointer = pointer(area)
        self._opened_pointer = pointer(self.opened)
        self._headers: dict[tuple[int, int], Struct] = {}
        self._slots: dict[tuple[int, int, int], tuple[list[Any], list[Any], list[Any]]] = {}
        self._places: dict[int, list[Any]] = {}
        self._left: dict[tuple[int, int], bytes] = {}

    # What has arrived

    def find_runs(self, offset: int, stride: int, length: int) -> list[Run]:
        """The frames of transport data among the datagrams from `offset` on, in order. Others, and
        what is too short for one, are in no run: `slot` tells which are missing."""
        count = -(-length // stride)
        if count == 1:
            return self._find_one(offset, length, 0)
        if length - (count - 1) * stride < HEADER_LENGTH:
            count -= 1
        shape = stride, count
        words = (self._headers.get(shape) or self._compile(shape)).unpack_from(self._area, offset)
        firsts, counters = words[0::2], words[1::2]
        first, counter = firsts[0], counters[0]
        # One comparison for all of them: 45 frames take 3 µs, one by one 20.
        if first & 0xFFFF00FF == TRANSPORT and counters == tuple(range(counter, counter + count)):
            place = (first & _PLACE) >> 8
            step = firsts[1] - first
            is_train = step == _STEP and place + count <= MAX_SEGMENTS
            if (is_train and firsts == tuple(range(first, first + count * _STEP, _STEP))) or (
                not place and firsts == (first,) * count
            ):
                return [Run(first >> 32, counter, place, 0, count, is_train)]
        return self._find_each(firsts, counters)

    def _find_one(self, offset: int, length: int, slot: int) -> list[Run]:
        if length < HEADER_LENGTH:
            return []
        first, counter = _ONE.unpack_from(self._area, offset)
        if first & 0xFFFF00FF != TRANSPORT:
            return []
        return [Run(first >> 32, counter, (first & _PLACE) >> 8, slot, 1, False)]

    def _find_each(self, firsts: tuple[int, ...], counters: tuple[int, ...]) -> list[Run]:
        runs: list[Run] = []
        expected, before = -1, 0
        for slot, (first, counter) in enumerate(zip(firsts, counters, strict=True)):
            if first & 0xFFFF00FF != TRANSPORT:
                expected = -1
                continue
            place = (first & _PLACE) >> 8
            # Place 0 begins a train, or is no train at all.
            is_train = place != 0
            step = _STEP if is_train else 0
            last = runs[-1] if runs and counter == expected and first == before + step else None
            if last is not None and (last.frames == 1 or last.is_train == is_train):
                runs[-1] = last._replace(frames=last.frames + 1, is_train=is_train)
            else:
                runs.append(Run(first >> 32, counter, place, slot, 1, is_train))
            expected, before = counter + 1, first
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

        The number of bytes from `START` on: of a single frame its payload, of several the train's
        block and all their segments. -1: not authentic, all of it or a part; -2: authentic, but no
        train.
        """
        aead, key = direction
        decrypt, null, adlen = aead.decrypt, aead.null, aead.associated_length
        count, slot = run.frames, run.slot
        rest = last_length - HEADER_LENGTH
        sealed = size - HEADER_LENGTH if count > 1 else rest
        if rest < aead.tag_length or sealed < aead.tag_length:
            return -1
        target = self._opened_pointer + START
        a = self._area_pointer + (offset + slot * stride)
        if decrypt(
            target, null, null, a + HEADER_LENGTH, sealed, a, adlen, a + aead.nonce_offset, key
        ):
            return -1
        if count == 1:
            return sealed - aead.tag_length
        opened = self.opened
        cut = opened[START + 2] << 8 | opened[START + 3]
        around = sealed - aead.tag_length - cut
        if opened[START] != TRAIN or cut == 0 or around <= TRAIN_OVERHEAD:
            return -2
        if around + count * cut > LARGEST_PACKET + TRAIN_OVERHEAD:
            return -2
        end = START + cut
        which = offset, stride, aead.nonce_offset
        frames, ciphertexts, nonces = self._slots.get(which) or self._reach(which)
        if slot + count > len(frames):
            return -2
        spoiled = opened[end : end + around]
        targets = self._places.get(cut) or self._place(cut)
        last = slot + count - 1
        failed = decrypt(
            targets[count - 1], null, null, ciphertexts[last], rest, frames[last], adlen,
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
        return (count - 1) * cut + rest - aead.tag_length

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
        sealed, rest = size - HEADER_LENGTH, last_length - HEADER_LENGTH
        if rest < aead.tag_length or sealed < aead.tag_length:
            return False
        target = self._opened_pointer + START
        frame = self._area_pointer + (offset + run.slot * stride)
        nonce_offset, failed = aead.nonce_offset, 0
        for _ in range(run.frames - 1):
            nonce = frame + nonce_offset
            failed |= decrypt(
                target, null, null, frame + HEADER_LENGTH, sealed, frame, adlen, nonce, key
            )
            target += size
            frame += stride
        nonce = frame + nonce_offset
        failed |= decrypt(target, null, null, frame + HEADER_LENGTH, rest, frame, adlen, nonce, key)
        return not failed

    def finish_train(self, place: int, frames: int, at: int, length: int) -> tuple[int, int]:
        """After frames of a train, the first with this place, were opened to `at`, `length` bytes
        in all: write the virtio header and what the cut changed into the superpacket. Where it
        begins in `opened`, virtio header included, and where it ends. Raises Malformed."""
        opened = self.opened
        begin = at + TRAIN_OVERHEAD
        end = at + length
        if length <= TRAIN_OVERHEAD or opened[at] != TRAIN or not opened[begin] & LEFT:
            raise Malformed("train header")
        size, last = opened[at + 2] << 8 | opened[at + 3], opened[at + 1]
        opened[begin] &= ~LEFT
        _, _, headers_length = transport_of(self.view[begin:end])
        payload = length - TRAIN_OVERHEAD - headers_length
        ends = place + frames - 1
        is_last = ends == last
        full = frames * size
        if ends > last or not size or not full - size < payload <= full:
            raise Malformed("segment length")
        if not is_last and payload != full:
            raise Malformed("place in the train")
        body = begin + headers_length
        headers = cut_headers(
            opened[begin:body], place, is_last=is_last, size=size, payload_length=payload
        )
        opened[begin:body] = headers
        virtio = describe_run(headers, size, payload)
        begin -= VIRTIO_LENGTH
        VIRTIO.pack_into(opened, begin, *virtio)
        return begin, end

    def prepare_packet(self, begin: int, end: int) -> tuple[int, int]:
        """The IP packet of a bundle at `begin` in `opened`, which ends by `end`: write a virtio
        header before it, over what was there. Where that begins, and where the packet ends. Raises
        Malformed."""
        opened = self.opened
        first = opened[begin]
        is_left = first & LEFT
        version = (first & ~LEFT) >> 4
        if version == 4 and end - begin >= 20:
            stop = begin + (opened[begin + 2] << 8 | opened[begin + 3])
            start, protocol = (first & 15) * 4, opened[begin + 9]
            least = max(20, start)
        elif version == 6 and end - begin >= 40:
            stop = begin + 40 + (opened[begin + 4] << 8 | opened[begin + 5])
            start, protocol, least = 40, opened[begin + 6], 40
        else:
            raise Malformed("IP version")
        if not begin + least <= stop <= end:
            raise Malformed("IP length")
        virtio = NO_VIRTIO
        if is_left:
            opened[begin] = first & ~LEFT
            found = self._left.get((start, protocol))
            virtio = found or self._describe(start, protocol)
            if begin + start + 8 > stop:
                raise Malformed("segment headers")
        opened[begin - VIRTIO_LENGTH : begin] = virtio
        return begin - VIRTIO_LENGTH, stop

    def _describe(self, start: int, protocol: int) -> bytes:
        if protocol not in (6, 17):
            raise Malformed("segment of neither TCP nor UDP")
        virtio = VIRTIO.pack(1, 0, 0, 0, start, 16 if protocol == 6 else 6)
        return keep(self._left, (start, protocol), virtio)

    # Tables, made when first needed

    def _compile(self, shape: tuple[int, int]) -> Struct:
        stride, count = shape
        gap = stride - HEADER_LENGTH
        return keep(self._headers, shape, Struct("<" + f"QQ{gap}x" * (count - 1) + "QQ"))

    def _reach(self, which: tuple[int, int, int]) -> tuple[list[Any], list[Any], list[Any]]:
        """Of each frame: where its header, its ciphertext and its nonce are."""
        offset, stride, nonce_offset = which
        count = max(1, (len(self._area) - offset) // stride)
        frames = [
            self._area_pointer + offset + slot * stride for slot in range(min(count, MOST_FRAMES))
        ]
        slots = (
            frames,
            [frame + HEADER_LENGTH for frame in frames],
            [frame + nonce_offset for frame in frames],
        )
        return keep(self._slots, which, slots)

    def _place(self, size: int) -> list[Any]:
        count = min(MAX_SEGMENTS, LARGEST_PACKET // size + 1)
        start = self._opened_pointer + START
        return keep(self._places, size, [start + place * size for place in range(count)])
