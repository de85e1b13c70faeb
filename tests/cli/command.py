"""Running the installed `punchtun` as an ordinary user, root or not though we are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.privileges import NOBODY, as_nobody

PUNCHTUN = str(Path(sys.executable).with_name("punchtun"))


class Result(NamedTuple):
    code: int
    stdout: str
    stderr: str

    def refused(self, code: int, *words: str) -> None:
        """It ended with this code and said one line, with these words, on stderr alone."""
        assert self.code == code, self
        assert self.stdout == ""
        assert "Traceback" not in self.stderr
        assert len(self.stderr.splitlines()) == 1, self.stderr
        for word in words:
            assert word in self.stderr


class User:
    """A user without privileges, with a directory of his own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = home / "state"

    def argv(self, *arguments: str) -> list[str]:
        return [*(as_nobody() if os.geteuid() == 0 else []), PUNCHTUN, *arguments]

    def run(self, *arguments: str, stdin: str = "") -> Result:
        completed = subprocess.run(
            self.argv(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            cwd=self.home,
        )
        return Result(completed.returncode, completed.stdout, completed.stderr)

    def ask(self, *arguments: str) -> Result:
        """With the user's state directory."""
        return self.run(*arguments, "--state-dir", str(self.state))

    def own(self, path: Path) -> None:
        """Make a file the user's."""
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)


@pytest.fixture
def user() -> Iterator[User]:
    home = Path(tempfile.mkdtemp(prefix="punchtun-cli-"))
    user = User(home)
    user.own(home)
    yield user
    shutil.rmtree(home)
