"""Frames on their way: what may happen to them, and how they lie in the area where they arrive."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from tests.dataplane.ciphers import Cipher, Guard
from tunnel.dataplane.aead import Direction
from tunnel.dataplane.opening import START, Opener, Run
from tunnel.errors import Malformed
from tunnel.wire.packet import parse_ip_header
from tunnel.wire.segment import cut_superpacket
from tunnel.wire.train import LEFT, TRAIN
from tunnel.wire.transport import HEADER_LENGTH
from tunnel.wire.virtio import VIRTIO_LENGTH

FIRST_PACKET = 0x40
"""First bytes from here on are those of bundles; those below, but trains, are for the core."""
AREA_LENGTH = 65_536 + 4096
"""As drivers.udp_receive has it."""


class Arrival(NamedTuple):
    """Datagrams of one system call: all of one size, the last maybe shorter."""

    datagrams: list[bytes]
    offset: int
    stride: int

    @property
    def size(self) -> int:
        return len(self.datagrams[0])

    @property
    def length(self) -> int:
        return (len(self.datagrams) - 1) * self.stride + len(self.datagrams[-1])

    @property
    def last_length(self) -> int:
        return len(self.datagrams[-1])

    def put(self, area: bytearray) -> None:
        for number, datagram in enumerate(self.datagrams):
            at = self.offset + number * self.stride
            area[at : at + len(datagram)] = datagram

    def length_of(self, run: Run) -> int:
        """Of its last frame."""
        return len(self.datagrams[run.slot + run.frames - 1])


def arrive(
    datagrams: Sequence[bytes], *, offset: int = 0, gap: int = 0, most: int = 64
) -> list[Arrival]:
    """As UDP_GRO (no gap) or recvmmsg (a gap behind each) would bring them: no more of one size
    than there is room for, and a shorter one ends it."""
    arrivals: list[Arrival] = []
    for datagram in datagrams:
        last = arrivals[-1] if arrivals else None
        if (
            last is not None
            and last.last_length == last.size >= len(datagram) > 0
            and len(last.datagrams) < most
            and offset + last.length + gap + len(datagram) <= AREA_LENGTH - 4096
        ):
            last.datagrams.append(datagram)
        else:
            arrivals.append(Arrival([datagram], offset, len(datagram) + gap))
    return arrivals


class Opened(NamedTuple):
    """What became of a run."""

    run: Run
    length: int
    """As `open_run` gave it: negative for what it refused."""
    superpackets: list[tuple[bytes, bytes]] | None
    """The virtio header of each, and the packet. None: Malformed."""

    @property
    def packets(self) -> list[bytes]:
        """Complete, as the interface would have them."""
        return [
            packet
            for virtio, superpacket in self.superpackets or []
            for packet in cut_superpacket(virtio, superpacket)
        ]


class Receiver:
    """An Opener, used as the drivers do, behind a `Guard`."""

    def __init__(self, cipher: Cipher) -> None:
        guard = Guard(cipher)
        self.cipher = cipher
        self.direction: Direction = guard.direction
        self.area = bytearray(Random(1).randbytes(AREA_LENGTH))
        self.opener = Opener(self.area, guard.pointer)

    def receive(self, arrival: Arrival) -> list[Opened]:
        """Of each run; every one lies within the arrival, behind the one before."""
        arrival.put(self.area)
        before = bytes(self.area)
        runs = self.opener.find_runs(arrival.offset, arrival.stride, arrival.length)
        slot = 0
        for run in runs:
            assert run.slot >= slot
            assert run.frames >= 1
            slot = run.slot + run.frames
            assert slot <= len(arrival.datagrams)
        opened = [self._open(arrival, run) for run in runs]
        assert self.area == before, "what arrived is only read"
        return opened

    def _open(self, arrival: Arrival, run: Run) -> Opened:
        opener = self.opener
        where = arrival.offset, arrival.stride, arrival.size, run, arrival.length_of(run)
        if run.frames > 1 and not run.is_train:
            if not opener.open_series(self.direction, *where):
                return Opened(run, -1, [])
            around = HEADER_LENGTH + self.direction[0].tag_length
            lengths = [arrival.size] * (run.frames - 1) + [arrival.length_of(run)]
            at = [START + number * arrival.size for number in range(run.frames)]
            places = [(begin, length - around) for begin, length in zip(at, lengths, strict=True)]
            return self._finish_all(run, places, 0, 1)
        length = opener.open_run(self.direction, *where)
        if length <= 0:
            return Opened(run, length, [])
        return self._finish_all(run, [(START, length)], run.place, run.frames)

    def _finish_all(
        self, run: Run, places: list[tuple[int, int]], place: int, frames: int
    ) -> Opened:
        total = sum(length for _, length in places)
        taken: list[tuple[bytes, bytes]] = []
        for at, length in places:
            try:
                taken += self._finish(place, frames, at, length) if length else []
            except Malformed:
                return Opened(run, total, None)
        return Opened(run, total, taken)

    def _finish(self, place: int, frames: int, at: int, length: int) -> list[tuple[bytes, bytes]]:
        opener = self.opener
        if opener.opened[at] == TRAIN:
            return [self._take(*opener.finish_train(place, frames, at, length))]
        assert frames == 1
        if opener.opened[at] < FIRST_PACKET:
            return []
        end = at + length
        taken = []
        while at < end and opener.opened[at]:
            begin, stop = opener.prepare_packet(at, end)
            assert at < stop <= end
            taken.append(self._take(begin, stop))
            at = stop
        return taken

    def _take(self, begin: int, end: int) -> tuple[bytes, bytes]:
        view = self.opener.view
        middle = begin + VIRTIO_LENGTH
        return bytes(view[begin:middle]), bytes(view[middle:end])


def check_opened(opened: Opened) -> None:
    """Whatever the frames were, the kernel gets whole packets, and as many as there were."""
    if opened.length <= 0 or opened.superpackets is None:
        return
    for virtio, packet in opened.superpackets:
        assert parse_ip_header(packet).length == len(packet)
        assert not packet[0] & LEFT
        packets = cut_superpacket(virtio, packet)
        assert len(packets) == (opened.run.frames if opened.run.is_train else 1)
    assert len(opened.superpackets) == 1 or not opened.run.is_train
