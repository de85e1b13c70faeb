"""Pairs of sides: of two kinds, or of two homes behind one carrier."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

from tests.netns.lab import Lab
from tests.sim.nat import Nat
from tests.sim.theory import chance_of_attempt, direct_is_possible, rule
from tests.sim.world import World

from .kinds import KINDS, QUICK, Site

_SHARED = {"one-cgn": False, "one-cgn-hairpin": True}
"""Both homes are behind the same carrier, whose subscribers can't reach each other directly."""


@dataclass(frozen=True, slots=True)
class Pair:
    a: str
    b: str

    @property
    def name(self) -> str:
        return f"{self.a}:{self.b}"

    def build(self, lab: Lab) -> tuple[Site, Site]:
        """Both sides in the lab."""
        if self.a not in _SHARED:
            return KINDS[self.a].build(lab, 0), KINDS[self.b].build(lab, 1)
        carrier = lab.carrier(
            "cgn", public="192.0.2.33", software=True, hairpin=_SHARED[self.a], isolated=True
        )
        homes = [carrier.home_router(f"home{n}", lan=f"192.168.{n}.0/24") for n in (1, 2)]
        one, two = (Site(home.host(f"h{home.name}"), [home, carrier]) for home in homes)
        return one, two

    def simulate(self, world: World) -> tuple[list[Nat], list[Nat]]:
        """Both nodes started in the simulator; the routers of either side."""
        if self.a not in _SHARED:
            sides = KINDS[self.a].side(), KINDS[self.b].side()
            for name, side in zip("ab", sides, strict=True):
                world.add_node(name, side)
            one, two = (
                [] if side is None else [side] if isinstance(side, Nat) else list(side)
                for side in sides
            )
            return one, two
        carrier = world.net.add_router(Nat(hairpin=_SHARED[self.a], inbound_refresh=True), "cgn")
        homes = [world.net.add_router(Nat.linux(), f"home-{n}", behind=carrier) for n in "ab"]
        for name, home in zip("ab", homes, strict=True):
            world.add_node(name, behind=home)
        return [homes[0], carrier], [homes[1], carrier]

    @property
    def rule(self) -> str:
        """What decides, in words."""
        if self.a in _SHARED:
            return "one carrier: hairpin" if _SHARED[self.a] else "one carrier, no hairpin: relay"
        return rule(KINDS[self.a].side(), KINDS[self.b].side())

    @property
    def is_simple(self) -> bool:
        """Whether simple punching is enough."""
        if self.a in _SHARED:
            return _SHARED[self.a]
        return direct_is_possible(KINDS[self.a].side(), KINDS[self.b].side())

    @property
    def chance(self) -> float:
        """Of one attempt, by theory; 1 where simple punching does."""
        if self.a in _SHARED:
            return float(_SHARED[self.a])
        return chance_of_attempt(KINDS[self.a].side(), KINDS[self.b].side())


def all_pairs(*, quick: bool = False) -> list[Pair]:
    names = QUICK if quick else tuple(KINDS)
    pairs = [Pair(a, b) for a, b in combinations_with_replacement(names, 2)]
    return pairs + [Pair(name, name) for name in _SHARED]


def named(text: str) -> list[Pair]:
    """The pairs that `A:B` names, in either order; `A` alone, or `A:`, is A with every kind.
    ValueError if there is none."""
    a, _, b = text.partition(":")
    found = [
        pair
        for pair in all_pairs()
        if (not b and a in (pair.a, pair.b)) or (b and {a, b} == {pair.a, pair.b})
    ]
    if not found:
        known = ", ".join([*KINDS, *_SHARED])
        raise ValueError(f"{text}: no such pair. The kinds are {known}")
    return found
