"""Lines of the log, in both forms; each in a process of its own, which has one log."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SPEAK = """
import logging
from tunnel.drivers.log import *
start_logging(as_json={as_json}, verbose=False)
log = logging.getLogger("tunnel.drivers.node")
log.debug("not told")
log.info("the path is %s", "direct", extra={{"event": {{"event": "path_changed", "time": 1.5}}}})
tell("pi is 10.9.0.2")
tell_ready("serving")
try:
    raise ValueError("two\\nlines")
except ValueError:
    log.exception("unexpected")
tell_error("it is over")
"""


def speak(as_json: bool) -> list[str]:
    argv = [sys.executable, "-c", SPEAK.format(as_json=as_json)]
    run = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert run.stdout == ""
    return run.stderr.splitlines()


def test_text() -> None:
    said = speak(False)
    assert said[0] == "the path is direct"
    assert said[1] == "punchtun: pi is 10.9.0.2"
    assert said[2:4] == ["ready: serving", "unexpected"]
    assert said[-1] == "punchtun: it is over"


def test_json() -> None:
    entries = [json.loads(line) for line in speak(True)]
    told = [(entry["level"], entry["message"].split("\n")[0]) for entry in entries]
    assert told == [
        ("info", "the path is direct"),
        ("info", "pi is 10.9.0.2"),
        ("info", "ready: serving"),
        ("error", "unexpected"),
        ("error", "it is over"),
    ]
    assert entries[0]["event"] == {"event": "path_changed", "time": 1.5}
    assert entries[3]["message"].endswith("two\nlines")
    for entry in entries:
        assert entry["time"] == pytest.approx(entries[0]["time"], abs=60)
        assert set(entry) - {"event"} == {"time", "level", "message"}
