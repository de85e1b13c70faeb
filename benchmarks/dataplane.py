"""What sealing and opening cost: trains in the loops of `dataplane`, beside PyNaCl's functions.

    .venv/bin/python -m benchmarks.dataplane [--rounds N] [--segment BYTES] [--frames N]

Needs no root and no network. One superpacket of TCP (45 frames of 1452 bytes with AEGIS, unless
told) is sealed and opened: in the loops, in parts of them, and one frame at a time through PyNaCl's
public functions. In every round each row has its turn, so that whatever else the machine does meets
all of them: shown are the median time, the time of the fastest round, and the median of the ratios
to the first row within a round.
"""

from __future__ import annotations

import argparse
import statistics
import struct
import time
from collections.abc import Callable
from random import Random
from typing import Any

from tests.wire.superpackets import TCP, Superpacket
from tunnel.dataplane.headers import Headers
from tunnel.dataplane.opening import START, Opener
from tunnel.dataplane.sealing import BASE, Sealer
from tunnel.noise.frame_cipher import AEGIS_128L, CHACHA20_POLY1305, FrameCipher
from tunnel.noise.sodium import DirectAead
from tunnel.wire.train import TRAIN_OVERHEAD
from tunnel.wire.transport import HEADER_LENGTH, TRANSPORT, pack_header

Rows = dict[str, Callable[[], object]]
RECEIVER, COUNTER = 0x01020304, 1_000_000
TURN = 0.003
"""Seconds a row's turn takes, about."""


