"""Where things are kept."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

CONTROL_SOCKET = "control.sock"


class Places(NamedTuple):
    state: Path
    """Directory of what must last."""
    control: Path
    """The control socket."""


def node_places(state_dir: str | None) -> Places:
    """With a state directory given, everything is in it: many nodes can run on one machine."""
    return _places(state_dir, "/var/lib/punchtun", "/run/punchtun")


def server_places(state_dir: str | None) -> Places:
    return _places(state_dir, "/var/lib/punchtun/server", "/run/punchtun/server")


def _places(state_dir: str | None, state: str, run: str) -> Places:
    if state_dir is not None:
        directory = Path(state_dir).absolute()
        return Places(directory, directory / CONTROL_SOCKET)
    return Places(Path(state), Path(run) / CONTROL_SOCKET)
