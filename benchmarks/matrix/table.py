"""Results as text."""

from __future__ import annotations

import math
from typing import Any

from .kinds import KINDS
from .pairs import Pair

Result = dict[str, Any]

_LEGEND = """\
direct: of so many trials. p50, p95: seconds to direct on both sides, from the start of both
processes, and from when the server knew both; of those that ended direct. sent: datagrams to
others than the server, of both nodes, mean. entries: the most that a router of a's and of b's
side held."""


def summary(result: Result) -> str:
    """One trial in a line."""
    head = f"{result['where']:9} {result['pair']:26} #{result['repetition'] + 1}:"
    if "error" in result:
        return f"{head} failed\n{result['error']}"
    outcome = f"direct after {result['seconds']:.2f} s" if result["direct"] else "relayed"
    return f"{head} {outcome}, {result['sent']} sent, entries {result['peaks']}"


def show(results: list[Result], pairs: list[Pair]) -> str:
    """For each of lab and simulator the matrix, a line for each pair, and why some are relayed."""
    blocks = []
    for where in ("lab", "simulator"):
        mine = {
            pair: rows
            for pair in pairs
            if (rows := [r for r in results if (r["where"], r["pair"]) == (where, pair.name)])
        }
        if mine:
            blocks += [f"== {where}", _matrix(mine), _LEGEND, _lines(mine), _reasons(mine)]
            blocks += [_surprises(mine)]
    kinds = dict.fromkeys(name for pair in pairs for name in (pair.a, pair.b) if name in KINDS)
    blocks.append("\n".join(f"{name:13}{KINDS[name].about}" for name in kinds))
    return "\n\n".join(block for block in blocks if block)


def figures(results: list[Result]) -> dict[str, Any]:
    """Of one pair."""
    counted = [result for result in results if "error" not in result]
    ended = [result for result in counted if result["direct"]]
    started = sorted(result["seconds"] for result in ended)
    registered = sorted(result["seconds_registered"] for result in ended)
    return {
        "trials": len(counted),
        "failed": len(results) - len(counted),
        "direct": len(ended),
        "p50": _percentile(started, 0.5),
        "p95": _percentile(started, 0.95),
        "p50_registered": _percentile(registered, 0.5),
        "p95_registered": _percentile(registered, 0.95),
        "sent": sum(result["sent"] for result in counted) / max(1, len(counted)),
        "peaks": [max((r["peaks"][side] for r in counted), default=0) for side in (0, 1)],
    }


def _matrix(mine: dict[Pair, list[Result]]) -> str:
    """Median seconds from registration where all trials ended direct; a share where some did."""
    names = [name for name in KINDS if any(name in (pair.a, pair.b) for pair in mine)]
    if len(names) < 3:
        return ""
    cells = {frozenset((pair.a, pair.b)): _cell(figures(rows)) for pair, rows in mine.items()}
    lines = [f"{'':13}" + "".join(f"{name:>13}" for name in names)]
    for row in names:
        shown = [cells.get(frozenset((row, column)), "") for column in names]
        lines.append(f"{row:13}" + "".join(f"{cell:>13}" for cell in shown))
    return "\n".join(lines)


def _cell(found: dict[str, Any]) -> str:
    if not found["direct"]:
        return "-" if found["trials"] else "failed"
    if found["direct"] < found["trials"]:
        return f"{found['direct']}/{found['trials']}"
    return _number(found["p50_registered"])


def _lines(mine: dict[Pair, list[Result]]) -> str:
    titles = ("p50", "p95", "p50", "p95", "sent")
    lines = [
        f"{'':32}{'direct':>8}{'started':>14}{'registered':>14}",
        f"{'pair':40}{''.join(f'{title:>7}' for title in titles)}{'entries':>11}  by theory",
    ]
    for pair, rows in mine.items():
        found = figures(rows)
        share = f"{found['direct']}/{found['trials']}"
        entries = "{}, {}".format(*found["peaks"])
        failed = f"  ({found['failed']} failed)" if found["failed"] else ""
        lines.append(
            f"{pair.name:32}{share:>8}"
            + "".join(
                f"{_number(found[key]):>7}"
                for key in ("p50", "p95", "p50_registered", "p95_registered")
            )
            + f"{found['sent']:7.0f}{entries:>11}  {pair.rule}{failed}"
        )
    direct = sum(figures(rows)["direct"] == len(rows) for rows in mine.values())
    possible = sum(pair.chance > 0.01 for pair in mine)
    lines.append(f"{direct} of {len(mine)} pairs always direct; possible by theory: {possible}")
    return "\n".join(lines)


def _reasons(mine: dict[Pair, list[Result]]) -> str:
    lines = []
    for pair, rows in mine.items():
        relayed = [result for result in rows if result.get("why")]
        if relayed:
            one, other = relayed[-1]["why"]
            lines.append(f"  {pair.name:26} a: {one}")
            lines.append(f"  {'':26} b: {other}")
    return "\n".join(["why not direct:", *lines]) if lines else ""


def _surprises(mine: dict[Pair, list[Result]]) -> str:
    """Pairs that should end direct within an attempt and did not, and the other way round."""
    lines = []
    for pair, rows in mine.items():
        found = figures(rows)
        if pair.chance > 0.99 and found["direct"] < found["trials"]:
            lines.append(f"  {pair.name}: relayed, though {pair.rule}")
        elif pair.chance <= 0.01 and found["direct"]:
            lines.append(f"  {pair.name}: direct, though {pair.rule}")
    return "\n".join(["otherwise than theory says:", *lines]) if lines else ""


def _percentile(values: list[float], share: float) -> float | None:
    return values[max(0, math.ceil(share * len(values)) - 1)] if values else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
