"""``punchtun status``, ``peers``, ``ping``, ``wait``, ``events``: questions to the running node."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from tunnel.cli.completion import complete_peers
from tunnel.cli.node import state_dir

_until_interrupted = contextlib.suppress(KeyboardInterrupt)
"""Ctrl-C is how a person ends what goes on: no mistake, and nothing is lost of what is known."""

as_json_option = click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")


def _ask(state_dir: str | None, body: dict[str, Any], timeout: float | None = 5.0) -> Any:
    from tunnel.drivers.control import request
    from tunnel.drivers.places import node_places

    return request(node_places(state_dir).control, body, timeout=timeout)


@click.command()
@as_json_option
@click.option("--watch", is_flag=True, help="Go on until interrupted.")
@state_dir
def status(as_json: bool, watch: bool, state_dir: str | None) -> None:
    """This node, its server, its NAT and its peers.

    With --watch a terminal shows it anew every second, with what round trips and traffic did in
    the last ones; a pipe gets it again whenever something has changed; --json, every second.
    """
    from tunnel.cli.status_view import format_status
    from tunnel.cli.terminal import read_height, read_terminal
    from tunnel.cli.watch import watch_status

    def ask() -> dict[str, Any]:
        answer: dict[str, Any] = next(_ask(state_dir, {"command": "status"}))
        return answer

    terminal = read_terminal()
    if not watch:
        answer = ask()
        click.echo(json.dumps(answer) if as_json else format_status(answer, terminal))
        return
    with _until_interrupted:
        if not as_json:
            watch_status(ask, terminal, height=read_height())
        while True:
            click.echo(json.dumps(ask()))
            time.sleep(1.0)


@click.command()
@as_json_option
@state_dir
def peers(as_json: bool, state_dir: str | None) -> None:
    """The peers, a line each."""
    from tunnel.cli.peer_table import format_peers
    from tunnel.cli.terminal import read_terminal

    answer = next(_ask(state_dir, {"command": "status"}))
    if as_json:
        click.echo(json.dumps({"peers": answer["peers"]}))
    else:
        click.echo(format_peers(answer["peers"], read_terminal()))


@click.command()
@click.argument("peer", shell_complete=complete_peers)
@click.option("-c", "--count", type=int, default=4, help="How many; 0: until interrupted.")
@as_json_option
@state_dir
def ping(peer: str, count: int, as_json: bool, state_dir: str | None) -> None:
    """Echoes to PEER by the way traffic takes, telling which way that is."""
    answers = []
    body = {"command": "ping", "peer": peer, "count": count}
    with _until_interrupted:
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
    elif len(received) > 1 and not as_json:
        click.echo(format_pings(len(answers), [answer["rtt_ms"] for answer in received]))
    if not received:
        sys.exit(4)


@click.command()
@click.option(
    "--peer",
    metavar="PEER",
    shell_complete=complete_peers,
    help="Wait for this peer. [default: for the server]",
)
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
@click.argument("peer", required=False, shell_complete=complete_peers)
@click.option("-f", "--follow", is_flag=True, help="Go on until interrupted.")
@as_json_option
@state_dir
def events(peer: str | None, follow: bool, as_json: bool, state_dir: str | None) -> None:
    """What happened to paths and peers since the node was started."""
    body = {"command": "events", "peer": peer, "follow": follow}
    with _until_interrupted:
        for event in _ask(state_dir, body, timeout=None):
            click.echo(json.dumps(event) if as_json else format_event(event))


def format_ping(answer: dict[str, Any]) -> str:
    if answer["rtt_ms"] is None:
        return f"no answer from {answer['peer']} ({answer['state']})"
    via = "relay" if answer["way"] == "relay" else answer["way"]
    return f"pong from {answer['peer']} via {via} in {answer['rtt_ms']:.1f} ms"


def format_pings(sent: int, rtts: Sequence[float]) -> str:
    """`rtts`: milliseconds, of those that were answered; one at least."""
    low, median, high = (sorted(rtts)[at] for at in (0, len(rtts) // 2, -1))
    spread = f"{low:.1f} to {high:.1f} ms, median {median:.1f} ms"
    return f"{len(rtts)} of {sent} answered in {spread}"


def format_event(event: dict[str, Any]) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["time"]))
    fraction = f"{event['time'] % 1:.3f}"[1:]
    details = "  ".join(
        f"{key}={value}" for key, value in event.items() if key not in ("time", "event")
    )
    return f"{at}{fraction}  {event['event'].replace('_', ' ')}  {details}"
