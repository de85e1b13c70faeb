"""What the data plane asks, and tells, about frames that it opens itself.

Once a run of frames, not once a frame. What does not concern it (another message than a frame, one
of the server's, a frame that does not open) goes the way of all datagrams, `Inbound.receive`, which
says why it is dropped.
"""

from __future__ import annotations

from typing import NamedTuple

from tunnel.core.fresh_sockets import FIRST_FRESH
from tunnel.core.inbound import Inbound
from tunnel.core.indices import IndexTable
from tunnel.core.peer import Peer
from tunnel.core.peer_table import PeerTable
from tunnel.core.server_session import ServerSession
from tunnel.core.session import Session
from tunnel.noise.keypair import Keypair
from tunnel.noise.sodium import DirectKey
from tunnel.wire.endpoint import Endpoint


class Arrival(NamedTuple):
    """Whose frames they are, and what opens them."""

    peer: Peer
    keypair: Keypair
    key: DirectKey


class Arrivals:
    def __init__(
        self,
        indices: IndexTable[Session],
        link: ServerSession,
        peers: PeerTable,
        inbound: Inbound,
    ) -> None:
        self._indices = indices
        self._link = link
        self._peers = peers
        self._inbound = inbound

    def find(self, receiver: int, local: int, now: float) -> Arrival | None:
        """Whose frames name that receiver, and the keypair that opens them. None: nobody's that
        may send to our socket `local`, or expired, or there is no direct cipher."""
        session = self._indices.get(receiver)
        if session is None or 0 < local < FIRST_FRESH:
            return None
        peer = self._peers.find_session(session)
        keypair = session.find_keypair(receiver, now)
        if peer is None or keypair is None or keypair.receiving is None:
            return None
        return Arrival(peer, keypair, keypair.receiving)

    def is_relay(self, source: Endpoint, local: int, channel: int) -> bool:
        """Whether an envelope of that channel from there is our server's."""
        return self._link.is_server(source, local) and self._peers.has_channel(channel)

    def accept(self, arrival: Arrival, counter: int, frames: int) -> bool:
        """Frames with counters from `counter` on have opened. False: some of them have been opened
        before, or are too old; then nothing has changed. Else `note` them before anything else is
        accepted."""
        return arrival.peer.session.accept_run(arrival.keypair, counter, frames)

    def note(
        self, arrival: Arrival, counter: int, size: int, source: Endpoint, local: int, now: float
    ) -> None:
        """What follows from accepted frames, `size` bytes in all. Packets can be delivered before,
        other payloads can't."""
        peer, receiver = arrival.peer, arrival.keypair.local_index
        self._inbound.note_frames(peer, receiver, counter, source, now, size, local)

    def count_duplicates(self, arrival: Arrival, counter: int, frames: int) -> bool:
        """After `accept` refused authentic frames: True, and they are counted, if not one of them
        is new."""
        replay = arrival.keypair.replay
        if any(replay.is_fresh(number) for number in range(counter, counter + frames)):
            return False
        arrival.peer.counters.duplicates_dropped += frames
        return True

    def admits(self, peer: Peer, source: bytes) -> bool:
        """Whether the peer may send from that inner address (cryptokey routing)."""
        return self._peers.routes.find(source) is peer

    def note_packets(self, peer: Peer, packets: int, size: int, now: float) -> None:
        peer.note_activity(now)
        peer.counters.rx_packets += packets
        peer.counters.rx_bytes += size

    def receive_payload(
        self, peer: Peer, payload: bytes, source: Endpoint, now: float, local: int
    ) -> list[bytes]:
        """What an accepted frame held that is no packet; packets that it completes. Raises
        Malformed."""
        packets: list[bytes] = []
        self._inbound.receive_payload(peer, payload, 0, source, now, packets, local)
        return packets
