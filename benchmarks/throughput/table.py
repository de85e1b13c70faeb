"""Results as text."""

from __future__ import annotations

from collections.abc import Sequence

from .contest import Result
from .figures import digits, fastest_rival, measured, ratio, typical
from .site import LINKS

_GAP = 3


def show(results: Sequence[Result], against: str | None) -> str:
    """For each link the medians, then what they are in those of `against`.

    None: in those of the fastest that is neither punchtun nor the cable itself.
    """
    blocks = []
    for link in LINKS:
        mine = [result for result in results if result.link == link]
        if mine:
            blocks.append(_block(mine, link, against))
    return "\n\n".join(blocks)


def _block(results: Sequence[Result], link: str, against: str | None) -> str:
    names = list(dict.fromkeys(result.contender for result in results))
    figures = measured(results)
    values = {name: [typical(results, name, link, one) for one in figures] for name in names}
    rows = [["", *(one.title for one in figures)], ["", *(one.unit for one in figures)]]
    rows += [[name, *map(digits, values[name])] for name in names]
    chosen = against or fastest_rival(results, link)
    if chosen in values and len(names) > 1:
        rows.append([f"in those of {chosen}:"])
        for name in names:
            pairs = zip(values[name], values[chosen], strict=True)
            rows.append([name, *(digits(ratio(one, other)) for one, other in pairs)])
    repetitions = max(result.repetition for result in results) + 1
    lines = [f"link {link}: {LINKS[link]}; medians of {repetitions}", *_align(rows)]
    failures = [one for one in results if one.error]
    lines += [
        f"failed: {one.measure} of {one.contender}: {' '.join(one.error.split())[:300]}"
        for one in failures
    ]
    return "\n".join(lines)


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, others to the right; a row of one cell is a heading."""
    table = [row for row in rows if len(row) > 1]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in rows:
        cells = [f"{row[0]:{widths[0]}}"]
        cells += [
            f"{cell:>{width + _GAP}}" for cell, width in zip(row[1:], widths[1:], strict=False)
        ]
        lines.append("".join(cells).rstrip())
    return lines
