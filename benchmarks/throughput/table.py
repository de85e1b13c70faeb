"""Results as text."""

from __future__ import annotations

from collections.abc import Sequence

from .contest import Result
from .figures import FIGURES, Figure, fastest, median, ratio
from .site import LINKS

CEILING = "plain"
OWN = "punchtun"


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
    figures = [one for one in FIGURES if any(one.measure == r.measure for r in results)]
    chosen = against or fastest(results, [n for n in names if is_rival(n)], link)
    width = max(map(len, names)) + 2
    repetitions = max(result.repetition for result in results) + 1
    lines = [f"link {link}: {LINKS[link]}; medians of {repetitions}"]
    lines += [_titles(figures, width), _units(figures, width)]
    rows = {name: [median(results, name, link, one) for one in figures] for name in names}
    lines += [_row(name, values, width) for name, values in rows.items()]
    if chosen in rows and len(rows) > 1:
        base = rows[chosen]
        lines.append(f"in those of {chosen}:")
        for name, values in rows.items():
            ratios = [ratio(one, other) for one, other in zip(values, base, strict=True)]
            lines.append(_row(name, ratios, width))
    failed = [one for one in results if one.error]
    lines += [f"failed: {one.measure} of {one.contender}: {one.error[:300]}" for one in failed]
    return "\n".join(lines)


def is_rival(name: str) -> bool:
    """Neither punchtun nor the cable."""
    return name != CEILING and name != OWN and not name.startswith(f"{OWN}-")


def _titles(figures: Sequence[Figure], width: int) -> str:
    return " " * width + "".join(f"{one.title:>18}" for one in figures)


def _units(figures: Sequence[Figure], width: int) -> str:
    return " " * width + "".join(f"{one.unit:>18}" for one in figures)


def _row(name: str, values: Sequence[float | None], width: int) -> str:
    return f"{name:{width}}" + "".join(f"{number(value):>18}" for value in values)


def number(value: float | None) -> str:
    """Three digits."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
