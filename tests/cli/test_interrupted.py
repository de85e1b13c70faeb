"""Ctrl-C ends what goes on, and what is known by then is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tunnel.cli import main, query

from .status import sample

Run = Callable[..., Result]


def pong(rtt: float | None) -> dict[str, Any]:
    return {"peer": "pi", "state": "direct", "way": "direct", "rtt_ms": rtt}


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command that is given these answers, however often it asks, and then Ctrl-C."""

    def run(answers: list[dict[str, Any]], *arguments: str) -> Result:
        left = list(answers)

        def ask(*_: object, **__: object) -> Iterator[dict[str, Any]]:
            while left:
                yield left.pop(0)
            raise KeyboardInterrupt

        monkeypatch.setattr(query, "_ask", ask)
        monkeypatch.setattr("time.sleep", lambda _: None)
        return CliRunner().invoke(main, arguments)

    return run


def test_ping_tells_what_came_back(interrupt: Run) -> None:
    done = interrupt([pong(3.0), pong(None), pong(1.0), pong(9.25)], "ping", "pi", "-c", "0")
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "pong from pi via direct in 3.0 ms",
        "no answer from pi (direct)",
        "pong from pi via direct in 1.0 ms",
        "pong from pi via direct in 9.2 ms",
        "3 of 4 answered in 1.0 to 9.2 ms, median 3.0 ms",
    ]


def test_ping_of_whom_nobody_hears(interrupt: Run) -> None:
    assert interrupt([], "ping", "pi").exit_code == 4
    done = interrupt([pong(None)], "ping", "pi")
    assert (done.exit_code, done.output) == (4, "no answer from pi (direct)\n")


def test_ping_as_json(interrupt: Run) -> None:
    done = interrupt([pong(3.0), pong(None)], "ping", "pi", "-c", "9", "--json")
    told = json.loads(done.output)
    assert (done.exit_code, told["sent"], told["received"]) == (0, 2, 1)
    done = interrupt([pong(3.0), pong(None)], "ping", "pi", "-c", "0", "--json")
    assert (done.exit_code, len(done.output.splitlines())) == (0, 2)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_what_is_watched(interrupt: Run, options: tuple[str, ...]) -> None:
    done = interrupt([sample(), sample()], "status", "--watch", *options)
    assert done.exit_code == 0
    assert "Aborted" not in done.output
    event = {"time": 0.5, "event": "peer_online", "peer": "pi"}
    done = interrupt([event, event], "events", "--follow", *options)
    assert (done.exit_code, len(done.output.splitlines())) == (0, 2)
