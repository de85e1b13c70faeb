"""The systemd units that come with the package, as they are for the command that is installed."""

from __future__ import annotations

import os
import re
import stat
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import tunnel
from tunnel.errors import OperatorError

SERVER_UNITS = ("punchtun-server.service",)
NODE_UNITS = (
    "punchtun@.service",
    "punchtun-names@.path",
    "punchtun-names@.service",
    "punchtun-online@.service",
    "punchtun-online.target",
)

_SHIPPED = Path(tunnel.__file__).parent / "units"
_HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))
"""What ProtectHome= and PrivateTmp= hide from the services."""


def render_unit(name: str, command: str) -> str:
    """The text of the unit `name`, to start `command`, an absolute path."""
    text = (_SHIPPED / name).read_text()
    return re.sub(
        "^ExecStart=punchtun ", lambda _: f"ExecStart={_quote(command)} ", text, flags=re.M
    )


def find_command() -> str:
    """Absolute path of the installed ``punchtun``. Raises OperatorError if there is none, or none
    that a service may run, which has a user of its own and sees no home directories."""
    command = Path(sysconfig.get_path("scripts")) / "punchtun"
    if not command.is_file():
        command = Path(sys.argv[0]).absolute()
    if command.name != "punchtun" or not os.access(command, os.X_OK):
        raise OperatorError(
            "the command `punchtun` was not found beside this Python: install the package"
        )
    needed = (command, sys.executable, sys.prefix, sys.base_prefix, _SHIPPED.parent)
    reason = why_unreachable([Path(each) for each in needed])
    if reason is not None:
        raise OperatorError(
            f"a service could not run this punchtun: {reason}. Install it for the whole machine, "
            "for example by scripts/install.sh"
        )
    return str(command)


def why_unreachable(paths: Iterable[Path]) -> str | None:
    """Why a service could not use one of these files or directories; None if it can use all."""
    for path in paths:
        real = path.resolve()
        for place in _HIDDEN:
            if place in (real, *real.parents):
                return f"{real} is below {place}, which it does not see"
        for each in (real, *real.parents):
            wanted = stat.S_IXOTH | (stat.S_IROTH if each == real else 0)
            if each.stat().st_mode & wanted != wanted:
                return f"other users than its owner may not use {each}"
    return None


def _quote(path: str) -> str:
    """As systemd.service(5) and systemd.syntax(7) want it."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return escaped if re.fullmatch(r"[\w./%+@:-]+", escaped) else f'"{escaped}"'
