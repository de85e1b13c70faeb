"""Finding a path to one peer, and keeping it.

    =========  ==================================  ============================================
    state      meaning                             left by
    =========  ==================================  ============================================
    searching  no direct path is proven; frames    a check proven by its pong or confirm → direct
               go through the relay
    direct     the best path's echoes come back    an echo later than ``Path.doubt_after`` → doubt
    doubt      frames go direct *and* relayed;     an echo on any direct path → direct;
               punching                            ``LOST_AFTER`` without one → searching
    =========  ==================================  ============================================

Silence never tears anything down: doubt duplicates, and a lost path only stops being used. A punch
is a schedule of rounds; in each round every candidate that is not proven is checked. Without
success it is repeated for ever, ever more gently.

A punch begins with openers: datagrams that make our NAT expect the peer before the peer's NAT has
heard of us. On a router that tracks what nobody asked for, whoever's check comes in first otherwise
has our own leave by another port (NATs as measured, 2).

It produces checks (``take_checks``) which its owner seals and sends; it never sees a key.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from tunnel.constants import MAX_UNANSWERED_CHECKS
from tunnel.core.asking import Asking
from tunnel.core.checks import CheckQueue, Outgoing
from tunnel.core.echoes import EchoPace
from tunnel.core.hops import FALLBACK_TTL
from tunnel.core.machine import RandomBytes, earliest
from tunnel.core.path import ECHO_INTERVAL, RELAYED, Change, Path, describe, is_clearly_better
from tunnel.core.path_table import PathTable
from tunnel.core.punch_schedule import PunchSchedule
from tunnel.core.succession import Succession
from tunnel.core.wishes import Wishes
from tunnel.wire.candidate import Candidate, CandidateKind
from tunnel.wire.check import CallMe, Confirm, Ping, Pong
from tunnel.wire.endpoint import Endpoint

LOST_AFTER = 10.0
"""Seconds of doubt after which a path is no longer used, nor echoed."""
OPENER_LEAD = 0.03
"""Seconds from the openers to the first checks: by so much the two ends may differ in what they
call the common start."""
OPENER_SPACING = 1.0
FOLLOW_AFTER = 0.25
"""Seconds of silence at one socket of ours after which the path follows the peer to another."""
GONE_AFTER = 0.2
"""The same at the best path, after which another that the peer uses is asked."""
BUDGET_TIME = 1.0
"""Seconds after which an endpoint that never answered may again get MAX_UNANSWERED_CHECKS: peer and
server can make us punch as often as they like, and must not aim us at a third."""


class TraversalState(enum.Enum):
    SEARCHING = "searching"
    DIRECT = "direct"
    DOUBT = "doubt"


class Traversal:
    """All paths to one peer."""

    def __init__(self, random_bytes: RandomBytes) -> None:
        self.checks = CheckQueue(random_bytes)
        self.echoes = EchoPace(random_bytes)
        self.state = TraversalState.SEARCHING
        self.best: Path | None = None
        self.relay: Path | None = None
        self.path_table = PathTable()
        self._budget_since = float("-inf")
        self._local_candidates: tuple[Candidate, ...] = ()
        self.schedule = PunchSchedule()
        self._former: Path | None = None
        """The path lost last: asked until there is another, for it may come back."""
        self._succession = Succession()
        self.wishes = Wishes()
        self._is_late = False
        self._doubt_since = 0.0
        self._doubt_seen: Path | None = None
        self._doubted_proof: float | None = None
        self._cause = "introduction"
        self._changes: list[Change] = []
        self.asking = Asking()
        self._probes: list[int] = []
        """Transactions of pings sent beside the candidates, to ports that were guessed."""
        self.opener_ttl = FALLBACK_TTL
        self.punches = 0

    # What the owner asks

    def routes(self, now: float) -> tuple[Endpoint, ...]:
        """Where a frame goes now: one endpoint, or direct and relayed while in doubt."""
        best = self.best
        if best is None:
            return (RELAYED,) if self.relay else ()
        if self.relay and (self._succession.path is not None or best.needs_copies(now)):
            return (best.endpoint, RELAYED)
        return (best.endpoint,)

    def take_routes(self, size: int, now: float) -> tuple[Endpoint, ...]:
        """`routes` for a frame of `size` bytes that is going to be sent. When the peer has just
        appeared at a new endpoint, a copy goes there before it is proven, while credit lasts."""
        successor = self._succession.take_credit(size)
        routes = self.routes(now)
        return routes if successor is None else (*routes, successor.endpoint)

    def local_of(self, endpoint: Endpoint) -> int:
        """Which of our sockets sends to that endpoint."""
        path = self.path_table.get(endpoint)
        return 0 if path is None else path.local

    @property
    def locals_in_use(self) -> set[int]:
        """The sockets that paths worth keeping go through."""
        paths = (self.best, self._former, self._succession.path)
        return {path.local for path in paths if path is not None}

    @property
    def stuck_from(self) -> float | None:
        """When checking the candidates has, or will have, been in vain for a while."""
        rtt = (self.relay.rtt if self.relay else None) or 0.0
        return self.schedule.in_vain_from(rtt) if self.needs_path else None

    @property
    def in_use(self) -> Path | None:
        """The direct path; without one, the relay."""
        return self.best or self.relay

    def paths(self) -> list[Path]:
        return list(self.path_table)

    def take_checks(self) -> list[Outgoing]:
        return self.checks.take()

    def take_changes(self) -> list[Change]:
        changes, self._changes = self._changes, []
        return changes

    # Commands

    def set_local_candidates(self, candidates: Sequence[Candidate]) -> None:
        self._local_candidates = tuple(candidates)

    def set_candidates(self, candidates: Sequence[Candidate]) -> None:
        """Replace what the peer announced. Paths already found stay."""
        self.path_table.set_candidates(candidates)

    def add_candidate(self, candidate: Candidate) -> None:
        self.path_table.add_candidate(candidate)

    def set_relay(self, is_available: bool, now: float, *, is_new: bool = False) -> None:
        """Whether there is a channel through the server, and whether it is another than before."""
        if is_new and self.best is not None and self.state is TraversalState.DOUBT:
            self.wishes.resend_since = (
                self.best.proof_sent_at
            )  # What went by the old one went nowhere.
        if not is_available:
            self.relay = None
        elif self.relay is None:
            self.relay = Path(RELAYED, CandidateKind.RELAYED, now)

    def punch(self, now: float, cause: str, delay: float = 0.0) -> None:
        """Check all candidates in rounds: openers go now, the first checks `delay` seconds from now
        and OPENER_LEAD later; at once while there is a direct path, which has nothing to lose."""
        self._cause = cause
        if self.best is None or self.state is TraversalState.DOUBT:
            self.open_mappings(now)
            delay += OPENER_LEAD
        self.schedule.start(now + delay)
        if now - self._budget_since >= BUDGET_TIME:
            self._budget_since = now
            for path in self.path_table:
                path.unanswered = 0
        self.punches += 1
        if delay <= 0:
            self.handle_timer(now)

    def open_mappings(self, now: float) -> None:
        """Send openers to the candidates; no keys are needed for that."""
        for path in self.path_table.of_candidates(now, self.best):
            is_due = now - path.opened_at >= OPENER_SPACING and path.proven_at is None
            if is_due and path.kind is not CandidateKind.HOST:
                path.opened_at = now
                self.checks.open(path, self.opener_ttl)

    def expect_answers_to(self, transaction: int) -> None:
        """Pings of this transaction go to guessed ports: a pong tells which was right."""
        self._probes = [*self._probes[-3:], transaction]

    def ping_relay(self, now: float) -> None:
        """Prove the relay, as soon as there are keys."""
        if self.relay:
            self.checks.ping(self.relay, now)

    def ask(self, endpoint: Endpoint, now: float) -> int | None:
        """An extra echo on a known path, whose answer `asking` will tell; its transaction."""
        path = self._find(endpoint)
        if path is None:
            return None
        return self.asking.ask(self.checks.ping(path, now), path, now)

    def call_peer(self, now: float) -> None:
        """Ask the peer, over the relay, to punch too."""
        if self.relay and self._local_candidates:
            start = round((self.relay.rtt or 0.0) * 500)
            self.checks.call(self._local_candidates)
            self.punch(now, self._cause, min(start, 1000) / 1000)

    def echo_now(self, now: float) -> None:
        """Let the peer see at once where we send from: our mapping has moved."""
        if self.best:
            self.checks.ping(self.best, now)

    def forget_paths(self) -> None:
        """The peer is gone or has restarted: nothing proven before counts."""
        if self.best is not None:
            self._changes.append(
                Change("changed", describe(self.best), "none", "peer is gone", 0.0)
            )
        self.best = self._former = None
        self._succession.end()
        self.state = TraversalState.SEARCHING
        self.path_table.clear()
        self.schedule.stop()
        if self.relay:
            self.relay.proven_at = None
            self.relay.pending.clear()

    def note_activity(self, now: float) -> bool:
        """A packet was sent to, or came from, the peer; whether that changes any timer."""
        return self.echoes.note_activity(now)

    # From the network: everything here is authentic

    def note_received(self, source: Endpoint, now: float, size: int = 0, local: int = 0) -> bool:
        """A frame of `size` bytes has opened that came from `source` (RELAYED: by the relay) to our
        socket `local`. False: nothing follows from that, and no timer changes."""
        path = self._find(source)
        if source == RELAYED or (path is not None and path is self.best and path.local == local):
            if path is not None:
                path.received_at = now
            return False
        if path is None:
            path = self.path_table.add(source, now, self.best)
            path.local = local
            path.is_successor = self.best is not None and not self.schedule.is_running
            if path.is_successor:
                self._succession.begin(path, now)  # Duplicate until an echo decides.
                self.checks.ping(path, now)
            elif self.needs_path:
                self.checks.ping(path, now)  # A triggered check, RFC 8445 §7.3.1.4.
        elif path.local != local and not self._follow(path, local, now):
            return True
        path.received_at = now
        if path is self._succession.path:
            path.credit += size
        if (
            path is not self.best
            and self.best is not None
            and path.proven_at is not None
            and self.best.is_silent(now, GONE_AFTER)
            and now - (path.pinged_at or 0.0) > ECHO_INTERVAL + (path.rtt or 0.0)
        ):
            # The peer sends here and no longer there: it went back to an older mapping.
            path.is_successor = True
            self.checks.ping(path, now)
        return True

    def _follow(self, path: Path, local: int, now: float) -> bool:
        """The peer sends from the path's endpoint to another of our sockets than the path uses:
        whether the path now uses that one. It does when nothing comes to the other any more."""
        if not path.is_silent(now, FOLLOW_AFTER):
            return False
        path.local = local
        path.pending.clear()
        if path is self.best or self.needs_path:
            self.checks.ping(path, now)
        return True

    def note_moved(
        self, candidate: Candidate, now: float, cause: str = "the server saw it move"
    ) -> None:
        """The server, or somebody else, sees the peer at another endpoint than before."""
        self.add_candidate(candidate)
        best = self.best
        is_ipv6 = candidate.endpoint.is_ipv6
        if best and best.kind is not CandidateKind.HOST and best.endpoint.is_ipv6 == is_ipv6:
            path = self.path_table.get(candidate.endpoint) or self.path_table.add(
                candidate.endpoint, now, best, candidate.kind
            )
            if path is not best:
                path.is_successor = True
                self._succession.begin(path, now)  # Duplicate until an echo decides.
                self.checks.ping(path, now)
        self.punch(now, cause)

    def note_unreachable(self, endpoint: Endpoint, now: float) -> None:
        """ICMP says that nothing gets to `endpoint`. Anybody can say so: it puts the path in doubt,
        and the echo sent now decides."""
        best = self.best
        if best is not None and best.endpoint == endpoint and best.suspected_at is None:
            best.suspected_at = now
            self.checks.ping(best, now)
            self._watch_best(now)

    def receive_ping(self, ping: Ping, source: Endpoint, now: float, local: int = 0) -> None:
        path = self._find(source)
        if path is not None:
            self.checks.pong(ping, path, local, now)

    def receive_pong(self, pong: Pong, source: Endpoint, now: float) -> None:
        self.asking.note_answer(pong.transaction, source, now)
        path = self._pinged_with(pong.transaction, source)
        if path is None:
            guessed = self.path_table.get(source)
            if guessed is not None and pong.transaction in self._probes:
                self.checks.confirm(pong, guessed)
                self.checks.ping(guessed, now)  # It has a round trip of its own.
            return
        self.checks.confirm(pong, path)
        if path is self.best and path.observed not in (None, pong.observed):
            self.wishes.was_moved = True
        path.observed = pong.observed
        self._prove(path, path.pending[pong.transaction], now)

    def receive_confirm(self, confirm: Confirm, source: Endpoint, now: float) -> None:
        path = self._find(source)
        if path is not None and confirm.reply in path.replies:
            path.pinged_at = now  # An echo is an echo, whoever began it.
            self._prove(path, path.replies.pop(confirm.reply), now)

    def receive_call(self, call: CallMe, now: float) -> None:
        for candidate in call.candidates:
            self.add_candidate(candidate)
        self.punch(now, "peer asked", call.start / 1000)

    # The clock

    def get_timer(self) -> float | None:
        times = [self.schedule.get_timer()]
        times.append(self._succession.get_timer())
        if self.best:
            times.append(self._doubt_timer())
        times += [next_echo for _, next_echo in self._watched()]
        return earliest(times)

    def handle_timer(self, now: float) -> None:
        for _ in range(self.schedule.count_due_rounds(now)):
            self._check_candidates(now)
        if self.needs_path:
            self.schedule.plan_retry(now)
        if self.schedule.take_retry(now) and self.needs_path:
            self.wishes.wants_introduction = True
            self.punch(now, "retry")
        if self.best:
            self._watch_best(now)
        for path, next_echo in self._watched():
            if now < next_echo:
                continue
            if (
                path is self.best
                and not self.echoes.was_active(path)
                and path.takes_keepalive(now, self.echoes.keepalive_interval)
            ):
                self.checks.keepalive(path)
            else:
                self.checks.ping(path, now)
        self._succession.handle_timer(now)
        self.path_table.forget_stale(now, self.best)

    # Inside

    @property
    def needs_path(self) -> bool:
        return bool(self.path_table.candidates) and (
            self.best is None or self.state is TraversalState.DOUBT
        )

    def _watched(self) -> list[tuple[Path, float]]:
        """The paths that are echoed, and when next: the one in use; without one, the relay if it
        was ever asked, and the one lost last."""
        if self.best is not None:
            in_doubt = self.state is TraversalState.DOUBT
            return [(self.best, self.echoes.next_of_best(self.best, in_doubt=in_doubt))]
        relay, former = self.relay, self._former
        watched = []
        if relay is not None and relay.pinged_at is not None:
            watched.append((relay, self.echoes.next_of_relay(relay)))
        if former is not None:
            watched.append((former, self.echoes.next_of_former(former)))
        return watched

    def _doubt_timer(self) -> float | None:
        assert self.best is not None
        if self.state is TraversalState.DOUBT:
            return self._doubt_since + LOST_AFTER
        late_from = None if self._is_late else self.best.late_from()
        return earliest((self.best.doubted_from(), late_from))

    def _watch_best(self, now: float) -> None:
        best = self.best
        assert best is not None
        if self.state is TraversalState.DIRECT and best.is_late(now) and not self._is_late:
            self._is_late = self.wishes.wants_witness = True
            self.wishes.resend_since = best.proof_sent_at
        if self.state is TraversalState.DIRECT and best.is_doubtful(now):
            self._begin_doubt(best, now)
            self.wishes.wants_introduction = True
            self.punch(now, "echo lost")
            self.call_peer(now)
        elif self.state is TraversalState.DOUBT and now >= self._doubt_since + LOST_AFTER:
            # Reckoned as the timer is: a difference may round to less, and it fires for ever.
            self.state = TraversalState.SEARCHING
            self.best, self._former = None, best
            after = "relay" if self.relay else "none"
            self._changes.append(
                Change("changed", describe(best), after, f"no echo for {LOST_AFTER:.0f} s", 0.0)
            )
            if self.relay:
                self.checks.ping(self.relay, now)

    def _check_candidates(self, now: float) -> None:
        for path in self.path_table.of_candidates(now, self.best):
            if path.unanswered < MAX_UNANSWERED_CHECKS and (
                path is not self.best or path.is_doubtful(now)
            ):
                self.checks.ping(path, now)

    def _prove(self, path: Path, sent_at: float, now: float) -> None:
        path.note_proof(sent_at, now)
        if path.endpoint == RELAYED:
            return
        if path is self._succession.path:
            self._succession.end()
        best = self.best
        if best is path:
            if self._is_late and self.state is TraversalState.DIRECT:
                path.alarmed_at = now
            self._is_late = False
            if self.state is TraversalState.DOUBT and not path.is_doubtful(now):
                self._end_doubt(path, now)
            return
        if best is None:
            self._use(path, now, "it answers again" if path is self._former else self._cause)
            self._former = None
            self.state = TraversalState.DIRECT
            self.schedule.succeed()
        elif self.state is TraversalState.DOUBT or best.is_doubtful(now):
            if self.state is TraversalState.DIRECT:
                self._begin_doubt(best, now)
            self.best, path.used_since, self._is_late = path, now, False
            self._end_doubt(path, now)
        elif path.is_successor and (best.received_at or 0.0) <= (path.received_at or 0.0):
            self._use(path, now, "peer moved")
        elif is_clearly_better(path, best):
            self._use(path, now, "faster")
        path.is_successor = False

    def _use(self, path: Path, now: float, cause: str) -> None:
        before = describe(self.best) if self.best else ("relay" if self.relay else "none")
        if self.best is not None and cause != "faster":
            self.wishes.resend_since = self.best.proof_sent_at
        if self.state is TraversalState.DIRECT and self.best is not None:
            # What the left path still owes us must not put anything in doubt.
            self.best.pending.clear()
        path.used_since = now
        self.best, self._is_late = path, False
        self._changes.append(Change("changed", before, describe(path), cause, 0.0))

    def _begin_doubt(self, best: Path, now: float) -> None:
        self.state = TraversalState.DOUBT
        self._doubt_since = now
        self._doubt_seen = best
        self.wishes.resend_since = self._doubted_proof = best.proof_sent_at
        self.schedule.failures = 0
        self._changes.append(Change("doubted", describe(best), describe(best), "echo", 0.0))

    def _end_doubt(self, path: Path, now: float) -> None:
        before = describe(self._doubt_seen) if self._doubt_seen else "none"
        lasted = now - self._doubt_since
        self.wishes.resend_since = self._doubted_proof
        self.state = TraversalState.DIRECT
        if path is self._doubt_seen:
            path.alarmed_at = now
        self.schedule.succeed()
        self._changes.append(Change("repaired", before, describe(path), "echo", lasted))

    def _pinged_with(self, transaction: int, source: Endpoint) -> Path | None:
        """The path whose check this answers. A pong by the relay answers relayed checks only."""
        if source == RELAYED:
            return self.relay if self.relay and transaction in self.relay.pending else None
        return self.path_table.find_pinged(transaction, source)

    def _find(self, endpoint: Endpoint) -> Path | None:
        return self.relay if endpoint == RELAYED else self.path_table.get(endpoint)
