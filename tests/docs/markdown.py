"""Reading our Markdown: headings, anchors, links, fenced blocks, tables, code spans.

As much of it as our pages use. Anchors are those that GitHub makes of headings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
_FOREIGN = {"build", "dist"}
"""Folders of what is built here; hidden ones and environments are none of ours either."""

_FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)
_LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]*)\)")
_SPAN = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")


class Heading(NamedTuple):
    level: int
    text: str


class Block(NamedTuple):
    language: str
    text: str


@dataclass(frozen=True)
class Page:
    text: str
    path: Path = ROOT / "README.md"

    @cached_property
    def prose(self) -> str:
        """Without fenced blocks."""
        return _FENCE.sub("", self.text)

    @cached_property
    def headings(self) -> list[Heading]:
        return [Heading(len(marks), text) for marks, text in _HEADING.findall(self.prose)]

    @cached_property
    def blocks(self) -> list[Block]:
        return [Block(*found) for found in _FENCE.findall(self.text)]

    @cached_property
    def spans(self) -> list[str]:
        """What is between single backticks, a line break in it made a space."""
        return [re.sub(r"\s+", " ", span) for span in _SPAN.findall(self.prose)]

    @cached_property
    def links(self) -> list[str]:
        prose = _SPAN.sub("", self.prose)
        # A picture may stand inside a link.
        return [target for _, target in _LINK.findall(prose)] + [
            target for text, _ in _LINK.findall(prose) for _, target in _LINK.findall(text)
        ]

    @cached_property
    def anchors(self) -> set[str]:
        found: set[str] = set()
        for heading in self.headings:
            anchor = slug(heading.text)
            same = sum(1 for other in found if re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", other))
            found.add(f"{anchor}-{same}" if anchor in found else anchor)
        return found

    @cached_property
    def tables(self) -> list[list[list[str]]]:
        """Tables of rows of cells, the line under the head left out."""
        tables: list[list[list[str]]] = []
        is_inside = False
        for line in self.prose.splitlines():
            if not line.startswith("|"):
                is_inside = False
                continue
            if not is_inside:
                tables.append([])
            is_inside = True
            if not re.fullmatch(r"[|\s:-]+", line) or not re.search(r"-{3}", line):
                tables[-1].append(split_row(line))
        return tables

    def section(self, title: str) -> Page:
        """From a heading to the next one of its level or above. KeyError."""
        for heading in self.headings:
            if heading.text == title:
                marks = "#" * heading.level
                start = self.text.index(f"\n{marks} {title}\n") + 1
                rest = self.text[start + len(marks) :]
                end = re.search(rf"^#{{1,{heading.level}}} ", rest, re.MULTILINE)
                length = len(marks) + (end.start() if end else len(rest))
                return Page(self.text[start : start + length], self.path)
        raise KeyError(title)


def read_page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"), path)


def all_pages() -> list[Page]:
    return [read_page(path) for path in sorted(_find(ROOT))]


def _find(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir():
            is_ours = not path.name.startswith(".") and path.name not in _FOREIGN
            if is_ours and not (path / "pyvenv.cfg").exists():
                yield from _find(path)
        elif path.suffix == ".md":
            yield path


def slug(heading: str) -> str:
    """The anchor of a heading that has no namesake before it."""
    plain = _LINK.sub(r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def split_row(line: str) -> list[str]:
    """The cells of a table's line; a bar after a backslash belongs to its cell."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
