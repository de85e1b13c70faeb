"""Which figures are shown, how they are called, and what the repetitions come to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .contest import Result


@dataclass(frozen=True, slots=True)
class Figure:
    """A column of the table."""

    measure: str
    key: str
    title: str
    unit: str
    scale: float
    """What it is multiplied by, to be in `unit`."""
    more_is_better: bool


FIGURES = (
    Figure("bulk-1", "bits_per_second", "1 flow", "Gbit/s", 1e-9, True),
    Figure("bulk-4", "bits_per_second", "4 flows", "Gbit/s", 1e-9, True),
    Figure("both", "bits_per_second", "both ways", "Gbit/s", 1e-9, True),
    Figure("small", "delivered_per_second", "64 B flooded", "kpps", 1e-3, True),
    Figure("steady", "delivered_per_second", "64 B at 1 % loss", "kpps", 1e-3, True),
    Figure("rtt", "p50", "RTT idle p50", "ms", 1e3, False),
    Figure("loaded", "p50", "loaded p50", "ms", 1e3, False),
    Figure("loaded", "p99", "loaded p99", "ms", 1e3, False),
    Figure("bulk-1", "cpu_per_gigabyte", "CPU", "s/GB", 1.0, False),
    Figure("bulk-1", "machine_per_gigabyte", "machine", "s/GB", 1.0, False),
    Figure("both", "memory", "memory", "MiB", 1 / 2**20, False),
)


def median(results: Sequence[Result], contender: str, link: str, figure: Figure) -> float | None:
    """In the figure's unit; None if it was not measured."""
    values = [
        result.figures[figure.key]
        for result in results
        if (result.contender, result.link, result.measure) == (contender, link, figure.measure)
        and figure.key in result.figures
    ]
    return statistics.median(values) * figure.scale if values else None


def ratio(value: float | None, against: float | None) -> float | None:
    """None if either is not known, or there is nothing to compare with."""
    return None if value is None or not against else value / against


def fastest(results: Sequence[Result], contenders: Sequence[str], link: str) -> str | None:
    """The one with the highest first figure that was measured; None without any."""
    for figure in FIGURES:
        known = {name: median(results, name, link, figure) for name in contenders}
        found = {name: value for name, value in known.items() if value is not None}
        if found:
            choose = max if figure.more_is_better else min
            return choose(found, key=lambda name: found[name])
    return None
