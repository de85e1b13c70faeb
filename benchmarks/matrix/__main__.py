"""Plays the trials and shows what came of them. See the package."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.outage.machine import describe

from . import lab_trial, simulated
from .pairs import Pair, all_pairs, named
from .table import figures, show, summary

PATIENCE = 60.0
"""Seconds, besides those of giving up, after which a trial of the lab has hung."""
_QUICK_GIVE_UP = 15.0

Result = dict[str, Any]


def play_simulator(pairs: list[Pair], repeat: int, give_up: float) -> Iterator[Result]:
    for repetition in range(repeat):
        for pair in pairs:
            result = simulated.play(pair, repetition, give_up)
            yield {"where": "simulator", "pair": pair.name, "repetition": repetition, **result}


def play_lab(pairs: list[Pair], repeat: int, give_up: float, jobs: int) -> Iterator[Result]:
    """`jobs` trials at a time: those that stay relayed do little but wait."""
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        prepared = Path(folder)
        lab_trial.prepare(prepared)
        waiting = iter([(pair, repetition) for repetition in range(repeat) for pair in pairs])
        running: list[tuple[Pair, int, float, subprocess.Popen[str]]] = []
        try:
            while True:
                while len(running) < jobs and (task := next(waiting, None)):
                    running.append((*task, time.monotonic(), _start(task[0], prepared, give_up)))
                if not running:
                    return
                for one in list(running):
                    pair, repetition, began, process = one
                    if process.poll() is None:
                        if time.monotonic() - began > give_up + PATIENCE:
                            process.terminate()
                        continue
                    running.remove(one)
                    head = {"where": "lab", "pair": pair.name, "repetition": repetition}
                    yield head | _outcome(process)
                time.sleep(0.05)
        finally:
            for *_, process in running:
                process.terminate()
            for *_, process in running:
                process.communicate()


def _start(pair: Pair, prepared: Path, give_up: float) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", f"{__package__}.lab_trial", pair.name, str(prepared)]
    # A session of its own: of Ctrl-C this process tells it, once.
    return subprocess.Popen(
        [*argv, str(give_up)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _outcome(process: subprocess.Popen[str]) -> Result:
    # A line of JSON, or a traceback: less than the pipes hold.
    out, error = process.communicate()
    if process.returncode != 0:
        return {"error": error.strip() or f"ended with {process.returncode}"}
    result: Result = json.loads(out)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--lab", action="store_true", help="not the simulator")
    where.add_argument("--simulator", action="store_true", help="not the lab")
    parser.add_argument("--quick", action="store_true", help="fewer kinds, once, 15 s at most")
    parser.add_argument("--pairs", nargs="+", metavar="A:B", help="these; A alone: with every kind")
    parser.add_argument("--repeat", type=int, metavar="N", help="trials of each pair (3)")
    parser.add_argument("--give-up", type=float, metavar="SECONDS", help="of a trial (60)")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="lab trials at once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the full figures there")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    pairs = all_pairs(quick=options.quick)
    if options.pairs:
        try:
            pairs = list(dict.fromkeys(pair for text in options.pairs for pair in named(text)))
        except ValueError as error:
            parser.error(str(error))
    repeat = options.repeat or (1 if options.quick else 3)
    give_up = options.give_up or (_QUICK_GIVE_UP if options.quick else 60.0)
    results: list[Result] = []
    expected = len(pairs) * repeat * (1 if options.lab or options.simulator else 2)
    try:
        if not options.lab:
            _collect(play_simulator(pairs, repeat, give_up), results, expected)
        if not options.simulator:
            _collect(play_lab(pairs, repeat, give_up, options.jobs), results, expected)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(_as_json(results, pairs), indent=1))
    print(show(results, pairs))
    return 0 if len(results) == expected and not any("error" in r for r in results) else 1


def _collect(coming: Iterator[Result], results: list[Result], expected: int) -> None:
    for result in coming:
        results.append(result)
        print(f"{len(results)}/{expected}  {summary(result)}", file=sys.stderr, flush=True)


def _as_json(results: list[Result], pairs: list[Pair]) -> dict[str, Any]:
    return {
        "machine": describe(),
        "pairs": [
            {"pair": pair.name, "rule": pair.rule, "chance": pair.chance, "where": where}
            | figures(mine)
            for pair in pairs
            for where in ("lab", "simulator")
            if (mine := [r for r in results if (r["where"], r["pair"]) == (where, pair.name)])
        ],
        "trials": results,
    }


if __name__ == "__main__":
    sys.exit(main())
