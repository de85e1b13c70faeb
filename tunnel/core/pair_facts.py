"""All that is known of one pair when somebody asks why it is not direct: from this node, from what
the peer has told of itself, and from what the server sees of both."""

from __future__ import annotations

from dataclasses import dataclass

from tunnel.core.guess_record import GuessRecord
from tunnel.core.path import RELAYED
from tunnel.core.peer import Peer
from tunnel.core.prediction import PortRange
from tunnel.core.refusals import StandingRefusal
from tunnel.core.registration import Registration
from tunnel.wire.candidate import Candidate
from tunnel.wire.check import Refusal
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.nature import Nature

UNKNOWN = Nature()


@dataclass(frozen=True)
class PairFacts:
    """Times in seconds; ports and endpoints as the server sees them unless said otherwise."""

    peer: str = "the peer"
    """Its name."""
    state: str = "relayed"
    """relayed, connecting or offline."""
    ours: Nature = UNKNOWN
    theirs: Nature | None = None
    """None: it has not said so yet, or does not know the question."""

    is_registered: bool = True
    is_known_online: bool = True
    """Whether the server, or the peer itself, said so last."""
    has_left: bool = False
    has_relay: bool = True
    refusal_of_server: StandingRefusal | None = None
    """Why it does not register us."""
    refusal_of_relay: StandingRefusal | None = None
    handshakes: int = 1
    clock_offset: float | None = None
    """How far our clock is ahead of the server's."""

    our_endpoints: tuple[Endpoint, ...] = ()
    """Where the server sees us: at its first port, at its second, and so on."""
    their_hosts: tuple[str, ...] = ()
    """Where it sees the peer."""
    our_candidates: tuple[Endpoint, ...] = ()
    """All that we announce."""
    their_candidates: tuple[Endpoint, ...] = ()
    """What is checked."""

    checks: int = 0
    punches: int = 0
    failures: int = 0
    """Punches in vain in a row."""
    is_punching: bool = False
    next_attempt: float | None = None
    heard_from: tuple[Endpoint, ...] = ()
    """Where authentic datagrams of the peer came from, though ours did not get back there."""

    tries: int = 0
    """Attempts with predicted or guessed ports."""
    our_range: PortRange | None = None
    their_range: PortRange | None = None
    chance: float | None = None
    refusal: Refusal | None = None
    refused_by_peer: bool = False

    @property
    def shares_address(self) -> bool:
        """Whether the server sees both at one address: behind one NAT."""
        return any(endpoint.host in self.their_hosts for endpoint in self.our_endpoints)

    @property
    def has_ipv6_candidates(self) -> bool:
        return any(endpoint.is_ipv6 for endpoint in self.their_candidates)


def gather_pair(
    peer: Peer,
    ours: Nature,
    candidates: tuple[Candidate, ...],
    record: GuessRecord,
    registration: Registration,
    now: float,
) -> PairFacts:
    traversal = peer.traversal
    next_at = traversal.schedule.get_timer()
    unanswered = [
        path.endpoint
        for path in traversal.paths()
        if path.endpoint != RELAYED and path.received_at is not None and path.proven_at is None
    ]
    return PairFacts(
        peer=peer.name,
        state=peer.state(now),
        ours=ours,
        theirs=peer.nature,
        is_registered=registration.is_connected,
        is_known_online=peer.is_online,
        has_left=peer.has_left,
        has_relay=traversal.relay is not None,
        refusal_of_server=registration.refusal,
        refusal_of_relay=registration.relay_refusal(now),
        handshakes=peer.session.handshakes,
        clock_offset=registration.clock_offset,
        our_endpoints=tuple(registration.observed.values()),
        their_hosts=peer.observed_hosts,
        our_candidates=tuple(candidate.endpoint for candidate in candidates),
        their_candidates=tuple(traversal.path_table.candidates),
        checks=traversal.checks.pings,
        punches=traversal.punches,
        failures=traversal.schedule.failures,
        is_punching=traversal.schedule.is_running,
        next_attempt=None if next_at is None else max(0.0, next_at - now),
        heard_from=tuple(unanswered),
        tries=record.tries,
        our_range=record.ours,
        their_range=record.theirs,
        chance=record.chance,
        refusal=record.refusal,
        refused_by_peer=record.refused_by_peer,
    )
