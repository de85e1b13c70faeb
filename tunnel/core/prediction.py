"""Which external ports our next mappings will have, from samples the server has just seen.

RFC 4787 §4.2.1 tells of allocators, RFC 5128 §3.4 of prediction. Nothing here is remembered: a
NAT's habits are learned afresh for each attempt, because the counter of a sequential one moves on
with everybody behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

from tunnel.wire.check import PredictionKind
from tunnel.wire.endpoint import Endpoint

LOWEST_PORT, HIGHEST_PORT = 1024, 65535
SEQUENTIAL_WINDOW = 48
"""Ports after the last one seen: others behind the NAT take some before we do."""
LOOSE_STEP = 4
"""Ports a sequential allocator may count on average from one sample to the next."""
ASCENDING = 0.75
"""Share of steps that go up, at least, where ports are counted: of random ones half do."""
DENSE_STEP, DENSE_FROM = 2, 6
"""So many ports that lie so close together are counted even if steps go both ways: some probes were
lost, and got their mapping when they were sent again. Of random ones in a block of 64, six lie so
once in 200 times, twelve once in 5000."""
WIDEST_BLOCK = 16384
"""Samples that lie wider apart come from the whole range."""
MAX_SENDS = 440
"""Datagrams to different endpoints, by one side in one attempt: each is an entry in its NAT's
table, and of these there must never be 512."""
LARGEST_SHARE = 2
"""Of a block, half is used by datagrams that guess: it is all the ports a subscriber has."""
LEAST_SENDS = 16
SMALL_SENDS = 256
"""The same against a range of 4096 ports or less, where 64 sockets make that plenty, and where the
peer sends from no more than SUSPICIOUS_SOCKETS."""
SUSPICIOUS_SOCKETS = 200


class Sample(NamedTuple):
    """Where the server saw a datagram of ours, in the order they were sent."""

    local: int
    observed: Endpoint


class PortRange(NamedTuple):
    kind: PredictionKind
    first: Endpoint
    """The likeliest one."""
    last: int

    @property
    def size(self) -> int:
        return abs(self.last - self.first.port) + 1

    def port(self, number: int) -> int:
        """The `number`th likeliest; they begin anew after the last."""
        step = number % self.size
        return self.first.port + (step if self.last >= self.first.port else -step)


def predict(samples: Sequence[Sample], *, distrusts_steady: bool = False) -> PortRange | None:
    """The range of our next mappings; None: unpredictable, for they are at several addresses.

    `distrusts_steady`: samples all went to one address, and a mapping that is the same for its
    ports may be another for the peer's address (address-dependent): reckon with that.
    """
    hosts = {sample.observed.host for sample in samples}
    if len(hosts) != 1:
        return None
    host = hosts.pop()
    by_local: dict[int, set[int]] = {}
    for local, observed in samples:
        by_local.setdefault(local, set()).add(observed.port)
    if all(len(ports) == 1 for ports in by_local.values()) and not distrusts_steady:
        port = samples[0].observed.port
        return PortRange(PredictionKind.EXACT, Endpoint(host, port), port)
    # In the order the mappings were made; a socket whose mapping is steady made but one.
    ports = list(dict.fromkeys(sample.observed.port for sample in samples))
    return _predict_counted(host, ports) or _predict_scattered(host, ports)


def _predict_counted(host: str, ports: Sequence[int]) -> PortRange | None:
    width = max(ports) - min(ports)
    if len(ports) < 2 or width > LOOSE_STEP * len(ports):
        return None
    # Of pairs in the order of sending; a few that came late turn few of them round.
    is_dense = len(ports) >= DENSE_FROM and width < DENSE_STEP * len(ports)
    pairs = combinations(ports, 2) if is_dense else pairwise(ports)
    ups = [later > earlier for earlier, later in pairs]
    upwards, enough = sum(ups) / len(ups), 0.5 if is_dense else ASCENDING
    if upwards >= enough:
        first, last = max(ports) + 1, max(ports) + SEQUENTIAL_WINDOW
    elif upwards <= 1 - enough:
        first, last = min(ports) - 1, min(ports) - SEQUENTIAL_WINDOW
    else:
        return None
    if not (LOWEST_PORT <= first <= HIGHEST_PORT and LOWEST_PORT <= last <= HIGHEST_PORT):
        return None  # About to begin anew, nobody knows where.
    return PortRange(PredictionKind.SEQUENTIAL, Endpoint(host, first), last)


def _predict_scattered(host: str, ports: Sequence[int]) -> PortRange:
    lowest, highest = min(ports), max(ports)
    if highest - lowest > WIDEST_BLOCK or len(ports) < 2:
        lowest, highest = LOWEST_PORT, HIGHEST_PORT
    else:
        # The ends of a uniform distribution lie, on average, a gap beyond the outermost samples.
        gap = max(4, (highest - lowest) // (len(ports) - 1))
        lowest, highest = max(LOWEST_PORT, lowest - gap), min(HIGHEST_PORT, highest + gap)
    return PortRange(PredictionKind.SCATTERED, Endpoint(host, lowest), highest)


def count_sockets(ours: PortRange, *, is_suspicion: bool = False) -> int:
    """From how many sockets to send. Few where the block is small: it is all that the subscriber
    has, and a closed socket holds its port until the NAT forgets it. Fewer where it is but a
    suspicion that our ports vary: if they do not, and our router tracks what comes unasked, the
    peer's pings make entries there as well."""
    if ours.kind is not PredictionKind.SCATTERED:
        return 1
    if ours.size <= 512:
        return 16 if ours.size <= 128 else 32
    if ours.size <= 4096:
        return 64
    return SUSPICIOUS_SOCKETS if is_suspicion else 400


def count_sends(ours: PortRange, theirs_size: int, sockets: int, their_sockets: int = 1) -> int:
    """To how many endpoints to send, over all sockets."""
    if theirs_size == 1:
        return sockets
    if ours.kind is PredictionKind.EXACT:
        is_enough = theirs_size <= 4096 or their_sockets <= SUSPICIOUS_SOCKETS
        return min(theirs_size, SMALL_SENDS if is_enough else MAX_SENDS)
    if ours.kind is PredictionKind.SEQUENTIAL:
        return min(ours.size, theirs_size, MAX_SENDS)
    return min(MAX_SENDS, max(LEAST_SENDS, ours.size // LARGEST_SHARE))


def estimate_chance(ours: PortRange, theirs: PortRange, sockets: int, their_sockets: int) -> float:
    """The probability that one attempt succeeds."""
    if ours.size == 1 and theirs.size == 1:
        return 1.0
    if ours.size > 1 and theirs.size > 1:
        if ours.kind is theirs.kind is PredictionKind.SEQUENTIAL:
            return 0.9  # Both count in step, unless somebody else's mapping comes in between.
        sent = count_sends(ours, theirs.size, sockets)
        answered = count_sends(theirs, ours.size, their_sockets)
        return 1 - math.exp(-sent * answered / (ours.size * theirs.size))
    varying, steady, count = (
        (ours, theirs, sockets) if ours.size > 1 else (theirs, ours, their_sockets)
    )
    probes = count_sends(steady, varying.size, 1, count)
    if probes >= varying.size:
        return 1.0
    return float(1 - (1 - min(1.0, count / varying.size)) ** probes)
