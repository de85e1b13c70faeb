"""``punchtun doctor``."""

from __future__ import annotations

import json
import sys

import click

from tunnel.cli.node import state_dir
from tunnel.errors import UsageError


@click.command()
@click.option(
    "--drill", is_flag=True, help="Drop our own NAT mapping on purpose and tell how pairs recover."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir
def doctor(drill: bool, as_json: bool, state_dir: str | None) -> None:
    """Try out how paths are repaired. Exit code 0 if every direct pair came back, else 3."""
    from tunnel.drivers.control import request
    from tunnel.drivers.places import node_places

    if not drill:
        raise UsageError("say --drill: this version's doctor has no other examination yet")
    answer = next(request(node_places(state_dir).control, {"command": "drill"}, timeout=30.0))
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
