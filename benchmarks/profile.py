"""Where a node's time goes, by py-spy.

    sudo .venv/bin/python -m benchmarks.profile [--measure bulk-1] [--link veth] [--seconds 8]
        [--binary PATH]

Needs py-spy (`pip install py-spy`). Two nodes as in `benchmarks.throughput`, one of its measures
running, a thousand samples a second of each; one that waits for something to do is a sample too.
Shares in percent. Sampling stops the nodes for a moment each time, so they do less meanwhile.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks.throughput.contest import Contest
from benchmarks.throughput.measures import MEASURES, take, warm_up
from benchmarks.throughput.roster import PUNCHTUN, muster
from benchmarks.throughput.site import LINKS

RATE = 1000
GROUPS = (
    ("waiting", r"^Hub\.run "),
    ("read (TUN)", r"^TunDevice\.read_packet "),
    ("write (TUN)", r"^TunDevice\.write_packet "),
    ("sendmsg, sendto", r"^Sender\._call "),
    ("recvmmsg", r"^Incoming\.receive "),
    ("sealing", r"tunnel/dataplane/(sealing|gathering)|^Headers\.(put|of)_train "),
    ("opening", r"tunnel/dataplane/(opening|merging|headers)"),
    ("wire", r"tunnel/wire/"),
    ("core, noise", r"tunnel/(core|noise)/"),
    ("drivers", r"tunnel/drivers/"),
)
"""By the innermost function: the first that fits. The first five are almost all the kernel."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", choices=list(MEASURES), default="bulk-1")
    parser.add_argument("--link", choices=LINKS, default="veth")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--binary", default=PUNCHTUN, metavar="PATH", help="another punchtun")
    options = parser.parse_args()
    spy = Path(sys.executable).with_name("py-spy")
    program = str(spy) if spy.exists() else shutil.which("py-spy")
    if program is None:
        print("py-spy is not installed: .venv/bin/pip install py-spy", file=sys.stderr)
        return 2
    entry = muster([f"punchtun={options.binary}"])["punchtun"]
    with (
        tempfile.TemporaryDirectory() as name,
        Contest([entry], Path(name), options.seconds + 1) as contest,
    ):
        if contest.unavailable:
            print(contest.unavailable["punchtun"], file=sys.stderr)
            return 1
        setting = contest.settings["punchtun"]
        setting.site.set_link(options.link)
        warm_up(setting)
        files = [Path(name) / f"{pid}.raw" for pid in setting.pids]
        spies = [
            _record(program, pid, file, options.seconds)
            for pid, file in zip(setting.pids, files, strict=True)
        ]
        figures = take(options.measure, setting)
        for process in spies:
            process.wait()
        shares = [share(file.read_text().splitlines()) for file in files]
    print(", ".join(f"{key} {value:.4g}" for key, value in figures.items()))
    print(f"{'':16}{'left':>7}{'right':>7}")
    for group in [name for name, _ in GROUPS] + ["others"]:
        print(f"{group:16}" + "".join(f"{one[group]:7.1f}" for one in shares))
    return 0


def share(stacks: Iterable[str]) -> Counter[str]:
    """Percent by group, of py-spy's "outermost;...;innermost (file:line) count"."""
    counts: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        innermost = stack.split(";")[-1]
        if "gevent/_threading.py" in stack:  # A thread that waits for work.
            continue
        counts[group_of(innermost)] += int(count)
    total = counts.total()
    return Counter({group: 100 * count / total for group, count in counts.items()})


def group_of(function: str) -> str:
    return next((name for name, fits in GROUPS if re.search(fits, function)), "others")


def _record(program: str, pid: int, file: Path, seconds: float) -> subprocess.Popen[bytes]:
    argv = [program, "record", "-r", str(RATE), "-d", str(round(seconds)), "--idle", "-f", "raw"]
    output = subprocess.DEVNULL
    return subprocess.Popen([*argv, "-o", str(file), "-p", str(pid)], stdout=output, stderr=output)


if __name__ == "__main__":
    sys.exit(main())
