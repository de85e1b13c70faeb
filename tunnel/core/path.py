"""One path: our socket ↔ one endpoint of the peer, and what our echoes say of it."""

from __future__ import annotations

import math

from tunnel.core.path_mtu import PathMtu
from tunnel.wire.candidate import CandidateKind
from tunnel.wire.endpoint import Endpoint

RELAYED = Endpoint("relay", 0)
"""Stands for the way through the rendezvous server wherever a path's endpoint is asked for."""

DOUBT_FLOOR = 0.25
DOUBT_RTTS = 3.0
"""An echo this late puts the path in doubt: max(250 ms, 3 × RTT). Doubt only duplicates, so it may
come early; links with a 700 ms round trip are given 2.1 s."""
ECHO_INTERVAL = 0.1
"""Seconds between echoes of a path that carries traffic: with Path.doubt_after this bounds a
failure's discovery to 350 ms."""
CHANCE = 0.001
"""A path that loses packets all the time is given as many echoes more as make it less likely than
this that chance alone ate them all: 5 at 20 % of echoes lost, 10 at 50 %. Up to DOUBT_CEILING."""
DOUBT_CEILING = 1.2
ECHO_EVERY = 8
"""Of so many keep-alives one is an echo, of 242 bytes with its answers; the others are 60."""
SILENCE = 2.2
"""Keep-alives of ours without a word of the peer, which ought to send its own, after which the next
is an echo."""
LATE_FLOOR = 0.08
LATE_RTTS = 2.0
"""An echo that is late by max(80 ms, 2 × RTT): nothing is in doubt yet, but copies take the relay,
too, and the server is shown where we are."""
FALSE_ALARM = 60.0
"""Seconds for which lateness means nothing after an echo was late and the path as good as before:
one that loses echoes now and then would have everything sent twice."""
LOSS_MEMORY = 32
"""Echoes over which their loss is averaged."""

HOST_BONUS = 0.003
"""Seconds by which a way within the LAN may be slower and still be preferred."""

MAX_PENDING = 32


