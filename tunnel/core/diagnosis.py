"""Why a pair is not direct: one reason, the evidence for it, and what a person can do.

Pure: facts in, words out. Codes are for programs and last; the sentences are for people.

====================  ==========================================================================
code                  meaning
====================  ==========================================================================
server-refuses        the server has no place for us, or for our network
server-unreachable    without the server there is no introduction and no relay
peer-offline          the server does not know the peer, and it answers nowhere
clock-wrong           our clock is far from the server's: old handshakes are refused
relay-quota           our network has used up what the server relays, and no direct path was found
relay-pairs           as many pairs of our network as the server admits have the relay
no-relay              the server does not relay, and no direct path was found
connecting            keys are being agreed
udp-blocked           our network lets no UDP through to the server
peer-udp-blocked      the peer's network lets none through
punching              the first attempts are under way
no-candidates         the peer has no endpoint that could be reached from here
no-common-family      one side has IPv4 only, the other IPv6 only
same-nat-no-hairpin   both are behind one NAT, which does not bring back what is for itself
guessing-off          ports would have to be guessed, and that is switched off here
guessing-off-peer     the same at the peer
both-scattered        both NATs draw ports from so many that no budget suffices to guess them
unpredictable         one side is seen at several addresses, or its ports could not be learned
guess-budget          guessing waits: another attempt is under way, or its budget is spent
guessing              ports are predicted or guessed, attempt after attempt
one-way               the peer's datagrams arrive here, ours do not get back to it
firewall-ipv6         nothing but IPv6 could connect the pair, and a firewall drops it
nothing-arrives       both NATs should let the pair meet, and nothing arrives
====================  ==========================================================================
"""

from __future__ import annotations

from typing import NamedTuple

from tunnel.core.evidence import gather_evidence
from tunnel.core.pair_facts import PairFacts
from tunnel.core.port_guessing import HOPELESS
from tunnel.core.prediction import WIDEST_BLOCK, PortRange
from tunnel.core.remedies import RELAY_CARRIES, open_a_port, use_ipv6
from tunnel.wire.check import PredictionKind, Refusal
from tunnel.wire.nature import Behaviour, Nature
from tunnel.wire.rendezvous import RefusalReason

CLOCK_TOLERANCE = 60.0
"""Seconds. Handshakes with a time before the last one's are refused as repeated (white paper §5.1):
a clock that is so far off may be set back by as much at any moment."""
EARLY_FAILURES = 1
"""Punches in vain that say nothing yet."""
SEVERAL = 2
"""Attempts of which none came to an estimate of its chance: they are declined."""


_CUTS = (RefusalReason.RELAY_QUOTA, RefusalReason.RELAY_PAIRS)


class Diagnosis(NamedTuple):
    code: str
    reason: str
    evidence: tuple[str, ...]
    fix: str

    def describe(self) -> dict[str, str]:
        """``why_not_direct`` of ``punchtun status --json``."""
        return {
            "code": self.code,
            "reason": self.reason,
            "evidence": "; ".join(self.evidence),
            "fix": self.fix,
        }


def diagnose(facts: PairFacts) -> Diagnosis | None:
    """None for a direct pair. Never raises, whatever the facts."""
    if facts.state == "direct":
        return None
    code, reason, fix = _judge(facts)
    return Diagnosis(code, reason, gather_evidence(facts), fix)


class _Verdict(NamedTuple):
    code: str
    reason: str
    fix: str


def _judge(facts: PairFacts) -> _Verdict:
    if facts.state != "relayed":
        return _judge_unreached(facts)
    if facts.ours.is_udp_blocked:
        return _Verdict(
            "udp-blocked",
            "this network lets no UDP through to the server",
            "allow outbound UDP in the firewall or router here, or use another network; "
            "the node goes back to UDP by itself",
        )
    if facts.theirs is not None and facts.theirs.is_udp_blocked:
        return _Verdict(
            "peer-udp-blocked",
            f"the network of {facts.peer} lets no UDP through to the server",
            f"allow outbound UDP in the firewall or router at {facts.peer}; "
            "it goes back to UDP by itself",
        )
    is_new = facts.failures < EARLY_FAILURES and facts.tries == 0
    if is_new and facts.is_punching:
        return _Verdict("punching", "the first attempts are under way", "wait a few seconds")
    return _judge_candidates(facts) or _judge_ports(facts)


