"""Which figures are shown, how they are called, and what the repetitions come to."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .contest import Result

CEILING = "plain"
OWN = "punchtun"


@dataclass(frozen=True, slots=True)
class Figure:
    """A column of the table, a panel of the plot."""

    measures: tuple[str, ...]
    """Those whose results have it."""
    key: str
    title: str
    unit: str
    scale: float
    """What it is multiplied by, to be in `unit`."""
    more_is_better: bool
    choose: Callable[[Iterable[float]], float] = statistics.median
    """What the repetitions come to."""


_BULK = ("bulk-1", "bulk-4", "both")
_ALL = (*_BULK, "small", "steady", "rtt", "loaded")
FIGURES = (
    Figure(("bulk-1",), "bits_per_second", "1 flow", "Gbit/s", 1e-9, True),
    Figure(("bulk-4",), "bits_per_second", "4 flows", "Gbit/s", 1e-9, True),
    Figure(("both",), "bits_per_second", "both ways", "Gbit/s", 1e-9, True),
    Figure(("small",), "delivered_per_second", "flooded", "kpps", 1e-3, True),
    Figure(("steady",), "delivered_per_second", "≤ 1 % lost", "kpps", 1e-3, True),
    Figure(("rtt",), "p50", "idle p50", "ms", 1e3, False),
    Figure(("loaded",), "p50", "loaded p50", "ms", 1e3, False),
    Figure(("loaded",), "p99", "loaded p99", "ms", 1e3, False),
    Figure(("loaded",), "lost", "pings lost", "%", 100.0, False),
    Figure(("bulk-1",), "cpu_per_gigabyte", "CPU 1 flow", "s/GB", 1.0, False),
    Figure(("both",), "cpu_per_gigabyte", "CPU both", "s/GB", 1.0, False),
    Figure(("bulk-1",), "machine_per_gigabyte", "machine", "s/GB", 1.0, False),
    Figure(_ALL, "memory", "memory", "MiB", 1 / 2**20, False, choose=max),
)
"""`machine`: processor time of the whole machine during `bulk-1`."""


def typical(results: Iterable[Result], contender: str, link: str, figure: Figure) -> float | None:
    """In the figure's unit, the median of the repetitions (of `memory` the most); None if it was
    not measured."""
    values = [
        result.figures[figure.key]
        for result in results
        if (result.contender, result.link) == (contender, link)
        and result.measure in figure.measures
        and figure.key in result.figures
    ]
    return figure.choose(values) * figure.scale if values else None


def ratio(value: float | None, against: float | None) -> float | None:
    """None if either is not known, or there is nothing to compare with."""
    return None if value is None or not against else value / against


def measured(results: Iterable[Result]) -> list[Figure]:
    """Those that some result has."""
    found = {(result.measure, key) for result in results for key in result.figures}
    return [
        figure
        for figure in FIGURES
        if any((measure, figure.key) in found for measure in figure.measures)
    ]


def fastest_rival(results: Sequence[Result], link: str) -> str | None:
    """The best in the first figure that was measured, without punchtun and the cable itself."""
    names = {result.contender for result in results if is_rival(result.contender)}
    for figure in measured(results):
        known = {name: typical(results, name, link, figure) for name in sorted(names)}
        found = {name: value for name, value in known.items() if value is not None}
        if found:
            choose = max if figure.more_is_better else min
            return choose(found, key=lambda name: found[name])
    return None


def is_rival(name: str) -> bool:
    """Neither punchtun in any build, nor the cable."""
    return name != CEILING and name != OWN and not name.startswith(f"{OWN}-")


def digits(value: float | None) -> str:
    """The value with three digits."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
