"""Attackers against the real server and real nodes, with more of everything than in the tests.

    sudo .venv/bin/python -m benchmarks.attacks [COUNT] [SECONDS] [ROUNDS]

COUNT datagrams of each kind (10000), and about as many streams; floods and lies of SECONDS each
(5), the floods in turn ROUNDS times (3); everything in network namespaces of this machine. Prints
for each attack: datagrams or streams tried; accepted, which must be 0; bytes that the attacker
sent; bytes that came back to it, or to the victim whose address it used; and what those attacked
noticed. Then, for the floods: initiations sent, and read at the other end, a second; throughput of
a pair before and meanwhile; memory before and after; cookies demanded; and how long a machine took
that joined meanwhile. Attacker and attacked share the processors: a flood at somebody who does
nothing, and whom it cannot reach, shows what making it costs. Last the ratios, and the medians of
them. It fails if anything was accepted.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import TypeVar

from tests.netns.attacks.floods import Flood, attack_by_flood
from tests.netns.attacks.lies import attack_as_server
from tests.netns.attacks.members import attack_as_member
from tests.netns.attacks.on_path import attack_on_path
from tests.netns.attacks.site import Result
from tests.netns.attacks.strangers import attack_as_stranger
from tests.netns.attacks.streams import attack_by_streams
from tests.netns.lab import Lab

T = TypeVar("T")


def run(attack: Callable[[Lab, Path], T]) -> T:
    """In a lab of its own."""
    with tempfile.TemporaryDirectory() as folder, Lab() as lab:
        return attack(lab, Path(folder))


def show(results: list[Result]) -> None:
    for attack, tried, accepted, sent, answered, noticed in results:
        print(f"{attack:95} {tried:9} {accepted:8} {sent:12} {answered:10}  {noticed}", flush=True)


def show_flood(flood: Flood) -> None:
    memory = ", ".join(
        f"{name} {before / 1024:.1f} to {flood.memory_after[name] / 1024:.1f} MiB"
        for name, before in flood.memory_before.items()
    )
    print(
        f"{flood.result.attack}: {flood.sent:,.0f} initiations a second, {flood.read:,.0f} read; "
        f"{flood.rate_before:.0f} Mbit/s before, {flood.rate_during:.0f} meanwhile; {memory}; "
        f"{flood.cookies} cookies demanded; joined meanwhile in {flood.seconds_to_join:.1f} s; "
        f"the node says of it: {flood.sieve}"
    )


def show_ratios(floods: Iterable[Flood]) -> None:
    ratios: dict[str, list[float]] = defaultdict(list)
    for flood in floods:
        ratios[flood.result.attack].append(flood.rate_during / flood.rate_before)
    for attack, found in ratios.items():
        each = ", ".join(f"{ratio:.2f}" for ratio in found)
        print(f"{attack}: {median(found):.2f} × the throughput of before (of {each})")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 5.0
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    repetitions = max(1, count // 100)
    print(f"{'attack':95} {'tried':>9} accepted {'bytes sent':>12} {'answered':>10}  noticed")
    results: list[Result] = []
    attacks: list[Callable[[Lab, Path], list[Result]]] = [
        lambda lab, folder: attack_as_stranger(lab, folder, count),
        lambda lab, folder: attack_as_stranger(lab, folder, count, is_ipv6=True),
        lambda lab, folder: attack_on_path(lab, folder, repetitions),
        lambda lab, folder: [
            result._replace(attack=f"{result.attack} (ChaCha20-Poly1305)")
            for result in attack_on_path(lab, folder, repetitions, "--no-aegis")
        ],
        lambda lab, folder: attack_as_member(lab, folder, max(1, count // 20)),
        lambda lab, folder: attack_as_server(lab, folder, seconds),
        lambda lab, folder: attack_by_streams(lab, folder, max(100, count // 9)),
    ]
    for attack in attacks:
        came_of_it = run(attack)
        show(came_of_it)
        results += came_of_it
    floods = run(lambda lab, folder: attack_by_flood(lab, folder, seconds, rounds=rounds))
    show([flood.result for flood in floods])
    results += [flood.result for flood in floods]
    for flood in floods:
        show_flood(flood)
    show_ratios(floods)
    accepted = [result.attack for result in results if result.accepted]
    if accepted:
        sys.exit(f"accepted: {', '.join(accepted)}")


if __name__ == "__main__":
    main()
