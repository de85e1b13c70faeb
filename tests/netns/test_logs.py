"""`--log-format json`, of the real programs: every line is an object, from first to last."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .lab import Lab
from .process import Process
from .world import World

pytestmark = pytest.mark.root

JSON = ("--log-format", "json")


def entries(process: Process) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.stderr.splitlines()]


def test_every_line_is_an_object(lab: Lab, world: World) -> None:
    world.server.stop()
    world.start_server(*JSON)
    one = world.found("attic", lab.public_host("a", "203.0.113.20"), *JSON)
    two = world.join("pi", lab.home_router("home", public="198.51.100.7").host("b"), one, *JSON)
    world.wait_direct(one, two)
    told = two.events()
    failed = two.host.popen([two.program, "up", *JSON, "--state-dir", str(two.state)])
    assert failed.wait() == 1
    assert [entry["level"] for entry in entries(failed)] == ["error"]
    two.stop()
    one.stop()
    world.server.send_signal(15)
    world.server.wait()
    for process in (world.server, one.process, two.process):
        for entry in entries(process):
            assert set(entry) - {"event"} == {"time", "level", "message"}
            assert entry["level"] in ("info", "warning")
    assert any(e["message"].startswith("ready: ") for e in entries(world.server))
    noted = [entry["event"] for entry in entries(two.process) if "event" in entry]
    assert noted[: len(told)] == told
    assert "path_changed" in [event["event"] for event in noted]
