"""All contenders up at once, measured by turns."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.outage.contender import Unavailable
from tests.netns.lab import Lab, LabError

from .measures import Figures, Setting, take, warm_up
from .roster import Entry
from .site import Site

FAILURES = (
    Unavailable,
    LabError,
    AssertionError,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    ValueError,
    subprocess.SubprocessError,
)
"""What a tunnel that does not work leads to, in it or in a tool; no reason to stop the others."""


@dataclass(frozen=True, slots=True)
class Result:
    """One measure of one contender; without figures if it failed."""

    contender: str
    link: str
    measure: str
    repetition: int
    figures: Figures
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Contest:
    """The settings of all contenders that could be started. `with` takes everything away."""

    def __init__(
        self, entries: Sequence[Entry], folder: Path, seconds: float, *, ipv6: bool = False
    ) -> None:
        self._entries = entries
        self._folder = folder
        self._seconds = seconds
        self._ipv6 = ipv6
        self._stack = ExitStack()
        self.settings: dict[str, Setting] = {}
        """Of those that are up."""
        self.unavailable: dict[str, str] = {}
        """Those that could not be started, and why."""
        self._spoiled: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Contest:
        try:
            for number, entry in enumerate(self._entries):
                say(f"starting {entry.name} {entry.version}")
                self._start(number, entry)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _start(self, number: int, entry: Entry) -> None:
        with ExitStack() as mine:
            site = Site(mine.enter_context(Lab()), number)
            contender = entry.make()
            mine.callback(contender.stop)
            folder = self._folder / entry.name
            folder.mkdir()
            try:
                site.start(contender, folder, ipv6=self._ipv6)
            except FAILURES as reason:
                self.unavailable[entry.name] = str(reason)
                say(f"{entry.name}: {reason}")
                return
            self.settings[entry.name] = Setting(site, contender, self._seconds)
            self._stack.enter_context(mine.pop_all())

    def play(
        self, links: Sequence[str], measures: Sequence[str], repetitions: int
    ) -> Iterator[Result]:
        """Results as they come. Who begins changes with the repetition."""
        names = list(self.settings)
        total = repetitions * len(links) * len(measures) * len(names)
        done = 0
        for repetition in range(repetitions):
            shift = repetition % len(names) if names else 0
            order = names[shift:] + names[:shift]
            for link in links:
                for name in order:
                    self._prepare(name, link, first=repetition == 0)
                for measure in measures:
                    for name in order:
                        result = self._measure(name, link, measure, repetition)
                        done += 1
                        say(f"{done}/{total} {summary(result)}")
                        yield result

    def _prepare(self, name: str, link: str, *, first: bool) -> None:
        """Switch the link. The first time see that its offloads are what is said of it."""
        setting = self.settings[name]
        setting.site.set_link(link)
        if first:
            try:
                if warm_up(setting) and link != "veth":
                    self._spoiled[name, link] = "frames above the MTU cross the cable"
            except FAILURES as reason:
                self._spoiled[name, link] = f"warming up: {reason}"

    def _measure(self, name: str, link: str, measure: str, repetition: int) -> Result:
        figures: Figures = {}
        error = self._spoiled.get((name, link), "")
        if not error:
            try:
                figures = take(measure, self.settings[name])
            except FAILURES as reason:
                error = str(reason) or repr(reason)
        return Result(name, link, measure, repetition, figures, error)


def summary(result: Result) -> str:
    """A result in a line."""
    head = f"{result.link} {result.measure} #{result.repetition + 1} {result.contender}:"
    if result.error:
        return f"{head} failed: {result.error}"
    return f"{head} " + ", ".join(f"{key} {value:.6g}" for key, value in result.figures.items())


def say(text: str) -> None:
    """Tell the person what goes on."""
    print(text, file=sys.stderr, flush=True)