class Train:
    """A superpacket in a sealer, and its frames in the area of an opener."""

    def __init__(self, cipher: FrameCipher, direct: DirectAead, segment: int, frames: int) -> None:
        self.cipher, self.direct, self.frames = cipher, direct, frames
        self.key = bytes(range(cipher.key_length))
        self.direction = direct, direct.key(self.key)
        content = Random(1).randbytes(segment * (frames - 1) + segment // 2 + 1)
        options = b"\x01\x01\x08\x0a12345678"
        self.superpacket = Superpacket(4, TCP, segment, content, tcp_options=options)
        self.packet, self.block = self.superpacket.packet, self.superpacket.block
        self.stride = HEADER_LENGTH + len(self.block) + segment + cipher.tag_length
        self.sealer = Sealer(direct.pointer)
        self.sealer.packet[: len(self.packet)] = self.packet
        self.sealed = self.seal()
        self.area = bytearray(self.sealer.sealed[: self.sealed]) + bytes(4096)
        self.opener = Opener(self.area, direct.pointer)
        (self.run,) = self.opener.find_runs(0, self.stride, self.sealed)
        self.opened = self.open()
        assert self.opened == TRAIN_OVERHEAD + len(self.packet)

    # In the loops

    def seal(self) -> int:
        s, length = self.superpacket, len(self.packet)
        return self.sealer.seal_train(
            self.direction, RECEIVER, COUNTER, self.block, 0, self.frames, s.size, length
        )

    def find(self) -> object:
        return self.opener.find_runs(0, self.stride, self.sealed)

    def open(self) -> int:
        last = self.sealed - (self.frames - 1) * self.stride
        return self.opener.open_run(self.direction, 0, self.stride, self.stride, self.run, last)

    def finish(self) -> object:
        self.opener.view[START : START + len(self.block)] = self.block
        return self.opener.finish_train(0, self.frames, START, self.opened)

    def receive(self) -> object:
        self.find()
        return self.opener.finish_train(0, self.frames, START, self.open())

    # One by one

    def seal_singly(self) -> object:
        seal, key, block, packet = self.cipher.seal, self.key, self.block, self.packet
        begin, size = len(block) - TRAIN_OVERHEAD, self.superpacket.size
        sealed = []
        for place in range(self.frames):
            header = pack_header(RECEIVER, COUNTER + place, place)
            at = begin + place * size
            sealed.append(header + seal(key, header, block + packet[at : at + size]))
        return sealed

    def open_singly(self) -> object:
        open_, key, stride = self.cipher.open, self.key, self.stride
        area = bytes(self.area[: self.sealed])
        payloads = []
        for at in range(0, self.sealed, stride):
            header = area[at : at + HEADER_LENGTH]
            payloads.append(open_(key, header, area[at + HEADER_LENGTH : at + stride]))
        return payloads

    # Nothing but

    def encryptor(self) -> Callable[[], object]:
        """The calls of C."""
        arguments = self._arguments()
        encrypt, frames = self.direct.encrypt, range(self.frames)

        def run() -> None:
            for _ in frames:
                encrypt(*arguments)

        return run

    def copier(self) -> Callable[[], object]:
        """The blocks."""
        source, block, size = self.sealer.source, self.block, self.superpacket.size
        starts = range(BASE, BASE + self.frames * size, size)
        put = struct.Struct(f"{len(block)}s").pack_into

        def run() -> None:
            for start in starts:
                put(source, start, block)

        return run

    def packer(self) -> Callable[[], object]:
        """The headers."""
        headers, frames = Headers(self.stride, self.frames), self.sealer.frames
        first = TRANSPORT | RECEIVER << 32 | COUNTER << 64
        return lambda: headers.put_train(frames, first)

    def _arguments(self) -> tuple[Any, ...]:
        direct, (_, key) = self.direct, self.direction
        self._kept = frames, source = (
            direct.pointer(self.sealer.frames),
            direct.pointer(self.sealer.source),
        )
        length = len(self.block) + self.superpacket.size
        nonce = frames + direct.nonce_offset
        to, adlen = frames + HEADER_LENGTH, direct.associated_length
        return to, direct.null, source, length, frames, adlen, direct.null, nonce, key


def measure(rows: Rows, rounds: int) -> dict[str, list[float]]:
    """Seconds of one call, a figure a round."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    calls = {}
    for name, row in rows.items():
        row()
        began = time.perf_counter()
        row()
        calls[name] = max(1, int(TURN / (time.perf_counter() - began)))
    for _ in range(rounds):
        for name, row in rows.items():
            turns = range(calls[name])
            began = time.perf_counter()
            for _ in turns:
                row()
            times[name].append((time.perf_counter() - began) / len(turns))
    return times


def show(title: str, times: dict[str, list[float]]) -> None:
    print(f"{title:38}{'median':>9}{'fastest':>9}  µs, and × the first")
    first = next(iter(times.values()))
    for name, took in times.items():
        ratio = statistics.median(mine / base for mine, base in zip(took, first, strict=True))
        print(f"  {name:36}{statistics.median(took) * 1e6:9.1f}{min(took) * 1e6:9.1f}{ratio:7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--segment", type=int, default=1348)
    parser.add_argument("--frames", type=int, default=45)
    arguments = parser.parse_args()
    for cipher in (AEGIS_128L, CHACHA20_POLY1305):
        if cipher.direct is None:
            print(f"{cipher.name}: no loops here: {cipher.why_not_direct}")
            continue
        train = Train(cipher, cipher.direct, arguments.segment, arguments.frames)
        what = f"{cipher.name}, {train.frames} frames of {train.stride}"
        sealing: Rows = {
            "seal_train": train.seal,
            "calls of C alone": train.encryptor(),
            "copies of the block alone": train.copier(),
            "headers alone": train.packer(),
            "one by one, PyNaCl": train.seal_singly,
        }
        opening: Rows = {
            "find_runs, open_run, finish_train": train.receive,
            "find_runs": train.find,
            "open_run": train.open,
            "finish_train": train.finish,
            "one by one, PyNaCl": train.open_singly,
        }
        show(f"sealing: {what}", measure(sealing, arguments.rounds))
        show(f"opening: {what}", measure(opening, arguments.rounds))


if __name__ == "__main__":
    main()
