"""Plays the repetitions and shows what came of them. See the package."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.outage.machine import describe

from .contest import Contest, Result, say
from .measures import MEASURES
from .roster import Entry, muster
from .site import LINKS
from .table import show


def main() -> int:
    options = _options().parse_args()
    try:
        roster = muster(options.binary)
    except ValueError as error:
        say(str(error))
        return 2
    chosen = options.contender or list(roster)
    if unknown := [name for name in chosen if name not in roster]:
        say(f"no such contender: {', '.join(unknown)}; there are {', '.join(roster)}")
        return 2
    links = list(LINKS) if options.link == "all" else [options.link]
    entries = [roster[name] for name in chosen]
    for entry in entries:
        if entry.missing:
            say(f"{entry.name} is missing: {entry.missing}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results: list[Result] = []
    complete = False
    present = [entry for entry in entries if not entry.missing]
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        try:
            with Contest(present, Path(folder), options.seconds) as contest:
                for result in contest.play(links, options.measure, options.repetitions):
                    results.append(result)
                complete = not contest.unavailable
        except KeyboardInterrupt:
            say("interrupted")
    if options.json:
        options.json.write_text(json.dumps(_account(entries, options, results), indent=1))
    if results:
        print(show(results, options.against))
    return 0 if complete and not any(result.error for result in results) else 1


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}",
        description="Measure tunnels side by side; see benchmarks/throughput/__init__.py.",
    )
    parser.add_argument(
        "--contender", nargs="+", metavar="NAME", help="default: all that are found"
    )
    parser.add_argument(
        "--binary",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a program to measure; NAME is a kind, or a kind with -anything behind it. "
        'For punchtun options of `up` may follow the path: "punchtun-x=/path --mtu 1300"',
    )
    parser.add_argument("--link", choices=[*LINKS, "all"], default="veth")
    parser.add_argument(
        "--measure",
        nargs="+",
        choices=list(MEASURES),
        default=list(MEASURES),
        metavar="M",
        help=f"of {', '.join(MEASURES)}; default: all",
    )
    parser.add_argument("--repetitions", type=int, default=3, metavar="N")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="of one measure")
    parser.add_argument("--against", metavar="NAME", help="ratios to it; default: fastest rival")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser


def _account(
    entries: list[Entry], options: argparse.Namespace, results: list[Result]
) -> dict[str, object]:
    return {
        "machine": describe(),
        "seconds": options.seconds,
        "contenders": {
            entry.name: {
                "version": entry.version,
                "files": dict(entry.files),
                "options": list(entry.extra),
                "missing": entry.missing,
            }
            for entry in entries
        },
        "results": [result.as_json() for result in results],
    }


if __name__ == "__main__":
    sys.exit(main())
