"""After every input: what the parts of a node want sent and reported.

The parts are few, and asked each time; peers may be many, and only those are asked that were
touched (``core/attention.py``). What one of them wants done to others touches these in turn.
"""

from __future__ import annotations

from collections import Counter, deque

from tunnel.core.announcer import Announcer
from tunnel.core.check_budget import CheckBudget
from tunnel.core.checks import Outgoing
from tunnel.core.disclosure import Disclosure
from tunnel.core.events import (
    Event,
    PathChanged,
    PingAnswered,
    ServerRegistered,
    SocketsReleased,
    TransportChanged,
)
from tunnel.core.expulsion import Expulsion
from tunnel.core.inbound import Inbound
from tunnel.core.lifetime import LifetimeProbe
from tunnel.core.nat import NatDiscovery
from tunnel.core.outbound import Outbound
from tunnel.core.path import RELAYED
from tunnel.core.peer import Peer
from tunnel.core.peer_table import PeerTable
from tunnel.core.port_guessing import PortGuessing
from tunnel.core.registration import Registration
from tunnel.core.rotation import Rotation
from tunnel.core.witness import Witness
from tunnel.wire.endpoint import Endpoint

SECOND_SOCKET = 1
"""``Transmit.local`` of the socket on which mapping lifetimes are measured."""