def _judge_unreached(facts: PairFacts) -> _Verdict:
    """Neither direct nor relayed."""
    peer = facts.peer
    if facts.refusal_of_server is not None:
        refusal = facts.refusal_of_server.words
        return _Verdict("server-refuses", f"the server refuses us: {refusal.reason}", refusal.fix)
    if not facts.is_registered:
        return _Verdict(
            "server-unreachable",
            f"the server does not answer, and {peer} was not reached without it",
            "see `punchtun doctor`; the server's UDP ports must be open, at its provider too",
        )
    offset = facts.clock_offset
    if offset is not None and abs(offset) > CLOCK_TOLERANCE and not facts.has_left:
        way = "ahead of" if offset > 0 else "behind"
        return _Verdict(
            "clock-wrong",
            f"this machine's clock is {abs(offset):.0f} s {way} the server's, and handshakes with "
            "a time before the last one are refused",
            "set the clock, for example with `timedatectl set-ntp true`; then restart the node",
        )
    if facts.state == "offline":
        return _Verdict(
            "peer-offline",
            "the peer is offline",
            "start punchtun there; `punchtun doctor` on it tells what it lacks",
        )
    if facts.refusal_of_relay is not None and facts.refusal_of_relay.reason in _CUTS:
        relay = facts.refusal_of_relay.words
        return _Verdict(relay.code, f"no direct path was found, and {relay.reason}", relay.fix)
    if not facts.has_relay and facts.punches > 0:
        return _Verdict(
            "no-relay",
            "no direct path was found, and the server does not relay",
            "run the server without --no-relay, or " + open_a_port("here", facts.ours),
        )
    return _Verdict("connecting", "keys are still being agreed", "wait a few seconds")


def _judge_candidates(facts: PairFacts) -> _Verdict | None:
    """Whether there is anything to check at all."""
    peer = facts.peer
    ours = {endpoint.is_ipv6 for endpoint in facts.our_candidates}
    theirs = {endpoint.is_ipv6 for endpoint in facts.their_candidates}
    if not theirs:
        return _Verdict(
            "no-candidates",
            f"{peer} has told no endpoint that could be reached from here",
            f"`punchtun doctor` at {peer} tells what it lacks",
        )
    if ours and not ours & theirs:
        have, has = ("IPv6", "IPv4") if True in ours else ("IPv4", "IPv6")
        return _Verdict(
            "no-common-family",
            f"this machine has {have} only and {peer} {has} only",
            f"enable {has} here, or {have} at {peer}",
        )
    if facts.shares_address and facts.ours.hairpin is not True:
        return _Verdict(
            "same-nat-no-hairpin",
            "both machines are behind one NAT, and it does not bring back what is sent to its own "
            "outside",
            "connect both to one LAN whose machines may talk to each other (no guest network, no "
            "client isolation), switch on NAT loopback (hairpinning) in the router, or use IPv6",
        )
    return None


def _judge_ports(facts: PairFacts) -> _Verdict:
    """The peer's endpoints were checked in vain."""
    ours_vary = _varies(facts.ours, facts.our_range)
    theirs_vary = _varies(facts.theirs, facts.their_range)
    has_hope_in_ipv6 = bool(facts.theirs and facts.ours.has_ipv6 and facts.theirs.has_ipv6)
    if ours_vary or theirs_vary:
        verdict = _judge_varying(facts, ours_vary, theirs_vary)
        if has_hope_in_ipv6 and verdict.code not in ("guessing", "guess-budget"):
            return _firewall_ipv6(facts)
        return verdict
    if facts.heard_from:
        return _Verdict(
            "one-way",
            f"what {facts.peer} sends arrives here, what we send does not get back to it",
            f"look for a firewall on the way to {facts.peer}, at its machine too, that drops "
            f"inbound UDP; else {_open_either(facts)}",
        )
    if facts.refusal is Refusal.UNPREDICTABLE:
        return _unpredictable(facts)
    if facts.ours.mapping is Behaviour.UNKNOWN or facts.theirs is None:
        return _Verdict(
            "punching",
            "no candidate of the peer answers our checks yet",
            "punching goes on by itself; if it stays so, " + _open_either(facts),
        )
    return _Verdict(
        "nothing-arrives",
        "both NATs seem to keep one port for all destinations, so the pair should meet, and "
        "nothing arrives",
        "look for a firewall on either machine, or between, that drops UDP from unknown sources; "
        f"else {_open_either(facts)}",
    )


