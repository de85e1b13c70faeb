"""The command line. Commands parse, call and print; they decide nothing.

What is heavy is imported inside the commands, so that ``punchtun --help`` is quick.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from tunnel import __version__
from tunnel.cli.masking import mask
from tunnel.errors import OperatorError


class Commands(click.Group):
    """Turns errors for people into one line and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except OperatorError as error:
            from tunnel.drivers.log import tell_error

            tell_error(str(error))
            sys.exit(error.exit_code)
        except BrokenPipeError:
            # Whoever read our output has enough of it, as in `punchtun events | head`.
            sys.stderr.close()
            sys.exit(0)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does. A join string that was copied with a space in it makes an argument too
        many, which click would quote."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise click.UsageError(mask(error.format_message()), error.ctx) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a new user needs them."""
        return list(self.commands)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "PUNCHTUN"},
)
@click.version_option(__version__, prog_name="punchtun")
def main() -> None:
    """Reach machines behind NAT and CGNAT by a tunnel IP.

    \b
    On a server anyone can reach:     punchtun server run
                                      punchtun server url --host ADDRESS
    On the first machine, as root:    punchtun up --server URL
                                      punchtun invite NAME
    On every other machine, as root:  punchtun up 'punchtun-join:…'
    """


def _add_commands() -> None:
    from tunnel.cli import (
        completion,
        config,
        doctor,
        names,
        network,
        node,
        query,
        server,
        service,
    )

    main.add_command(server.server)
    for command in (node.up, node.down, node.invite, node.revoke, node.rotate_key):
        main.add_command(command)

    for command in (query.status, query.peers, query.ping, query.wait, query.events):
        main.add_command(command)
    main.add_command(doctor.doctor)
    main.add_command(network.network)
    main.add_command(service.service)
    main.add_command(config.config)
    main.add_command(completion.completion)
    main.add_command(names.update_names)


_add_commands()
