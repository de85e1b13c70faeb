"""``punchtun status --watch``: on a terminal a page that is drawn again and again, else a status
whenever something is different that is no count and no measurement."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import click

from tunnel.cli.peer_table import format_bytes
from tunnel.cli.status_view import format_status
from tunnel.cli.terminal import Terminal

Status = dict[str, Any]

SAMPLES = 12
_BARS = ("_.-=*#", "▁▂▃▄▅▆▇█")
_HOME, _END_OF_LINE, _END_OF_PAGE = "\x1b[H", "\x1b[K", "\x1b[J"


class Trends:
    """Round trips and rates of the last while, by peer."""

    def __init__(self, terminal: Terminal) -> None:
        self._bars = _BARS[terminal.has_unicode]
        self._round_trips: dict[str, deque[float | None]] = {}
        self._rates: dict[str, deque[float | None]] = {}
        self._last: dict[str, tuple[float, int, int]] = {}

    def add(self, status: Status, now: float) -> dict[str, dict[str, str]]:
        """Public key of a peer → its columns now."""
        columns = {}
        for peer in status["peers"]:
            key, sent, received = peer["public_key"], peer["tx_bytes"], peer["rx_bytes"]
            then, sent_before, received_before = self._last.get(key, (now, sent, received))
            self._last[key] = (now, sent, received)
            seconds = max(now - then, 1e-3)
            # Less than before: another process has begun to count.
            out, into = (max(0, sent - sent_before), max(0, received - received_before))
            path = peer["path"] or {}
            rtts = self._note(self._round_trips, key, path.get("rtt_ms"))
            rates = self._note(self._rates, key, (out + into) / seconds)
            columns[key] = {
                "TREND": draw_trend(rtts, self._bars),
                "OUT": f"{format_bytes(out / seconds)}/s",
                "IN": f"{format_bytes(into / seconds)}/s",
                "TRAFFIC": draw_trend(rates, self._bars),
            }
        return columns

    @staticmethod
    def _note(
        kept: dict[str, deque[float | None]], key: str, value: float | None
    ) -> Sequence[float | None]:
        values = kept.setdefault(key, deque(maxlen=SAMPLES))
        values.append(value)
        return values


def draw_trend(values: Sequence[float | None], bars: str) -> str:
    """A bar each, from nothing to the greatest of them; a blank for what is not known."""
    greatest = max((v for v in values if v is not None), default=0.0)
    if greatest <= 0:
        return "".join(" " if v is None else bars[0] for v in values)
    steps = len(bars) - 1
    return "".join(" " if v is None else bars[round(v / greatest * steps)] for v in values)


def watch_status(
    ask: Callable[[], Status], terminal: Terminal, *, interval: float = 1.0, height: int = 24
) -> None:
    """Until interrupted, or the node is gone, which raises OperatorError."""
    trends = Trends(terminal)
    told: object = None
    if terminal.width is not None:
        click.echo(_HOME + _END_OF_PAGE, nl=False)
    while True:
        status = ask()
        if terminal.width is not None:
            text = format_status(status, terminal, trends.add(status, time.monotonic()))
            click.echo(draw_page(text, height), nl=False)
        elif (state := lasting(status)) != told:
            click.echo(f"{format_status(status, terminal)}\n")
            told = state
        sys.stdout.flush()
        time.sleep(interval)


def draw_page(text: str, height: int) -> str:
    """Over the one before, without a flicker; what has no room is counted."""
    lines = text.splitlines()
    if len(lines) > height - 1:
        hidden = len(lines) - (height - 2)
        lines = [*lines[: height - 2], f"and {hidden} lines more"]
    return _HOME + "".join(f"{line}{_END_OF_LINE}\n" for line in lines) + _END_OF_PAGE


def lasting(status: Status) -> object:
    """What is no count and no measurement."""
    peers = [
        (p["name"], p["addresses"], p["state"], path.get("remote"), why.get("reason"))
        for p in status["peers"]
        for path, why in [(p["path"] or {}, p["why_not_direct"] or {})]
    ]
    node, server, nat = status["node"], status["server"], status["nat"]
    refusals = [(server[k] or {}).get("code") for k in ("refusal", "relay_refusal")]
    known = [nat["mapping"], nat["filtering"], nat["hairpin"], nat["present"]]
    own = [node["addresses"], node["interface"], node["is_revoked"], node["flood"] is None]
    return [peers, server["url"], server["state"], refusals, known, own]
