"""Blocks like this one, read: what is typed on which machine, and what it answers.

::

    a$    sudo punchtun invite pi
    punchtun-join:…
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .markdown import Page

_PROMPT = re.compile(r"^([a-z]+)\$ +(.+)$")


class Step(NamedTuple):
    machine: str
    command: str
    answer: tuple[str, ...]
    """Lines."""


def steps_in(page: Page) -> list[Step]:
    """In their order. A block whose first line has no prompt has none."""
    steps: list[Step] = []
    for block in page.blocks:
        lines = block.text.splitlines()
        if not _PROMPT.match(lines[0]):
            continue
        for line in lines:
            prompt = _PROMPT.match(line)
            if prompt:
                steps.append(Step(prompt[1], prompt[2], ()))
            else:
                steps[-1] = steps[-1]._replace(answer=(*steps[-1].answer, line))
    return steps


_CHANGING = re.compile(
    r"punchtun://\S*?/…|punchtun-join:…|\b[0-9a-f]{12}\b|\b10(?:\.\d+){3}(?:/\d+)?"
)
"""Secrets and what follows from them: these are another in each network."""
_SHAPES = {
    "punchtun://": r"punchtun://[\w.:/?=&+%-]+",
    "punchtun-join:": r"punchtun-join:[\w=+/-]+",
    "10.": r"10(?:\.\d+){3}(?:/\d+)?",
}


def learn(expected: str, said: str, known: dict[str, str]) -> bool:
    """Whether `said` has a line that is `expected`, what changes from network to network apart.
    That is added to `known`; what is there already has to be the same."""
    shapes, names, end = [], [], 0
    for found in _CHANGING.finditer(expected):
        name = found[0]
        shape = next((s for start, s in _SHAPES.items() if name.startswith(start)), "[0-9a-f]{12}")
        shape = re.escape(known[name]) if name in known else shape
        shapes += [re.escape(expected[end : found.start()]), f"({shape})"]
        names.append(name)
        end = found.end()
    line = "".join([*shapes, re.escape(expected[end:])])
    match = re.search(rf"^{line}$", said, re.MULTILINE)
    if match:
        known.update(zip(names, match.groups(), strict=True))
    return match is not None


def substitute(command: str, known: dict[str, str]) -> str:
    """The command with what was learned. KeyError for what was not."""
    return _CHANGING.sub(lambda found: known[found[0]], command)
