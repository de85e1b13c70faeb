"""How quickly the command is there, and how large a node is.

    sudo .venv/bin/python -m benchmarks.start [--repetitions N] [--json]

Rounds of: the interpreter alone (`python -c pass`), `punchtun --help`, and `punchtun up` of a node
that is a member already, from its start until it answers commands. Medians, and as ratios to the
interpreter of the same run, which tells the machine. Then what a node with a direct peer keeps in
memory: resident, and its own share of it (Pss), a minute after its start unless --settle says so.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.netns.lab import Lab
from tests.netns.machine import Machine
from tests.netns.namespace import inside
from tests.netns.world import PUNCHTUN, World

READY = b" on interface "


def time_to_end(host: Machine, argv: Sequence[str]) -> float:
    """Seconds until a program has ended."""

    def run() -> float:
        began = time.perf_counter()
        subprocess.run(argv, check=True, capture_output=True)
        return time.perf_counter() - began

    return inside(host.namespace, run)


def time_to_ready(host: Machine, argv: Sequence[str]) -> float:
    """Seconds until a node says that it answers commands. It is stopped then."""

    def run() -> float:
        # Its own /etc/hosts, as `ip netns exec` gives it to others of the lab.
        mount = f'mount --bind {host.hosts_file} /etc/hosts && exec "$@"'
        whole = ["unshare", "-m", "sh", "-c", mount, "sh", "sh", "-c", 'echo; exec "$@"', "sh"]
        with subprocess.Popen(
            [*whole, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout
            assert process.stderr
            process.stdout.readline()  # Now the program itself begins.
            began = time.perf_counter()
            seen = False
            for line in process.stderr:
                seen = READY in line
                if seen:
                    break
            seconds = time.perf_counter() - began
            process.terminate()
            process.communicate()
        if not seen:
            raise SystemExit("the node did not start")
        return seconds

    return inside(host.namespace, run)


def memory(pid: int) -> tuple[float, float]:
    """MiB resident, and its proportional share."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    rss, pss = (
        int(re.search(rf"^{k}:\s+(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]
        for k in ("Rss", "Pss")
    )
    return rss / 1024, pss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--settle", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Lab() as lab:
        world = World(lab, Path(folder))
        world.start_server()
        host = lab.public_host("left", "203.0.113.20")
        left = world.found("attic", host)
        right = world.join("camera", lab.public_host("right", "203.0.113.30"), left)
        world.wait_direct(left, right)
        time.sleep(arguments.settle)
        resident, share = memory(left.process.pid)
        left.stop()
        up = [PUNCHTUN, "up", "--state-dir", str(left.state)]
        tasks: dict[str, Callable[[], float]] = {
            "interpreter": lambda: time_to_end(host, [sys.executable, "-c", "pass"]),
            "help": lambda: time_to_end(host, [PUNCHTUN, "--help"]),
            "up": lambda: time_to_ready(host, up),
        }
        measured: dict[str, list[float]] = {name: [] for name in tasks}
        for _ in range(arguments.repetitions):
            for name, task in tasks.items():
                measured[name].append(task())
        world.close()
    medians = {name: statistics.median(values) for name, values in measured.items()}
    result = {
        "seconds": {name: round(value, 4) for name, value in medians.items()},
        "times_interpreter": {
            name: round(value / medians["interpreter"], 2) for name, value in medians.items()
        },
        "resident_mib": round(resident, 1),
        "share_mib": round(share, 1),
    }
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in medians.items():
        print(f"{name:12} {value * 1000:7.0f} ms  {value / medians['interpreter']:5.1f} ×")
    print(f"{'memory':12} {resident:7.1f} MiB resident, {share:.1f} MiB its own share")


if __name__ == "__main__":
    main()
