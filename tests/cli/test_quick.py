"""What is asked for help, or for a completion, loads nothing that it does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ["gevent", "nacl", "pyroute2", "pytun", "segno", "wsproto", "h11", "miniupnpc"]
HEAVY += ["tunnel.drivers", "tunnel.core", "tunnel.noise", "tunnel.wire", "asyncio", "ssl"]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["up", "--help"], ["server", "run", "--help"], ["status", "-h"]],
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from tunnel.cli import main
try:
    main({arguments!r}, prog_name="punchtun")
except SystemExit as end:
    assert not end.code
print(sorted(set(sys.modules) & set({HEAVY!r})))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
