"""Which pairs can punch, by rule, so that simulated punching has something to be compared with.

The rule is for simple simultaneous sending between server-reflexive endpoints, where each side also
answers the source it actually sees. It was fitted on all 81 pairs of RFC 4787 behaviours by
running them. Where it says no, port prediction and guessing may still help: `rule` says which, and
`chance_of_attempt` how likely an attempt within the budget is to succeed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.sim.nat import Filtering, Nat, Pooling
from tests.sim.ports import FIRST_PORT, LAST_PORT, Allocation

BUDGET = 440
"""NAT entries that an attempt may cost on either side."""
HOPELESS = 0.01
"""An attempt less likely to succeed is not worth its entries: attempts are 20 to 30 s apart, and
half of the pairs would still be relayed after half an hour."""
FULL_RANGE = LAST_PORT - FIRST_PORT + 1

Side = Nat | Sequence[Nat] | None
"""What a node is behind: a NAT or firewall, a chain of them from the inside out, or nothing."""


def direct_is_possible(a: Side, b: Side, *, simultaneous: bool = True) -> bool:
    """Whether a pair ends direct.

    - Both mappings steady: yes.
    - Exactly one varies: unless the steady side filters by address and port.
    - Both vary: if one side filters endpoint-independently and the other not by address and port.

    A varying mapping on a pool of addresses that is not paired varies in its address too: then
    filtering by address is as strict as filtering by address and port.

    `simultaneous`: both first datagrams leave within the one-way delay of each other. If not, it is
    the worse order that counts, and a NAT that tracks unsolicited datagrams may find its port
    towards the other side occupied (NATs as measured, 2)."""
    varies_a, varies_b = _varies(a), _varies(b)
    if not simultaneous and (_is_poisoned(a, b) or _is_poisoned(b, a)):
        return False
    strict = Filtering.ADDRESS_AND_PORT_DEPENDENT
    filter_a = _strictness(a, _hops(b) if varies_b else False)
    filter_b = _strictness(b, _hops(a) if varies_a else False)
    if varies_a and varies_b:
        return min(filter_a, filter_b) == Filtering.ENDPOINT_INDEPENDENT and (
            max(filter_a, filter_b) < strict
        )
    if varies_a or varies_b:
        return (filter_b if varies_a else filter_a) < strict
    return True


def _chain(side: Side) -> Sequence[Nat]:
    if side is None:
        return ()
    return (side,) if isinstance(side, Nat) else side


def _varies(side: Side) -> bool:
    return any(nat.varies for nat in _chain(side))


def _is_poisoned(side: Side, first: Side) -> bool:
    """Whether `side` gets nowhere once the datagram of `first` has come in before its own: it then
    shows `first` another port than `first` sends to, and lets nothing in at the one it had."""
    tracks = any(nat.tracks_unsolicited for nat in _chain(side))
    if not tracks or _varies(side) or _strictness(side, False) == Filtering.ENDPOINT_INDEPENDENT:
        return False
    return _varies(first) or _strictness(first, False) == Filtering.ADDRESS_AND_PORT_DEPENDENT


def _hops(side: Side) -> bool:
    """Whether the address of a varying mapping varies as well."""
    return any(nat.pooling is Pooling.ARBITRARY and len(nat.addresses) > 1 for nat in _chain(side))


def _strictness(side: Side, remote_hops: bool) -> Filtering:
    """The strictest filtering on the way in, against a remote whose address may vary."""
    filtering = max((nat.filtering for nat in _chain(side)), default=Filtering.ENDPOINT_INDEPENDENT)
    if remote_hops and filtering is Filtering.ADDRESS_DEPENDENT:
        return Filtering.ADDRESS_AND_PORT_DEPENDENT
    return filtering


# Beyond simple punching


def rule(a: Side, b: Side) -> str:
    """What decides whether this pair ends direct, in a few words."""
    varying = [side for side in (a, b) if _varies(side)]
    if not varying:
        return _warned(a, b, "both mappings steady")
    if direct_is_possible(a, b):
        if len(varying) == 2:
            return "both vary, and the filters let them in"
        return "one varies, and the other's filter lets it in"
    chance = chance_of_attempt(a, b)
    percent = "99+" if chance > 0.99 else f"{chance * 100:.2g}"
    odds = f"p={percent} % an attempt"
    ranges = [_range_of(side) for side in varying]
    if chance < HOPELESS:
        if ranges == [FULL_RANGE] * 2:
            return "both random over the full range: impossible within the budget, relay"
        return f"both vary, {odds}: not within the budget, relay"
    if len(varying) == 2:
        if ranges == [0, 0]:
            return "both sequential: prediction"
        if 0 in ranges:
            return f"sequential: prediction, and guessing in a block of {max(ranges)}, {odds}"
        return f"both random in blocks of {ranges[0]} and {ranges[1]}: guessing, {odds}"
    if ranges[0] == 0:
        return _warned(a, b, "sequential, against filtering by address and port: prediction")
    if ranges[0] == FULL_RANGE:
        return _warned(a, b, f"random full range, against port-restricted: guessing, {odds}")
    return _warned(a, b, f"random in a block of {ranges[0]}: guessing, {odds}")


def chance_of_attempt(a: Side, b: Side) -> float:
    """That one attempt of at most `BUDGET` entries a side meets, 1 where simple punching does.

    - One side varies within b ports, and opens n sockets; the other sends to k of these ports:
      1 - (1 - n/b)^k.
    - Both vary, within b1 and b2 ports, and send N1 and N2 times: 1 - exp(-N1 N2 / (b1 b2)).

    The next ports of a sequential allocator are known: as few ports as there are sends."""
    if direct_is_possible(a, b):
        return 1.0
    varying = [side for side in (a, b) if _varies(side)]
    ports = [_range_of(side) for side in varying]
    sends = [_sends_within(size) for size in ports]
    if len(varying) == 1:
        if ports[0] == 0:
            return 1.0
        return 1 - (1 - sends[0] / ports[0]) ** min(BUDGET, ports[0])
    sizes = [size or count for size, count in zip(ports, sends, strict=True)]
    return -math.expm1(-sends[0] * sends[1] / (sizes[0] * sizes[1]))


def _range_of(side: Side) -> int:
    """Among how many ports the next mapping of a varying side is random; 0: it can be predicted.
    The outermost router decides, unless it keeps the port that the one before has chosen."""
    for nat in reversed(_chain(side)):
        if nat.allocation is Allocation.SEQUENTIAL:
            return 0
        if nat.allocation is Allocation.RANDOM_IN_BLOCK:
            return nat.ports.block_size
        if nat.allocation is Allocation.RANDOM or nat.varies:
            return FULL_RANGE
    raise ValueError("its mapping does not vary")


def _sends_within(ports: int) -> int:
    """From how many of its ports a side may send in an attempt: of a block, half; others need some,
    and those of earlier attempts are still taken."""
    return min(BUDGET, ports // 2) if ports else BUDGET


def _warned(a: Side, b: Side, text: str) -> str:
    tracking = [nat for side in (a, b) for nat in _chain(side) if nat.tracks_unsolicited]
    if tracking and not direct_is_possible(a, b, simultaneous=False):
        return f"{text}; a router tracks: first datagrams must cross, or end before it"
    return text
