"""From the TUN interface to the UDP sockets, many packets at a time.

What the interface gives in one turn is cut into trains, or gathered into bundles, sealed in one
buffer and sent from there, as many frames as are alike by one call. Nothing waits for more: when
the interface has no more, what is there leaves. `core.departures` is asked once for each train or
bundle; whatever it, or this, does not take goes packet by packet through `Node.send_packets`, which
is the specification.
"""

from __future__ import annotations

from struct import Struct

from tunnel.core.departures import Departure
from tunnel.core.machine import Transmit
from tunnel.core.node import Node
from tunnel.core.peer import Peer
from tunnel.dataplane.gathering import Gathering
from tunnel.dataplane.sealing import BASE, LARGEST_PACKET, Sealer, fit
from tunnel.dataplane.train import TRAIN_LENGTH, TRAIN_SEGMENTS, join
from tunnel.drivers import clock
from tunnel.drivers.loop import MachineLoop
from tunnel.drivers.tun import TunDevice
from tunnel.errors import Malformed
from tunnel.noise.sodium import make_pointer
from tunnel.wire.segment import CHECKSUM_FIELDS, cut_superpacket
from tunnel.wire.train import LEFT, MAX_SEGMENTS, pack_train, split_bundle
from tunnel.wire.transport import HEADER_LENGTH
from tunnel.wire.virtio import CHECKSUM_LEFT, GSO_UDP, VIRTIO, VIRTIO_LENGTH

PACKET_BUDGET = 128
TRAIN_BUDGET = 8
"""Packets, and superpackets, taken from the interface in one turn, so that what arrives, and the
timers, have theirs: 8 superpackets are half a millisecond."""
FIRST_IPV6 = 0x60
_FLAGS, _GSO_TYPE, _WHERE = BASE - VIRTIO_LENGTH, BASE - VIRTIO_LENGTH + 1, BASE - 4
_IPV4, _IPV6 = Struct(">IBxH5xB6x4s"), Struct(">IB3xHB17x16s")
"""From `_WHERE` on: where the checksum is; first byte, length, protocol, destination."""
_ALIKE_IPV4, _ALIKE_IPV6 = Struct("10s4s2x4s2x8s").unpack_from, Struct("50s").unpack_from
"""From `_FLAGS` on: the virtio and IP headers, but for identification and checksum."""
_RESTORABLE = {
    first << 8 | protocol: int.from_bytes(VIRTIO.pack(0, 0, 0, 0, start, field)[-4:], "big")
    for protocol, field in CHECKSUM_FIELDS.items()
    for first, start in [(0x40 + words, words * 4) for words in range(5, 16)]
    + [(first, 40) for first in range(0x60, 0x70)]
}
"""First byte and protocol → where the checksum of such a packet is, if it is where the receiver
will look for it."""


