"""Which of a peer's paths are asked for their MTU, and how large a packet to it may be."""

from __future__ import annotations

from collections.abc import Sequence

from tunnel.core.checks import Outgoing
from tunnel.core.machine import RandomBytes, draw_number, earliest
from tunnel.core.path import RELAYED, Path
from tunnel.core.traversal import Traversal, TraversalState
from tunnel.wire.check import Ping, Pong
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.relay import RELAY_HEADER_LENGTH
from tunnel.wire.train import TRAIN_OVERHEAD
from tunnel.wire.transport import HEADER_LENGTH

UDP_HEADER = 8
IPV4_HEADER, IPV6_HEADER = 20, 40


class MtuDiscovery:
    """For the path in use, and for the relay, so that its limit is known when it is needed."""

    def __init__(self, interface_mtu: int, random_bytes: RandomBytes) -> None:
        self.interface_mtu = interface_mtu
        self._random_bytes = random_bytes
        self._told = interface_mtu

    def limit(self, traversal: Traversal, now: float) -> int | None:
        """Bytes of the largest packet that passes whole by every way it would take; None: of any
        the interface gives."""
        return self.limit_of(traversal, traversal.routes(now))

    def limit_of(self, traversal: Traversal, routes: Sequence[Endpoint]) -> int | None:
        """The same for these ways."""
        least = None
        for path in (traversal.best, traversal.relay):
            if path is not None and path.endpoint in routes:
                limit = path.mtu.limit
                if limit is not None and (least is None or limit < least):
                    least = limit
        return least

    def is_settled(self, traversal: Traversal) -> bool:
        """Whether `limit` will last: it may be told to others, who remember it for minutes."""
        path = traversal.in_use
        return (
            path is not None and path.mtu.is_settled and traversal.state is not TraversalState.DOUBT
        )

    def note_large(self, traversal: Traversal, now: float) -> bool:
        """A packet of more than SMALLEST bytes is on its way; whether a check is due for that."""
        path = traversal.in_use
        return path is not None and path.mtu.note_large(now)

    def note_too_big(
        self, path: Path, via: Endpoint, mtu: int, tag_length: int, now: float
    ) -> None:
        """ICMP says that IP packets of more than `mtu` bytes cannot pass on the way to `via`.
        Frames end in `tag_length` bytes of tag."""
        overhead = UDP_HEADER + HEADER_LENGTH + TRAIN_OVERHEAD + tag_length
        overhead += IPV6_HEADER if via.is_ipv6 else IPV4_HEADER
        overhead += RELAY_HEADER_LENGTH if path.endpoint == RELAYED else 0
        path.mtu.suggest(mtu - overhead, now)

    def take_checks(self, traversal: Traversal, now: float) -> list[Outgoing]:
        """Padded checks that are due, to seal and send unfragmentable."""
        checks = []
        for path in _used(traversal):
            path.mtu.search(self.interface_mtu, now)
            for size in path.mtu.take_sizes(now, path.rtt):
                transaction = draw_number(self._random_bytes)
                path.mtu.note_sent(transaction, size)
                # What passes alone must pass in a train as well.
                ping = Ping(transaction, size + TRAIN_OVERHEAD)
                checks.append(Outgoing(path.endpoint, ping.pack(), path.local))
        return checks

    def receive_pong(self, traversal: Traversal, pong: Pong, now: float) -> bool:
        """Whether it answers one of these checks, and nothing else."""
        return any(path.mtu.receive_pong(pong.transaction, now) for path in _used(traversal))

    def take_news(self, traversal: Traversal) -> Path | None:
        """The path in use, if its limit is settled and another than the last one told."""
        path = traversal.in_use
        if path is None or not path.mtu.is_settled or path.mtu.limit in (None, self._told):
            return None
        self._told = path.mtu.limit or 0
        return path

    def get_timer(self, traversal: Traversal) -> float | None:
        times = [path.mtu.get_timer() for path in _used(traversal)]
        return earliest(times)


def _used(traversal: Traversal) -> list[Path]:
    """A path in doubt answers nothing, whatever the size."""
    paths = []
    if traversal.best is not None and traversal.state is TraversalState.DIRECT:
        paths.append(traversal.best)
    if traversal.relay is not None and traversal.relay.proven_at is not None:
        paths.append(traversal.relay)
    return paths
