"""``punchtun doctor``."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from tunnel.cli.completion import complete_peers
from tunnel.cli.node import state_dir
from tunnel.errors import UsageError

EXIT_CODES = {"direct": 0, "relayed": 3}
MARKS = {"ok": "✓", "note": "!", "problem": "✗"}
PLAIN_MARKS = {"ok": "[ok]", "note": "[note]", "problem": "[PROBLEM]"}


@click.command()
@click.argument("peer", required=False, shell_complete=complete_peers)
@click.option("--server", metavar="URL", help="Examine this server, as before the first `up`.")
@click.option(
    "--drill", is_flag=True, help="Drop our own NAT mapping on purpose and tell how pairs recover."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir
def doctor(
    peer: str | None, server: str | None, drill: bool, as_json: bool, state_dir: str | None
) -> None:
    """What stands in the way, and what to do about it: of this machine, or of the pair with PEER.

    Works before the first `up`, too, with --server. Exit code 0 all is well, 1 a problem,
    3 relayed, 4 peer offline or unknown, 5 no server, 6 neither a node nor a server to ask.
    """
    from tunnel.drivers.places import node_places

    if (drill or peer is not None) and server is not None:
        raise UsageError("--server is for this machine alone: leave it out, or PEER and --drill")
    places = node_places(state_dir)
    if drill:
        _drill(places, as_json)
    elif peer is not None:
        _explain(places, peer, as_json)
    else:
        _examine(places, server, as_json)


def _examine(places: Any, server: str | None, as_json: bool) -> None:
    from tunnel.drivers.doctor import check_machine

    report = check_machine(places, server, lambda line: click.echo(f"{line} …", err=True))
    if as_json:
        click.echo(json.dumps(report.describe()))
    else:
        click.echo(format_report(report.describe(), _can_show("✓✗")))
    sys.exit(report.exit_code)


def _explain(places: Any, name: str, as_json: bool) -> None:
    from tunnel.drivers.doctor import check_peer

    answer = check_peer(places, name)
    peer = answer["peer"]
    why = peer["why_not_direct"] or {}
    exit_code = EXIT_CODES.get(peer["state"], 5 if why.get("code") == "server-unreachable" else 4)
    if as_json:
        click.echo(json.dumps(answer | {"exit_code": exit_code}))
    else:
        click.echo(format_pair(peer, answer["evidence"]))
    sys.exit(exit_code)


def _drill(places: Any, as_json: bool) -> None:
    from tunnel.drivers.control import request

    answer = next(request(places.control, {"command": "drill"}, timeout=30.0))
    if as_json:
        click.echo(json.dumps(answer))
    else:
        click.echo(f"now on UDP port {answer['port']}")
        for peer in answer["peers"]:
            if peer["recovered_ms"] is None:
                click.echo(f"{peer['name']}: not direct again ({peer['state']})")
            else:
                click.echo(f"{peer['name']}: direct again after {peer['recovered_ms']:.0f} ms")
    if any(peer["recovered_ms"] is None for peer in answer["peers"]):
        sys.exit(3)


def format_report(report: dict[str, Any], has_marks: bool) -> str:
    """The verdict, then the list, each cure under what it is for."""
    marks = MARKS if has_marks else PLAIN_MARKS
    lines = [report["verdict"], ""]
    for finding in report["findings"]:
        mark = marks[finding["level"]]
        lines.append(f"{mark} {finding['text']}")
        if finding["cure"]:
            lines.append(f"{' ' * len(mark)}   to do: {finding['cure']}")
    return "\n".join(lines)


def format_pair(peer: dict[str, Any], evidence: list[str]) -> str:
    name, path, why = peer["name"], peer["path"], peer["why_not_direct"]
    if why is None:
        rtt = "" if path["rtt_ms"] is None else f", {path['rtt_ms']:.1f} ms"
        return (
            f"{name} is direct: {path['kind']} {path['remote']}{rtt}, for {path['since_s']:.0f} s"
        )
    lines = [f"{name} is {peer['state']}: {why['reason']}.", "", "evidence:"]
    lines += [f"  - {sentence}" for sentence in evidence]
    lines += ["", f"to do: {why['fix']}", f"more: {why['code']}, in docs/troubleshooting.md"]
    return "\n".join(lines)


def _can_show(text: str) -> bool:
    """Whether the terminal's encoding has these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
