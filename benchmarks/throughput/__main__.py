"""Plays the repetitions and shows what came of them. See the package."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.outage.machine import describe

from .contest import Contest, Result, say
from .measures import MEASURES
from .plot import draw
from .roster import Entry, muster
from .site import LINKS
from .table import show

BUSY = 0.3
"""Load, before it begins, above which the figures are not to be trusted."""


def main() -> int:
    options = _options().parse_args()
    if options.replay:
        saved = json.loads(options.replay.read_text())
        _report([Result(**one) for one in saved["results"]], saved["not measured"], options)
        return 0
    try:
        roster = muster(options.binary)
    except ValueError as error:
        say(str(error))
        return 2
    chosen = options.contender or list(roster)
    if unknown := [name for name in chosen if name not in roster]:
        say(f"no such contender: {', '.join(unknown)}; there are {', '.join(roster)}")
        return 2
    entries = [roster[name] for name in dict.fromkeys(chosen)]
    load = os.getloadavg()[0]
    if load > BUSY:
        say(f"this machine is busy with other things: load {load:.1f}")
    for number in (signal.SIGINT, signal.SIGTERM):  # A shell's background jobs ignore the former.
        signal.signal(number, signal.default_int_handler)
    results: list[Result] = []
    absent = {entry.name: entry.missing for entry in entries if entry.missing}
    complete = not (options.contender and absent)
    try:
        for result in _play(entries, absent, options):
            results.append(result)
            complete = complete and not result.error
    except KeyboardInterrupt:
        say("interrupted")
        complete = False
    if options.json:
        account = {
            "machine": describe(),
            "seconds": options.seconds,
            "ipv6": options.ipv6,
            "load": load,
            "contenders": {entry.name: entry.as_json() for entry in entries},
            "not measured": absent,
            "results": [result.as_json() for result in results],
        }
        options.json.write_text(json.dumps(account, indent=1))
    _report(results, absent, options)
    return 0 if complete else 1


def _play(
    entries: Sequence[Entry], absent: dict[str, str], options: argparse.Namespace
) -> Iterator[Result]:
    """Results as they come; those that can't be started are added to `absent`."""
    present = [entry for entry in entries if not entry.missing]
    links = list(LINKS) if options.link == "all" else [options.link]
    with (
        tempfile.TemporaryDirectory(prefix="throughput-") as folder,
        Contest(present, Path(folder), options.seconds, ipv6=options.ipv6) as contest,
    ):
        absent.update(contest.unavailable)
        yield from contest.play(links, options.measure, options.repetitions)


def _report(
    results: Sequence[Result], absent: Mapping[str, str], options: argparse.Namespace
) -> None:
    if results:
        print(show(results, options.against))
    for name, reason in absent.items():
        print(f"not measured: {name}: {reason}")
    if options.plot:
        options.plot.write_text(draw(results))


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
    parser.add_argument("--ipv6", action="store_true", help="inside the tunnels")
    parser.add_argument("--against", metavar="NAME", help="ratios to it; default: fastest rival")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them there, as SVG")
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="measure nothing: show what --json wrote"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
