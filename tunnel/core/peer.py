"""One peer: its certificate, the session with it, the paths to it, and what was counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tunnel.constants import TUNNEL_MTU
from tunnel.core.attention import Attention
from tunnel.core.checks import Outgoing
from tunnel.core.events import (
    Event,
    PathChanged,
    PathDoubted,
    PathMeasured,
    PathRepaired,
    PeersChanged,
    SessionEstablished,
)
from tunnel.core.machine import RandomBytes, earliest
from tunnel.core.mtu_discovery import MtuDiscovery
from tunnel.core.path import Change, describe
from tunnel.core.ratelimit import TokenBucket
from tunnel.core.reassembly import Reassembler
from tunnel.core.session import Session
from tunnel.core.traversal import Traversal, TraversalState
from tunnel.noise.keys import PublicKey
from tunnel.wire.candidate import Candidate
from tunnel.wire.certificate import Certificate
from tunnel.wire.check import Missing, Pong
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.icmp import answer_too_big
from tunnel.wire.nature import Nature
from tunnel.wire.transport import LONGEST_TAG, parse_header

MAX_STAGED = 64
"""Packets kept while a session is being agreed; the oldest goes first."""
FALLBACK_INITIATE = 0.6
"""The node with the smaller key starts the handshake; the other waits this long for it."""
HANDSHAKE_AFTER_SILENCE = 2.0
"""Seconds of doubt on every way after which keys are agreed anew: the peer may have restarted."""
MAX_OUTAGES = 32
TOO_BIG_RATE = 20.0
"""ICMP answers a second: one a flow is enough, and every one is remembered for minutes."""
LEAST_MISSING = 2
MOST_MISSING = 64
"""A run of so many frames is asked for again. One alone is the network's ordinary loss, which is
not ours to hide; more than that is a bulk transfer's, which repairs itself."""
REORDERED_FOR = 1.0
"""Seconds for which nothing is asked for again on a path that brings frames out of order."""
MAX_RECENT = 256
"""Frames kept to be sent again when their path turns out dead: 2.5 s at 100 packets/s. Bulk
transfers outrun it, and repair themselves."""


@dataclass
class Counters:
    rx_bytes: int = 0
    tx_bytes: int = 0
    rx_packets: int = 0
    tx_packets: int = 0
    duplicates_dropped: int = 0
    path_changes: int = 0
    path_repairs: int = 0


