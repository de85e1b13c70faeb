"""``punchtun network export`` and ``import``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from tunnel.cli.node import state_dir
from tunnel.errors import UsageError

passphrase_file = click.option(
    "--passphrase-file",
    metavar="FILE",
    help="Its first line is the passphrase; - for standard input. [default: ask]",
)


@click.group()
def network() -> None:
    """Back a network up, restore it, and make other machines inviters."""


@network.command(name="export")
@click.argument("file", default="-")
@passphrase_file
@state_dir
def export_(file: str, passphrase_file: str | None, state_dir: str | None) -> None:
    """Write the network's keys and members to FILE, sealed with a passphrase.

    Run it on a machine that may invite. Without FILE, or with -, the text goes to standard output.
    """
    from tunnel.drivers.network_backup import export_network
    from tunnel.drivers.places import node_places

    path = None if file == "-" else Path(file)
    text = export_network(node_places(state_dir).state, _ask(passphrase_file, is_new=True), path)
    if path is None:
        click.echo(text, nl=False)


@network.command(name="import")
@click.argument("file", default="-")
@click.option("--name", metavar="NAME", help="A new machine's name. [default: its host name]")
@click.option("--ip", metavar="ADDRESS", help="A new machine's address. [default: a free one]")
@passphrase_file
@state_dir
def import_(
    file: str,
    name: str | None,
    ip: str | None,
    passphrase_file: str | None,
    state_dir: str | None,
) -> None:
    """Make this machine one that may invite, by what `punchtun network export` wrote to FILE.

    A member of the network stays what it is, and may invite as well. A new machine becomes a member
    with a key of its own. Without FILE, or with -, the text comes from standard input.
    """
    from tunnel.drivers.network_backup import import_network, read_text
    from tunnel.drivers.places import node_places

    if file == passphrase_file == "-":
        raise UsageError("backup and passphrase cannot both come from standard input")
    done = import_network(
        node_places(state_dir).state,
        read_text(None if file == "-" else Path(file)),
        _ask(passphrase_file, is_new=False),
        name=name,
        address=ip,
    )
    click.echo(f"punchtun: {done}", err=True)


def _ask(path: str | None, *, is_new: bool) -> Callable[[], bytes]:
    from tunnel.drivers.passphrase import ask_passphrase, read_passphrase

    if path is None:
        return lambda: ask_passphrase(is_new=is_new)
    return lambda: read_passphrase(path)
