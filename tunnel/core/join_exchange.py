"""At the server: join requests on their way to inviters, answers on their way to joiners."""

from __future__ import annotations

from collections.abc import Mapping

from tunnel.core.mailbox import Letter, Mailbox
from tunnel.core.ratelimit import KeyedRateLimit
from tunnel.core.registrant import Registrant
from tunnel.core.source import source_of
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.rendezvous import (
    Asked,
    Grant,
    Granted,
    Kept,
    Redeem,
    RefusalReason,
    Refused,
)

REDEEM_LIMIT = (1.0, 5.0)
"""A second, and at once: requests to join from one source."""


class JoinExchange:
    def __init__(self, registrants: Mapping[bytes, Registrant], mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self._registrants = registrants
        self._limit = KeyedRateLimit(*REDEEM_LIMIT)
        self._notified: list[Registrant] = []

    def take_notified(self) -> list[Registrant]:
        """Those for whom there is a notice to be sent."""
        notified, self._notified = self._notified, []
        return notified

    def redeem(
        self, joiner: Registrant, message: Redeem, source: Endpoint, now: float
    ) -> Refused | Kept | None:
        """What to say to the joiner at once, if the inviter is not asked at once."""
        if not self._limit.take(source_of(source), now):
            return Refused(RefusalReason.TOO_MANY, message.request)
        inviter = self._registrants.get(message.inviter)
        is_there = inviter is not None and inviter.network is not None
        offline = Refused(RefusalReason.INVITER_OFFLINE, message.request)
        if not is_there and not self.mailbox.is_known(message.inviter, now):
            return offline
        letter = self.mailbox.put(
            *(message.inviter, joiner.key.data, message.request, message.sealed, source, now)
        )
        if letter is not None and letter.answer is not None:
            self._tell(joiner, letter, letter.answer, now)
            return None
        if inviter is None or not is_there:
            return offline if letter is None else Kept(message.request)
        if letter is not None:
            letter.note_asked(now)
        self._ask(inviter, joiner.key.data, message.request, message.sealed, now)
        return None

    def grant(self, inviter: Registrant, message: Grant, now: float) -> None:
        """The inviter's answer goes to the joiner, and waits if that is away."""
        letter = self.mailbox.answer(inviter.key.data, message.joiner, message.sealed, now)
        joiner = self._registrants.get(message.joiner)
        if joiner is None:
            return
        if letter is not None:
            self._tell(joiner, letter, message.sealed, now)
        else:
            granted = Granted(joiner.next_serial(), message.request, message.sealed)
            joiner.notify(granted, now)
            self._notified.append(joiner)

    def hand_over(self, inviter: Registrant, now: float, *, is_back: bool) -> None:
        """The inviter is there; `is_back`: it has just come, maybe as a new process."""
        for joiner, letter in self.mailbox.take_unanswered(inviter.key.data, now, is_back=is_back):
            self._ask(inviter, joiner, letter.request, letter.sealed, now)

    def _ask(
        self, inviter: Registrant, joiner: bytes, request: int, sealed: bytes, now: float
    ) -> None:
        inviter.notify(Asked(inviter.next_serial(), request, joiner, sealed), now)
        self._notified.append(inviter)

    def _tell(self, joiner: Registrant, letter: Letter, answer: bytes, now: float) -> None:
        granted = Granted(joiner.next_serial(), letter.request, answer)
        letter.serials.append(granted.serial)
        joiner.notify(granted, now)
        self._notified.append(joiner)
