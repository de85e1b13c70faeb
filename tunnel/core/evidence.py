"""What was seen of a pair, in sentences with figures: on our side, on the peer's, by the server."""

from __future__ import annotations

from collections.abc import Iterator

from tunnel.core.pair_facts import PairFacts
from tunnel.core.prediction import PortRange
from tunnel.wire.check import PredictionKind, Refusal
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.nature import Behaviour, MappingState, Nature

_MAPPINGS = {
    MappingState.OFF: "port mapping is switched off",
    MappingState.DOUBLE_NAT: "the router maps a port, but its own address is private",
    MappingState.REFUSED: "the router refuses to map a port",
    MappingState.UNAVAILABLE: "no router answers PCP, NAT-PMP or UPnP",
}
_REFUSALS = {
    Refusal.BUSY: "busy, or out of budget",
    Refusal.OFF: "switched off",
    Refusal.HOPELESS: "hopeless",
    Refusal.UNPREDICTABLE: "ports not to be learned",
}


def gather_evidence(facts: PairFacts) -> tuple[str, ...]:
    if facts.state == "offline":
        return tuple(_of_absence(facts))
    return (
        *_of_server(facts),
        *_of_side("here", facts.ours, facts.our_range),
        *_of_peer(facts),
        *_of_attempts(facts),
    )


def _of_absence(facts: PairFacts) -> Iterator[str]:
    if facts.refusal_of_server is not None:
        yield f"the server refuses us: {facts.refusal_of_server.words.reason}"
    elif not facts.is_registered:
        yield "we are not registered at the server"
    elif facts.has_left:
        yield "it said good-bye, or the server no longer hears it"
    else:
        yield "the server does not know it and it answers nowhere"
    yield from _of_clock(facts)


def _of_server(facts: PairFacts) -> Iterator[str]:
    if facts.refusal_of_server is not None:
        yield f"the server refuses us: {facts.refusal_of_server.words.reason}"
    elif not facts.is_registered:
        yield "we are not registered at the server"
    if facts.our_endpoints:
        seen = " and ".join(map(str, dict.fromkeys(facts.our_endpoints)))
        yield f"the server sees us at {seen}"
    hosts = [host for host in facts.their_hosts if Endpoint(host, 0).host != "::"]
    if hosts:
        yield f"it sees {facts.peer} at {' and '.join(hosts)}"
    if facts.shares_address:
        yield "that is one address for both"
    if facts.refusal_of_relay is not None:
        yield f"the server says: {facts.refusal_of_relay.words.reason}"
    if not facts.has_relay:
        yield "the server has given no relay channel"
    yield from _of_clock(facts)


def _of_clock(facts: PairFacts) -> Iterator[str]:
    if facts.clock_offset is not None and abs(facts.clock_offset) > 1:
        yield f"our clock is {facts.clock_offset:+.0f} s from the server's"


def _of_peer(facts: PairFacts) -> Iterator[str]:
    if facts.theirs is None:
        yield f"{facts.peer} has said nothing of its NAT yet"
    else:
        yield from _of_side(f"at {facts.peer}", facts.theirs, facts.their_range)


def _of_side(where: str, nature: Nature, seen: PortRange | None) -> Iterator[str]:
    if nature.is_udp_blocked:
        yield f"{where}: the server is reached by a stream only, not over UDP"
        return
    if nature.has_nat is False:
        yield f"{where}: no NAT"
    elif nature.mapping is Behaviour.UNKNOWN:
        yield f"{where}: the NAT's mapping is not known yet"
    else:
        sentence = f"{where}: mapping {nature.mapping.text}"
        if nature.filtering is not Behaviour.UNKNOWN:
            sentence += f", filtering {nature.filtering.text}"
        if nature.hairpin is not None:
            sentence += ", hairpins" if nature.hairpin else ", does not hairpin"
        yield sentence
    if seen is not None:
        yield f"{where}: {_of_range(seen)}"
    if nature.has_carrier_nat:
        yield f"{where}: a carrier-grade NAT is on the way"
    elif nature.routers > 1:
        yield f"{where}: {nature.routers} routers with private addresses before the internet"
    if nature.port_mapping in _MAPPINGS:
        yield f"{where}: {_MAPPINGS[nature.port_mapping]}"
    if nature.guesses_not:
        yield f"{where}: port guessing is switched off"
    if nature.has_ipv6:
        yield f"{where}: has a public IPv6 address"


def _of_range(seen: PortRange) -> str:
    if seen.kind is PredictionKind.EXACT:
        return f"the last socket was mapped to port {seen.first.port}, for every destination"
    ends = sorted((seen.first.port, seen.last))
    if seen.kind is PredictionKind.SEQUENTIAL:
        return f"the NAT counts its ports; the next are {ends[0]} to {ends[1]}"
    return f"the NAT draws ports at random, {ends[0]} to {ends[1]}"


def _of_attempts(facts: PairFacts) -> Iterator[str]:
    count = len(facts.their_candidates)
    if facts.punches:
        yield f"{facts.checks} checks in {facts.punches} punches to {count} endpoints"
    elif facts.handshakes == 0:
        yield "no handshake was completed"
    if facts.heard_from:
        seen = ", ".join(map(str, facts.heard_from[:3]))
        yield f"datagrams of {facts.peer} arrive from {seen}, and no answer to ours"
    if facts.tries:
        count_text = "1 attempt" if facts.tries == 1 else f"{facts.tries} attempts"
        sentence = f"{count_text} with predicted or guessed ports"
        if facts.chance is not None:
            sentence += f", each with a chance of {_percent(facts.chance)}"
        yield sentence
    if facts.refusal is not None:
        who = facts.peer if facts.refused_by_peer else "this node"
        yield f"{who} declined the last attempt: {_REFUSALS[facts.refusal]}"
    if facts.next_attempt is not None and not facts.is_punching:
        yield f"next attempt in {facts.next_attempt:.0f} s"


def _percent(chance: float) -> str:
    return f"{chance:.0%}" if chance >= 0.01 else "less than 1 %"