class Egress:
    def __init__(self, node: Node, tun: TunDevice, loop: MachineLoop) -> None:
        self._node = node
        self._departures = node.departures
        self._find = node.departures.find
        self._tun = tun
        self._loop = loop
        self._must_settle = False
        self._sealer = Sealer(make_pointer)
        self._into = self._sealer.with_virtio if tun.has_header else self._sealer.packet
        self._free = [*self._sealer.gatherings]
        self._open: dict[Peer, Gathering] = {}
        """Packets of this turn that have not been sealed."""
        self._is_quiet = False
        """Whether the last turn brought one packet only."""
        self._departure: Departure | None = None
        """Of the frames that are sealed and leave together: `_sealed` bytes, `_size` each."""
        self._sealed = self._size = 0

    def read_interface(self) -> None:
        """To be called when it is readable."""
        now = clock.now()
        read_packet, into, source = self._tun.read_packet, self._into, self._sealer.source
        trains, packets, is_quiet = TRAIN_BUDGET, PACKET_BUDGET, self._is_quiet
        length = read_packet(into)
        while length >= 0:
            if source[_GSO_TYPE]:
                trains -= 1
                self._send_superpacket(length, now)
            else:
                packets -= 1
                peer = self._gather(length, now)
                if is_quiet:
                    # Most likely this one is alone, too. To find that no more is there takes 8 µs.
                    self._seal_all(now)
                    self._send_sealed(now)
                elif peer is not None and 0 < packets < PACKET_BUDGET - 1:
                    length, packets = self._gather_alike(peer, length, packets, now)
                    continue
            is_quiet = False
            if not trains or not packets:
                break
            length = read_packet(into)
        if (taken := PACKET_BUDGET - packets + TRAIN_BUDGET - trains) > 0:
            self._is_quiet = taken == 1
        self._seal_all(now)
        self._send_sealed(now)
        if self._must_settle:
            self._must_settle = False
            self._loop.settle(now)
        else:
            self._loop.settle_soon()

    # Bundles

    def _gather(self, length: int, now: float) -> Peer | None:
        """Whose the packet is that was read; None: nobody's, or it has left by itself."""
        source = self._sealer.source
        # One call of struct for all that is asked of a packet: 0.2 µs instead of 0.8.
        if source[BASE] < FIRST_IPV6:
            where, first, total, protocol, destination = _IPV4.unpack_from(source, _WHERE)
        else:
            where, first, total, protocol, destination = _IPV6.unpack_from(source, _WHERE)
            total += 40
        # Behind one that is longer than it says nobody would find the next.
        peer = self._find(destination) if total == length else None
        is_left = source[_FLAGS] & CHECKSUM_LEFT
        if is_left and where != _RESTORABLE.get(first << 8 | protocol):
            peer = None  # The receiver could not tell where the checksum belongs.
        if peer is None:
            self._seal_all(now)
            self._send_sealed(now)
            self._send_plainly(length, now)
            return None
        gathering = self._open.get(peer) or self._begin(peer, now)
        if gathering.end + length > LARGEST_PACKET:
            self._seal_bundles(peer, now)
            gathering = self._begin(peer, now)
        elif gathering.end and gathering.end - gathering.begin + length > (
            gathering.capacity or self._ask_capacity(gathering, peer, now)
        ):
            gathering.close_bundle()
        at, view = gathering.end, gathering.view
        view[at : at + length] = self._sealer.packet[:length]
        if is_left:
            view[at] = first | LEFT
        gathering.add(at + length, 1)
        return peer

    def _gather_alike(self, peer: Peer, length: int, budget: int, now: float) -> tuple[int, int]:
        """After a packet of `length` bytes was gathered, those that follow with the same headers,
        `budget` at most: 0.4 µs each, where `_gather` takes 0.8. How long the packet is that was
        read and is none of them, -1 if none was; and what is left of the budget."""
        read_packet, into, source = self._tun.read_packet, self._into, self._sealer.source
        take = _ALIKE_IPV4 if source[BASE] < FIRST_IPV6 else _ALIKE_IPV6
        alike, packet = take(source, _FLAGS), self._sealer.packet[:length]
        gathering = self._open[peer]
        first = gathering.view[gathering.end - length]
        capacity = gathering.capacity or self._ask_capacity(gathering, peer, now)
        view, begin, end, gathered = gathering.view, gathering.begin, gathering.end, 0
        while budget:
            read = read_packet(into)
            if read != length or take(source, _FLAGS) != alike:
                break
            budget -= 1
            at, end = end, end + length
            if end > LARGEST_PACKET or end - begin > capacity:
                gathering.add(at, gathered)
                if end > LARGEST_PACKET:
                    self._seal_bundles(peer, now)
                    gathering = self._begin(peer, now)
                    view, at, end = gathering.view, 0, length
                else:
                    gathering.close_bundle()
                begin, gathered = at, 0
            view[at:end] = packet
            view[at] = first
            gathered += 1
        else:
            read = -1
        gathering.add(end, gathered)
        return read, budget

    def _begin(self, peer: Peer, now: float) -> Gathering:
        if not self._free:
            self._seal_all(now)
        gathering = self._open[peer] = self._free.pop()
        return gathering

    def _ask_capacity(self, gathering: Gathering, peer: Peer, now: float) -> int:
        gathering.capacity = self._departures.capacity(peer, now)
        return gathering.capacity

    def _seal_all(self, now: float) -> None:
        for peer in list(self._open):
            self._seal_bundles(peer, now)

    def _seal_bundles(self, peer: Peer, now: float) -> None:
        gathering = self._open.pop(peer)
        lengths, total, packets = gathering.lengths, gathering.end, gathering.packets
        gathering.clear()
        self._free.append(gathering)
        departure = self._departures.reserve(peer, len(lengths), max(lengths), total, now)
        if departure is None:
            self._send_sealed(now)
            self._send_packets(split_bundle(bytes(gathering.view[:total])), now)
            return
        key, receiver, counter = departure.key, departure.receiver, departure.counter
        around, start = HEADER_LENGTH + key[0].tag_length, gathering.start
        for length in lengths:
            size = around + length
            if not self._can_join(departure, size):
                self._send_sealed(now)
                self._departure, self._size = departure, size
            self._sealed = self._sealer.seal_bundle(
                key, receiver, counter, start, length, self._sealed
            )
            start += length
            counter += 1
        self._departures.note_sent(peer, packets, total)

    def _can_join(self, departure: Departure, size: int) -> bool:
        """Whether one more frame may leave in the same call: as large, or the last and smaller. So
        an acknowledgement rides at the end of a train for the same peer."""
        before = self._departure
        return (
            before is not None
            and size <= self._size
            and self._sealed % self._size == 0
            and self._sealed + size <= TRAIN_LENGTH
            and self._sealed // self._size < TRAIN_SEGMENTS
            and before.peer is departure.peer
            and before.endpoints == departure.endpoints
        )

    def _send_sealed(self, now: float) -> None:
        departure, sealed = self._departure, self._sealed
        if departure is None:
            return
        self._departure, self._sealed = None, 0
        data = self._sealer.sealed[:sealed]
        self._transmit(self._departures.address(departure, data, self._size))
        self._departures.keep(departure, data, self._size, now)

    # Trains

    def _send_superpacket(self, length: int, now: float) -> None:
        source = self._sealer.source
        flags, kind, _, size, start, _ = VIRTIO.unpack_from(source, _FLAGS)
        # The kernel knows where its own headers are; `transport_of` would take 2 µs to find them.
        end = start + (8 if kind == GSO_UDP else (source[BASE + start + 12] >> 4) * 4)
        segments = -(-(length - end) // size) if size else 0
        which = _IPV4 if source[BASE] < FIRST_IPV6 else _IPV6
        peer = self._find(which.unpack_from(source, _WHERE)[4])
        # In order: what was read before it leaves before it.
        if peer in self._open:
            self._seal_bundles(peer, now)
        self._send_sealed(now)
        departure = None
        if peer is not None and flags & CHECKSUM_LEFT and 0 < segments <= MAX_SEGMENTS:
            departure = self._departures.reserve(peer, segments, end + size, length, now)
        if peer is None or departure is None:
            self._send_plainly(length, now)
            return
        block = pack_train(segments - 1, size, bytes(self._sealer.packet[:end]))
        key, receiver, counter = departure.key, departure.receiver, departure.counter
        stride = HEADER_LENGTH + len(block) + size + key[0].tag_length
        most = fit(stride)
        for place in range(0, segments, most):
            self._send_sealed(now)
            count = min(most, segments - place)
            first = counter + place
            self._sealed = self._sealer.seal_train(
                key, receiver, first, block, place, count, size, length
            )
            self._departure, self._size = departure, stride
        self._departures.note_sent(peer, segments, length + (segments - 1) * end)

    # Both

    def _send_plainly(self, length: int, now: float) -> None:
        """The packet just read, whatever it is."""
        try:
            virtio = self._sealer.with_virtio[:VIRTIO_LENGTH]
            packets = cut_superpacket(virtio, self._sealer.packet[:length])
        except Malformed as error:
            self._node.drops[f"sent: {error}"] += 1
            return
        self._send_packets(packets, now)

    def _send_packets(self, packets: list[bytes], now: float) -> None:
        self._must_settle = True
        answers = self._node.send_packets(packets, now)
        if answers:
            self._tun.write(answers)
        # Before what is read next, which may leave at once.
        self._transmit(self._node.datagrams_to_send(now))

    def _transmit(self, transmits: list[Transmit]) -> None:
        for transmit in join(transmits) if len(transmits) > 1 else transmits:
            self._loop.transmit(transmit)
