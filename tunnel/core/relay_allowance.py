"""What each network may have relayed: bytes a second, and bytes in a day or a month."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from tunnel.core.fair_share import FairShare
from tunnel.core.machine import WallClock
from tunnel.core.periods import Period, span_of
from tunnel.noise.sealing import derive_key
from tunnel.wire.rendezvous import RefusalReason

MIN_BURST = 256 * 1024
"""Bytes saved up at least, whatever the rate."""
BURST_TIME = 0.1
"""Seconds of the rate saved up otherwise."""
MAX_SHARES = 65536
"""Networks whose rate is kept, those that relayed last."""
MAX_USES = 65536
"""Networks whose use of a period is kept. Those beyond have nothing relayed: to forget one would
give it its quota anew."""
RECHECK = 1.0
"""Seconds between looks at the calendar."""
NAME_LENGTH = 16
SHORT = 40
"""Bytes of the shortest datagram that is relayed: the envelope and an empty frame."""


class Quota(NamedTuple):
    size: int
    """Bytes."""
    period: Period


class RelayUse(NamedTuple):
    """What is to be kept when the server restarts."""

    period: str
    """2026-11 or 2026-11-26: UTC."""
    used: Mapping[str, int]
    """A network, by a name that tells nothing of its tag, → bytes."""


class RelayAllowance:
    def __init__(
        self,
        rate: float | None,
        quota: Quota | None,
        wall_clock: WallClock,
        use: RelayUse | None = None,
    ) -> None:
        """`use`: of an earlier run; it counts if it is of the present period."""
        self._rate = rate
        self._quota = quota
        self._wall_clock = wall_clock
        self._shares: OrderedDict[bytes, FairShare] = OrderedDict()
        self._used: dict[bytes, int] = {}
        """By ``_name``."""
        self._names: OrderedDict[bytes, bytes] = OrderedDict()
        """Network → ``_name``, of those that relayed last: a hash each datagram is dear."""
        self._period = ""
        self._ends_at = 0.0
        self._checked_at = float("-inf")
        self._has_news = False
        if quota is not None:
            self._period, self._ends_at = span_of(quota.period, wall_clock())
            if use is not None and use.period == self._period:
                self._used = {bytes.fromhex(name): size for name, size in use.used.items()}

    @property
    def is_limited(self) -> bool:
        return self._rate is not None or self._quota is not None

    @property
    def ends_at(self) -> float:
        """When the quota begins anew, in seconds since the Unix epoch; 0: there is none."""
        return self._ends_at

    def take(self, network: bytes, pair: int, now: float, size: int) -> RefusalReason | None:
        """Why a datagram of `size` bytes of that pair is not relayed; None: it is, and counted."""
        if self._quota is not None and self._is_used_up(network, now, size):
            return RefusalReason.RELAY_QUOTA
        if self._rate is not None and not self._share_of(network).take(pair, now, size):
            return RefusalReason.RELAY_RATE
        if self._quota is not None:
            name = self._name(network)
            self._used[name] = self._used.get(name, 0) + size
            self._has_news = True
        return None

    def is_used_up(self, network: bytes, now: float) -> bool:
        """Whether nothing more of that network is relayed in this period."""
        return self._quota is not None and self._is_used_up(network, now, 1)

    @property
    def over_quota(self) -> int:
        """Networks that have used up theirs, but for what no datagram is as short as."""
        if self._quota is None:
            return 0
        return sum(used + SHORT > self._quota.size for used in self._used.values())

    def take_use(self) -> RelayUse | None:
        """What is to be kept, if that has changed since it was last asked for."""
        if not self._has_news:
            return None
        self._has_news = False
        return RelayUse(self._period, {name.hex(): size for name, size in self._used.items()})

    def _is_used_up(self, network: bytes, now: float, size: int) -> bool:
        assert self._quota is not None
        if now - self._checked_at >= RECHECK:
            self._checked_at = now
            period, ends_at = span_of(self._quota.period, self._wall_clock())
            if period != self._period:
                self._period, self._ends_at = period, ends_at
                self._used.clear()
                self._has_news = True
        used = self._used.get(self._name(network))
        if used is None:
            return len(self._used) >= MAX_USES or size > self._quota.size
        return used + size > self._quota.size

    def _name(self, network: bytes) -> bytes:
        name = self._names.get(network)
        if name is None:
            name = self._names[network] = derive_key(b"relay use", network)[:NAME_LENGTH]
            if len(self._names) > MAX_SHARES:
                self._names.popitem(last=False)
        return name

    def _share_of(self, network: bytes) -> FairShare:
        share = self._shares.get(network)
        if share is None:
            assert self._rate is not None
            burst = max(self._rate * BURST_TIME, MIN_BURST)
            share = self._shares[network] = FairShare(self._rate, burst)
            if len(self._shares) > MAX_SHARES:
                self._shares.popitem(last=False)
        else:
            self._shares.move_to_end(network)
        return share
