"""Files that the service manager has opened for us (sd_listen_fds(3)): ``OpenFile=`` in a unit."""

from __future__ import annotations

import os
from collections.abc import Mapping

_FIRST = 3


def inherited_file(name: str, environment: Mapping[str, str] = os.environ) -> int | None:
    """The descriptor of that name; None: there is none."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return None
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    if name not in names:
        return None
    file = _FIRST + names.index(name)
    try:
        os.set_inheritable(file, False)
    except OSError:
        return None
    return file
