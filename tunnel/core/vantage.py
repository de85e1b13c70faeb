"""From where the server can look at a node: its pairs of ports, on one address or several.

Pair 0 has the local numbers 0 and 1, pair 1 has 2 and 3, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunnel.wire.endpoint import Endpoint
from tunnel.wire.rendezvous import AnswerFrom


class Vantage:
    def __init__(self, listeners: Sequence[Endpoint | None]) -> None:
        """First port of each pair; None where it takes all addresses of the machine: then which
        address a node came to is not known, nor whether another one is."""
        self._listeners = tuple(listeners)

    def alternate(self, local: int) -> Endpoint | None:
        """The first port of another address than that of socket `local`, of the same family."""
        pair = self._other_pair(local)
        return None if pair is None else self._listeners[pair]

    def answerer(self, local: int, place: int) -> int | None:
        """The number of the socket that answers what came to socket `local`; None: no such one."""
        if place == AnswerFrom.SAME:
            return local
        if place == AnswerFrom.OTHER_PORT:
            return local ^ 1
        pair = self._other_pair(local) if place == AnswerFrom.OTHER_ADDRESS else None
        return None if pair is None else 2 * pair + 1 - local % 2

    def _other_pair(self, local: int) -> int | None:
        own = self._listeners[local // 2] if local // 2 < len(self._listeners) else None
        if own is None:
            return None
        for pair, other in enumerate(self._listeners):
            if other and other.host != own.host and other.is_ipv6 == own.is_ipv6:
                return pair
        return None