class Path:
    """Times are None until the thing has happened once."""

    __slots__ = (
        "alarmed_at",
        "created_at",
        "credit",
        "echo_loss",
        "endpoint",
        "is_successor",
        "keepalives",
        "kept_at",
        "kind",
        "local",
        "mtu",
        "observed",
        "opened_at",
        "pending",
        "pinged_at",
        "proof_sent_at",
        "proven_at",
        "received_at",
        "replies",
        "rtt",
        "suspected_at",
        "unanswered",
        "used_since",
    )

    def __init__(self, endpoint: Endpoint, kind: CandidateKind, now: float) -> None:
        self.endpoint = endpoint
        self.kind = kind
        self.created_at = now
        self.local = 0
        """Which of our sockets it goes through (``Transmit.local``)."""
        self.opened_at = float("-inf")
        """When an opener was last sent."""
        self.rtt: float | None = None
        """Smoothed, in seconds (RFC 6298 §2: one eighth of each new sample)."""
        self.proven_at: float | None = None
        """When an echo of ours last came back: proof of both directions."""
        self.proof_sent_at: float | None = None
        """When that echo was sent: what was sent before it has probably arrived."""
        self.received_at: float | None = None
        """When anything authentic last arrived from it: proof of one direction."""
        self.pinged_at: float | None = None
        self.alarmed_at = float("-inf")
        """When an echo was late for nothing."""
        self.keepalives = 0
        """Empty frames sent since the last echo."""
        self.kept_at = float("-inf")
        """When an empty frame, or a pong of ours, last kept the mapping."""
        self.used_since: float | None = None
        self.echo_loss = 0.0
        """Share of echoes lost, while others came back: of pings or their pongs."""
        self.unanswered = 0
        """Checks sent since the last proof."""
        self.pending: dict[int, float] = {}
        """Transactions of checks under way → when they were sent."""
        self.replies: dict[int, float] = {}
        """Transactions of our pongs → when sent. A confirm proves; its absence says nothing."""
        self.observed: Endpoint | None = None
        """Where the peer sees us on this path."""
        self.credit = 0
        """Bytes that may be sent before it is proven: as many as came from it (RFC 9000 §8.1 allows
        three times that), so that a frame replayed from elsewhere makes us flood nobody."""
        self.mtu = PathMtu()
        self.suspected_at: float | None = None
        """When somebody on the way said that nothing passes; until a later echo comes back."""
        self.is_successor = False
        """The peer appeared here while its old path should still have worked: it has moved."""

    @property
    def doubt_after(self) -> float:
        """Seconds an echo may take before the path is in doubt."""
        rtt = self.rtt or 0.0
        patience = max(DOUBT_FLOOR, DOUBT_RTTS * rtt)
        if self.echo_loss < 0.05:
            return patience
        in_a_row = math.log(CHANCE) / math.log(min(self.echo_loss, 0.9))
        return max(patience, min(rtt + ECHO_INTERVAL * in_a_row, DOUBT_CEILING))

    def doubted_from(self) -> float | None:
        """The moment from which it is in doubt, if no echo comes until then; None: none is due."""
        if self.suspected_at is not None:
            return self.suspected_at
        if not self.pending:
            return None
        return min(self.pending.values()) + self.doubt_after

    def late_from(self) -> float | None:
        """The moment from which its echo is late, if none comes until then."""
        if not self.pending or self.rtt is None:
            return None
        due = min(self.pending.values()) + max(LATE_FLOOR, LATE_RTTS * self.rtt)
        return max(due, self.alarmed_at + FALSE_ALARM)

    def is_late(self, now: float) -> bool:
        late_from = self.late_from()
        return late_from is not None and now >= late_from

    def needs_copies(self, now: float) -> bool:
        """Whether frames should take another way as well."""
        if not self.pending and self.suspected_at is None:
            return self.proven_at is None
        return self.is_late(now) or self.is_doubtful(now)

    def is_silent(self, now: float, seconds: float) -> bool:
        """Whether nothing has come for that long, and a round trip more."""
        return self.received_at is None or now - self.received_at > seconds + (self.rtt or 0.0)

    def is_alive(self, now: float) -> bool:
        """Whether an echo has come back, and the later ones are not overdue by 2 s."""
        doubted_from = self.doubted_from()
        return self.proven_at is not None and (doubted_from is None or now < doubted_from + 2.0)

    def is_doubtful(self, now: float) -> bool:
        if self.proven_at is None:
            return True
        doubted_from = self.doubted_from()
        return doubted_from is not None and now >= doubted_from

    def next_echo(self, pace: float, *, is_active: bool, keepalive: float) -> float:
        """When to ask again: every `pace` seconds while traffic flows or an answer is due, else
        after `keepalive`. A path that answers nothing is asked less and less."""
        if self.pinged_at is None:
            return float("-inf")
        slowdown = 0.0 if self.unanswered < 50 else min(5.0, self.unanswered / 50)
        rtt = self.rtt or 0.0
        if is_active:
            # Echoes under way are bounded on long paths: half a round trip apart at least.
            return self.pinged_at + max(pace, min(1.0, rtt / 2), slowdown)
        if self.pending or self.proven_at is None:
            # As soon as the answer is late: one lost echo is no reason to doubt.
            return self.pinged_at + max(pace, 1.25 * rtt, slowdown)
        return max(self.pinged_at, self.kept_at) + keepalive

    def takes_keepalive(self, now: float, keepalive: float) -> bool:
        """Whether an empty frame does instead of an echo: it keeps our mapping, and shows the peer
        where it is; that nothing comes back is found out when there is traffic, and now and then.
        """
        is_silent = self.received_at is None or now - self.received_at > SILENCE * keepalive
        is_doubtful = bool(self.pending) or self.suspected_at is not None
        if is_silent or is_doubtful or self.keepalives >= ECHO_EVERY - 1:
            self.keepalives = 0
            return False
        self.keepalives += 1
        self.kept_at = now
        return True

    def note_ping(self, transaction: int, now: float) -> None:
        if len(self.pending) >= MAX_PENDING:
            # Keep the oldest: it is the one that says since when nothing comes back.
            self.pending.pop(list(self.pending)[1])
        self.pending[transaction] = now
        self.pinged_at = now
        self.unanswered += 1

    def note_reply(self, transaction: int, now: float) -> None:
        if len(self.replies) >= MAX_PENDING:
            self.replies.pop(next(iter(self.replies)))
        self.replies[transaction] = now
        self.kept_at = now

    def note_proof(self, sent_at: float, now: float) -> None:
        """An echo sent at `sent_at` has come back. Older ones under way no longer matter."""
        sample = now - sent_at
        self.rtt = sample if self.rtt is None else self.rtt + (sample - self.rtt) / 8
        self.proven_at = self.received_at = now
        self.proof_sent_at = max(sent_at, self.proof_sent_at or sent_at)
        self.unanswered = 0
        if self.suspected_at is not None and sent_at >= self.suspected_at:
            self.suspected_at = None
        missed = sum(1 for at in self.pending.values() if at < sent_at)
        for outcome in [1.0] * missed + [0.0]:
            self.echo_loss += (outcome - self.echo_loss) / LOSS_MEMORY
        self.pending = {t: at for t, at in self.pending.items() if at > sent_at}

    @property
    def cost(self) -> float:
        """What choosing between two proven paths compares."""
        return (self.rtt or 0.0) + (0.0 if self.kind is CandidateKind.HOST else HOST_BONUS)


def is_clearly_better(path: Path, than: Path) -> bool:
    """Whether to leave a good path for a better one: 10 % and 1 ms, against flapping."""
    return path.cost + 0.001 < than.cost * 0.9


class Change:
    """What happened to the path, for the owner's events."""

    __slots__ = ("after", "before", "cause", "kind", "seconds")

    def __init__(self, kind: str, before: str, after: str, cause: str, seconds: float) -> None:
        self.kind = kind
        """``changed``, ``doubted`` or ``repaired``."""
        self.before = before
        self.after = after
        self.cause = cause
        self.seconds = seconds


def describe(path: Path) -> str:
    """A path in a few words, for events and logs."""
    return "relay" if path.endpoint == RELAYED else f"{path.kind.text} {path.endpoint}"
