"""``punchtun service …``."""

from __future__ import annotations

import click

dry_run = click.option("--dry-run", is_flag=True, help="Only tell what would be done.")


@click.group()
def service() -> None:
    """Server and nodes as systemd services, started at boot."""


@service.group()
def install() -> None:
    """Put the units in place, enable and start them. Doing it again is harmless."""


@service.group()
def uninstall() -> None:
    """Stop the service and take its units away. The state stays, as root's."""


@install.command("server")
@dry_run
def install_server(dry_run: bool) -> None:
    """punchtun-server.service: takes over what `punchtun server run` kept, if anything."""
    from tunnel.drivers.service import Actions, install_server

    install_server(Actions(click.echo, dry_run))
    if not dry_run:
        click.echo("`punchtun server url --host ADDRESS` prints its URL")


@install.command("node")
@click.argument("name", required=False)
@dry_run
def install_node(name: str | None, dry_run: bool) -> None:
    """punchtun@NAME.service for the node in /var/lib/punchtun/NAME; without NAME for that of
    `punchtun up` without --state-dir."""
    from tunnel.drivers.service import Actions, install_node

    install_node(name, Actions(click.echo, dry_run))


@uninstall.command("server")
@click.option("--purge", is_flag=True, help="Delete the server's key and token, too.")
@dry_run
def uninstall_server(purge: bool, dry_run: bool) -> None:
    """punchtun-server.service."""
    from tunnel.drivers.service import Actions, uninstall_server

    uninstall_server(Actions(click.echo, dry_run), purge=purge)


@uninstall.command("node")
@click.argument("name", required=False)
@click.option("--purge", is_flag=True, help="Delete the node's keys and membership, too.")
@dry_run
def uninstall_node(name: str | None, purge: bool, dry_run: bool) -> None:
    """punchtun@NAME.service, or punchtun@default.service."""
    from tunnel.drivers.service import Actions, uninstall_node

    uninstall_node(name, Actions(click.echo, dry_run), purge=purge)
