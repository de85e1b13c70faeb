"""Which pairs can punch, by rule, so that simulated punching has something to be compared with.

The rule is for simple simultaneous sending between server-reflexive endpoints, where each side also
answers the source it actually sees. It was fitted on all 81 pairs of RFC 4787 behaviours by
running them. Port prediction and guessing go beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.sim.nat import Filtering, Nat, Pooling

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
