"""TOML files with the options of a command, under the same names with underscores.

What a key means, its type and its bounds are the option's own: an option that is added can stand in
the file at once. An option that only switches off, as ``--no-gso``, is ``gso = false``.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from tunnel.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NODE_FILE = Path("/etc/punchtun/node.toml")
SERVER_FILE = Path("/etc/punchtun/server.toml")
_NOT_IN_FILES = ("config",)
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string in quotes",
    list: "a list of strings in quotes",
}


class Fault(NamedTuple):
    line: int | None
    """From 1; None: it is not known."""
    sentence: str


class Configured(click.Command):
    """Takes what is neither typed nor in the environment from the file after --config; without
    that, and without a state directory of its own, from `default_file`, if there is one."""

    default_file: Path

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing and not set(args) & set(ctx.help_option_names):
            typed, _, _ = self.make_parser(ctx).parse_args(list(args))
            path = self._given(ctx, typed, "config")
            if path is not None or not self._given(ctx, typed, "state_dir"):
                file = Path(path) if path is not None else self.default_file
                if path is not None or file.exists():
                    ctx.default_map = {**(ctx.default_map or {}), **read_settings(file, self)}
        return super().parse_args(ctx, args)

    def _given(self, ctx: click.Context, typed: Mapping[str, Any], name: str) -> str | None:
        (param,) = (param for param in self.params if param.name == name)
        value: str | None = typed.get(name)
        return value if isinstance(value, str) else param.resolve_envvar_value(ctx)


class NodeConfigured(Configured):
    default_file = NODE_FILE


class ServerConfigured(Configured):
    default_file = SERVER_FILE


def read_settings(path: Path, command: click.Command) -> dict[str, Any]:
    """Parameters of `command` and their values. Raises UsageError, with the first of the faults."""
    values, faults = find_faults(read_file(path), command)
    if faults:
        line, sentence = faults[0]
        where = f"{path}:{line}" if line else str(path)
        more = len(faults) - 1
        rest = f" (and {more} more: `punchtun config check {path}`)" if more else ""
        raise UsageError(f"--config {where}: {sentence}{rest}")
    return values


def read_file(path: Path) -> str:
    """Raises UsageError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--config {path}: this is no TOML: it is not UTF-8") from error


def find_faults(text: str, command: click.Command) -> tuple[dict[str, Any], list[Fault]]:
    """What the file says, as far as it is right, and all that is wrong with it by itself."""
    try:
        content = tomllib.loads(text)
    except ValueError as error:
        place = re.search(r"at line (\d+)", str(error))
        last = max(1, len(text.splitlines()))  # "at end of document"
        return {}, [Fault(int(place[1]) if place else last, f"this is no TOML: {error}")]
    known = keys_of(command)
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for key, value in content.items():
        line = find_line(text, key)
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            faults.append(Fault(line, f"unknown key '{key}'; {hint}"))
            continue
        param = known[key]
        kind = kind_of(param)
        if kind is list and isinstance(value, str):
            value = [value]
        if not _is_of_kind(value, kind):
            faults.append(Fault(line, f"{key} must be {_KINDS[kind]}"))
            continue
        try:
            param.type_cast_value(click.Context(command), value)
        except click.BadParameter as error:
            faults.append(Fault(line, f"{key}: {error.message.rstrip('.')}"))
            continue
        assert param.name
        values[param.name] = not value if _is_inverse(param) else value
    return values, faults


def keys_of(command: click.Command) -> dict[str, click.Parameter]:
    """What may stand in the file, in the order of the options."""
    return {key_of(param): param for param in command.params if param.name not in _NOT_IN_FILES}


def key_of(param: click.Parameter) -> str:
    assert param.name
    return param.name.removeprefix("no_") if _is_inverse(param) else param.name


def kind_of(param: click.Parameter) -> type:
    """Of its value in the file."""
    if isinstance(param, click.Option) and param.is_flag:
        return bool
    if param.multiple:
        return list
    if isinstance(param.type, click.types.IntParamType):
        return int
    return float if isinstance(param.type, click.types.FloatParamType) else str


def kind_words(param: click.Parameter) -> str:
    """For people."""
    return _KINDS[kind_of(param)]


def find_line(text: str, key: str) -> int | None:
    """Where a key of the file's top, or a table of that name, is given a value."""
    name = re.escape(key)
    pattern = re.compile(rf"""\s*(\[+\s*)?["']?{name}["']?\s*[=.\]]""")
    for number, line in enumerate(text.splitlines(), 1):
        if pattern.match(line):
            return number
    return None


def _is_inverse(param: click.Parameter) -> bool:
    return (
        isinstance(param, click.Option)
        and param.is_flag
        and not param.secondary_opts
        and (param.name or "").startswith("no_")
    )


def _is_of_kind(value: Any, kind: type) -> bool:
    if kind is list:
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind
