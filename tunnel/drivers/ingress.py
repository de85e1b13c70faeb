"""From the UDP sockets to the TUN interface, many packets at a time.

What one call brings is opened in one buffer and written to the interface from there.
`core.arrivals` is asked once for a run of frames; whatever it, or this, does not take goes one by
one through `Node.receive_datagrams`, which is the specification.
"""

from __future__ import annotations

from tunnel.core.node import Node
from tunnel.core.outbound import FIRST_IP
from tunnel.core.path import RELAYED
from tunnel.core.peer import Peer
from tunnel.dataplane.merging import MOST, Merger
from tunnel.dataplane.opening import START, Opener, Run
from tunnel.drivers.loop import MachineLoop
from tunnel.drivers.tun import TunDevice
from tunnel.drivers.udp import UdpSocket
from tunnel.drivers.udp_receive import AREA
from tunnel.drivers.udp_receive import Arrival as Datagrams
from tunnel.errors import AuthenticationFailed, Malformed
from tunnel.noise.sodium import make_pointer
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.relay import RELAY, RELAY_HEADER, RELAY_HEADER_LENGTH
from tunnel.wire.segment import cut_superpacket
from tunnel.wire.train import TRAIN
from tunnel.wire.transport import HEADER_LENGTH
from tunnel.wire.virtio import GSO_UDP, NO_VIRTIO, VIRTIO, VIRTIO_LENGTH

RECEIVE_BUDGET = 16
"""Arrivals a turn, each up to 64 KiB: a millisecond."""


