"""Results as a picture: for each link a row of panels, in each of them a bar for each contender."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .contest import Result
from .figures import CEILING, Figure, digits, fastest_rival, is_rival, measured, typical
from .site import LINKS

_COLUMNS = 4
_LEFT_OUT = ("machine_per_gigabyte",)
_LABEL, _BAR, _VALUE = 130, 130, 50
_PANEL = _LABEL + _BAR + _VALUE
_GAP = 20
_ROW = 17
_HEAD = 40
_MARGIN = 20
_OWN, _RIVAL, _FASTEST, _CABLE = "#d1495b", "#8fb8d8", "#2e6f9e", "#c9c9c9"
_MEANINGS = (
    (_OWN, "punchtun"),
    (_FASTEST, "the fastest rival"),
    (_RIVAL, "other rivals"),
    (_CABLE, "no tunnel: the ceiling (» exceeds the scale)"),
)
_LEGEND = 160
_FONT = "font-family='DejaVu Sans, Helvetica, Arial, sans-serif'"


def draw(results: Sequence[Result]) -> str:
    """An SVG document. The widths of bars compare within a panel; the cable's, which may exceed
    the others by far, is cut off at the panel's edge."""
    width = 2 * _MARGIN + _COLUMNS * _PANEL + (_COLUMNS - 1) * _GAP
    body, y = _draw_legend(), _MARGIN + _HEAD // 2
    for link in LINKS:
        mine = [result for result in results if result.link == link]
        if mine:
            block, y = _draw_link(mine, link, y)
            body += block
    style = "<style>text{font-size:11px;fill:#222}.h{font-size:15px}.t{font-weight:bold}</style>"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{y}' {_FONT}>"
    background = f"<rect width='{width}' height='{y}' fill='white'/>"
    return "\n".join([head, style, background, *body, "</svg>", ""])


def _draw_legend() -> list[str]:
    drawn = []
    for index, (colour, meaning) in enumerate(_MEANINGS):
        x = _MARGIN + index * _LEGEND
        drawn.append(f"<rect x='{x}' y='{_MARGIN - 10}' width='13' height='13' fill='{colour}'/>")
        drawn.append(_text(x + 18, _MARGIN + 1, meaning))
    return drawn


def _draw_link(results: Sequence[Result], link: str, y: int) -> tuple[list[str], int]:
    """What to draw from `y` downwards, and where it ends."""
    names = list(dict.fromkeys(result.contender for result in results))
    fastest = fastest_rival(results, link)
    drawn = [_text(_MARGIN, y + 15, f"link {link}: {LINKS[link]}", "h")]
    y += _HEAD
    figures = [figure for figure in measured(results) if figure.key not in _LEFT_OUT]
    height = _HEAD + len(names) * _ROW
    for index, figure in enumerate(figures):
        column, row = index % _COLUMNS, index // _COLUMNS
        x, top = _MARGIN + column * (_PANEL + _GAP), y + row * height
        values = {name: typical(results, name, link, figure) for name in names}
        drawn += _draw_panel(figure, values, fastest, x, top)
    rows = -(-len(figures) // _COLUMNS)
    return drawn, y + rows * height + _MARGIN


def _draw_panel(
    figure: Figure, values: dict[str, float | None], fastest: str | None, x: int, y: int
) -> list[str]:
    better = "more" if figure.more_is_better else "less"
    title = f"{figure.title}, {figure.unit} ({better} is better)"
    drawn = [_text(x, y + 8, title, "t")]
    compared = [value for name, value in values.items() if name != CEILING and value is not None]
    full = max(compared, default=0.0) or max((v for v in values.values() if v), default=1.0)
    for index, (name, value) in enumerate(values.items()):
        top = y + 16 + index * _ROW
        drawn.append(_text(x + _LABEL - 6, top + 11, name, anchor="end"))
        length = 0.0 if value is None else min(1.0, value / full) * _BAR
        fill = _colour(name, fastest)
        drawn.append(
            f"<rect x='{x + _LABEL}' y='{top}' width='{length:.1f}' height='{_ROW - 4}'"
            f" fill='{fill}'/>"
        )
        cut = " »" if value is not None and value > full else ""
        drawn.append(_text(x + _LABEL + length + 4, top + 11, digits(value) + cut))
    return drawn


def _colour(name: str, fastest: str | None) -> str:
    if name == CEILING:
        return _CABLE
    if not is_rival(name):
        return _OWN
    return _FASTEST if name == fastest else _RIVAL


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    shown = f" class='{kind}'" if kind else ""
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'{shown}>{escape(text)}</text>"
