"""Who uses the relay, as far as the server can know, kept so that neither a datagram nor a question
costs more the more pairs there are.

A pair that is direct sends nothing by the relay, not even echoes. One that is not, echoes no
further apart than mappings last, which is less than two windows: it was seen in this window or one
of the two before. (Pairs that are new are relayed at first.)
"""

from __future__ import annotations

WINDOW = 60.0
"""Seconds."""
WINDOWS = 3


class NetworkTally:
    __slots__ = ("pairs", "recent", "relayed_bytes", "tag")

    def __init__(self, tag: bytes) -> None:
        self.tag = tag
        self.pairs = 0
        """That have a channel."""
        self.relayed_bytes = 0
        self.recent: dict[int, int] = {}
        """Window → pairs of which the last datagram came in it."""


class PairTally:
    __slots__ = ("network", "window")

    def __init__(self, network: NetworkTally) -> None:
        self.network = network
        self.window = -1
        """In which its last datagram came; -1: there was none."""


class RelayTally:
    def __init__(self) -> None:
        self.window = -1
        """The one of the last datagram."""
        self.ends_at = float("-inf")
        """When that is over."""
        self._networks: dict[bytes, NetworkTally] = {}

    def open(self, tag: bytes) -> PairTally:
        """A pair of that network has a channel."""
        network = self._networks.get(tag)
        if network is None:
            network = self._networks[tag] = NetworkTally(tag)
        network.pairs += 1
        return PairTally(network)

    def close(self, pair: PairTally) -> None:
        """Its channel is closed."""
        network = pair.network
        network.pairs -= 1
        self._take_out(pair)
        if not network.pairs:
            del self._networks[network.tag]

    def turn(self, pair: PairTally, now: float) -> None:
        """To be called for a datagram of the pair, unless its window is ours and not over."""
        if now >= self.ends_at:
            self.window = int(now // WINDOW)
            self.ends_at = (self.window + 1) * WINDOW
        self._take_out(pair)
        pair.window = self.window
        recent = pair.network.recent
        recent[self.window] = recent.get(self.window, 0) + 1

    def read(self, tag: bytes, now: float) -> tuple[int, int, int]:
        """Of a network: pairs with a channel, those of them that are relayed, and bytes relayed for
        it as long as it has had a pair."""
        network = self._networks.get(tag)
        if network is None:
            return 0, 0, 0
        return network.pairs, _count(network, now), network.relayed_bytes

    def count(self, now: float) -> int:
        """Pairs relayed, in all networks. Takes time proportional to networks with pairs."""
        return sum(_count(network, now) for network in self._networks.values())

    def _take_out(self, pair: PairTally) -> None:
        recent = pair.network.recent
        if pair.window in recent:
            recent[pair.window] -= 1
            if not recent[pair.window]:
                del recent[pair.window]


def _count(network: NetworkTally, now: float) -> int:
    oldest = int(now // WINDOW) - WINDOWS + 1
    return sum(count for window, count in network.recent.items() if window >= oldest)
