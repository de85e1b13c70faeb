"""What waits at the server for a joiner or an inviter that is away: sealed, bounded, in memory.

A letter is one joiner's request to one inviter, and then the answer to it.

    ==========  ==========================================  ======================================
    state       what is kept                                left by
    ==========  ==========================================  ======================================
    waiting     the request; asked anew when the inviter    the inviter's answer → answered
                registers, ever more rarely while it is
                there and says nothing
    answered    the answer; told whenever the joiner asks   the joiner's acknowledgement → gone
    ==========  ==========================================  ======================================

Either is gone ``LETTER_LIFETIME`` after the joiner's last request or the answer, and with the
process. There are letters only for inviters that are registered, or have been within ``KNOWN_FOR``;
at most ``MAX_PER_INVITER`` for one of them and ``MAX_PER_SOURCE`` from one IPv4 address or IPv6
/48.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque

from tunnel.core.source import source_of
from tunnel.wire.endpoint import Endpoint

LETTER_LIFETIME = 3 * 86400.0
KNOWN_FOR = 7 * 86400.0
MAX_PER_INVITER = 64
MAX_PER_SOURCE = 16
V6_PREFIX = 6
"""Bytes of an IPv6 address that are one source here, a /48: a /64 for each letter is easily had."""
REMINDERS = (20.0, 60.0, 300.0, 1800.0)
"""Seconds after which a registered inviter that has not answered is asked again; then every so
often as the last says. Its answer may have been lost, or its disk was full."""

_Key = tuple[bytes, bytes]
"""Inviter, joiner."""


class Letter:
    __slots__ = ("answer", "asks", "due_at", "expires_at", "request", "sealed", "serials", "source")

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.request = 0
        """The number by which the joiner knows its request, the one it made last."""
        self.sealed = b""
        """The request."""
        self.answer: bytes | None = None
        self.serials: deque[int] = deque(maxlen=4)
        """Of the notices by which the joiner was told the answer."""
        self.asks = 0
        self.due_at = 0.0
        """When the inviter, if it is there, is to be asked again."""
        self.expires_at = 0.0

    def note_asked(self, now: float) -> None:
        self.due_at = now + REMINDERS[min(self.asks, len(REMINDERS) - 1)]
        self.asks += 1


class Mailbox:
    def __init__(self, max_letters: int, max_known: int) -> None:
        self.refused = 0
        """Letters not taken, for a bound."""
        self._max_letters = max_letters
        self._max_known = max_known
        self._letters: OrderedDict[_Key, Letter] = OrderedDict()
        """In the order in which they expire."""
        self._joiners: dict[bytes, set[bytes]] = {}
        """Inviter → those who have written to it."""
        self._inviters: dict[bytes, set[bytes]] = {}
        """Joiner → those it has written to."""
        self._per_source: Counter[bytes] = Counter()
        self._departed: OrderedDict[bytes, float] = OrderedDict()
        """Nodes that were registered → when they were last; the oldest first."""

    def __len__(self) -> int:
        return len(self._letters)

    def __contains__(self, pair: object) -> bool:
        """Whether there is a letter to that inviter from that joiner."""
        return pair in self._letters

    # Who may be written to

    def note_departure(self, node: bytes, now: float) -> None:
        """It was registered until now."""
        self._departed[node] = now
        self._departed.move_to_end(node)
        while len(self._departed) > self._max_known:
            self._departed.popitem(last=False)

    def is_known(self, node: bytes, now: float) -> bool:
        """Whether it was registered within the last days."""
        return now < self._departed.get(node, float("-inf")) + KNOWN_FOR

    # Letters

    def put(
        self,
        inviter: bytes,
        joiner: bytes,
        request: int,
        sealed: bytes,
        source: Endpoint,
        now: float,
    ) -> Letter | None:
        """The letter with this request, which takes the place of the joiner's last one; or the
        answer in it, if there is one already. None: a bound is reached."""
        self.expire(now)
        letter = self._letters.get((inviter, joiner))
        if letter is None:
            prefix = source_of(source, V6_PREFIX)
            if (
                len(self._letters) >= self._max_letters
                or len(self._joiners.get(inviter, ())) >= MAX_PER_INVITER
                or self._per_source[prefix] >= MAX_PER_SOURCE
            ):
                self.refused += 1
                return None
            letter = self._letters[inviter, joiner] = Letter(prefix)
            self._joiners.setdefault(inviter, set()).add(joiner)
            self._inviters.setdefault(joiner, set()).add(inviter)
            self._per_source[prefix] += 1
        letter.request = request
        if letter.answer is None:
            letter.sealed = sealed
        self._extend((inviter, joiner), letter, now)
        return letter

    def answer(self, inviter: bytes, joiner: bytes, sealed: bytes, now: float) -> Letter | None:
        """The inviter has answered. None: nobody waits for that."""
        self.expire(now)
        letter = self._letters.get((inviter, joiner))
        if letter is not None:
            letter.answer, letter.sealed = sealed, b""
            self._extend((inviter, joiner), letter, now)
        return letter

    def take_unanswered(
        self, inviter: bytes, now: float, *, is_back: bool
    ) -> list[tuple[bytes, Letter]]:
        """What to ask the inviter, which is there: all that waits if it has just come, else what
        is due; each with its joiner."""
        if inviter not in self._joiners:
            return []
        self.expire(now)
        due = []
        for joiner in sorted(self._joiners.get(inviter, ())):
            letter = self._letters[inviter, joiner]
            if letter.answer is not None:
                continue
            if is_back:
                letter.asks, letter.due_at = 0, now
            if now >= letter.due_at:
                letter.note_asked(now)
                due.append((joiner, letter))
        return due

    def acknowledge(self, joiner: bytes, serial: int) -> None:
        """The joiner has the answer that was told with this serial, if it was one."""
        for inviter in tuple(self._inviters.get(joiner, ())):
            if serial in self._letters[inviter, joiner].serials:
                self._remove((inviter, joiner))

    def expire(self, now: float) -> None:
        while self._letters:
            key, letter = next(iter(self._letters.items()))
            if now < letter.expires_at:
                break
            self._remove(key)

    def _extend(self, key: _Key, letter: Letter, now: float) -> None:
        letter.expires_at = now + LETTER_LIFETIME
        self._letters.move_to_end(key)

    def _remove(self, key: _Key) -> None:
        letter = self._letters.pop(key)
        inviter, joiner = key
        for index, one, other in (
            (self._joiners, inviter, joiner),
            (self._inviters, joiner, inviter),
        ):
            index[one].discard(other)
            if not index[one]:
                del index[one]
        self._per_source[letter.source] -= 1
        if not self._per_source[letter.source]:
            del self._per_source[letter.source]
