"""``punchtun status`` as text for people."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping
from typing import Any

from tunnel.cli.peer_table import format_peers, format_reasons
from tunnel.cli.terminal import Terminal


def format_status(
    status: dict[str, Any],
    terminal: Terminal | None = None,
    trends: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """`trends`: as `format_peers` takes them."""
    terminal = terminal or Terminal(has_unicode=True)
    node, server, nat = status["node"], status["server"], status["nat"]
    rtt = "" if server["rtt_ms"] is None else f", {server['rtt_ms']:.1f} ms"
    revoked = "this machine has been REVOKED: it is a member of its network no more"
    head = [revoked] if node["is_revoked"] else []
    head += [
        f"{node['name']}  {', '.join(node['addresses'])}  on {node['interface']}",
        f"network {status['network']['id']}  {status['network']['cidr']}",
        f"server {server['url']}  {server['state']}{rtt}",
        *format_refusals(server),
        format_nat(nat),
        *format_flood(node["flood"]),
    ]
    reasons = format_reasons(status["peers"])
    table = format_peers(status["peers"], terminal, trends)
    blocks = [_wrap(head, terminal), table, *([_wrap(reasons, terminal)] if reasons else [])]
    return "\n\n".join(blocks)


def _wrap(lines: list[str], terminal: Terminal) -> str:
    lines = [terminal.cut(line, len(line)) for line in lines]
    if terminal.width is None:
        return "\n".join(lines)
    # Options are not to be torn.
    wrap = textwrap.TextWrapper(terminal.width, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(part for line in lines for part in wrap.wrap(line))


def format_refusals(server: dict[str, Any]) -> list[str]:
    """What the server does not do for us, and the cure."""
    lines = []
    for refusal in (server["refusal"], server["relay_refusal"]):
        if refusal is not None:
            until = refusal["until"]
            when = (
                ""
                if until is None
                else f" until {time.strftime('%Y-%m-%d %H:%M', time.localtime(until))}"
            )
            lines += [f"refused{when}: {refusal['reason']}", f"  to do: {refusal['fix']}"]
    return lines


def format_flood(flood: dict[str, Any] | None) -> list[str]:
    """A line while strangers send too much, else none."""
    if flood is None:
        return []
    rate, share = flood["datagrams_per_s"], flood["read_share"]
    since = f"flooded by strangers for {flood['since_s']:.0f} s"
    return [f"{since}, with some {rate} datagrams a second, of which {share:.2%} are read"]


def format_nat(nat: dict[str, Any]) -> str:
    """What our NAT does, in a line."""
    words = {
        "mapping": nat["mapping"] or "not known yet",
        "filtering": nat["filtering"] or "not known yet",
    }
    if nat["present"] is False:
        return f"no NAT; filtering {words['filtering']}"
    line = f"NAT mapping {words['mapping']}, filtering {words['filtering']}"
    if nat["hairpin"] is not None:
        line += ", hairpins" if nat["hairpin"] else ", does not hairpin"
    if any("carrier-grade" in sentence for sentence in nat["evidence"]):
        line += "; behind a carrier's NAT, too"
    return line
