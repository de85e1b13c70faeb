"""What processes and the machine spent, from /proc (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")


class Spent(NamedTuple):
    """CPU seconds since some start."""

    processes: float
    """User and system time of the contender's processes, ended children included."""
    machine: float
    """Of the whole machine, interrupts included: the tools that measure, kernel threads, all."""

    def since(self, earlier: Spent) -> Spent:
        return Spent(self.processes - earlier.processes, self.machine - earlier.machine)


def spent(pids: Iterable[int]) -> Spent:
    """So far, by these processes with all that descend from them, and by the machine."""
    stats = read_all_stats()
    wanted = family(pids, {pid: stat.parent for pid, stat in stats.items()})
    ticks = sum(stats[pid].ticks for pid in wanted if pid in stats)
    busy = parse_busy(Path("/proc/stat").read_text())
    return Spent(ticks / _TICKS, busy / _TICKS)


def peak_memory(pid: int) -> int:
    """The most bytes the process had resident at any time (VmHWM); 0 if it has ended."""
    try:
        return parse_peak(Path(f"/proc/{pid}/status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0


class Stat(NamedTuple):
    parent: int
    ticks: int


def read_all_stats() -> dict[int, Stat]:
    """Of every process there is."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            found[int(entry.name)] = parse_stat((entry / "stat").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def family(pids: Iterable[int], parents: dict[int, int]) -> set[int]:
    """These and all that descend from them."""
    wanted = set(pids)
    while True:
        more = {pid for pid, parent in parents.items() if parent in wanted} - wanted
        if not more:
            return wanted
        wanted |= more


def parse_stat(text: str) -> Stat:
    """/proc/PID/stat: the parent, and utime + stime + cutime + cstime."""
    # The name before the last parenthesis may hold anything.
    fields = text.rpartition(")")[2].split()
    return Stat(int(fields[1]), sum(map(int, fields[11:15])))


def parse_busy(text: str) -> int:
    """/proc/stat: ticks that no processor was idle, waiting for a disk or stolen."""
    user, nice, system, _idle, _iowait, irq, softirq = map(int, text.split()[1:8])
    return user + nice + system + irq + softirq


def parse_peak(text: str) -> int:
    """/proc/PID/status: VmHWM in bytes."""
    for line in text.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
