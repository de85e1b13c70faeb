"""Where things are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

CONTROL_SOCKET = "control.sock"
STATE = Path("/var/lib/punchtun")
RUN = Path("/run/punchtun")
DEFAULT_SERVICE = "default"
"""Instance of punchtun@.service that has taken over what was in `STATE` itself."""


class Places(NamedTuple):
    state: Path
    """Directory of what must last."""
    control: Path
    """The control socket."""


def node_places(state_dir: str | None) -> Places:
    """With a state directory given, everything is in it: many nodes can run on one machine. Without
    one it is the default service's node, if there is one."""
    default = STATE / DEFAULT_SERVICE
    if state_dir is None and os.path.lexists(default):
        state_dir = str(default)
    return _places(state_dir, str(STATE), str(RUN))


def server_places(state_dir: str | None) -> Places:
    return _places(state_dir, str(STATE / "server"), str(RUN / "server"))


def _places(state_dir: str | None, state: str, run: str) -> Places:
    if state_dir is not None:
        directory = Path(state_dir).absolute()
        return Places(directory, directory / CONTROL_SOCKET)
    return Places(Path(state), Path(run) / CONTROL_SOCKET)
