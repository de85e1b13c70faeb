"""What the figures were taken on."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path


def describe() -> dict[str, str]:
    """Date, code, kernel and processor."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "commit": _first_line(["git", "describe", "--always", "--dirty"]),
        "punchtun": version("punchtun"),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(argv: list[str]) -> str:
    try:
        found = subprocess.run(argv, capture_output=True, text=True, cwd=Path(__file__).parent)
    except FileNotFoundError:
        return "unknown"
    return found.stdout.partition("\n")[0] or "unknown"
