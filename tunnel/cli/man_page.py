"""The manual page punchtun(1), from the commands themselves: ``python -m tunnel.cli.man_page``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import click

from tunnel import __version__
from tunnel.cli import main

_EXIT_CODES = (
    (0, "Done."),
    (1, "An error that the message explains."),
    (2, "Wrong arguments or configuration; up: this machine has been revoked."),
    (3, "Reachable, but relayed, where a direct path was asked for."),
    (4, "The peer is unknown or offline, or nobody who may invite is online."),
    (5, "The server does not answer."),
    (6, "No node, or server, is running."),
)
_FILES = (
    ("/etc/punchtun/node.toml", "Options of up."),
    ("/etc/punchtun/server.toml", "Options of server run."),
    ("/var/lib/punchtun", "What a node keeps; the server, in the folder server below it."),
    ("/run/punchtun", "Control sockets."),
    ("/etc/hosts", "Names of members, while a node runs."),
)
_ENVIRONMENT = (
    ("PUNCHTUN_STATE_DIR", "The state directory for all commands about a node."),
    ("PUNCHTUN_SERVER_STATE_DIR", "The same for punchtun server."),
    ("PUNCHTUN_COMMAND_OPTION", "Any option of any command, such as PUNCHTUN_UP_NAME."),
    ("NO_COLOR", "No colors, if it is not empty."),
)


def build_page() -> str:
    """In the man macros that groff and mandoc read."""
    ctx = click.Context(main, info_name="punchtun", help_option_names=["-h", "--help"])
    lines = [f'.TH PUNCHTUN 1 "" "punchtun {__version__}" "User Commands"']
    lines += [".SH NAME", "punchtun \\- " + _escape("reach machines behind NAT by a tunnel IP")]
    lines += [".SH SYNOPSIS", ".B punchtun", ".RI [ options ]", ".I command"]
    lines += [".RI [ arguments ]", ".SH DESCRIPTION", *_text(main.help or ""), ".SH COMMANDS"]
    for command, below in _leaves(main, ctx):
        lines += _describe(command, below)
    lines += [".SH EXIT STATUS", *_items((str(code), what) for code, what in _EXIT_CODES)]
    lines += [".SH FILES", *_items(_FILES), ".SH ENVIRONMENT", *_items(_ENVIRONMENT)]
    lines += ["Secrets do not belong there: other processes of the user can read it."]
    return "\n".join(lines) + "\n"


def _leaves(
    group: click.Group, ctx: click.Context
) -> Iterator[tuple[click.Command, click.Context]]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command
        if command.hidden:
            continue
        below = click.Context(command, info_name=name, parent=ctx)
        if isinstance(command, click.Group):
            yield from _leaves(command, below)
        else:
            yield command, below


def _describe(command: click.Command, ctx: click.Context) -> Iterator[str]:
    yield f'.SS "{_escape(ctx.command_path)}"'
    usage = " ".join(command.collect_usage_pieces(ctx))
    yield f"\\fB{_escape(ctx.command_path)}\\fR {_escape(usage)}"
    yield ".PP"
    yield from _text(command.help or "")
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is not None:
            yield from _items([record])


def _items(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    for term, text in pairs:
        yield from (".TP", f".B {_escape(term)}", _inline(" ".join(text.split())))


def _text(help_text: str) -> Iterator[str]:
    """Paragraphs as click has them: after \\b the lines stay as they are."""
    for number, paragraph in enumerate(re.split(r"\n[ ]*\n", help_text.strip())):
        if number:
            yield ".PP"
        if paragraph.lstrip().startswith("\b"):
            yield ".nf"
            yield from map(_inline, paragraph.lstrip().splitlines()[1:])
            yield ".fi"
        else:
            yield _inline(" ".join(paragraph.split()))


def _inline(text: str) -> str:
    """What stands between backquotes is typed."""
    return re.sub(r"`([^`]*)`", r"\\fB\1\\fR", _escape(text))


def _escape(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


if __name__ == "__main__":
    print(build_page(), end="")