class Ingress:
    def __init__(self, node: Node, tun: TunDevice, loop: MachineLoop) -> None:
        self._node = node
        self._arrivals = node.arrivals
        self._tun = tun
        self._loop = loop
        self._must_settle = False
        self._opener = Opener(AREA, make_pointer)
        self._merger = Merger(self._opener.opened)
        self._can_merge = tun.has_header and tun.has_uso

    def read_socket(self, number: int, socket: UdpSocket, now: float) -> bool:
        """To be called when socket `number` is readable; whether there was anything."""
        has_taken = False
        for datagrams in socket.arrivals(RECEIVE_BUDGET):
            has_taken = True
            self._take(datagrams, number, now)
        if self._must_settle:
            self._must_settle = False
            self._loop.settle(now)
        elif has_taken:
            self._loop.settle_soon()
        return has_taken

    def _take(self, datagrams: Datagrams, local: int, now: float) -> None:
        offset, stride, size, length, source = datagrams
        if not length:
            self._take_plainly([b""], source, local, now)
            return
        frames = datagrams
        if AREA[offset] == RELAY and min(length, size) > RELAY_HEADER_LENGTH:
            _, channel = RELAY_HEADER.unpack_from(AREA, offset)
            if not self._arrivals.is_relay(source, local, channel):
                self._take_slots(datagrams, 0, -(-length // stride), local, now)
                return
            envelope = RELAY_HEADER_LENGTH
            frames = offset + envelope, stride, size - envelope, length - envelope, RELAYED
            offset, stride, size, length, source = frames
        count = -(-length // stride)
        taken = 0
        for run in self._opener.find_runs(offset, stride, length):
            if run.slot > taken:
                self._take_slots(datagrams, taken, run.slot, local, now)
            taken = run.slot + run.frames
            last = size if taken < count else length - (count - 1) * stride
            if not self._open(frames, run, last, local, now):
                self._take_slots(datagrams, run.slot, taken, local, now)
        count = -(-datagrams[3] // stride)
        if taken < count:
            self._take_slots(datagrams, taken, count, local, now)

    def _open(
        self, datagrams: Datagrams, run: Run, last_length: int, local: int, now: float
    ) -> bool:
        """False: nothing has happened yet, and these are for the node to look at."""
        offset, stride, size, _, source = datagrams
        arrival = self._arrivals.find(run.receiver, local, now)
        if arrival is None:
            return False
        where = offset, stride, size, run, last_length
        length = 0
        is_series = run.frames > 1 and not run.is_train
        if is_series:
            if not self._opener.open_series(arrival.key, *where):
                return False
        else:
            length = self._opener.open_run(arrival.key, *where)
            if length < 0:
                return False
        total = (run.frames - 1) * size + last_length
        if not self._arrivals.accept(arrival, run.counter, run.frames):
            return self._arrivals.count_duplicates(arrival, run.counter, run.frames)
        kind = self._opener.opened[START] if length else 0
        has_packets = kind >= FIRST_IP or kind == TRAIN
        if not has_packets:
            self._arrivals.note(arrival, run.counter, total, source, local, now)
        if is_series:
            around = HEADER_LENGTH + arrival.key.aead.tag_length
            self._deliver_series(arrival.peer, size, last_length, around, run, source, local, now)
        else:
            place, frames = run.place, run.frames
            self._deliver(arrival.peer, START, length, place, frames, source, local, now)
        if has_packets:
            # Noting is as much work as opening one frame: packets do not wait for it.
            self._arrivals.note(arrival, run.counter, total, source, local, now)
        return True

    def _deliver(
        self,
        peer: Peer,
        at: int,
        length: int,
        place: int,
        frames: int,
        source: Endpoint,
        local: int,
        now: float,
    ) -> None:
        """The payload at `at` of the opener's buffer."""
        if not length:
            return
        opener = self._opener
        kind = opener.opened[at]
        try:
            if kind >= FIRST_IP:
                self._deliver_bundle(peer, at, at + length, now)
            elif kind == TRAIN:
                begin, end = opener.finish_train(place, frames, at, length)
                self._write(peer, begin, end, frames, now)
            else:
                self._must_settle = True
                payload = bytes(opener.view[at : at + length])
                packets = self._arrivals.receive_payload(peer, payload, source, now, local)
                if packets:
                    self._tun.write(packets)
        except (Malformed, AuthenticationFailed) as error:
            self._node.drops[str(error)] += 1

    def _deliver_series(
        self,
        peer: Peer,
        size: int,
        last_length: int,
        around: int,
        run: Run,
        source: Endpoint,
        local: int,
        now: float,
    ) -> None:
        """The payloads of frames that are no train, each `around` bytes shorter than its frame."""
        whole = run.frames if last_length == size else run.frames - 1
        number = 0
        while number < run.frames:
            at, length = START + number * size, (size if number < whole else last_length) - around
            merged = None
            if self._can_merge and number < whole and length:
                merged = self._merger.merge_bundles(at, length, size, whole - number)
            if merged is None:
                self._deliver(peer, at, length, 0, 1, source, local, now)
                number += 1
            else:
                begin, end, packets, bundles = merged
                self._write(peer, begin, end, packets, now)
                number += bundles

    def _deliver_bundle(self, peer: Peer, at: int, end: int, now: float) -> None:
        opener, can_merge = self._opener, self._can_merge
        while at < end and opener.opened[at]:
            merged = self._merger.merge(at, end) if can_merge else None
            if merged is not None:
                begin, stop, packets, at = merged
                self._write(peer, begin, stop, packets, now)
                continue
            begin, at = opener.prepare_packet(at, end)
            self._write(peer, begin, at, 1, now)

    def _write(self, peer: Peer, begin: int, end: int, packets: int, now: float) -> None:
        """A packet with its virtio header, as it lies in the opener's buffer, that stands for so
        many."""
        opened, view, tun = self._opener.opened, self._opener.view, self._tun
        packet = begin + VIRTIO_LENGTH
        if opened[packet] >> 4 == 4:
            inner_source = bytes(opened[packet + 12 : packet + 16])
        else:
            inner_source = bytes(opened[packet + 8 : packet + 24])
        if not self._arrivals.admits(peer, inner_source):
            self._node.drops["inner source is not the peer's"] += packets
            return
        size = end - packet
        if packets > 1:
            size += (packets - 1) * int(VIRTIO.unpack_from(opened, begin)[2])
        self._arrivals.note_packets(peer, packets, size, now)
        if tun.has_header and (opened[begin + 1] != GSO_UDP or (tun.has_uso and packets <= MOST)):
            tun.write_packet(view[begin:end])
        elif view[begin:packet] == NO_VIRTIO:
            tun.write([bytes(view[packet:end])])
        else:
            tun.write(cut_superpacket(view[begin:packet], view[packet:end]))

    def _take_slots(
        self, datagrams: Datagrams, begin: int, end: int, local: int, now: float
    ) -> None:
        offset, stride, size, length, source = datagrams
        stop = offset + length
        starts = range(offset + begin * stride, offset + end * stride, stride)
        copies = [AREA[at : min(at + size, stop)] for at in starts]
        self._take_plainly(copies, source, local, now)

    def _take_plainly(self, copies: list[bytes], source: Endpoint, local: int, now: float) -> None:
        self._must_settle = True
        packets = self._node.receive_datagrams(copies, source, now, local)
        if packets:
            self._tun.write(packets)
