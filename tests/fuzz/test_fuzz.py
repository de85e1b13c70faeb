"""Every target over its corpus and some mutations; the same ones in every run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.fuzz import coverage, stored
from tests.fuzz.mutate import mutate
from tests.fuzz.targets import TARGETS, corpus

MUTATIONS = 2000
SLOW = {"server_says": 1000, "traversal": 300, "port_guessing": 200}


@pytest.mark.parametrize("name", TARGETS)
def test_target(name: str) -> None:
    target, seeds = TARGETS[name], corpus(name)
    assert target.__doc__
    for seed in (b"", *seeds):
        target(seed)
    random = Random(name)
    pool = list(seeds)
    for _ in range(SLOW.get(name, MUTATIONS)):
        data = mutate(random.choice(pool), seeds, random)
        target(data)
        if len(pool) < 200:
            pool.append(data)


# The command


ROOT = Path(__file__).parent.parent.parent
GUIDED = ("check", "from_node", "certificate", "stream", "train")


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("name", GUIDED)
def test_a_short_run(name: str) -> None:
    """Guided by coverage where atheris is installed, else blind."""
    how = ["--coverage"] if coverage.is_possible() else []
    done = fuzz(*how, name, "--runs", "3000")
    assert done.returncode == 0, done.stderr


def test_guided_without_atheris() -> None:
    done = fuzz("--coverage", "check", "--runs", "10")
    assert done.returncode == (0 if coverage.is_possible() else 2)
    assert ("pip install" in done.stderr) is not coverage.is_possible()


def test_the_targets_are_listed() -> None:
    lines = fuzz().stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(TARGETS)


def test_a_finding_is_shown(tmp_path: Path) -> None:
    """A target that fails, with the command as it is."""
    code = (
        "from tests.fuzz import __main__ as command\n"
        "def fail(data):\n    assert len(data) < 30\n"
        "command.TARGETS['check'] = fail\n"
        "command.main(['check', '--runs', '100000'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "inputs: " in done.stderr


def test_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "FOLDER", tmp_path / "corpus")
    assert stored.read_stored("check") == []
    many = [bytes([number]) * (1 + number % 90) for number in range(200)]
    stored.write_stored("check", [b"b", b"a", b"valid", b"", bytes(4000)], [b"valid"])
    assert stored.read_stored("check") == [b"a", b"b"]
    stored.write_stored("check", [*stored.read_stored("check"), *many], [b"a"])
    kept = stored.read_stored("check")
    assert len(kept) == stored.MAX_INPUTS
    assert kept == sorted(kept, key=lambda data: (len(data), data))
    assert b"a" in kept, "it was stored before, and is what the target starts from for that alone"


def test_only_targets_have_a_corpus() -> None:
    """What is stored under a name that is gone would never be used."""
    assert {path.name for path in stored.FOLDER.iterdir()} <= set(TARGETS)
