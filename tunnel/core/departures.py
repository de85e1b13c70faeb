"""What the data plane asks before it seals: whose a packet is, with which key, and which way.

The data plane seals many packets at once and calls this once for all of them. Whatever is out of
the ordinary (no keys, no way, too large for the path) is answered with None, and the packets then
take the way of all packets, `Node.send_packets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tunnel.core.machine import Buffer, Transmit
from tunnel.core.outbound import Outbound
from tunnel.core.path import RELAYED
from tunnel.core.path_mtu import SMALLEST
from tunnel.core.peer import Peer
from tunnel.core.peer_table import PeerTable
from tunnel.noise.sodium import DirectKey
from tunnel.wire.endpoint import Endpoint

MOST_KEPT = 8
"""Frames of a train that are kept to be sent again. A longer train is a bulk transfer's, which
outruns what can be kept (`peer.MAX_RECENT`) and repairs itself."""


class Departure(NamedTuple):
    """Leave to seal frames."""

    peer: Peer
    key: DirectKey
    receiver: int
    counter: int
    """Of the first frame; those of the others follow it."""
    endpoints: Sequence[Endpoint]


class Departures:
    def __init__(self, peers: PeerTable, outbound: Outbound) -> None:
        self._outbound = outbound
        self.find = peers.routes.find
        """Whose an inner address is. Called for each packet."""

    def capacity(self, peer: Peer, now: float) -> int:
        """Bytes of packets that may go in one frame."""
        limit = peer.mtu.limit(peer.traversal, now)
        return peer.mtu.interface_mtu if limit is None else min(limit, peer.mtu.interface_mtu)

    def reserve(
        self, peer: Peer, frames: int, size: int, total: int, now: float
    ) -> Departure | None:
        """Leave to send so many frames, which stand for packets of at most `size` bytes or hold so
        many bytes of packets; `total` in all. They must be sent: what is reserved is gone."""
        traversal = peer.traversal
        endpoints = traversal.take_routes(total, now)
        if not endpoints:
            return None
        best = traversal.best
        if len(endpoints) > 1 and frames > MOST_KEPT and best and not best.is_doubtful(now):
            # Its own load makes an echo late. Copies of it would be a load for the relay as well.
            endpoints = (best.endpoint,)
        if size > SMALLEST:
            if peer.mtu.note_large(traversal, now):
                peer.touch()
            limit = peer.mtu.limit_of(traversal, endpoints)
            if limit is not None and size > limit:
                return None
        reserved = peer.session.reserve(frames, now)
        if peer.session.is_initiating:  # Keys are due, or there are none.
            peer.touch()
        if reserved is None:
            return None
        peer.note_activity(now)
        return Departure(peer, *reserved, endpoints)

    def address(self, departure: Departure, data: Buffer, size: int) -> list[Transmit]:
        """Frames sealed with that leave, each `size` bytes but the last, by the ways there are.
        `data` is borrowed: send it before anything else is sealed. Then `keep` it."""
        peer, endpoints = departure.peer, departure.endpoints
        transmits = []
        for endpoint in endpoints:
            if endpoint == RELAYED:
                transmits += self._outbound.wrap(peer, data, size)
            else:
                local = peer.traversal.local_of(endpoint)
                transmits.append(Transmit(data, endpoint, size, local))
        return transmits

    def keep(self, departure: Departure, data: Buffer, size: int, now: float) -> None:
        """The frames have been sent; they may have to be sent again."""
        if len(data) <= MOST_KEPT * size:
            recent = departure.peer.recent
            for start in range(0, len(data), size):
                recent.append((now, bytes(data[start : start + size])))

    def note_sent(self, peer: Peer, packets: int, size: int) -> None:
        peer.counters.tx_packets += packets
        peer.counters.tx_bytes += size
