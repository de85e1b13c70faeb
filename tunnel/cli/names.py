"""``punchtun update-names``, for punchtun-names@.service."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("update-names", hidden=True)
@click.option("--state-dir", required=True, help="The node's.")
def update_names(state_dir: str) -> None:
    """Have in /etc/hosts the names of members that the service of a node knows."""
    from tunnel.drivers.log import start_logging
    from tunnel.drivers.names_file import update_hosts

    start_logging(as_json=False, verbose=False)
    update_hosts(Path(state_dir).absolute())
