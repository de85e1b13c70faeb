"""Token buckets, in the caller's time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class TokenBucket:
    """`rate` tokens a second, at most `burst` saved up."""

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._updated = float("-inf")

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Take `amount` tokens if they are there."""
        if now > self._updated:
            elapsed = now - self._updated
            self._tokens = min(self._burst, self._tokens + elapsed * self._rate)
            self._updated = now
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True


class KeyedRateLimit:
    """A token bucket per key, for the `capacity` keys seen last: bounded whatever arrives."""

    def __init__(self, rate: float, burst: float, capacity: int = 4096) -> None:
        self._rate = rate
        self._burst = burst
        self._capacity = capacity
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        """Whether it is among those seen last."""
        return key in self._buckets

    def take(self, key: Hashable, now: float, amount: float = 1.0) -> bool:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst)
            if len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now, amount)
