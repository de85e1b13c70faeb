"""Who may have a place at the server: in all, per network, and per source (``source.py``).

Who has a place keeps it. Newcomers are refused, with a reason that they can show; what one source
takes up leaves room for those of all others.
"""

from __future__ import annotations

from collections import Counter

from tunnel.core.configuration import ServerConfig
from tunnel.core.registrant import Registrant
from tunnel.errors import AuthenticationFailed
from tunnel.wire.rendezvous import RefusalReason

WARY_SHARE = 4
"""From a quarter of a bound on, who comes must show by a cookie that it is where it says: otherwise
places could be taken up in the name of others."""

Source = bytes | None
"""None: a proxy on this machine, which stands for many."""


class Admission:
    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self.waiting = 0
        """Sessions without registration."""
        self.nodes = 0
        self._waiting_of: Counter[bytes] = Counter()
        self._nodes_of: Counter[bytes] = Counter()
        self._networks_of: Counter[bytes] = Counter()
        self._founded_from: dict[bytes, Source] = {}
        """Network → the source that it counts for: its first node's."""

    def is_wary(self, source: Source) -> bool:
        """Whether a newcomer has to show that it is at `source`."""
        of_source = self._waiting_of[source] if source is not None else 0
        return (
            self.waiting * WARY_SHARE >= self._config.max_waiting
            or of_source * WARY_SHARE >= self._config.max_waiting_per_source
        )

    def admit(self, registrant: Registrant, source: Source) -> None:
        """A new session. Raises AuthenticationFailed."""
        if self.waiting >= self._config.max_waiting:
            raise AuthenticationFailed("too many sessions without registration")
        if source is not None and (self._waiting_of[source] >= self._config.max_waiting_per_source):
            raise AuthenticationFailed("too many sessions without registration from one source")
        registrant.source = source
        self._count_waiting(source, 1)

    def refuse_registration(
        self, registrant: Registrant, network: bytes, members: int
    ) -> RefusalReason | None:
        """Why it may not register with `network`, which has so many members now."""
        source, config = registrant.source, self._config
        if self.nodes >= config.max_nodes:
            return RefusalReason.SERVER_FULL
        if members >= config.max_nodes_per_network:
            return RefusalReason.NETWORK_FULL
        if source is not None and self._nodes_of[source] >= config.max_nodes_per_source:
            return RefusalReason.SOURCE_FULL
        if network in self._founded_from:
            return None
        if len(self._founded_from) >= config.max_networks:
            return RefusalReason.SERVER_FULL
        if source is not None and self._networks_of[source] >= config.max_networks_per_source:
            return RefusalReason.TOO_MANY_NETWORKS
        return None

    def register(self, registrant: Registrant, network: bytes) -> None:
        """It is a member of `network` from now on."""
        source = registrant.source
        self._count_waiting(source, -1)
        self._count_node(source, 1)
        if network not in self._founded_from:
            self._founded_from[network] = source
            if source is not None:
                self._networks_of[source] += 1

    def unregister(self, registrant: Registrant) -> None:
        """It has a session only."""
        self._count_node(registrant.source, -1)
        self._count_waiting(registrant.source, 1)

    def end_network(self, network: bytes) -> None:
        """Nobody is left in it."""
        source = self._founded_from.pop(network)
        if source is not None:
            _subtract(self._networks_of, source)

    def forget(self, registrant: Registrant) -> None:
        """Its session has ended; it is not registered."""
        self._count_waiting(registrant.source, -1)

    def move(self, registrant: Registrant, source: Source) -> None:
        """A node that is registered has shown where it is: elsewhere, it may be. It is not refused
        there."""
        self._count_node(registrant.source, -1)
        registrant.source = source
        self._count_node(source, 1)

    def _count_waiting(self, source: Source, step: int) -> None:
        self.waiting += step
        _add(self._waiting_of, source, step)

    def _count_node(self, source: Source, step: int) -> None:
        self.nodes += step
        _add(self._nodes_of, source, step)


def _add(counter: Counter[bytes], source: Source, step: int) -> None:
    if source is None:
        return
    if step > 0:
        counter[source] += 1
    else:
        _subtract(counter, source)


def _subtract(counter: Counter[bytes], source: bytes) -> None:
    counter[source] -= 1
    if not counter[source]:
        del counter[source]
