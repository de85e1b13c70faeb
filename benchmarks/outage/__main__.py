"""Plays the repetitions and shows what came of them. See the package."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .contenders import CONTENDERS
from .machine import describe
from .scenarios import SCENARIOS
from .table import show, summary

PATIENCE = 400.0
"""Seconds after which a repetition is given up."""


class Task(NamedTuple):
    scenario: str
    contender: str
    repetition: int

    def __str__(self) -> str:
        return f"{self.scenario} {self.contender} {self.repetition + 1}"


class Running:
    """A repetition under way."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._began = time.monotonic()
        argv = [sys.executable, "-m", f"{__package__}.one", *map(str, task)]
        # A session of its own: of Ctrl-C this process tells it, once.
        self._process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def result(self) -> dict[str, Any] | None:
        """None while it runs."""
        if self._process.poll() is None:
            if time.monotonic() - self._began < PATIENCE:
                return None
            self._process.terminate()
        # One line and a traceback: less than the pipes hold.
        out, error = self._process.communicate()
        if self._process.returncode == 0:
            answer = json.loads(out)
        else:
            answer = {"error": error.strip() or f"ended with {self._process.returncode}"}
        return {**self.task._asdict(), **answer}

    def terminate(self) -> None:
        """Tell it to take away its lab."""
        if self._process.poll() is None:
            self._process.terminate()

    def wait(self) -> None:
        """Until it has."""
        self._process.communicate()


def play(tasks: list[Task], jobs: int) -> Iterator[dict[str, Any]]:
    """The results, as they come in; `jobs` repetitions at a time."""
    running: list[Running] = []
    waiting = iter(tasks)
    try:
        while True:
            while len(running) < jobs and (task := next(waiting, None)):
                running.append(Running(task))
            if not running:
                return
            for one in list(running):
                if (result := one.result()) is not None:
                    running.remove(one)
                    yield result
            time.sleep(0.05)
    finally:
        for one in running:
            one.terminate()
        for one in running:
            one.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    scenarios = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--scenario", nargs="+", choices=scenarios, default=scenarios)
    parser.add_argument("--contender", nargs="+", choices=list(CONTENDERS), default=["punchtun"])
    parser.add_argument("--repetitions", type=int, default=5, metavar="N")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="repetitions at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the full figures there")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tasks = [
        Task(scenario, contender, repetition)
        for repetition in range(options.repetitions)
        for scenario in options.scenario
        for contender in options.contender
    ]
    results: list[dict[str, Any]] = []
    try:
        for result in play(tasks, options.jobs):
            results.append(result)
            print(f"{len(results)}/{len(tasks)}  {summary(result)}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps({"machine": describe(), "results": results}, indent=1))
    print(show(results))
    return 0 if len(results) == len(tasks) and not any("error" in r for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
