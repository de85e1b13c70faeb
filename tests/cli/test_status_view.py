"""What people see: `punchtun status` in its widths, and `--watch`."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.status import peer, sample
from tunnel.cli.peer_table import format_age, format_peers
from tunnel.cli.status_view import format_status
from tunnel.cli.terminal import Terminal, read_terminal
from tunnel.cli.watch import Trends, draw_page, draw_trend, lasting, watch_status

UNLIMITED = """\
attic  10.81.7.1, fd00::1  on punchtun0
network 9522fcc09168  10.81.7.0/24
server punchtun://203.0.113.10:12345  connected, 20.0 ms
NAT mapping endpoint-independent, filtering address-and-port-dependent, does not hairpin

PEER  ADDRESS      STATE    VIA                   RTT      SINCE  SENT    RECEIVED
nas   10.81.7.72   relayed  relay                 12.3 ms  2 h    1.2 MB  890 B
pi    10.81.7.217  direct   198.51.100.217:40112  12.3 ms  2 h    1.2 MB  890 B
tv    10.81.7.234  offline                                        1.2 MB  890 B

nas is relayed: both NATs choose another port for each peer; to do: forward a UDP port to one of \
the two (--listen-port)"""


def test_nothing_is_cut_where_there_is_no_terminal() -> None:
    assert format_status(sample(), Terminal(has_unicode=True)) == UNLIMITED


def test_sixty_columns() -> None:
    shown = format_status(sample(), Terminal(60, has_unicode=True))
    assert max(map(len, shown.splitlines())) <= 60
    assert shown.split("\n\n")[1].splitlines() == [
        "PEER  ADDRESS      STATE    RTT      SINCE  SENT    RECEIVED",
        "nas   10.81.7.72   relayed  12.3 ms  2 h    1.2 MB  890 B",
        "pi    10.81.7.217  direct   12.3 ms  2 h    1.2 MB  890 B",
        "tv    10.81.7.234  offline                  1.2 MB  890 B",
    ]
    # What was wrapped is all there.
    assert " ".join(shown.split("\n\n")[2].split()) == UNLIMITED.splitlines()[-1]


@given(st.integers(30, 200), st.lists(st.text(min_size=1, max_size=63), max_size=4))
def test_no_line_is_wider_than_the_terminal(width: int, names: list[str]) -> None:
    states = ["direct", "relayed", "connecting", "offline"]
    peers = [peer(name, state) for name, state in zip(names, states)]  # noqa: B905
    terminal = Terminal(width)
    trends = Trends(terminal).add({"peers": peers}, 1.0)
    for shown in (format_peers(peers, terminal), format_peers(peers, terminal, trends)):
        assert max(map(len, shown.split("\n"))) <= width
        assert shown.isascii()


def test_long_names_are_cut_before_columns_go() -> None:
    peers = [peer("n" * 40, "direct")]
    line = format_peers(peers, Terminal(90, has_unicode=True)).splitlines()[1]
    assert "198.51.100." in line
    assert "n…  10.81.7." in line
    assert "n~  10.81.7." in format_peers(peers, Terminal(90)).splitlines()[1]


def test_a_name_does_nothing_to_the_terminal() -> None:
    shown = format_peers([peer("a\x1b[2Jb\n", "direct")], Terminal(has_unicode=True))
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 2


def test_colors_change_nothing_but_colors() -> None:
    plain, painted = (format_status(sample(), Terminal(80, True, c)) for c in (False, True))
    assert "\x1b[32mdirect " in painted
    assert click.unstyle(painted) == plain


class Tty(io.StringIO):
    encoding = "UTF-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("no file")


@pytest.mark.parametrize(
    ("environment", "terminal"),
    [
        ({"COLUMNS": "60"}, Terminal(60, True, True)),
        ({"COLUMNS": "60", "NO_COLOR": "1"}, Terminal(60, True, False)),
        ({"COLUMNS": "60", "NO_COLOR": ""}, Terminal(60, True, True)),
        ({"COLUMNS": "60", "TERM": "dumb"}, Terminal(60, True, False)),
        ({"COLUMNS": "wide"}, Terminal(80, True, True)),
        ({"COLUMNS": "1"}, Terminal(30, True, True)),
        ({}, Terminal(80, True, True)),
    ],
)
def test_terminals(environment: dict[str, str], terminal: Terminal) -> None:
    assert read_terminal(Tty(), environment) == terminal


def test_a_pipe_is_none() -> None:
    text = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert read_terminal(text, {"COLUMNS": "60"}) == Terminal()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (3599, "60 min"), (7300, "2 h"), (200_000, "2 d")],
)
def test_ages(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


def test_trends() -> None:
    assert draw_trend([0.0, 1.0, None, 4.0, 8.0], "▁▂▃▄▅▆▇█") == "▁▂ ▅█"
    assert draw_trend([0.0, None], "_#") == "_ "
    assert draw_trend([], "_#") == ""
    trends = Trends(Terminal(80))
    first = {"peers": [peer("pi", "direct", tx_bytes=1000, rx_bytes=0)]}
    assert trends.add(first, 1.0)["key of pi"] == {
        "TREND": "#",
        "OUT": "0 B/s",
        "IN": "0 B/s",
        "TRAFFIC": "_",
    }
    later = {"peers": [peer("pi", "direct", tx_bytes=5000, rx_bytes=1000)]}
    assert trends.add(later, 3.0)["key of pi"] == {
        "TREND": "##",
        "OUT": "2.0 kB/s",
        "IN": "500 B/s",
        "TRAFFIC": "_#",
    }
    # Another process counts from the beginning, and a peer may be gone in between.
    assert trends.add({"peers": []}, 4.0) == {}
    again = trends.add({"peers": [peer("pi", "offline", tx_bytes=0, rx_bytes=0)]}, 5.0)
    assert again["key of pi"] == {"TREND": "## ", "OUT": "0 B/s", "IN": "0 B/s", "TRAFFIC": "_#_"}


def test_a_page_has_room() -> None:
    assert draw_page("a\nb", 24) == "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J"
    shown = draw_page("\n".join("abcdefgh"), 5)
    assert click.unstyle(shown).count("\n") == 4
    assert "c\x1b[K\nand 5 lines more\x1b[K\n\x1b[J" in shown


def statuses() -> Iterator[dict[str, Any]]:
    yield sample()
    counted = peer("pi", "direct", tx_bytes=9)
    yield sample(peers=[peer("nas", "relayed"), counted, peer("tv", "offline")])
    yield sample(peers=[])
    yield sample(peers=[])
    raise KeyboardInterrupt


def test_a_pipe_is_told_what_has_changed(capsys: pytest.CaptureFixture[str]) -> None:
    source = statuses()
    with pytest.raises(KeyboardInterrupt):
        watch_status(lambda: next(source), Terminal(has_unicode=True), interval=0.0)
    gone = format_status(sample(peers=[]), Terminal(has_unicode=True))
    assert capsys.readouterr().out == f"{UNLIMITED}\n\n{gone}\n\n"


@pytest.mark.parametrize("change", ["state", "remote", "reason", "name"])
def test_what_is_a_change(change: str) -> None:
    status = sample()
    first = status["peers"][0]
    place = {"remote": first["path"], "reason": first["why_not_direct"]}.get(change, first)
    place[change] = "other"
    assert lasting(status) != lasting(sample())


def test_a_terminal_is_drawn_over(tmp_path: Any) -> None:
    """On a real one, of 60 columns."""
    code = """
from tests.cli.status import sample
from tunnel.cli.terminal import read_terminal
from tunnel.cli.watch import watch_status
left = [sample(), sample(peers=[])]
try:
    watch_status(lambda: left.pop(0), read_terminal(), interval=0.0)
except IndexError:
    pass
"""
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": "60", "PYTHONIOENCODING": "utf-8", "NO_COLOR": ""}
    subprocess.run([sys.executable, "-c", code], stdout=slave, env=environment, check=True)
    os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 65536):
            shown += part
    except OSError:  # The other end is closed, and all is read.
        pass
    os.close(master)
    pages = shown.decode().split("\x1b[H")[2:]
    assert len(pages) == 2
    assert "nas   \x1b[33mrelayed\x1b[0m  12.3 ms" in pages[0]
    assert "▁" in pages[0]
    assert "no peers yet" in pages[1]
