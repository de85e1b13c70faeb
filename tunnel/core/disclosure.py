"""What we tell peers of our own place in the network, and when.

Each is told when there is a session with it (or with its next process), when what is known has
changed, and when it asks. Whoever says something new asks for an answer, which shows that it has
arrived, and says it again until there is one: datagrams get lost.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tunnel.core.announcer import Announcer
from tunnel.core.candidates import is_public
from tunnel.core.configuration import NodeConfig
from tunnel.core.machine import earliest
from tunnel.core.nat import NatDiscovery
from tunnel.core.nat_mapping import ADDRESS, ADDRESS_AND_PORT, INDEPENDENT
from tunnel.core.peer import Peer
from tunnel.core.registration import Registration
from tunnel.wire.candidate import CandidateKind
from tunnel.wire.nature import Behaviour, MappingState, Nature

LOOK_AFTER = 0.3
"""Seconds from any event to the look whether there is something to tell: more follow the first."""
SPACING = 10.0
"""Seconds from one to the next that is told a peer because something has changed."""
REPEAT_AFTER = 3.0
"""Seconds until what is new is said again, twice as long each time."""
MAX_ASKS = 5
"""How often it is said to a peer that does not answer: older ones never do."""
ANSWER_SPACING = 1.0

_BEHAVIOURS = {
    None: Behaviour.UNKNOWN,
    INDEPENDENT: Behaviour.ENDPOINT_INDEPENDENT,
    ADDRESS: Behaviour.ADDRESS_DEPENDENT,
    ADDRESS_AND_PORT: Behaviour.ADDRESS_AND_PORT_DEPENDENT,
}


class Message(NamedTuple):
    to: Peer
    payload: bytes


@dataclass
class _Told:
    """What a peer was told last."""

    nature: Nature
    instance: int | None
    """Of the peer's process."""
    at: float
    asked_at: float
    asks: int = 1
    """How often it was told so and asked for an answer, the last time at `asked_at`."""
    is_confirmed: bool = False
    """Whether it has answered."""
    is_asked: bool = False
    """Whether it waits for an answer of ours."""


class Disclosure:
    def __init__(
        self,
        config: NodeConfig,
        registration: Registration,
        nat: NatDiscovery,
        announcer: Announcer,
    ) -> None:
        self.port_mapping = MappingState.UNKNOWN if config.port_mapping else MappingState.OFF
        self._config = config
        self._registration = registration
        self._nat = nat
        self._announcer = announcer
        self._told: dict[bytes, _Told] = {}
        self._look_at: float | None = None
        self._messages: list[Message] = []

    # What the owner asks

    def nature(self, now: float) -> Nature:
        """What is known of ourselves."""
        hops = self._nat.hops
        return Nature(
            mapping=_BEHAVIOURS[self._nat.mapping(now).behaviour],
            filtering=_BEHAVIOURS[self._nat.filtering.behaviour],
            hairpin=self._nat.hairpin.works,
            has_nat=self._nat.present(),
            port_mapping=self.port_mapping,
            routers=sum(1 for router in hops.routers if router and not _is_public(router)),
            is_udp_blocked=self._registration.is_udp_blocked,
            guesses_not=not self._config.may_guess,
            has_fixed_port=not self._config.may_rebind,
            has_ipv6=self._has_ipv6(),
            has_carrier_nat=hops.is_behind_carrier,
        )

    def take_messages(self) -> list[Message]:
        """To be sent by the routes of each."""
        messages, self._messages = self._messages, []
        return messages

    # Commands

    def wake(self, now: float) -> None:
        """Something has happened that may be worth telling."""
        self._look_at = earliest((self._look_at, now + LOOK_AFTER))

    def set_port_mapping(self, state: str, now: float) -> None:
        """As ``nat.port_mapping.state`` of ``punchtun status --json`` has it."""
        name = state.upper().replace("-", "_")
        self.port_mapping = MappingState.__members__.get(name, MappingState.UNKNOWN)
        self.wake(now)

    def receive(self, nature: Nature, peer: Peer, now: float) -> None:
        """What a peer says of itself."""
        peer.nature = nature._replace(wants_answer=False)
        told = self._told.get(peer.key.data)
        if told is None:
            return
        if nature.wants_answer:
            told.is_asked = True
            self.wake(now)
        elif told.instance == peer.instance:
            told.is_confirmed = True

    # The clock

    def get_timer(self) -> float | None:
        return self._look_at

    def handle_timer(self, peers: Iterable[Peer], now: float) -> None:
        if self._look_at is None or now < self._look_at:
            return
        self._look_at = None
        nature = self.nature(now)
        for peer in peers:
            if not peer.has_keys or not peer.traversal.routes(now):
                continue  # When there are, that is an event.
            due_at = self._due_at(peer, nature, now)
            if due_at is not None and now >= due_at:
                self._tell(peer, nature, now)
                due_at = self._due_at(peer, nature, now)
            self._look_at = earliest((self._look_at, due_at))

    # Inside

    def _due_at(self, peer: Peer, nature: Nature, now: float) -> float | None:
        told = self._told.get(peer.key.data)
        if told is None or told.instance != peer.instance:
            return now
        times: list[float | None] = []
        if told.nature != nature:
            times.append(told.at + SPACING)
        if told.is_asked:
            times.append(told.at + ANSWER_SPACING)
        if not told.is_confirmed and told.asks < MAX_ASKS:
            times.append(told.asked_at + REPEAT_AFTER * 2 ** (told.asks - 1))
        return earliest(times)

    def _tell(self, peer: Peer, nature: Nature, now: float) -> None:
        told = self._told.get(peer.key.data)
        is_asking = True
        if told is None or (told.instance, told.nature) != (peer.instance, nature):
            waits = told is not None and told.is_asked
            told = _Told(nature, peer.instance, now, asked_at=now, is_asked=waits)
            self._told[peer.key.data] = told
        elif told.is_asked:
            # An answer does not ask: two that ask each other would never be sure.
            told.is_asked = is_asking = False
        else:
            told.asks += 1
            told.asked_at = now
        told.at = now
        payload = nature._replace(wants_answer=is_asking).pack()
        self._messages.append(Message(peer, payload))

    def _has_ipv6(self) -> bool:
        return any(
            candidate.kind is CandidateKind.HOST
            and candidate.endpoint.is_ipv6
            and _is_public(candidate.endpoint.host)
            for candidate in self._announcer.candidates or ()
        )


def _is_public(host: str) -> bool:
    return is_public(ipaddress.ip_address(host))
