from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from tunnel.drivers.arguments import hide_arguments
before = open("/proc/self/cmdline").read()
hide_arguments()
after = open("/proc/self/cmdline").read()
assert len(before) == len(after)
print(after.split("\\0")[3:-1], sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("punchtun-join:AbC_-09", "punchtun-join:*******"),
        ("punchtun://vps.example:1/AbC?tcp=1", "punchtun://vps.example:1/*********"),
        ("--server=punchtun://[2001:db8::1]/AbC", "--server=punchtun://[2001:db8::1]/***"),
        ("punchtun://vps", "punchtun://vps"),
        ("/var/lib/punchtun/pi", "/var/lib/punchtun/pi"),
        ("", ""),
    ],
)
def test_what_ps_shows_of_what_was_typed(typed: str, shown: str) -> None:
    argv = [sys.executable, "-c", PROGRAM, "up", typed, "--name", "é"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == f"{['up', shown, '--name', 'é']} {['up', typed, '--name', 'é']}\n"
