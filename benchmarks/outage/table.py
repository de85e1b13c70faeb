"""Results as text."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from .scenarios import SCENARIOS

Result = dict[str, Any]

_FIGURES = {"lost": "lost", "gap": "gap s", "late": "late", "duplicates": "dup"}
_REPORTED = {"direct_again": "direct again s", "changes": "changes", "doubts": "doubts"}
_BLIND = 1.0
"""Seconds without an arrival at the end after which a repetition counts as never recovered."""
_NOTED = {"wire_ratio": "bytes on the wire ×"}
_LEGEND = (
    "Median / worst of the repetitions, of each the worse direction. lost: packets of 100 a second "
    "that never arrived.\ngap: longest time between two arrivals. late: packets more than 200 ms "
    "under way. dup: packets delivered twice."
)


def summary(result: Result) -> str:
    """One repetition in a line."""
    head = f"{result['scenario']:14} {result['contender']:12} #{result['repetition'] + 1}:"
    if "error" in result:
        return f"{head} failed\n{result['error']}"
    if "unavailable" in result:
        return f"{head} unavailable: {result['unavailable']}"
    parts = [f"{title} {_number(result['worse'][key])}" for key, title in _FIGURES.items()]
    parts.append(f"of {result['worse']['sent']}")
    parts += ["never recovered"] if _is_blind(result) else []
    parts += [f"{_NOTED[key]}{_number(result['notes'][key])}" for key in _noted(result)]
    report = result.get("report", {})
    parts += [f"{title} {_number(report[key])}" for key, title in _REPORTED.items() if report]
    parts += [report["states"]] if report else []
    return f"{head} {', '.join(parts)}"


def show(results: list[Result]) -> str:
    """A block for each scenario, a line for each contender."""
    blocks = [_LEGEND]
    for scenario in SCENARIOS:
        mine = [result for result in results if result["scenario"] == scenario.name]
        if mine:
            names = list(dict.fromkeys(result["contender"] for result in mine))
            rows = [[result for result in mine if result["contender"] == name] for name in names]
            lines = [f"{scenario.name}: {scenario.about}", _header(), *map(_row, rows)]
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _header() -> str:
    titles = "".join(f"{title:>17}" for title in _FIGURES.values())
    return f"  {'':14}{'n':>3}{titles}   {'otherwise'}"


def _row(results: list[Result]) -> str:
    name = f"  {results[0]['contender']:14}"
    counted = [result for result in results if "worse" in result]
    others = [_complaint(result) for result in results if "worse" not in result]
    if not counted:
        return f"{name}  0  {others[0]}"
    cells = [_spread(result["worse"][key] for result in counted) for key in _FIGURES]
    blind = sum(_is_blind(result) for result in counted)
    notes = [f"{blind} of {len(counted)} never recovered"] if blind else []
    notes += [
        f"{_NOTED[key]} {_spread(result['notes'][key] for result in counted)}"
        for key in _noted(counted[0])
    ]
    reports = [result["report"] for result in counted if "report" in result]
    for key, title in _REPORTED.items():
        values = [report[key] for report in reports if report[key] is not None]
        if values:
            some = f" ({len(values)} of {len(reports)})" if len(values) < len(reports) else ""
            notes.append(f"{title} {_spread(values)}{some}")
    notes += sorted({report["states"] for report in reports})
    notes += [f"and {len(others)} failed"] if others else []
    columns = "".join(f"{cell:>17}" for cell in cells)
    return f"{name}{len(counted):3}{columns}   {', '.join(notes)}"


def _is_blind(result: Result) -> bool:
    return bool(result["worse"]["blind_at_end"] > _BLIND)


def _noted(result: Result) -> list[str]:
    return [key for key in _NOTED if key in result["notes"]]


def _complaint(result: Result) -> str:
    if "unavailable" in result:
        return f"unavailable: {result['unavailable']}"
    return "failed: " + str(result["error"]).splitlines()[-1]


def _spread(values: Iterable[float]) -> str:
    numbers = list(values)
    return f"{_number(statistics.median(numbers))} / {_number(max(numbers))}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) and value % 1 else f"{value:.0f}"
