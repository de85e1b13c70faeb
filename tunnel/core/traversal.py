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

It produces checks (``take_checks``) which its owner seals and sends; it never sees a key.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from tunnel.constants import KEEPALIVE_INTERVAL, MAX_UNANSWERED_CHECKS
from tunnel.core.machine import RandomBytes, draw_number, earliest
from tunnel.core.path import ECHO_INTERVAL, RELAYED, Change, Path, describe, is_clearly_better
from tunnel.core.path_table import PathTable
from tunnel.core.punch_schedule import PunchSchedule
from tunnel.wire.candidate import Candidate, CandidateKind
from tunnel.wire.check import UNOBSERVED, CallMe, Confirm, Ping, Pong
from tunnel.wire.endpoint import Endpoint

LOST_AFTER = 10.0
"""Seconds of doubt after which a path is no longer used, nor echoed."""
ACTIVE_FOR = 1.0
"""Seconds after the last packet during which a path counts as carrying traffic."""
RELAY_ECHO_INTERVAL = 1.0
"""The relay carries traffic too, but nothing is won by noticing its failure sooner."""
FORMER_ECHO_INTERVAL = 1.0
"""Between echoes of a path that was lost, while traffic flows by the relay; else keep-alives."""
SUCCESSION_TIME = 1.0
"""Seconds for which the peer's appearance at a new endpoint makes us duplicate."""
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
        self._random_bytes = random_bytes
        self.state = TraversalState.SEARCHING
        self.best: Path | None = None
        self.relay: Path | None = None
        self.path_table = PathTable()
        self._budget_since = float("-inf")
        self._local_candidates: tuple[Candidate, ...] = ()
        self.schedule = PunchSchedule()
        self._former: Path | None = None
        """The path lost last: asked until there is another, for it may come back."""
        self._successor: Path | None = None
        """Where the peer has just appeared, until an echo proves it."""
        self._successor_until = 0.0
        self._was_moved = False
        self._is_late = False
        self._wants_witness = False
        self._resend_since: float | None = None
        self._active_until = float("-inf")
        self._doubt_since = 0.0
        self._doubt_seen: Path | None = None
        self._doubted_proof: float | None = None
        self._cause = "introduction"
        self._checks: list[tuple[Endpoint, bytes]] = []
        self._changes: list[Change] = []
        self._asked: set[int] = set()
        self._answers: list[tuple[int, float, Endpoint]] = []
        self._wants_introduction = False
        self.keepalive_interval = KEEPALIVE_INTERVAL
        # Punching starts both ends at the same moment. An echo serves both, but only where one end
        # asks before the other does.
        self._eagerness = 0.9 + random_bytes(1)[0] / 2550
        self.checks_sent = 0
        self.punches = 0

    # What the owner asks

    def routes(self, now: float) -> tuple[Endpoint, ...]:
        """Where a frame goes now: one endpoint, or direct and relayed while in doubt."""
        best = self.best
        if best is None:
            return (RELAYED,) if self.relay else ()
        if self.relay and (self._successor is not None or best.needs_copies(now)):
            return (best.endpoint, RELAYED)
        return (best.endpoint,)

    def take_routes(self, size: int, now: float) -> tuple[Endpoint, ...]:
        """`routes` for a frame of `size` bytes that is going to be sent. When the peer has just
        appeared at a new endpoint, a copy goes there before it is proven, while credit lasts."""
        successor = self._successor
        if successor is None or successor.credit < size:
            return self.routes(now)
        successor.credit -= size
        return (*self.routes(now), successor.endpoint)

    @property
    def in_use(self) -> Path | None:
        """The direct path; without one, the relay."""
        return self.best or self.relay

    def paths(self) -> list[Path]:
        return list(self.path_table)

    def take_checks(self) -> list[tuple[Endpoint, bytes]]:
        """Payloads to seal and send, each to one endpoint (or RELAYED)."""
        checks, self._checks = self._checks, []
        return checks

    def take_changes(self) -> list[Change]:
        changes, self._changes = self._changes, []
        return changes

    def take_wants_introduction(self) -> bool:
        """Whether the server should be asked to introduce the pair again, for a common start."""
        wants, self._wants_introduction = self._wants_introduction, False
        return wants

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
            self._resend_since = self.best.proof_sent_at  # What went by the old one went nowhere.
        if not is_available:
            self.relay = None
        elif self.relay is None:
            self.relay = Path(RELAYED, CandidateKind.RELAYED, now)

    def punch(self, now: float, cause: str, delay: float = 0.0) -> None:
        """Check all candidates in rounds, the first `delay` seconds from now."""
        self._cause = cause
        self.schedule.start(now + delay)
        if now - self._budget_since >= BUDGET_TIME:
            self._budget_since = now
            for path in self.path_table:
                path.unanswered = 0
        self.punches += 1
        if delay <= 0:
            self.handle_timer(now)

    def ping_relay(self, now: float) -> None:
        """Prove the relay, as soon as there are keys."""
        if self.relay:
            self._ping(self.relay, now)

    def ask(self, endpoint: Endpoint, now: float) -> int | None:
        """An extra echo on a known path, whose answer `take_answers` will tell; its transaction."""
        path = self._find(endpoint)
        if path is None:
            return None
        transaction = self._ping(path, now)
        self._asked = {transaction, *list(self._asked)[-63:]}
        return transaction

    def take_was_moved(self) -> bool:
        """Whether the peer now sees us elsewhere than before: our own mapping has moved."""
        was_moved, self._was_moved = self._was_moved, False
        return was_moved

    def take_wants_witness(self) -> bool:
        """Whether the server should see where we are: our mapping may have moved."""
        wants, self._wants_witness = self._wants_witness, False
        return wants

    def take_resend_since(self) -> float | None:
        """Packets sent from that time on may never have arrived: they should be sent again by the
        ways there are now. The replay window drops what had arrived after all."""
        since, self._resend_since = self._resend_since, None
        return since

    def take_answers(self) -> list[tuple[int, float, Endpoint]]:
        """Answers to `ask`: transaction, seconds, endpoint."""
        answers, self._answers = self._answers, []
        return answers

    def call_peer(self, now: float) -> None:
        """Ask the peer, over the relay, to punch too."""
        if self.relay and self._local_candidates:
            start = round((self.relay.rtt or 0.0) * 500)
            self._checks.append((RELAYED, CallMe(0, self._local_candidates).pack()))
            self.punch(now, self._cause, min(start, 1000) / 1000)

    def echo_now(self, now: float) -> None:
        """Let the peer see at once where we send from: our mapping has moved."""
        if self.best:
            self._ping(self.best, now)

    def forget_paths(self) -> None:
        """The peer is gone or has restarted: nothing proven before counts."""
        if self.best is not None:
            self._changes.append(
                Change("changed", describe(self.best), "none", "peer is gone", 0.0)
            )
        self.best = self._successor = self._former = None
        self.state = TraversalState.SEARCHING
        self.path_table.clear()
        self.schedule.stop()
        if self.relay:
            self.relay.proven_at = None
            self.relay.pending.clear()

    def note_activity(self, now: float) -> None:
        """A packet was sent to, or came from, the peer."""
        self._active_until = now + ACTIVE_FOR

    # From the network: everything here is authentic

    def note_received(self, source: Endpoint, now: float, size: int = 0) -> None:
        """A frame of `size` bytes opened that came from `source` (RELAYED: through the relay)."""
        path = self._find(source)
        if path is None:
            if source == RELAYED:
                return
            path = self.path_table.add(source, now, self.best)
            path.is_successor = self.best is not None and not self.schedule.is_running
            if path.is_successor:
                self._expect_successor(path, now)
        path.received_at = now
        if path is self._successor:
            path.credit += size
        if (
            path is not self.best
            and source != RELAYED
            and self.best is not None
            and path.proven_at is not None
            and now - (self.best.received_at or 0.0) > 0.2 + (self.best.rtt or 0.0)
            and now - (path.pinged_at or 0.0) > ECHO_INTERVAL
        ):
            # The peer sends here and no longer there: it went back to an older mapping.
            path.is_successor = True
            self._ping(path, now)

    def note_moved(
        self, candidate: Candidate, now: float, cause: str = "the server saw it move"
    ) -> None:
        """The server, or somebody else, sees the peer at another endpoint than before."""
        self.add_candidate(candidate)
        if self.best is not None and self.best.kind is not CandidateKind.HOST:
            path = self.path_table.get(candidate.endpoint)
            if path is None or path is not self.best:
                path = path or self.path_table.add(
                    candidate.endpoint, now, self.best, candidate.kind
                )
                path.is_successor = True
                self._expect_successor(path, now)
        self.punch(now, cause)

    def note_unreachable(self, endpoint: Endpoint, now: float) -> None:
        """ICMP says that nothing gets to `endpoint`. Anybody can say so: it puts the path in doubt,
        and the echo sent now decides."""
        best = self.best
        if best is not None and best.endpoint == endpoint and best.suspected_at is None:
            best.suspected_at = now
            self._ping(best, now)
            self._watch_best(now)

    def receive_ping(self, ping: Ping, source: Endpoint, now: float) -> None:
        path = self._find(source)
        if path is None:
            return
        reply = draw_number(self._random_bytes)
        path.note_reply(reply, now)
        observed = UNOBSERVED if source == RELAYED else source
        self._checks.append((source, Pong(ping.transaction, reply, observed).pack()))

    def receive_pong(self, pong: Pong, source: Endpoint, now: float) -> None:
        path = self._pinged_with(pong.transaction, source)
        if path is None:
            return
        if pong.transaction in self._asked:
            self._asked.discard(pong.transaction)
            seconds = now - path.pending[pong.transaction]
            self._answers.append((pong.transaction, seconds, path.endpoint))
        self._checks.append((path.endpoint, Confirm(pong.reply).pack()))
        if path is self.best and path.observed not in (None, pong.observed):
            self._was_moved = True
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
        if self._successor is not None:
            times.append(self._successor_until)
        if self.best:
            times.append(self._doubt_timer())
        times += [self._next_echo(path) for path in self._watched()]
        return earliest(times)

    def handle_timer(self, now: float) -> None:
        for _ in range(self.schedule.count_due_rounds(now)):
            self._check_candidates(now)
        if self._needs_path(now):
            self.schedule.plan_retry(now)
        if self.schedule.take_retry(now) and self._needs_path(now):
            self._wants_introduction = True
            self.punch(now, "retry")
        if self.best:
            self._watch_best(now)
        for path in self._watched():
            if now < self._next_echo(path):
                continue
            if (
                path is self.best
                and now >= self._active_until
                and path.takes_keepalive(now, self.keepalive_interval)
            ):
                self._checks.append((path.endpoint, b""))
            else:
                self._ping(path, now)
        if self._successor is not None and now >= self._successor_until:
            self._successor = None
        self.path_table.forget_stale(now, self.best)

    # Inside

    def _needs_path(self, now: float) -> bool:
        return bool(self.path_table.candidates) and (
            self.best is None or self.state is TraversalState.DOUBT
        )

    def _next_echo(self, path: Path) -> float:
        is_active = (path.pinged_at or float("-inf")) < self._active_until
        keepalive = self.keepalive_interval * self._eagerness
        if path is self._former:
            pace = FORMER_ECHO_INTERVAL if is_active else keepalive
            return path.next_echo(pace, is_active=is_active, keepalive=keepalive)
        return path.next_echo(
            ECHO_INTERVAL if path is self.best else RELAY_ECHO_INTERVAL,
            is_active=is_active or self.state is TraversalState.DOUBT,
            keepalive=keepalive,
        )

    def _watched(self) -> list[Path]:
        """The paths that are echoed: the one in use; without one, the relay if it was ever asked,
        and the one lost last."""
        if self.best is not None:
            return [self.best]
        watched = [] if self.relay is None or self.relay.pinged_at is None else [self.relay]
        return watched if self._former is None else [*watched, self._former]

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
            self._is_late = self._wants_witness = True
            self._resend_since = best.proof_sent_at
        if self.state is TraversalState.DIRECT and best.is_doubtful(now):
            self._begin_doubt(best, now)
            self._wants_introduction = True
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
                self._ping(self.relay, now)

    def _check_candidates(self, now: float) -> None:
        for path in self.path_table.of_candidates(now, self.best):
            if path.unanswered < MAX_UNANSWERED_CHECKS and (
                path is not self.best or path.is_doubtful(now)
            ):
                self._ping(path, now)

    def _prove(self, path: Path, sent_at: float, now: float) -> None:
        path.note_proof(sent_at, now)
        if path.endpoint == RELAYED:
            return
        if path is self._successor:
            self._successor = None
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
            self._resend_since = self.best.proof_sent_at
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
        self._resend_since = self._doubted_proof = best.proof_sent_at
        self.schedule.failures = 0
        self._changes.append(Change("doubted", describe(best), describe(best), "echo", 0.0))

    def _end_doubt(self, path: Path, now: float) -> None:
        before = describe(self._doubt_seen) if self._doubt_seen else "none"
        lasted = now - self._doubt_since
        self._resend_since = self._doubted_proof
        self.state = TraversalState.DIRECT
        if path is self._doubt_seen:
            path.alarmed_at = now
        self.schedule.succeed()
        self._changes.append(Change("repaired", before, describe(path), "echo", lasted))

    def _pinged_with(self, transaction: int, source: Endpoint) -> Path | None:
        """The path whose check this answers. A pong through the relay answers relayed checks only;
        one from another endpoint than was pinged answers still: the peer's mapping varies, and what
        we send to the one endpoint comes back from the other."""
        path = self._find(source)
        if path is not None and transaction in path.pending:
            return path
        if source == RELAYED:
            return None
        return self.path_table.find_pinged(transaction)

    def _find(self, endpoint: Endpoint) -> Path | None:
        return self.relay if endpoint == RELAYED else self.path_table.get(endpoint)

    def _expect_successor(self, path: Path, now: float) -> None:
        """Duplicate until an echo decides whether the peer has moved to `path`."""
        self._successor, self._successor_until = path, now + SUCCESSION_TIME
        self._ping(path, now)

    def _ping(self, path: Path, now: float, size: int = 12) -> int:
        transaction = draw_number(self._random_bytes)
        path.note_ping(transaction, now)
        self.checks_sent += 1
        self._checks.append((path.endpoint, Ping(transaction, size).pack()))
        return transaction
