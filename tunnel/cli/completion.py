"""``punchtun completion``, and what is completed beside options: peers, by asking the node."""

from __future__ import annotations

from typing import Any

import click

from tunnel.errors import OperatorError

PATIENCE = 1.0
"""Seconds: somebody has pressed a key."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion for SHELL.

    \b
    bash:  punchtun completion bash > /etc/bash_completion.d/punchtun
    zsh:   punchtun completion zsh > /usr/local/share/zsh/site-functions/_punchtun
    fish:  punchtun completion fish > ~/.config/fish/completions/punchtun.fish
    """
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root().command
    found = get_completion_class(shell)
    assert found
    click.echo(found(root, {}, "punchtun", "_PUNCHTUN_COMPLETE").source())


def complete_peers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Those of the running node; none if it may not be asked."""
    from tunnel.drivers.control import request
    from tunnel.drivers.places import node_places

    state_dir = ctx.params.get("state_dir")
    try:
        control = node_places(state_dir).control
        answer: dict[str, Any] = next(request(control, {"command": "status"}, timeout=PATIENCE))
    except (OperatorError, StopIteration):
        return []
    return sorted(p["name"] for p in answer["peers"] if p["name"].startswith(incomplete))