class Peer:
    """Who does anything to its session or traversal *touches* it, so that it is looked at after the
    input. What is called here does that by itself, and for packets and frames only if it matters.
    """

    def __init__(
        self,
        certificate: Certificate,
        packed: bytes,
        session: Session,
        random_bytes: RandomBytes,
        interface_mtu: int = TUNNEL_MTU,
        attention: Attention[Peer] | None = None,
    ) -> None:
        self._attention: Attention[Peer] = attention or Attention()
        self.certificate = certificate
        self.packed_certificate = packed
        self.key = PublicKey(certificate.key)
        self.session = session
        self.traversal = Traversal(random_bytes)
        self.mtu = MtuDiscovery(interface_mtu, random_bytes)
        self.reassembler = Reassembler()
        self.channel = 0
        """Number by which the server relays for this pair; 0: it does not."""
        self.instance: int | None = None
        self.earlier_instances: deque[int] = deque(maxlen=16)
        """Processes that are gone. None of them comes back, whoever says so: their clocks would not
        tell, for not every machine knows the time when it starts."""
        self.announced_at = 0
        self.is_online = False
        """What the server, or the peer itself, said last."""
        self.has_left = False
        """It said good-bye, or the server no longer hears it; nothing since."""
        self.announced: Sequence[Candidate] = ()
        """Its candidates as it ranks them, those we do not check from here included."""
        self.known_endpoints: tuple[Endpoint, ...] = ()
        """From an earlier run: tried when there is nothing better."""
        self.observed_hosts: tuple[str, ...] = ()
        """Where the server saw it last: addresses that are really its own."""
        self.nature: Nature | None = None
        """What it has said of its own place in the network."""
        self.counters = Counters()
        self.outages: deque[dict[str, Any]] = deque(maxlen=MAX_OUTAGES)
        self.staged: deque[bytes] = deque(maxlen=MAX_STAGED)
        self.recent: deque[tuple[float, bytes]] = deque(maxlen=MAX_RECENT)
        """Frames sent on the direct path alone, with the time."""
        self.state_since: float | None = None
        self._fragmented = 0
        self._too_big_answers = TokenBucket(rate=TOO_BIG_RATE, burst=TOO_BIG_RATE)
        self._asking = TokenBucket(rate=MOST_MISSING, burst=MOST_MISSING)
        self._asked_at = self._asks_from = float("-inf")
        self._at_doubt: tuple[int, int] | None = None
        self._punch_at: float | None = None
        self._initiate_at: float | None = None
        self._handshakes_seen = 0
        self._key_changes_seen = 0
        self._handshake_began: float | None = None
        self.has_keys = False
        """Whether frames could be sealed when last looked at."""

    @property
    def name(self) -> str:
        return self.certificate.name

    def state(self, now: float) -> str:
        """``direct``, ``relayed``, ``connecting`` or ``offline``."""
        if self.session.is_established(now):
            if self.traversal.best is not None:
                return "direct"
            if self.traversal.relay is not None and self.traversal.relay.is_alive(now):
                return "relayed"
        is_trying = self.session.is_initiating and not self.has_left
        return "connecting" if self.is_online or is_trying else "offline"

    # Commands

    def touch(self) -> None:
        """It may want something now, or be woken at another time than before."""
        self._attention.touch(self)

    def introduce(self, is_smaller: bool, now: float, start: float, settle: float) -> None:
        """The server has introduced us. `start`: seconds to the common start; `settle`: seconds a
        handshake through the relay takes."""
        self.touch()
        if self.session.is_established(now):
            if self.traversal.state is not TraversalState.DIRECT:
                self.traversal.punch(now, "introduction", start)
            return
        self._punch_at = now + start + settle
        self.traversal.open_mappings(now)
        if is_smaller:
            self.session.restart_handshake(now)
            self._handshake_began = now
        else:
            self._initiate_at = now + FALLBACK_INITIATE + settle

    def forget_keys(self) -> None:
        """The peer's process has ended: its keys are gone, and what was proven counts no more."""
        self.touch()
        self.session.close()
        self.traversal.forget_paths()
        self.has_keys = False

    def retire(self) -> None:
        """It is a member no more."""
        self.forget_keys()
        self.session.retire()
        self.staged.clear()
        self.recent.clear()
        self.is_online = False
        self._initiate_at = self._punch_at = None

    def admit_again(self, admit: Callable[[Sequence[Candidate]], Sequence[Candidate]]) -> bool:
        """From here other candidates of it may be worth a check than before; whether some are."""
        self.touch()
        table = self.traversal.path_table
        before, added = set(table.candidates), table.added
        if self.announced:
            table.set_candidates(admit(self.announced))
            for candidate in admit(added):
                table.add_candidate(candidate)
        return not before.issuperset(table.candidates)

    # Packets and frames

    def note_activity(self, now: float) -> None:
        """A packet was sent to it, or came from it."""
        if self.traversal.note_activity(now):
            self.touch()

    def note_received(self, source: Endpoint, now: float, size: int, local: int) -> None:
        """A frame of `size` bytes has opened, from `source` to our socket `local`. Call `note_keys`
        next."""
        self.is_online, self.has_left = True, False
        if self.traversal.note_received(source, now, size, local):
            self.touch()

    def seal(self, payload: bytes, now: float) -> bytes | None:
        """A frame; None without keys. Sealing may begin a handshake."""
        frame = self.session.seal(payload, now)
        if self.session.is_initiating:
            self.touch()
        return frame

    # Sizes

    def note_large(self, now: float) -> int | None:
        """A packet larger than `SMALLEST` is going to be sent: bytes up to which it passes whole;
        None: of any size."""
        if self.mtu.note_large(self.traversal, now):
            self.touch()
        return self.mtu.limit(self.traversal, now)

    def next_fragmented(self) -> int:
        """A number for the next packet that is sent in fragments."""
        self._fragmented = (self._fragmented + 1) & 0xFFFFFFFF
        return self._fragmented

    def answer_too_big(self, packet: bytes, limit: int, now: float) -> bytes | None:
        """What to tell the sender of a packet that goes in fragments, so that the next fit."""
        if not self.mtu.is_settled(self.traversal):
            return None
        answer = answer_too_big(packet, limit)
        return answer if answer and self._too_big_answers.take(now) else None

    def receive_pong(self, pong: Pong, source: Endpoint, now: float) -> None:
        self.touch()
        if not self.mtu.receive_pong(self.traversal, pong, now):
            self.traversal.receive_pong(pong, source, now)

    def receive_error(
        self, endpoint: Endpoint, mtu: int | None, now: float, *, is_server: bool
    ) -> None:
        """ICMP about `endpoint`, which may be a path's, or the server's and so the relay's."""
        best, relay = self.traversal.best, self.traversal.relay
        cipher = self.session.cipher
        tag_length = cipher.tag_length if cipher else LONGEST_TAG
        if mtu is not None and is_server and relay is not None:
            self.touch()
            self.mtu.note_too_big(relay, endpoint, mtu, tag_length, now)
        elif best is not None and best.endpoint == endpoint:
            self.touch()
            if mtu is None:
                self.traversal.note_unreachable(endpoint, now)
            else:
                self.mtu.note_too_big(best, endpoint, mtu, tag_length, now)

    def take_checks(self, now: float) -> list[Outgoing]:
        checks = self.traversal.take_checks()
        return checks + self.mtu.take_checks(self.traversal, now) if self.has_keys else checks

    # The clock

    def get_timer(self) -> float | None:
        times = [self.session.get_timer(), self._initiate_at]
        if self.has_keys:
            times += [self.traversal.get_timer(), self.mtu.get_timer(self.traversal)]
            times += [self.session.established_until, self._suspicion_at()]
        return earliest(times)

    def handle_timer(self, now: float) -> None:
        self.touch()
        self.session.handle_timer(now)
        if self._initiate_at is not None and now >= self._initiate_at:
            self._initiate_at = None
            if not self.session.is_established(now):
                self.session.initiate(now)
                self._handshake_began = now
        self.note_keys(now)
        if self.has_keys:
            self.traversal.handle_timer(now)
            suspicion_at = self._suspicion_at()
            if suspicion_at is not None and now >= suspicion_at:
                self.session.initiate(now)

    def note_keys(self, now: float) -> bool:
        """To be called after the session took in anything. True: there are new keys to use."""
        is_established = self.session.is_established(now)
        if (
            is_established is not self.has_keys
            or self.session.key_changes != self._key_changes_seen
        ):
            self._key_changes_seen = self.session.key_changes
            self.touch()
        is_new = is_established and (
            not self.has_keys or self.session.handshakes != self._handshakes_seen
        )
        if is_established and not self.has_keys:
            self._initiate_at = None
            delay = max(0.0, (self._punch_at or now) - now)
            self.traversal.ping_relay(now)
            if self.traversal.state is not TraversalState.DIRECT:
                self.traversal.punch(now, "introduction", delay)
        self.has_keys = is_established
        if is_new:
            self._handshakes_seen = self.session.handshakes
        return is_new

    def take_events(self, now: float) -> list[Event]:
        events: list[Event] = []
        for change in self.traversal.take_changes():
            if change.kind == "doubted":
                self._at_doubt = self._tally()
                events.append(PathDoubted(self.name, change.before))
                continue
            outage = self._recount(change, now)
            self.outages.append(outage)
            if change.kind == "repaired":
                self.counters.path_repairs += 1
                events.append(
                    PathRepaired(
                        self.name,
                        change.before,
                        change.after,
                        outage["duration_s"],
                        outage["lost"],
                        outage["duplicates"],
                    )
                )
            else:
                self.counters.path_changes += 1
                self.state_since = now
                cause = change.cause
                events.append(PathChanged(self.name, change.before, change.after, cause))
                events.append(PeersChanged())
        path = self.mtu.take_news(self.traversal)
        if path is not None and path.mtu.limit is not None:
            events.append(PathMeasured(self.name, describe(path), path.mtu.limit))
        return events

    def _tally(self) -> tuple[int, int]:
        """Frames lost on the way to us, and copies dropped, since the beginning."""
        lost = self.session.sent_to_us - self.session.opened
        return lost, self.counters.duplicates_dropped

    def _recount(self, change: Change, now: float) -> dict[str, Any]:
        """The flight recorder's entry."""
        lost, duplicates = self._tally()
        lost_before, duplicates_before = self._at_doubt or (lost, duplicates)
        self._at_doubt = None
        return {
            "at": now,
            "event": change.kind,
            "before": change.before,
            "after": change.after,
            "cause": change.cause,
            "duration_s": round(change.seconds, 3),
            "lost": max(0, lost - lost_before),
            "duplicates": duplicates - duplicates_before,
        }

    def note_skipped(self, receiver: int, counter: int, now: float) -> Missing | None:
        """After a frame opened: what to ask the peer for, when a run before it is missing. That is
        what a mapping leaves that was forgotten and opened again before any echo was due."""
        if self.session.was_late:
            self._note_late(now)
        count = self.session.skipped
        if (
            now < self._asks_from
            or not LEAST_MISSING <= count <= MOST_MISSING
            or not self._asking.take(now, count)
        ):
            return None
        self._asked_at = now
        return Missing(count, receiver, counter - count)

    def _note_late(self, now: float) -> None:
        """A frame has come after later ones. If that is too soon for an answer to our asking, the
        network itself brings frames out of order, and asking was in vain."""
        path = self.traversal.in_use
        if path is not None and path.rtt is not None and now - self._asked_at < 0.9 * path.rtt:
            self._asks_from = now + REORDERED_FOR

    def find_sent(self, missing: Missing) -> list[bytes]:
        """The frames named that are still at hand."""
        wanted = range(missing.first, missing.first + min(missing.length, MOST_MISSING))
        found = []
        for _, frame in self.recent:
            receiver, counter = parse_header(frame)
            if receiver == missing.receiver and counter in wanted:
                found.append(frame)
        return found

    def take_unproven(self, now: float) -> list[bytes]:
        """Frames that may never have arrived, to be sent again: sealed as they are, so that the
        peer drops those that had."""
        since = self.traversal.wishes.take_resend_since()
        if since is None:
            return []
        return [frame for at, frame in self.recent if at >= since]

    def handshake_event(self, now: float) -> SessionEstablished:
        began, self._handshake_began = self._handshake_began, None
        return SessionEstablished(self.name, round(now - began, 3) if began is not None else 0.0)

    def _suspicion_at(self) -> float | None:
        """When nothing will have come back by any way for so long that the peer may have lost its
        keys; None if something does, or a handshake is under way."""
        ways = (self.traversal.best, self.traversal.relay)
        doubts = [path.doubted_from() for path in ways if path is not None]
        agreed_at = self.session.agreed_at
        if not doubts or self.session.is_initiating or agreed_at is None:
            return None
        # Nothing can have come back under keys that were agreed later.
        latest = agreed_at
        for doubted_from in doubts:
            if doubted_from is None:
                return None
            latest = max(latest, doubted_from)
        return latest + HANDSHAKE_AFTER_SILENCE