def _judge_varying(facts: PairFacts, ours_vary: bool, theirs_vary: bool) -> _Verdict:
    """At least one NAT gives every destination another port."""
    peer = facts.peer
    # Whoever asks, and is declined, does not learn the chance; later attempts hide the refusal.
    is_hopeless = (
        facts.refusal is Refusal.HOPELESS
        or (_is_whole(facts.our_range) and _is_whole(facts.their_range))
        or (facts.tries >= SEVERAL and facts.refusal is None and (facts.chance or 0) < HOPELESS)
    )
    if is_hopeless and ours_vary and theirs_vary and not _is_guessing_off(facts):
        ways = [open_a_port("here", facts.ours), open_a_port(peer, facts.theirs)]
        ipv6 = use_ipv6(peer, facts.ours, facts.theirs)
        return _Verdict(
            "both-scattered",
            "both NATs give every destination another port, out of too many to guess",
            f"nothing that punchtun could do by itself; {RELAY_CARRIES}. A way in on either side "
            f"would do: {'; or '.join(ways)}" + (f"; {ipv6}" if ipv6 else ""),
        )
    who = _who_varies(peer, ours_vary, theirs_vary)
    if facts.ours.guesses_not or (facts.refusal is Refusal.OFF and not facts.refused_by_peer):
        return _Verdict(
            "guessing-off",
            f"{who}, and guessing ports is switched off here",
            f"allow port guessing here, or {_open_varying(facts, ours_vary)}",
        )
    if _is_guessing_off(facts):
        return _Verdict(
            "guessing-off-peer",
            f"{who}, and guessing ports is switched off at {peer}",
            f"allow port guessing at {peer}, or {_open_varying(facts, ours_vary)}",
        )
    if facts.refusal is Refusal.UNPREDICTABLE:
        return _unpredictable(facts)
    if facts.refusal is Refusal.BUSY:
        at = peer if facts.refused_by_peer else "this node"
        return _Verdict(
            "guess-budget",
            f"{who}; guessing waits, for {at} has another attempt under way or has used up its "
            "budget of NAT entries",
            f"wait: it goes on by itself; or {_open_varying(facts, ours_vary)}",
        )
    return _Verdict(
        "guessing",
        f"{who}; ports are predicted or guessed, attempt after attempt",
        f"wait: it goes on by itself, and {RELAY_CARRIES}; or {_open_varying(facts, ours_vary)}",
    )


def _is_guessing_off(facts: PairFacts) -> bool:
    """On either side."""
    is_off_there = facts.theirs is not None and facts.theirs.guesses_not
    return facts.ours.guesses_not or is_off_there or facts.refusal is Refusal.OFF


def _unpredictable(facts: PairFacts) -> _Verdict:
    where = f"at {facts.peer}" if facts.refused_by_peer else "here"
    return _Verdict(
        "unpredictable",
        f"the ports {where} could not be learned: no answers of the server, or several addresses",
        open_a_port(
            facts.peer if facts.refused_by_peer else "here",
            facts.theirs if facts.refused_by_peer else facts.ours,
        ),
    )


def _firewall_ipv6(facts: PairFacts) -> _Verdict:
    return _Verdict(
        "firewall-ipv6",
        "both machines have IPv6, which no NAT is in the way of, and nothing arrives by it; by "
        "IPv4 the NATs are in the way",
        f"let UDP in by IPv6 to this machine or to {facts.peer}, in the router's firewall, for the "
        "port that --listen-port fixes",
    )


def _varies(nature: Nature | None, seen: PortRange | None) -> bool:
    """A range that was told for one attempt says little: of a steady mapping, too, it is one when
    the attempt reckons with another mapping for the peer's address."""
    if nature is not None and nature.mapping is not Behaviour.UNKNOWN:
        return nature.mapping.varies
    return seen is not None and seen.kind is not PredictionKind.EXACT


def _is_whole(seen: PortRange | None) -> bool:
    is_scattered = seen is not None and seen.kind is PredictionKind.SCATTERED
    return is_scattered and seen is not None and seen.size > WIDEST_BLOCK


def _who_varies(peer: str, ours_vary: bool, theirs_vary: bool) -> str:
    if ours_vary and theirs_vary:
        return "both NATs give every destination another port"
    where = "here" if ours_vary else f"at {peer}"
    return f"the NAT {where} gives every destination another port"


def _open_varying(facts: PairFacts, ours_vary: bool) -> str:
    """A way in, where the NAT is in the way; on the other side it does as well."""
    if ours_vary:
        return open_a_port("here", facts.ours)
    return open_a_port(facts.peer, facts.theirs)


def _open_either(facts: PairFacts) -> str:
    if facts.ours.has_carrier_nat and facts.theirs is not None:
        return open_a_port(facts.peer, facts.theirs)
    return open_a_port("here", facts.ours)
