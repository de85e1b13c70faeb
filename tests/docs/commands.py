"""Command lines in pages: found, split, and held against click without being run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click

from tunnel.cli import main

from .markdown import Page

_START = r"(?:sudo |ExecStart(?:Pre)?=|[A-Z_]+=\S+ )*(?:/usr/local/bin/)?punchtun (?=[a-z-])"
_COMMAND = re.compile(rf"(?:^(?:[a-z]+\$)?\s*|# or: |&& ){_START}")
_END = re.compile(r"\s+(?:#|&&|\||>|<|;)(?:\s|$)|[`)]|\s{4,}")
"""What follows is another command, a comment, a file, or prose."""


def commands_in(page: Page) -> Iterator[str]:
    """What follows the word punchtun at the beginning of code spans and of lines of blocks."""
    lines = [line for block in page.blocks for line in block.text.splitlines()]
    for text in [*lines, *page.spans]:
        for found in _COMMAND.finditer(text):
            yield _END.split(text[found.end() :].replace("\\|", " "))[0].strip()


def complaint_about(command: str) -> str | None:
    """None if there is such a command, with these options and no more arguments than it takes."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        return str(error)
    context = click.Context(main, info_name="punchtun")
    known: click.Command = main
    while isinstance(known, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        if name == "…":
            return None
        found = known.get_command(context, name)
        if found is None:
            return f"no command {name}"
        known, context = found, click.Context(found, parent=context, info_name=name)
    try:
        _, left, _ = known.make_parser(context).parse_args([w for w in words if w != "…"])
    except click.UsageError as error:
        return error.format_message()
    return f"too many arguments: {left}" if left else None


def options_of(command: str) -> set[str]:
    """Of the command that a line begins with; of all below it if it is a group."""
    known: click.Command = main
    for word in command.split():
        if isinstance(known, click.Group):
            known = known.commands[word]
    return all_options(known)


def all_options(top: click.Command = main) -> set[str]:
    """Of a command and all below it."""
    found = {"--help", "--version"}
    waiting = [top]
    while waiting:
        command = waiting.pop()
        if isinstance(command, click.Group):
            waiting += command.commands.values()
        for parameter in command.params:
            found |= {*parameter.opts, *parameter.secondary_opts}
    return found
