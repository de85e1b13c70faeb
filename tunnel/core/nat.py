"""What our NAT does, learned from the sockets in use and afresh each time; never a stored "type".

Mapping comes from who sees the node's one socket where; filtering, hairpinning and hops are asked
for with sockets of their own, so that the live mapping is never touched. All for IPv4: IPv6 is not
translated, only filtered.

    =========  ====================================  ==========================================
    state      meaning                               left by
    =========  ====================================  ==========================================
    RESTING    nothing to ask now                    ``SETTLE`` after the server has registered
                                                     us, the mapping has moved or behaves
                                                     otherwise, or ``FILTERING_AGAIN`` → FILTERING
    FILTERING  who may answer is asked, and hops     answers, or silence → HAIRPIN if there is a
               beside it                             NAT that answers, else RESTING
    HAIRPIN    datagrams to ourselves are out        one comes back, or silence → RESTING
    =========  ====================================  ==========================================

A change of the network leads from everywhere to RESTING, with nothing known.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable
from typing import Any

from tunnel.core.announcer import Announcer
from tunnel.core.candidates import is_public
from tunnel.core.events import Event, MappingMoved, ServerRegistered, SocketsReleased
from tunnel.core.hops import HopDiscovery
from tunnel.core.machine import RandomBytes, Transmit, earliest
from tunnel.core.nat_filtering import FilteringDiscovery
from tunnel.core.nat_hairpin import HairpinDiscovery
from tunnel.core.nat_mapping import INDEPENDENT, Mapping, Observation, classify_mapping
from tunnel.core.path import RELAYED
from tunnel.core.peer import Peer
from tunnel.core.registration import Registration
from tunnel.wire.candidate import CandidateKind
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.rendezvous import Echoed

MAIN_SOCKET, FILTERING_SOCKET, HOP_SOCKET = 0, 2, 3
"""``Transmit.local`` of the socket in use, and of two that are opened for the questions."""
SETTLE = 0.1
"""Seconds after a change: the server first says whether it has a second address, and punching goes
first."""
MAPPING_AGAIN = 900.0
"""Seconds between checks of the mapping: 18 kB a day."""
FILTERING_AGAIN = 3600.0
"""Seconds between checks of filtering and hairpinning: 17 kB a day."""
RETRY = 1.0
COMPARE_AFTER = 5.0
"""Seconds after which all endpoints of the server that were asked again have answered."""
MOVE_SPACING = 30.0
"""Seconds at least between two runs because the mapping has moved: some move all the time."""


class NatState(enum.Enum):
    RESTING = "resting"
    FILTERING = "filtering"
    HAIRPIN = "hairpin"


class NatDiscovery:
    def __init__(
        self,
        registration: Registration,
        peers: Iterable[Peer],
        announcer: Announcer,
        random_bytes: RandomBytes,
    ) -> None:
        self.state = NatState.RESTING
        self.hops = HopDiscovery(HOP_SOCKET)
        self.filtering = FilteringDiscovery(random_bytes)
        self.hairpin = HairpinDiscovery(random_bytes)
        self._registration = registration
        self._peers = peers
        self._announcer = announcer
        self._events: list[Event] = []
        self._since = float("-inf")
        """What peers have observed before says nothing of the present mapping."""
        self._due: float | None = None
        self._began = float("-inf")
        self._mapping_due: float | None = None
        self._compare_due: float | None = None
        self._behaviour: str | None = None
        self._needs_hops = True
        self._is_tracing = False

    # What the owner asks

    def present(self) -> bool | None:
        """Whether there is a NAT: whether the server sees another address than our own."""
        observed = self._observed
        if observed is None or self._announcer.candidates is None:
            return None
        own = {c.endpoint.host for c in self._announcer.candidates if c.kind is CandidateKind.HOST}
        return observed.host not in own

    def mapping(self, now: float) -> Mapping:
        mapping = classify_mapping(self._observations(now))
        if self.present() is False:
            return Mapping(
                INDEPENDENT, (*mapping.evidence, "that is an address of our own: no NAT")
            )
        return mapping

    def describe(self, now: float) -> dict[str, Any]:
        """For ``punchtun status --json``, under ``nat``."""
        mapping = self.mapping(now)
        evidence = [*mapping.evidence, *self.filtering.evidence, *self.hops.evidence()]
        return {
            "mapping": mapping.behaviour,
            "filtering": self.filtering.behaviour,
            "hairpin": self.hairpin.works,
            "present": self.present(),
            "routers": list(self.hops.routers),
            "carrier_nat": self.hops.is_behind_carrier,
            "evidence": evidence,
        }

    def take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def take_transmits(self, now: float) -> list[Transmit]:
        """What to send as it is. What is sealed for the server goes out with the registration's."""
        for probe in self.filtering.take_probes():
            server = self.filtering.server
            self._registration.link.send(probe, now, server, local=FILTERING_SOCKET)
        return self.hops.take_transmits() + self.hairpin.take_transmits()

    # Commands

    def restart(self, now: float) -> None:
        """The network has changed: nothing known is worth anything."""
        self._since = now
        self._needs_hops = True
        self.hops.stop()
        self.filtering.stop()
        self.hairpin.stop()
        self._release()
        self._due = now + SETTLE

        self.trace(now)

    def trace(self, now: float) -> None:
        """Begin with the hops as soon as the server's address is known: the first punch may come a
        moment after the registration, and its openers need them."""
        target = next((e for e in self._registration.link.endpoints if not e.is_ipv6), None)
        if self._needs_hops and target is not None:
            self._needs_hops, self._is_tracing = False, True
            self.hops.restart(target, now)

    def note(self, event: Event, now: float) -> None:
        """What the registration reports."""
        if isinstance(event, MappingMoved):
            self._since = now
            self._schedule(max(now + SETTLE, self._began + MOVE_SPACING))
        elif isinstance(event, ServerRegistered) and self.filtering.behaviour is None:
            self._schedule(now + SETTLE)

    # From the network

    def receive(self, message: Echoed, source: Endpoint, now: float) -> bool:
        """An answer of the server; whether it was one to us."""
        if not self.filtering.receive(message, source, now):
            return False
        self._proceed(now)
        return True

    def receive_hairpin(self, token: bytes, now: float) -> bool:
        """A token that came in; whether it was ours."""
        if not self.hairpin.receive(token):
            return False
        self._proceed(now)
        return True

    def receive_time_exceeded(
        self, endpoint: Endpoint, router: str, now: float, local: int
    ) -> None:
        """ICMP: a datagram to `endpoint` from that socket died at `router`."""
        self.hops.receive(endpoint, router, now, local)
        self._proceed(now)

    # The clock

    def get_timer(self) -> float | None:
        parts = (self.hops.get_timer(), self.filtering.get_timer(), self.hairpin.get_timer())
        return earliest((*parts, self._due, self._mapping_due, self._compare_due))

    def handle_timer(self, now: float) -> None:
        self.hops.handle_timer(now)
        self.filtering.handle_timer(now)
        self.hairpin.handle_timer(now)
        self._proceed(now)
        if self._mapping_due is not None and now >= self._mapping_due:
            self._mapping_due = now + MAPPING_AGAIN
            self._compare_due = now + COMPARE_AFTER
            self._behaviour = self.mapping(now).behaviour
            self._registration.ask_others(now)
        if self._compare_due is not None and now >= self._compare_due:
            self._compare_due = None
            if self.mapping(now).behaviour != self._behaviour:
                self._schedule(now)
        if self._due is not None and now >= self._due:
            self._due = None
            self._begin(now)

    # Inside

    @property
    def _observed(self) -> Endpoint | None:
        """Where the server sees us by IPv4."""
        return self._registration.observed.get((0, False))

    def _server(self) -> Endpoint | None:
        """Its IPv4 endpoint that sees us."""
        link = self._registration.link
        if link.endpoint is not None and not link.endpoint.is_ipv6:
            return link.endpoint
        seeing = (e for e in link.endpoints if e in self._registration.witnesses and not e.is_ipv6)
        return next(seeing, None)

    def _observations(self, now: float) -> list[Observation]:
        server, observed = self._server(), self._observed
        if server is None or observed is None:
            return []
        link = self._registration.link
        found = [Observation(server, observed)]
        found += [
            Observation(destination, seen)
            for destination, seen in self._registration.witnesses.items()
            if not destination.is_ipv6 and destination != server and link.is_server(destination)
        ]
        for peer in self._peers:
            for path in peer.traversal.paths():
                seen_by_peer = path.observed
                is_fresh = path.proof_sent_at is not None and path.proof_sent_at >= self._since
                if seen_by_peer is None or not is_fresh or not path.is_alive(now):
                    continue
                if path.local != MAIN_SOCKET:
                    continue  # Another socket has another mapping.
                # Within a LAN, or around by our own NAT, it is not the NAT that is seen.
                if path.endpoint == RELAYED or path.endpoint.host == observed.host:
                    continue
                if _is_public(path.endpoint) and _is_public(seen_by_peer):
                    found.append(Observation(path.endpoint, seen_by_peer))
        return found

    def _schedule(self, at: float) -> None:
        self._due = at if self._due is None else min(self._due, at)

    def _begin(self, now: float) -> None:
        server = self._server()
        if server is None or self._observed is None or not self._registration.is_connected:
            return  # The server will register us, and that begins it.
        if self.state is not NatState.RESTING or self._events:
            # A port that was used before would let answers in that a fresh one does not.
            self._due = now + RETRY
            return
        self._began = now
        self._due = now + FILTERING_AGAIN
        self._mapping_due = now + MAPPING_AGAIN
        self.trace(now)
        alternate = self._registration.link.alternate
        has_alternate = alternate is not None and not alternate.is_ipv6
        self.state = NatState.FILTERING
        self.filtering.start(server, now, has_alternate=has_alternate)

    def _proceed(self, now: float) -> None:
        """From filtering to hairpinning, and to closing what was opened."""
        if self._is_tracing and self.hops.is_complete:
            self._is_tracing = False
            self._events.append(SocketsReleased((HOP_SOCKET,)))
        if self.state is NatState.FILTERING and not self.filtering.is_running:
            ours, observed = self.filtering.observed, self._observed
            if ours and observed and self.present() and _is_public(ours) and _is_public(observed):
                self.state = NatState.HAIRPIN
                self.hairpin.start((MAIN_SOCKET, observed), (FILTERING_SOCKET, ours), now)
            else:
                self._rest()
        elif self.state is NatState.HAIRPIN and not self.hairpin.is_running:
            self._rest()

    def _rest(self) -> None:
        self.state = NatState.RESTING
        self._events.append(SocketsReleased((FILTERING_SOCKET,)))

    def _release(self) -> None:
        if self.state is not NatState.RESTING or self._is_tracing:
            self._events.append(SocketsReleased((FILTERING_SOCKET, HOP_SOCKET)))
        self.state, self._is_tracing = NatState.RESTING, False


def _is_public(endpoint: Endpoint) -> bool:
    return not endpoint.is_ipv6 and is_public(ipaddress.ip_address(endpoint.host))
