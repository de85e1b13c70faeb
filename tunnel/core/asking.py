"""Echoes that somebody asked for (``punchtun ping``), among the many that nobody is told of."""

from __future__ import annotations

from tunnel.core.path import RELAYED, Path
from tunnel.wire.endpoint import Endpoint

MAX_ASKED = 64


class Asking:
    def __init__(self) -> None:
        self._asked: dict[int, tuple[float, Endpoint]] = {}
        """Transaction → when and where it was sent."""
        self._answers: list[tuple[int, float, Endpoint]] = []

    def ask(self, transaction: int, path: Path, now: float) -> int:
        """That check's answer is to be told. Of too many, the oldest is forgotten."""
        self._asked[transaction] = now, path.endpoint
        if len(self._asked) > MAX_ASKED:
            del self._asked[next(iter(self._asked))]
        return transaction

    def note_answer(self, transaction: int, source: Endpoint, now: float) -> None:
        """A pong has come from there; maybe it answers. It counts even if the path no longer waits
        for it because a later echo was quicker."""
        asked = self._asked.get(transaction)
        if asked is not None and (asked[1] == RELAYED) == (source == RELAYED):
            del self._asked[transaction]
            self._answers.append((transaction, now - asked[0], asked[1]))

    def take_answers(self) -> list[tuple[int, float, Endpoint]]:
        """Transaction, seconds, endpoint."""
        answers, self._answers = self._answers, []
        return answers
