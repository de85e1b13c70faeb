"""A node, seen from the rendezvous server."""

from __future__ import annotations

from collections import OrderedDict

from tunnel.core.machine import is_stream
from tunnel.core.ratelimit import TokenBucket
from tunnel.core.return_route import ReturnRoute
from tunnel.core.session import Session
from tunnel.noise.keys import PublicKey
from tunnel.wire.check import UNOBSERVED
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.rendezvous import Introduction, Notice, RefusalReason

NOTICE_RETRY = (0.4, 0.8, 1.6, 3.0, 5.0, 8.0)
"""Seconds after which a notice is repeated, while it is not acknowledged; then it is given up."""
MAX_NOTICES = 512
FRAME_OVERHEAD = 32
"""Bytes of header and tag."""
VANTAGE_LIMIT = (1.0, 12.0)
REFUSAL_SPACING = 5.0
"""Seconds in which a node is told once why something is not relayed."""
WINDOW = 32
"""Notices under way at once: a node that joins a large network is not buried."""


class Registrant:
    def __init__(self, key: PublicKey, session: Session, relay_rate: float, now: float) -> None:
        self.key = key
        self.session = session
        self.endpoints: dict[bool, Endpoint] = {}
        """IPv6? → where its authentic datagrams last came from."""
        self.locals: dict[bool, int] = {}
        """IPv6? → which of our sockets they came to, and answers must leave from."""
        self.source: bytes | None = None
        """Whom it counts for in bounds per source."""
        self.stream: tuple[Endpoint, int] | None = None
        """Its other end and its number, while the node uses a stream. It has no UDP endpoint
        then: that of before may be somebody else's by now."""
        self.is_main_ipv6 = False
        self.network: bytes | None = None
        self.announcement = b""
        self.sequence = -1
        self.rtt = 0
        """Microseconds, by its own measurement; 0: unknown."""
        self.last_heard = now
        self.channels: dict[bytes, int] = {}
        """Peer key → the number this node uses for it."""
        self.relay_limit = TokenBucket(relay_rate, max(relay_rate / 10, 256 * 1024))
        self.vantage_limit = TokenBucket(*VANTAGE_LIMIT)
        """Of answers from another port or address than asked: a node asks for 6 in a row."""
        self.late_answers: list[tuple[float, bytes, Endpoint, int]] = []
        """When, what, where to, by which of our sockets."""
        self.return_route = ReturnRoute()
        self.has_postponed = False
        """Whether notices wait for proof that it receives where it is seen."""
        self.attend_at: float | None = None
        """When the server looks at it next."""
        self._refused_at: dict[RefusalReason, float] = {}
        self._answered: tuple[bytes, bytes, set[bool]] | None = None
        """The last initiation, its response, and by which address families (IPv6?) that went."""
        self._serial = 0
        self._notices: OrderedDict[int, tuple[bytes, int, float]] = OrderedDict()
        """Serial → packed notice, times sent, next time."""
        self._introduced: dict[int, bytes] = {}
        """Serial → peer key, of those notices that are introductions."""
        self._missed: dict[bytes, None] = {}
        """Keys of the peers whose introductions were given up, at most MAX_NOTICES."""

    @property
    def endpoint(self) -> Endpoint | None:
        """Where to send: by its stream, or the address family it registered with."""
        if self.stream is not None:
            return self.stream[0]
        return self.endpoints.get(self.is_main_ipv6)

    @property
    def local(self) -> int:
        if self.stream is not None:
            return self.stream[1]
        return self.locals.get(self.is_main_ipv6, 0)

    @property
    def observed(self) -> Endpoint | None:
        """What peers are told of where it is: UNOBSERVED while it uses a stream."""
        return self.endpoint if self.stream is None else UNOBSERVED

    def is_at(self, source: Endpoint, local: int) -> bool:
        """Whether its authentic datagrams last came from there."""
        if is_stream(local):
            return self.stream == (source, local)
        return self.endpoints.get(source.is_ipv6) == source

    def may_be_sent(self, target: Endpoint, size: int) -> bool:
        """Whether so many bytes may go to where it is seen, at others' wish."""
        return self.stream is not None or self.return_route.allows(target, size)

    def may_be_refused(self, reason: RefusalReason, now: float) -> bool:
        """Whether to tell it that now: it has not been told lately."""
        if now - self._refused_at.get(reason, float("-inf")) < REFUSAL_SPACING:
            return False
        self._refused_at[reason] = now
        return True

    def use_stream(self, source: Endpoint, local: int) -> None:
        self.stream = (source, local)
        self.endpoints.clear()
        self.locals.clear()

    def leave_stream(self, number: int) -> None:
        """That stream has ended. The node is nowhere, unless it uses another way by now."""
        if self.stream is not None and self.stream[1] == number:
            self.stream = None

    def note_response(self, initiation: bytes, response: bytes, source: Endpoint) -> None:
        self._answered = (bytes(initiation), response, {source.is_ipv6})
        self.return_route.note_response(response, source)

    def repeat_response(self, initiation: bytes, source: Endpoint) -> bytes | None:
        """The response to a copy of the last initiation that came by the other address family. The
        node sends it by both, and of a family that is open one way only no response comes back."""
        if self._answered is None:
            return None
        answered, response, families = self._answered
        if answered != initiation or source.is_ipv6 in families:
            return None
        families.add(source.is_ipv6)
        self.return_route.note_copy()
        return response

    def forget_response(self) -> None:
        """The node has it."""
        self._answered = None

    def next_serial(self) -> int:
        self._serial = (self._serial + 1) & 0xFFFFFFFF
        return self._serial

    def notify(self, notice: Notice, now: float) -> None:
        """Queue `notice` until it is acknowledged. The oldest of too many is given up."""
        self._notices[notice.serial] = (notice.pack(), 0, now)
        if isinstance(notice, Introduction):
            self._introduced[notice.serial] = notice.peer
        if len(self._notices) > MAX_NOTICES:
            self._give_up(next(iter(self._notices)))

    def acknowledge(self, serial: int) -> None:
        self._notices.pop(serial, None)
        self._missed.pop(self._introduced.pop(serial, b""), None)

    def take_missed(self) -> list[bytes]:
        """Keys of the peers it was to be introduced to in vain. Without an introduction it would
        never learn of them, nor answer them."""
        missed, self._missed = list(self._missed), {}
        return missed

    def _give_up(self, serial: int) -> None:
        del self._notices[serial]
        peer = self._introduced.pop(serial, None)
        if peer is not None and len(self._missed) < MAX_NOTICES:
            self._missed[peer] = None

    def get_timer(self) -> float | None:
        window = list(self._notices.values())[:WINDOW] if self._notices else []
        times = [at for _, _, at in window] + [at for at, _, _, _ in self.late_answers]
        return min(times, default=None)

    def take_due_answers(self, now: float) -> list[tuple[bytes, Endpoint, int]]:
        """Late answers to probes, whose time has come: payload, destination, socket."""
        due = [(packed, to, local) for at, packed, to, local in self.late_answers if at <= now]
        self.late_answers = [answer for answer in self.late_answers if answer[0] > now]
        return due

    def hasten_notices(self, now: float) -> None:
        """Those that waited for proof of where it is are due."""
        self.has_postponed = False
        for serial in list(self._notices)[:WINDOW]:
            packed, times, at = self._notices[serial]
            self._notices[serial] = (packed, times, now if times == 0 else at)

    def take_due_notices(self, now: float) -> list[bytes]:
        """Notices to send (again) now. Others wait, where it is not certain that it is there."""
        due, target = [], self.endpoint
        self.has_postponed = False
        for serial in list(self._notices)[:WINDOW]:
            packed, times, at = self._notices[serial]
            if now < at:
                continue
            if times >= len(NOTICE_RETRY):
                self._give_up(serial)
                continue
            if target is not None and not self.may_be_sent(target, len(packed) + FRAME_OVERHEAD):
                self._notices[serial] = (packed, times, now + NOTICE_RETRY[0])
                self.has_postponed = True
                continue
            self._notices[serial] = (packed, times + 1, now + NOTICE_RETRY[times])
            due.append(packed)
        return due
