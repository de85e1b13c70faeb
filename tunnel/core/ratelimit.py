"""Token buckets, in the caller's time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

CAPACITY = 4096
"""Keys of which a rate is remembered, unless said otherwise."""


class TokenBucket:
    """`rate` tokens a second, at most `burst` saved up."""

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._updated = float("-inf")

    def take(self, now: float, amount: float = 1.0, reserve: float = 0.0) -> bool:
        """Take `amount` tokens if they are there, and `reserve` beside them."""
        if now > self._updated:
            elapsed = now - self._updated
            self._tokens = min(self._burst, self._tokens + elapsed * self._rate)
            self._updated = now
        if self._tokens < amount + reserve:
            return False
        self._tokens -= amount
        return True


class KeyedRateLimit:
    """A token bucket per key, for the `capacity` keys seen last: bounded whatever arrives.

    A key that was forgotten begins anew, so who can name other keys at will gets more for one than
    its share. A `total` for all keys ends that, if fewer than `capacity` of them are taken from in
    the time in which a bucket fills: what is forgotten then is full.
    """

    def __init__(
        self, rate: float, burst: float, capacity: int = CAPACITY, total: TokenBucket | None = None
    ) -> None:
        self._total = total
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
            if self._total is not None and not self._total.take(now, amount):
                return False
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst)
            if len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
            return bucket.take(now, amount)
        self._buckets.move_to_end(key)
        # Its own first: one key that asks too often must not use up what is everybody's.
        if not bucket.take(now, amount):
            return False
        return self._total is None or self._total.take(now, amount)
