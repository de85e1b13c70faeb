"""Peers as lines: who, how, how far, since when, how much; and in a line why not direct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunnel.cli.terminal import Terminal

Peer = dict[str, Any]

COLORS = {"direct": "green", "relayed": "yellow", "connecting": "yellow", "offline": "red"}
GAP = "  "
_DISPENSABLE = (
    *("VIA", "ADDRESS", "SINCE", "IN", "OUT", "RECEIVED", "SENT"),
    *("TRAFFIC", "TREND", "RTT"),
)
"""Columns, the first to go first, where the terminal is too narrow."""


def format_peers(
    peers: Sequence[Peer],
    terminal: Terminal | None = None,
    trends: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """`trends`: public key → column → text; instead of the sums, where something is watched."""
    terminal = terminal or Terminal(has_unicode=True)
    if not peers:
        return "no peers yet"
    rows = [_cells(peer, (trends or {}).get(peer["public_key"])) for peer in peers]
    columns = list(rows[0])
    widths = {c: max(len(c), *(len(row[c]) for row in rows)) for c in columns}
    if terminal.width is not None:
        _narrow(columns, widths, terminal.width)
    lines = [GAP.join(_fit(terminal, c, widths[c]) for c in columns).rstrip()]
    for peer, row in zip(peers, rows, strict=True):
        cells = [_fit(terminal, row[c], widths[c]) for c in columns]
        at = columns.index("STATE")
        cells[at] = terminal.paint(cells[at], COLORS.get(peer["state"], "white"))
        lines.append(GAP.join(cells).rstrip())
    return "\n".join(lines)


def _cells(peer: Peer, trend: Mapping[str, str] | None) -> dict[str, str]:
    path = peer["path"] or {}
    rtt, since = path.get("rtt_ms"), path.get("since_s")
    cells = {
        "PEER": peer["name"],
        "ADDRESS": peer["addresses"][0] if peer["addresses"] else "",
        "STATE": peer["state"],
        "VIA": path.get("remote") or "",
        "RTT": "" if rtt is None else f"{rtt:.1f} ms",
    }
    since_text = "" if since is None else format_age(since)
    if trend is not None:
        return {**cells, **trend, "SINCE": since_text}
    sums = {"SENT": format_bytes(peer["tx_bytes"]), "RECEIVED": format_bytes(peer["rx_bytes"])}
    return {**cells, "SINCE": since_text, **sums}


def _fit(terminal: Terminal, text: str, width: int) -> str:
    return terminal.cut(text, width).ljust(width)


def _narrow(columns: list[str], widths: dict[str, int], width: int) -> None:
    def excess() -> int:
        return sum(widths[c] for c in columns) + len(GAP) * (len(columns) - 1) - width

    for name in _DISPENSABLE:
        if excess() <= 0:
            return
        # A long name is cut before a column goes, and not to nothing.
        spare = widths["PEER"] - 12
        if 0 < excess() <= spare:
            widths["PEER"] -= excess()
            return
        if name in columns:
            columns.remove(name)
    widths["PEER"] = max(4, widths["PEER"] - max(0, excess()))


def format_reasons(peers: Sequence[Peer]) -> list[str]:
    """A line for each pair that could be direct and is not."""
    return [
        f"{peer['name']} is {peer['state']}: {why['reason']}; to do: {why['fix']}"
        for peer in peers
        if (why := peer["why_not_direct"]) is not None and peer["state"] != "offline"
    ]


def format_age(seconds: float) -> str:
    """In the largest unit of which there is one."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def format_bytes(count: float) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
