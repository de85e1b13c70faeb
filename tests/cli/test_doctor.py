"""What `punchtun doctor` prints, and how it ends, without a node."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.cli.command import User
from tests.cli.test_mistakes import Server, free_port, server
from tunnel.cli.doctor import format_pair, format_report
from tunnel.core.checkup import Finding, Level, Report
from tunnel.wire.invitation import ServerUrl

__all__ = ["server"]

REPORT = Report(
    "There is a problem: it is late.",
    1,
    (
        Finding("server", Level.OK, "the server answers"),
        Finding("nat", Level.NOTE, "there is a NAT", "live with it"),
        Finding("clock", Level.PROBLEM, "it is late", "set the clock"),
    ),
)
PEER: dict[str, Any] = {
    "name": "pi",
    "state": "relayed",
    "path": {"kind": "relayed", "remote": "relay", "rtt_ms": 3.0, "since_s": 7.0},
    "why_not_direct": {"code": "x", "reason": "of a NAT", "evidence": "seen; heard", "fix": "wait"},
}


def test_a_checklist_for_people() -> None:
    assert format_report(REPORT.describe(), has_marks=True).splitlines() == [
        "There is a problem: it is late.",
        "",
        "✓ the server answers",
        "! there is a NAT",
        "    to do: live with it",
        "✗ it is late",
        "    to do: set the clock",
    ]
    plain = format_report(REPORT.describe(), has_marks=False)
    assert plain.isascii()
    assert "[PROBLEM] it is late" in plain


def test_a_pair_for_people() -> None:
    text = format_pair(PEER, ["seen", "heard"])
    assert text.splitlines() == [
        "pi is relayed: of a NAT.",
        "",
        "evidence:",
        "  - seen",
        "  - heard",
        "",
        "to do: wait",
        "more: x, in docs/troubleshooting.md",
    ]
    path = {"kind": "host", "remote": "192.0.2.1:5", "rtt_ms": 2.34, "since_s": 61.2}
    direct = PEER | {"state": "direct", "path": path, "why_not_direct": None}
    assert format_pair(direct, []) == "pi is direct: host 192.0.2.1:5, 2.3 ms, for 61 s"


def test_neither_node_nor_server(user: User) -> None:
    user.ask("doctor").refused(6, "no node is running", "--server URL", "punchtun up")
    user.ask("doctor", "pi").refused(6, "no node is running")
    assert not user.state.exists()


@pytest.mark.parametrize("arguments", [["pi"], ["--drill"]])
def test_a_server_is_for_the_machine_alone(user: User, arguments: list[str]) -> None:
    url = ServerUrl("203.0.113.10", 12345, bytes(range(32)), bytes(16)).text
    user.ask("doctor", *arguments, "--server", url).refused(2, "--server")


def test_a_mistyped_url(user: User) -> None:
    user.ask("doctor", "--server", "vps").refused(2, "no server URL")


def test_before_up_with_a_server_that_answers(user: User, server: Server) -> None:
    url = user.ask("server", "url", "--host", "127.0.0.1").stdout.strip()
    result = user.run("doctor", "--server", url, "--json")
    report = json.loads(result.stdout)
    assert report["exit_code"] == result.code
    found = {finding["name"]: finding for finding in report["findings"]}
    assert found["udp-over-ipv4"]["level"] == "ok"
    assert found["tcp"]["level"] == "ok"
    assert found["clock"]["level"] == "ok"
    assert "UDP over IPv4: the server answers" in result.stderr
    assert url.rpartition("/")[2] not in result.stdout + result.stderr, "no secret is shown"


def test_before_up_with_nobody_there(user: User) -> None:
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", port))
        url = ServerUrl("127.0.0.1", port, bytes([9]) + bytes(31), bytes(16)).text
        result = user.run("doctor", "--server", url)
    assert result.code == 5, result
    assert result.stdout.startswith(f"The server punchtun://127.0.0.1:{port} is not reached.")
    assert "Traceback" not in result.stderr
