"""``punchtun config check``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from tunnel.cli.config_file import NODE_FILE, SERVER_FILE, Fault, find_faults, find_line, read_file


@click.group()
def config() -> None:
    """Files with the options of `up` and `server run`; see docs/configuration.md."""


@config.command()
@click.argument("file", required=False)
def check(file: str | None) -> None:
    """Tell all that is wrong with FILE, of a node or of a server, with the lines. Exit code 0, or 2
    if anything is.

    Without FILE: /etc/punchtun/node.toml and server.toml, those that are there.
    """
    files = [Path(file)] if file else [f for f in (NODE_FILE, SERVER_FILE) if f.exists()]
    if not files:
        click.echo(f"neither {NODE_FILE} nor {SERVER_FILE} is there", err=True)
    is_bad = False
    for path in files:
        kind, faults = examine(read_file(path))
        for line, sentence in faults:
            click.echo(f"{path}:{line}: {sentence}" if line else f"{path}: {sentence}", err=True)
        if not faults:
            click.echo(f"{path}: in order, for a {kind}")
        is_bad |= bool(faults)
    if is_bad:
        sys.exit(2)


def examine(text: str) -> tuple[str, list[Fault]]:
    """Whether it is for a node or a server, by which of them knows more of it; and all faults."""
    from tunnel.cli.node import up
    from tunnel.cli.server import run

    (of_node, node_faults), (of_server, server_faults) = (find_faults(text, c) for c in (up, run))
    if len(server_faults) < len(node_faults):
        kind, values, faults = "server", of_server, server_faults
    else:
        kind, values, faults = "node", of_node, node_faults
    faults += [_locate(text, str(error)) for error in _disagreements(kind, values)]
    return kind, sorted(faults, key=lambda fault: fault.line or 0)


def _disagreements(kind: str, values: dict[str, Any]) -> list[Any]:
    """What the options themselves take, and the command then refuses."""
    from tunnel.config import UpOptions, server_faults, up_faults

    if kind == "server":
        return list(server_faults(values))
    checked = {key: values.get(key) for key in ("server", "name", "ip", "mtu", "metrics")}
    join = values.get("join")
    return list(up_faults(UpOptions(join=_join_string(join), **checked)))


def _join_string(text: str | None) -> str | None:
    """It may be a file, too, which is not read here."""
    return text if text and text.startswith("punchtun-join:") else None


def _locate(text: str, sentence: str) -> Fault:
    """By the option that the sentence begins with, or by what it is about."""
    if sentence.startswith("--"):
        keys = [name.replace("-", "_") for name in re.findall(r"--([a-z]+(?:-[a-z]+)*)", sentence)]
        keys += ["relay"] if "no_relay" in keys else []
    else:
        keys = ["join" if "join string" in sentence else "server"]
    return Fault(next(filter(None, (find_line(text, key) for key in keys)), None), sentence)