class Collector:
    def __init__(
        self,
        *,
        registration: Registration,
        peers: PeerTable,
        announcer: Announcer,
        lifetime: LifetimeProbe,
        nat: NatDiscovery,
        guessing: PortGuessing,
        disclosure: Disclosure,
        witness: Witness,
        expulsion: Expulsion,
        rotation: Rotation,
        inbound: Inbound,
        outbound: Outbound,
        drops: Counter[str],
    ) -> None:
        self.events: deque[Event] = deque()
        """To be reported."""
        self._registration = registration
        self._peers = peers
        self._announcer = announcer
        self._lifetime = lifetime
        self._nat = nat
        self._guessing = guessing
        self._disclosure = disclosure
        self._witness = witness
        self._expulsion = expulsion
        self._rotation = rotation
        self._inbound = inbound
        self._outbound = outbound
        self._drops = drops
        self._check_budget = CheckBudget()
        self._observed: dict[tuple[int, bool], Endpoint] | None = None
        """Where the server saw us when our candidates were last gathered."""
        self._routers: tuple[str, ...] | None = None
        """From which it was last reckoned how far openers go."""

    def collect(self, now: float) -> None:
        """Into the outbound's transmits, and `events`."""
        self.events.extend(self._inbound.take_events())
        self.events.extend(self._expulsion.take_events())
        self.events.extend(self._rotation.take_events())
        if self._registration.observed != self._observed:
            self.announce(now)
        for event in self._registration.take_events():
            self._note(event, now)
        self.events.extend(self._peers.take_events())
        self._measure_lifetime(now)
        self._guess(now)
        for to, payload in self._disclosure.take_messages():
            self._outbound.send(to, payload, now)
        self._outbound.add(self._nat.take_transmits(now))
        self.events.extend(self._nat.take_events())
        looked_at = self._collect_peers(now)
        if self.events:
            self._disclosure.wake(now)
            self._expulsion.wake(now)
        # First what tells the server where we are: then it relays what follows.
        self._outbound.add(self._registration.datagrams_to_send())
        for peer in looked_at:
            self._outbound.send_again(peer, peer.take_unproven(now), now)
            self._peers.attention.plan(peer)

    # The network and our candidates

    def gather(self) -> bool:
        """Bring our candidates up to date; whether they have changed."""
        registration = self._registration
        self._observed = dict(registration.observed)
        reflexive = registration.reflexive_endpoints()
        if not self._announcer.gather(reflexive, registration.alternate_endpoints()):
            return False
        self._peers.set_local_candidates(self._announcer.candidates or ())
        return True

    def announce(self, now: float) -> None:
        """Tell the server, and through it the peers, when our candidates have changed."""
        before = self._announcer.candidates
        if not self.gather():
            return
        # What the server itself sees it tells the peers without being told.
        known = self._registration.main_observed
        is_on_stream = self._registration.link.is_on_stream
        if is_on_stream or self._announcer.has_news_since(before, known):
            self._registration.announce(self._announcer.seal(), now)

    def punch_again(self, now: float, cause: str = "UDP passes again") -> None:
        """From this network, as if nothing were known of it."""
        self._lifetime.restart(now)
        self._guessing.reset(now)
        self._nat.restart(now)
        self.punch_all(now, cause)

    def punch_all(self, now: float, cause: str) -> None:
        for peer in self._peers.touch_all():
            if peer.session.is_established(now):
                peer.traversal.punch(now, cause)
                peer.traversal.call_peer(now)

    # Inside

    def _note(self, event: Event, now: float) -> None:
        """What the registration reports."""
        self.events.append(event)
        if isinstance(event, TransportChanged):
            for peer in self._peers.touch_all():
                # What was relayed by the other way since it failed went nowhere.
                peer.traversal.set_relay(bool(peer.channel), now, is_new=True)
        if self._registration.link.is_on_stream:
            return
        self._nat.note(event, now)
        if isinstance(event, TransportChanged):
            self.punch_again(now)
        elif isinstance(event, ServerRegistered) and self._lifetime.get_timer() is None:
            self._lifetime.restart(now)

    def _measure_lifetime(self, now: float) -> None:
        for probe in self._lifetime.take_probes():
            if not self._registration.link.is_on_stream:
                self._registration.link.send(probe, now, local=SECOND_SOCKET)
        interval = self._lifetime.keepalive_interval
        if interval != self._registration.keepalive_interval:
            self._registration.keepalive_interval = interval
            self._peers.set_keepalive_interval(interval)

    def _guess(self, now: float) -> None:
        if self._nat.hops.routers is not self._routers:
            self._routers = self._nat.hops.routers
            self._peers.set_opener_ttl(self._nat.hops.opener_ttl)
        self._guessing.measure(now)
        for probe, endpoint, local in self._guessing.take_probes():
            self._registration.link.send(probe, now, endpoint, local)
        for to, check in self._guessing.take_messages():
            self._outbound.send_checks(to, [check], now)
        released = self._guessing.take_released()
        if released:
            self.events.append(SocketsReleased(released))

    def _collect_peers(self, now: float) -> list[Peer]:
        """From those that were touched, until none is; which those were."""
        looked_at: dict[Peer, None] = {}
        while touched := self._peers.attention.take_touched():
            for peer in touched:
                if peer not in self._peers:
                    continue  # By what of its frames was under way when it was removed.
                looked_at[peer] = None
                self._collect_peer(peer, now)
                self._guessing.note(peer)
            for to, endpoint, payload in self._witness.take_messages():
                local = to.traversal.local_of(endpoint)
                self._outbound.send_checks(to, [Outgoing(endpoint, payload, local)], now)
        return list(looked_at)

    def _collect_peer(self, peer: Peer, now: float) -> None:
        wishes = peer.traversal.wishes
        checks = self._check_budget.admit(peer, peer.take_checks(now), self._drops, now)
        self._outbound.send_checks(peer, checks, now)
        if wishes.take_was_moved():
            # The server does not know yet, nor do the peers that we have nothing to say to.
            self._registration.refresh(now)
            for other in self._peers.touch_all():
                other.traversal.echo_now(now)
        if wishes.take_wants_witness():
            self._registration.refresh(now)
        if wishes.take_wants_introduction():
            self._registration.refresh(now)
            if self._announcer.has_untold_alternate:
                self._registration.announce(self._announcer.seal(), now)
            self._registration.introduce(peer.key.data, now)
            # The server may have died without anybody noticing yet.
            self._witness.ask(peer, now)
        self._outbound.send_handshakes(peer, self._check_budget, self._drops, now)
        for transaction, seconds, endpoint in peer.traversal.asking.take_answers():
            way = "relay" if endpoint == RELAYED else str(endpoint)
            self.events.append(PingAnswered(peer.name, transaction, seconds, way))
        events = peer.take_events(now)
        self.events.extend(events)
        if not self._registration.is_connected and any(
            isinstance(event, PathChanged) for event in events
        ):
            self._witness.ask_for_all(now)
