"""``punchtun status``, ``peers``, ``ping``, ``wait``, ``events``: questions to the running node."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from tunnel.cli.node import state_dir

as_json_option = click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")


def _ask(state_dir: str | None, body: dict[str, Any], timeout: float | None = 5.0) -> Any:
    from tunnel.drivers.control import request
    from tunnel.drivers.places import node_places

    return request(node_places(state_dir).control, body, timeout=timeout)


@click.command()
@as_json_option
@click.option("--watch", is_flag=True, help="Repeat every second until interrupted.")
@state_dir
def status(as_json: bool, watch: bool, state_dir: str | None) -> None:
    """This node, its server, its NAT and its peers."""
    while True:
        answer = next(_ask(state_dir, {"command": "status"}))
        if watch and not as_json:
            click.clear()
        click.echo(json.dumps(answer) if as_json else format_status(answer))
        if not watch:
            return
        time.sleep(1.0)


@click.command()
@as_json_option
@state_dir
def peers(as_json: bool, state_dir: str | None) -> None:
    """The peers, a line each."""
    answer = next(_ask(state_dir, {"command": "status"}))
    if as_json:
        click.echo(json.dumps({"peers": answer["peers"]}))
    else:
        click.echo(format_peers(answer["peers"]))


@click.command()
@click.argument("peer")
@click.option("-c", "--count", type=int, default=4, help="How many; 0: until interrupted.")
@as_json_option
@state_dir
def ping(peer: str, count: int, as_json: bool, state_dir: str | None) -> None:
    """Echoes to PEER by the way traffic takes, telling which way that is."""
    answers = []
    body = {"command": "ping", "peer": peer, "count": count}
    for answer in _ask(state_dir, body, timeout=None):
        answers.append(answer)
        if as_json and count == 0:
            click.echo(json.dumps(answer))
        elif not as_json:
            click.echo(format_ping(answer))
    received = [answer for answer in answers if answer["rtt_ms"] is not None]
    last = answers[-1]["state"] if answers else "offline"
    if as_json and count != 0:
        summary = {"peer": peer, "sent": len(answers), "received": len(received), "state": last}
        click.echo(json.dumps(summary | {"answers": answers}))
    if not received:
        sys.exit(4)


@click.command()
@click.option("--peer", metavar="PEER", help="Wait for this peer. [default: for the server]")
@click.option("--direct", is_flag=True, help="Not only reachable, but without the relay.")
@click.option("--timeout", type=float, default=60.0, help="Seconds. [default: 60]")
@state_dir
def wait(peer: str | None, direct: bool, timeout: float, state_dir: str | None) -> None:
    """Until the server or a peer is reached. Exit code 0, or 3 relayed, 4 offline, 5 no server,
    6 no node."""
    body = {"command": "wait", "peer": peer, "direct": direct, "timeout": timeout}
    answer = next(_ask(state_dir, body, timeout=timeout + 10.0))
    click.echo(answer["state"])
    sys.exit(answer["exit_code"])


@click.command()
@click.argument("peer", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until interrupted.")
@as_json_option
@state_dir
def events(peer: str | None, follow: bool, as_json: bool, state_dir: str | None) -> None:
    """What happened to paths and peers since the node was started."""
    body = {"command": "events", "peer": peer, "follow": follow}
    for event in _ask(state_dir, body, timeout=None):
        click.echo(json.dumps(event) if as_json else format_event(event))


def format_status(status: dict[str, Any]) -> str:
    node, server, nat = status["node"], status["server"], status["nat"]
    rtt = "" if server["rtt_ms"] is None else f", {server['rtt_ms']:.1f} ms"
    revoked = "this machine has been REVOKED: it is a member of its network no more"
    lines = [revoked] if node["is_revoked"] else []
    lines += [
        f"{node['name']}  {', '.join(node['addresses'])}  on {node['interface']}",
        f"network {status['network']['id']}  {status['network']['cidr']}",
        f"server {server['url']}  {server['state']}{rtt}",
        *format_refusals(server),
        format_nat(nat),
        *format_flood(node["flood"]),
        "",
        format_peers(status["peers"]),
    ]
    for peer in status["peers"]:
        why = peer["why_not_direct"]
        if why is not None and peer["state"] == "relayed":
            lines.append(f"{peer['name']} is relayed: {why['reason']} ({why['evidence']})")
            lines.append(f"  to do: {why['fix']}")
    return "\n".join(lines)


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


def format_peers(peers: list[dict[str, Any]]) -> str:
    if not peers:
        return "no peers yet"
    rows = [("PEER", "ADDRESS", "STATE", "VIA", "RTT", "SENT", "RECEIVED")]
    for peer in peers:
        path = peer["path"] or {}
        rtt = path.get("rtt_ms")
        rows.append(
            (
                peer["name"],
                peer["addresses"][0] if peer["addresses"] else "",
                peer["state"],
                path.get("remote") or "",
                "" if rtt is None else f"{rtt:.1f} ms",
                format_bytes(peer["tx_bytes"]),
                format_bytes(peer["rx_bytes"]),
            )
        )
    return format_table(rows)


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Columns below each other."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def format_ping(answer: dict[str, Any]) -> str:
    if answer["rtt_ms"] is None:
        return f"no answer from {answer['peer']} ({answer['state']})"
    via = "relay" if answer["way"] == "relay" else answer["way"]
    return f"pong from {answer['peer']} via {via} in {answer['rtt_ms']:.1f} ms"


def format_event(event: dict[str, Any]) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["time"]))
    fraction = f"{event['time'] % 1:.3f}"[1:]
    details = "  ".join(
        f"{key}={value}" for key, value in event.items() if key not in ("time", "event")
    )
    return f"{at}{fraction}  {event['event'].replace('_', ' ')}  {details}"


def format_bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
