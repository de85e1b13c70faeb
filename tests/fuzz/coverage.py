"""Fuzzing that is guided by coverage, with atheris (libFuzzer), in a process of its own: what it
watches must be imported under its eyes, and it ends the process."""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz.stored import MAX_LENGTH, read_stored, write_stored


def is_possible() -> bool:
    return importlib.util.find_spec("atheris") is not None


def run(name: str, seconds: int, runs: int, *, keep: bool) -> int:
    """Fuzz the target; its exit status. A finding is written to ``crash-…`` in this folder."""
    from tests.fuzz.targets import corpus

    with TemporaryDirectory(prefix=f"fuzz-{name}-") as folder:
        found, least = Path(folder, "found"), Path(folder, "least")
        for place in (found, least):
            place.mkdir()
        for number, seed in enumerate(corpus(name)):
            (found / f"seed-{number}").write_bytes(seed)
        limits = [f"-max_total_time={seconds}"] if seconds else []
        limits += [f"-runs={runs}"] if runs else []
        status = _start(name, str(found), *limits)
        if status == 0 and keep:
            # As few as do all that these do, the shortest of them.
            status = _start(name, "-merge=1", str(least), str(found))
            kept = [path.read_bytes() for path in sorted(least.iterdir())]
            write_stored(name, [*read_stored(name), *kept], without=corpus(name))
        return status


def _start(name: str, *options: str) -> int:
    command = [sys.executable, "-m", "tests.fuzz.coverage", name, f"-max_len={MAX_LENGTH}"]
    return subprocess.run([*command, *options]).returncode


def _fuzz(name: str, options: list[str]) -> None:
    import atheris  # type: ignore[import-not-found,unused-ignore]

    with atheris.instrument_imports(include=["tunnel"]):
        from tests.fuzz.targets import TARGETS
    # libFuzzer starts itself again for the merge, by a shell.
    itself = f"{shlex.quote(sys.executable)} -m tests.fuzz.coverage {name}"
    atheris.Setup([itself, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    _fuzz(sys.argv[1], sys.argv[2:])
