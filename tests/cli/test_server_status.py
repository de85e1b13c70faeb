"""``punchtun server status``: it prints what docs/status-json.md lists, and its exit codes."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import User
from tests.cli.test_mistakes import Server
from tunnel.cli.server import format_seconds, format_status

DOCS = Path(__file__).parents[2] / "docs/status-json.md"
BUSY = {
    "version": "1.2.3",
    "uptime_s": 90_061.0,
    "cpu_s": 12.345,
    "memory_bytes": 41_000_000,
    "nodes": 5,
    "relayed_bytes": 1_500_000,
    "busiest_networks": [
        {"id": "d5660c5b", "nodes": 3, "pairs": 3, "relayed_pairs": 1, "relayed_bytes": 1_400_000},
        {"id": "0a0b0c0d", "nodes": 2, "pairs": 1, "relayed_pairs": 0, "relayed_bytes": 0},
    ],
    "drops": {"mac1": 7},
    "errors": {"ECONNREFUSED": 2},
    "ports": [12345, 12346],
}


@pytest.fixture
def server(user: User) -> Iterator[Server]:
    server = Server(user)
    yield server
    server.stop()


def documented() -> tuple[set[str], set[str]]:
    """Fields, and those of each of `busiest_networks`."""
    text = DOCS.read_text()
    section = text[text.index("## punchtun server status --json") :]
    fields: set[str] = set()
    networks: set[str] = set()
    for line in section.splitlines():
        cells = line.split("|")
        names = re.findall(r"`([a-z_.\[\]]+)`", cells[1]) if len(cells) > 3 else []
        into = networks if names and names[0].startswith("busiest_networks[].") else fields
        into |= {name.removeprefix("busiest_networks[].") for name in names}
    return fields, networks


def test_the_fields_are_documented(user: User, server: Server) -> None:
    result = user.ask("server", "status", "--json")
    assert result.code == 0
    assert result.stderr == ""
    status = json.loads(result.stdout)
    fields, networks = documented()
    assert set(status) == fields
    assert networks == set(BUSY["busiest_networks"][0])  # type: ignore[index]
    assert status["ports"] == [server.port, server.port + 1]
    assert (status["nodes"], status["networks"], status["busiest_networks"]) == (0, 0, [])
    assert status["uptime_s"] >= 0
    assert status["memory_bytes"] > 1_000_000


def test_in_words(user: User, server: Server) -> None:
    result = user.ask("server", "status")
    assert result.code == 0
    lines = dict(re.findall(r"^(.{20}) (.*)$", result.stdout, re.MULTILINE))
    assert lines[f"{'nodes':20}"] == "0"
    assert lines[f"{'ports':20}"] == f"{server.port}, {server.port + 1}"


def test_a_busy_one_in_words() -> None:
    assert format_status(BUSY).splitlines() == [
        "version              1.2.3",
        "uptime               1 d 1 h",
        "cpu                  12.3 s",
        "memory               41.0 MB",
        "nodes                5",
        "relayed              1.5 MB",
        "ports                12345, 12346",
        "",
        "ID        NODES  PAIRS  RELAYED PAIRS  RELAYED",
        "d5660c5b  3      3      1              1.4 MB",
        "0a0b0c0d  2      1      0              0 B",
        "",
        f"drop: {'mac1':40} 7",
        f"error: {'ECONNREFUSED':40} 2",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.0, "59 s"), (61.0, "1 min"), (7300.0, "2 h 1 min"), (90_000.0, "1 d 1 h")],
)
def test_how_long(seconds: float, words: str) -> None:
    assert format_seconds(seconds) == words


def test_nobody_serves(user: User) -> None:
    user.ask("server", "status", "--json").refused(6, "no server is running", "punchtun server run")


def test_wrong_arguments(user: User) -> None:
    assert user.ask("server", "status", "--yaml").code == 2


def test_a_server_that_breaks_off(user: User) -> None:
    user.state.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(user.state / "control.sock"))
        listening.listen()
        user.own(user.state / "control.sock")

        def break_off() -> None:
            client, _ = listening.accept()
            client.recv(99)
            client.sendall(b'{"half": ')
            client.close()

        thread = threading.Thread(target=break_off, daemon=True)
        thread.start()
        user.ask("server", "status").refused(1, "the server stopped while it was answering")
        thread.join()
