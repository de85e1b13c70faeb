"""Running the command as a user without privileges, wherever the checkout lies."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import tunnel

NOBODY = 65534


def as_nobody(*capabilities: str) -> list[str]:
    """What to put before a command line, as root. A checkout below a closed directory, such as
    root's home, could not even be entered: then, and only then, the user may also read and enter
    everything (but write nothing, which is what matters to the tests)."""
    wanted = list(capabilities)
    places = (sys.executable, os.path.realpath(sys.executable), tunnel.__file__, sys.base_prefix)
    if not all(_is_open(Path(place)) for place in places):
        wanted.append("dac_read_search")
    argv = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if wanted:
        listed = ",".join(f"+{name}" for name in wanted)
        argv += [f"--inh-caps={listed}", f"--ambient-caps={listed}"]
    return argv


def _is_open(path: Path) -> bool:
    """Whether anybody may enter every directory on the way."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.absolute().parents)
