"""Draws the pictures of docs/nat-traversal.md: ``.venv/bin/python scripts/pictures.py``.

Each is an SVG with colours for a light and a dark page. Which pairs of NATs meet is not drawn by
hand: it is asked of tests/sim/theory.py, against which the tests hold the code. A test draws all
again and compares.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.sim.nat import Filtering, Mapping, Nat  # noqa: E402
from tests.sim.ports import Allocation  # noqa: E402
from tests.sim.theory import HOPELESS, chance_of_attempt, direct_is_possible  # noqa: E402

FOLDER = ROOT / "docs" / "pictures"
LIGHT = {
    "page": "#ffffff",
    "ink": "#1f2328",
    "soft": "#59636e",
    "line": "#818b98",
    "box": "#f6f8fa",
    "good": "#116329",
    "fair": "#7a4300",
    "poor": "#a40e26",
    "goodbox": "#dafbe1",
    "fairbox": "#fff1cc",
    "poorbox": "#ffdfdc",
}
DARK = {
    "page": "#0d1117",
    "ink": "#f0f6fc",
    "soft": "#a3adb8",
    "line": "#6e7681",
    "box": "#151b23",
    "good": "#7ee2a8",
    "fair": "#f2cc60",
    "poor": "#ff9a94",
    "goodbox": "#0f3a22",
    "fairbox": "#3d2e00",
    "poorbox": "#4c1518",
}


class Picture:
    """Shapes on a page of `width` × `height`. Colours are names of `LIGHT` and `DARK`."""

    def __init__(self, title: str, width: int, height: int) -> None:
        self._title = title
        self._size = (width, height)
        self._shapes: list[str] = []
        self.rect(0, 0, width, height, "page", "page", 0)

    def rect(
        self, x: float, y: float, width: float, height: float, fill: str, edge: str, radius: int = 6
    ) -> None:
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}"'
        self._shapes.append(f'<rect {place} class="f-{fill} s-{edge}"/>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        colour: str = "ink",
        anchor: str = "middle",
        size: int = 13,
        *,
        clears: bool = False,
    ) -> None:
        """`clears`: lines behind it are interrupted."""
        place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}"'
        name = f"f-{colour} c" if clears else f"f-{colour}"
        self._shapes.append(f'<text {place} class="{name}">{escape(text)}</text>')

    def box(self, x: float, y: float, width: float, height: float, *lines: str) -> None:
        """Around its centre."""
        self.rect(x - width / 2, y - height / 2, width, height, "box", "line")
        for number, line in enumerate(lines):
            colour = "soft" if number else "ink"
            offset = (number - (len(lines) - 1) / 2) * 17 + 5
            self.text(x, y + offset, line, colour)

    def arrow(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        colour: str,
        *,
        dashed: bool = False,
        both: bool = False,
        lost: bool = False,
        plain: bool = False,
    ) -> None:
        """`lost`: it ends in a cross instead of a head, `plain`: in neither."""
        dash = ' stroke-dasharray="6 4"' if dashed else ""
        (x1, y1), (x2, y2) = start, end
        line = f'x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"'
        self._shapes.append(f'<line {line} class="s-{colour}" stroke-width="1.8"{dash}/>')
        if lost:
            for dy in (-5, 5):
                cross = f'x1="{x2 - 5:g}" y1="{y2 - dy:g}" x2="{x2 + 5:g}" y2="{y2 + dy:g}"'
                self._shapes.append(f'<line {cross} class="s-{colour}" stroke-width="1.8"/>')
        elif not plain:
            self._head(start, end, colour)
        if both:
            self._head(end, start, colour)

    def _head(self, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        dx, dy = end[0] - start[0], end[1] - start[1]
        length = (dx * dx + dy * dy) ** 0.5
        ux, uy = dx / length, dy / length
        back = (end[0] - 9 * ux, end[1] - 9 * uy)
        corners = [
            end,
            (back[0] - 4 * uy, back[1] + 4 * ux),
            (back[0] + 4 * uy, back[1] - 4 * ux),
        ]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        self._shapes.append(f'<polygon points="{points}" class="f-{colour}"/>')

    def svg(self) -> str:
        width, height = self._size
        style = _style(LIGHT) + "@media (prefers-color-scheme: dark){" + _style(DARK) + "}"
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" '
            'font-family="Helvetica, Arial, sans-serif">'
        )
        title = f"<title>{escape(self._title)}</title>"
        return "\n".join([head, title, f"<style>{style}</style>", *self._shapes, "</svg>", ""])


def _style(palette: dict[str, str]) -> str:
    rules = [
        f".f-{name}{{fill:{value}}}.s-{name}{{stroke:{value}}}" for name, value in palette.items()
    ]
    halo = f".c{{stroke:{palette['page']};stroke-width:5;paint-order:stroke}}"
    return "".join([*rules, halo])


# The pictures


def draw_ways() -> Picture:
    """What lies between two nodes, and the two ways of a pair."""
    picture = Picture("Two nodes behind NATs, the server, and both ways between them", 760, 270)
    picture.box(380, 40, 240, 46, "rendezvous server", "introduces; relays, cannot read")
    places = (
        (80, "a", "at home"),
        (230, "home router", "NAT"),
        (530, "carrier", "NAT"),
        (680, "pi", "on LTE"),
    )
    for x, name, what in places:
        picture.box(x, 180, 120, 50, name, what)
    for x1, x2 in ((140, 170), (590, 620)):
        picture.arrow((x1, 180), (x2, 180), "good", both=True)
    picture.arrow((290, 180), (470, 180), "good", both=True)
    picture.text(380, 170, "direct, once proven", "good")
    for x, end in ((230, 300), (530, 460)):
        picture.arrow((x, 155), (end, 63), "fair", dashed=True, both=True)
    picture.text(215, 105, "relayed: before,", "fair", "end")
    picture.text(215, 122, "and when in doubt", "fair", "end")
    picture.text(
        380, 245, "Sealed frames, the same keys on both ways: what comes twice is dropped.", "soft"
    )
    return picture


Step = tuple[float, float, str, str, str]
"""Lanes from and to (a fraction: it dies there), text, colour, style."""


def _draw_sequence(
    title: str, lanes: Sequence[str], steps: Sequence[Step], width: int = 820
) -> Picture:
    height = 90 + 40 * len(steps)
    picture = Picture(title, width, height)
    gap = (width - 120) / (len(lanes) - 1)
    for number, lane in enumerate(lanes):
        x = 60 + gap * number
        picture.box(x, 30, 112, 30, lane)
        picture.rect(x - 0.5, 45, 1, height - 60, "line", "line", 0)
    for number, (start, end, text, colour, style) in enumerate(steps):
        y = 84 + 40 * number
        x1, x2 = 60 + gap * start, 60 + gap * end
        if style == "note":
            picture.text((x1 + x2) / 2, y, text, colour, clears=True)
            continue
        picture.arrow(
            (x1, y),
            (x2, y),
            colour,
            dashed="dashed" in style,
            both="both" in style,
            lost="lost" in style,
        )
        picture.text((x1 + x2) / 2, y - 7, text, colour, size=12, clears=True)
    return picture


def draw_punch() -> Picture:
    """From registration to the direct path."""
    return _draw_sequence(
        "How a pair becomes direct, step by step",
        ("a", "a's NAT", "server", "pi's NAT", "pi"),
        [
            (0, 2, "1  register: the server sees a's mapping", "ink", ""),
            (4, 2, "1  register: and pi's", "ink", ""),
            (2, 0, "2  introduce: pi's endpoints, and when to start", "ink", ""),
            (2, 4, "2  introduce: a's endpoints, the same moment", "ink", ""),
            (0, 4, "3  handshake, and first packets, by the relay", "fair", "dashed both"),
            (0, 1.5, "4  opener: opens a's NAT, dies", "soft", "lost"),
            (4, 2.5, "4  opener: opens pi's NAT, dies", "soft", "lost"),
            (0, 4, "5  ping: pi's NAT expects it", "good", ""),
            (4, 0, "6  pong: the path is proven for a", "good", ""),
            (0, 4, "7  confirm: and for pi; traffic moves", "good", "both"),
        ],
    )


def draw_repair() -> Picture:
    """A mapping that moves."""
    return _draw_sequence(
        "What happens when a's NAT gives another port",
        ("a", "a's NAT", "server", "pi"),
        [
            (0, 3, "traffic, direct", "good", "both"),
            (0.2, 1.8, "✗  the NAT restarts: another port", "poor", "note"),
            (3, 1, "pi sends to the port that was", "poor", "lost"),
            (0, 3, "a's next frame comes from the new port: authentic, so pi pings it", "ink", ""),
            (0, 2, "a's echo shows the server the new port", "ink", ""),
            (2, 3, "moved: a is there now", "ink", ""),
            (
                3,
                0,
                "meanwhile by the relay as well; what fell into the hole, again",
                "fair",
                "dashed",
            ),
            (3, 0, "ping and pong on the new port: proven, direct", "good", "both"),
        ],
    )


BEHAVIOURS = [
    (mapping, filtering)
    for mapping in (Mapping.ENDPOINT_INDEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT)
    for filtering in Filtering
]


def judge_pair(one: tuple[Mapping, Filtering], other: tuple[Mapping, Filtering]) -> str:
    """meets: by simple punching; guess: by prediction or guessing, however ports are drawn; some:
    only if they come in sequence or from small blocks."""
    if direct_is_possible(Nat(*one), Nat(*other)):
        return "meets"
    random = [Nat(*side, Allocation.RANDOM) for side in (one, other)]
    return "guess" if chance_of_attempt(*random) >= HOPELESS else "some"


def draw_pairs() -> Picture:
    """Which behaviours meet."""
    picture = Picture("Which pairs of NATs meet, by mapping and filtering", 820, 470)
    words = {
        Filtering.ENDPOINT_INDEPENDENT: "anybody",
        Filtering.ADDRESS_DEPENDENT: "address",
        Filtering.ADDRESS_AND_PORT_DEPENDENT: "address + port",
    }
    cells = {
        "meets": ("good", "✓ meets"),
        "guess": ("fair", "? guessing"),
        "some": ("poor", "– depends"),
    }
    left, top, width, height = 230, 96, 96, 46
    for start, text in ((0, "one port for all destinations"), (3, "another port for each")):
        middle = start + 1.5
        picture.text(left + middle * width, 34, text)
        picture.text(88, top + middle * height - 4, text.partition(" for ")[0])
        picture.text(88, top + middle * height + 14, "for " + text.partition(" for ")[2])
        if start:
            picture.rect(left + 3 * width - 3, 20, 2, top + 6 * height - 20, "line", "line", 0)
            picture.rect(20, top + 3 * height - 3, left + 6 * width - 20, 2, "line", "line", 0)
    picture.text(left - 8, 78, "lets in:", "soft", "end", 12)
    for number, (_, filtering) in enumerate(BEHAVIOURS):
        picture.text(left + (number + 0.5) * width, 78, words[filtering], "soft", size=12)
        picture.text(left - 8, top + (number + 0.6) * height, words[filtering], "soft", "end", 12)
    for row, one in enumerate(BEHAVIOURS):
        for column, other in enumerate(BEHAVIOURS):
            colour, text = cells[judge_pair(one, other)]
            x, y = left + column * width, top + row * height
            picture.rect(x, y, width - 6, height - 6, f"{colour}box", colour)
            picture.text(x + width / 2 - 3, y + height / 2 + 2, text, colour)
    legend = (
        ("good", "✓ meets by simple punching"),
        ("fair", "? ports are predicted or guessed, within bounds: direct after some tries"),
        (
            "poor",
            "– the same if ports come in sequence or from small blocks, otherwise relayed",
        ),
    )
    for number, (colour, text) in enumerate(legend):
        picture.text(left - 8, 398 + 24 * number, text, colour, "start")
    return picture


def draw_states() -> Picture:
    """Those of core/traversal.py."""
    picture = Picture("States of a pair: searching, direct, doubt", 760, 210)
    picture.box(120, 90, 170, 56, "searching", "by the relay; punching")
    picture.box(380, 90, 150, 56, "direct", "by the best path")
    picture.box(640, 90, 190, 56, "doubt", "by both; punching")
    picture.arrow((205, 90), (305, 90), "good")
    picture.text(255, 78, "proven", "good")
    picture.arrow((455, 80), (545, 80), "fair")
    picture.text(500, 68, "late echo", "fair")
    picture.arrow((545, 102), (455, 102), "good")
    picture.text(500, 122, "any echo", "good")
    for start, end in (((640, 118), (640, 170)), ((640, 170), (120, 170))):
        picture.arrow(start, end, "poor", dashed=True, plain=True)
    picture.arrow((120, 170), (120, 118), "poor", dashed=True)
    picture.text(380, 190, "10 s without an echo", "poor")
    return picture


PICTURES: dict[str, Callable[[], Picture]] = {
    "ways": draw_ways,
    "pairs": draw_pairs,
    "punch": draw_punch,
    "states": draw_states,
    "repair": draw_repair,
}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
