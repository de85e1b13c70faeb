"""Peers that tell each other where others are, for when no server does.

A node in doubt about a peer asks some that it reaches directly. Whoever reaches that peer directly
too answers with the endpoint it hears it from, and tells that peer likewise where the asker is: so
both punch at about the same time, as if they had been introduced.

What a member says of another is believed as far as checks go: only the other's own answer proves.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from tunnel.core.announcer import Announcer
from tunnel.core.path import RELAYED, Path
from tunnel.core.peer import Peer
from tunnel.core.peer_table import PeerTable
from tunnel.core.ratelimit import KeyedRateLimit
from tunnel.core.traversal import TraversalState
from tunnel.wire.candidate import Candidate, CandidateKind
from tunnel.wire.check import Seen, Where
from tunnel.wire.endpoint import Endpoint

MAX_ASKED = 4
"""Peers asked at a time. Those proven last come first."""
ASK_RATE, ASK_BURST = 1.0, 2.0
"""Questions a second about one peer."""
ANSWER_RATE, ANSWER_BURST = 5.0, 20.0
"""Questions and news a second taken from one peer."""


class Message(NamedTuple):
    to: Peer
    endpoint: Endpoint
    payload: bytes


class Witness:
    """Keeps no record of where anybody is: it asks the paths."""

    def __init__(self, peers: PeerTable, announcer: Announcer) -> None:
        self._peers = peers
        self._announcer = announcer
        self._asking = KeyedRateLimit(ASK_RATE, ASK_BURST)
        self._answering = KeyedRateLimit(ANSWER_RATE, ANSWER_BURST)
        self._messages: list[Message] = []

    def take_messages(self) -> list[Message]:
        messages, self._messages = self._messages, []
        return messages

    def ask_for_all(self, now: float) -> None:
        """Somebody is there, where the server is not: ask about those we have lost."""
        reached = self._reached(now)
        for peer in self._peers:
            if not peer.session.is_established(now) and self._asking.take(peer.key.data, now):
                self._ask(peer, reached)

    def ask(self, about: Peer, now: float) -> None:
        """Where is that peer? It may be asked with every packet: the look for somebody who may
        know counts, whether there is one or not."""
        if self._asking.take(about.key.data, now):
            self._ask(about, self._reached(now))

    def _ask(self, about: Peer, reached: Iterable[tuple[Peer, Path]]) -> None:
        where = Where(about.key.data).pack()
        for peer, path in islice((to for to in reached if to[0] is not about), MAX_ASKED):
            self._messages.append(Message(peer, path.endpoint, where))

    def _reached(self, now: float) -> list[tuple[Peer, Path]]:
        """Those reached directly, proven last first."""
        reached = [
            (peer, best)
            for peer in self._peers
            if (best := peer.traversal.best) is not None and peer.session.is_established(now)
        ]
        reached.sort(
            key=lambda to: (
                to[0].traversal.state is TraversalState.DIRECT,
                to[1].proven_at or 0.0,
            ),
            reverse=True,
        )
        return reached

    def answer(self, where: Where, asker: Peer, source: Endpoint, now: float) -> None:
        """Tell the asker, heard from `source`, and the one it asks about, of each other."""
        about = self._peers.get(where.member)
        if about is None or about is asker or not self._answering.take(asker.key.data, now):
            return
        # Not by the paths in use: whoever asks has just moved, perhaps, and is not proven there.
        asker_at = source if source != RELAYED else asker.traversal.path_table.heard_at
        about_at = about.traversal.path_table.heard_at
        if asker_at is None or about_at is None or not about.session.is_established(now):
            return
        self._messages.append(Message(asker, asker_at, Seen(where.member, about_at).pack()))
        self._messages.append(Message(about, about_at, Seen(asker.key.data, asker_at).pack()))

    def learn(self, seen: Seen, teller: Peer, now: float) -> None:
        """Somebody hears a peer of ours at that endpoint."""
        peer = self._peers.get(seen.member)
        if peer is None or peer is teller or not self._answering.take(teller.key.data, now):
            return
        for candidate in self._announcer.admit(
            [Candidate(CandidateKind.PEER_REFLEXIVE, seen.endpoint)]
        ):
            if not peer.session.is_established(now):
                peer.traversal.add_candidate(candidate)
                peer.session.restart_handshake(now)
                continue
            is_known = peer.traversal.best is not None and (
                peer.traversal.best.endpoint == candidate.endpoint
                and peer.traversal.state is TraversalState.DIRECT
            )
            if not is_known:
                peer.traversal.note_moved(candidate, now, f"{teller.name} saw it")
