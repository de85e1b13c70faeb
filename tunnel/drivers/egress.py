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
        self._peer: Peer | None = None
        """Whom the bundle that is being gathered is for."""
        self._begin = self._end = self._packets = 0
        """Of the bundle that is being gathered, in the sealer's buffer; the packets in all."""
        self._closed: list[int] = []
        """Bytes of those before it, for the same peer."""
        self._capacity = 0
        """What they may grow to; 0: not asked yet, which is for the second packet."""
        self._is_quiet = False
        """Whether the last turn brought one packet only."""
        self._departure: Departure | None = None
        """Of the frames that are sealed and leave together: `_sealed` bytes, `_size` each."""
        self._sealed = self._size = 0

    def read_interface(self) -> None:
        """To be called when it is readable."""
        now = clock.now()
        read_packet, into, source = self._tun.read_packet, self._into, self._sealer.source
        trains, packets = TRAIN_BUDGET, PACKET_BUDGET
        length = read_packet(into)
        if self._is_quiet and length >= 0 and not source[_GSO_TYPE]:
            # Most likely this one is alone, too. To find that nothing more is there takes 8 µs.
            packets -= 1
            self._gather(length, now)
            self._seal_bundles(now)
            self._send_sealed(now)
            length = read_packet(into)
        while length >= 0:
            if source[_GSO_TYPE]:
                trains -= 1
                # In order: what was read before it leaves before it.
                self._seal_bundles(now)
                self._send_sealed(now)
                self._send_superpacket(length, now)
            else:
                packets -= 1
                self._gather(length, now)
                if self._peer and 0 < packets < PACKET_BUDGET - 1:
                    length, packets = self._gather_alike(self._peer, length, packets, now)
                    continue
            if not trains or not packets:
                break
            length = read_packet(into)
        if (taken := PACKET_BUDGET - packets + TRAIN_BUDGET - trains) > 0:
            self._is_quiet = taken == 1
        self._seal_bundles(now)
        self._send_sealed(now)
        if self._must_settle:
            self._must_settle = False
            self._loop.settle(now)
        else:
            self._loop.settle_soon()

    # Bundles

    def _gather(self, length: int, now: float) -> None:
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
            self._seal_bundles(now)
            self._send_sealed(now)
            self._send_plainly(length, now)
            return
        if peer is not self._peer or self._end + length > LARGEST_PACKET:
            self._seal_bundles(now)
            self._peer = peer
        elif self._end - self._begin + length > self._find_capacity(peer, now):
            self._close_bundle()
        bundle, begin = self._sealer.bundle, self._end
        self._end = begin + length
        bundle[begin : self._end] = self._sealer.packet[:length]
        if is_left:
            bundle[begin] = first | LEFT
        self._packets += 1

    def _gather_alike(self, peer: Peer, length: int, budget: int, now: float) -> tuple[int, int]:
        """After a packet of `length` bytes was gathered, those that follow with the same headers,
        `budget` at most: 0.4 µs each, where `_gather` takes 0.8. How long the packet is that was
        read and is none of them, -1 if none was; and what is left of the budget."""
        read_packet, into, source = self._tun.read_packet, self._into, self._sealer.source
        packet, bundle = self._sealer.packet[:length], self._sealer.bundle
        take = _ALIKE_IPV4 if source[BASE] < FIRST_IPV6 else _ALIKE_IPV6
        alike, first = take(source, _FLAGS), bundle[self._end - length]
        capacity = self._find_capacity(peer, now)
        while budget:
            read = read_packet(into)
            if read != length or take(source, _FLAGS) != alike:
                return read, budget
            budget -= 1
            begin = self._end
            end = begin + length
            if end > LARGEST_PACKET:
                self._seal_bundles(now)
                self._peer, begin, end = peer, 0, length
            elif end - self._begin > capacity:
                self._close_bundle()
            bundle[begin:end] = packet
            bundle[begin] = first
            self._end = end
            self._packets += 1
        return -1, 0

    def _find_capacity(self, peer: Peer, now: float) -> int:
        if not self._capacity:
            self._capacity = self._departures.capacity(peer, now)
        return self._capacity

    def _close_bundle(self) -> None:
        """What is gathered next goes into another."""
        self._closed.append(self._end - self._begin)
        self._begin = self._end

    def _seal_bundles(self, now: float) -> None:
        peer, end, packets = self._peer, self._end, self._packets
        if peer is None:
            return
        lengths = [*self._closed, end - self._begin]
        self._peer, self._begin, self._end, self._packets, self._capacity = None, 0, 0, 0, 0
        self._closed.clear()
        departure = self._departures.reserve(peer, len(lengths), max(lengths), end, now)
        if departure is None:
            self._send_sealed(now)
            self._send_packets(split_bundle(bytes(self._sealer.bundle[:end])), now)
            return
        key, receiver, counter = departure.key, departure.receiver, departure.counter
        around, start = HEADER_LENGTH + key[0].tag_length, 0
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
        self._departures.note_sent(peer, packets, end)

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
