from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tunnel.drivers.files import StateDirectory
from tunnel.errors import OperatorError

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_what_was_written_is_read(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "a" / "b")
    assert state.read_json("node.json") is None
    for content in ({"key": "k", "ö": [1, None]}, {}):
        state.write_json("node.json", content)
        assert state.read_json("node.json") == content
    assert mode(state.path) == 0o700
    assert mode(state.path / "node.json") == 0o600
    assert os.listdir(state.path) == ["node.json"]


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        state = StateDirectory(tmp_path / "state")
        state.write_json("a", {})
        state.lock()
    finally:
        os.umask(before)
    assert mode(state.path) == 0o700
    assert mode(state.path / "a") == mode(state.path / "lock") == 0o600
    state.unlock()


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateDirectory(tmp_path)
    state.write_json("a", {"old": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OperatorError, match="the disk is full"):
            state.write_json("a", {"new": 1})
    with pytest.raises(TypeError):
        state.write_json("a", {"new": object()})
    assert state.read_json("a") == {"old": 1}
    assert os.listdir(tmp_path) == ["a"]


def test_the_disk_has_the_file_before_its_name_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, done = StateDirectory(tmp_path), []
    fsync, replace = os.fsync, os.replace

    def note_fsync(file: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(file).st_mode)
        done.append("fsync directory" if is_directory else f"fsync {os.fstat(file).st_size} bytes")
        fsync(file)

    def note_replace(source: str, target: str) -> None:
        done.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    state.write_json("a", {})
    assert done == ["fsync 3 bytes", "replace", "fsync directory"]


def test_a_name_that_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateDirectory(tmp_path)
    state.write_json("a", {"old": 1})

    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", read_only)
        with pytest.raises(OperatorError, match="read-only"):
            state.write_json("a", {"new": 1})
    assert state.read_json("a") == {"old": 1}
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("where", "content"),
    [
        ("os.fsync = lambda file: os._exit(9)", {"old": 1}),
        ("os.replace = lambda source, target: os._exit(9)", {"old": 1}),
        ("os.replace = lambda source, target: (replace(source, target), os._exit(9))", {"new": 1}),
    ],
)
def test_who_dies_in_between_leaves_a_whole_file(
    tmp_path: Path, where: str, content: dict[str, int]
) -> None:
    state = StateDirectory(tmp_path)
    state.write_json("node.json", {"old": 1})
    program = f"""
from tunnel.drivers.files import StateDirectory
import os
replace = os.replace
{where}
StateDirectory({str(tmp_path)!r}).write_json("node.json", {{"new": 1}})
"""
    died = subprocess.run([sys.executable, "-c", program], check=False)
    assert died.returncode == 9
    assert state.read_json("node.json") == content
    assert all(mode(path) == 0o600 for path in tmp_path.iterdir())
    # What it had begun goes when the next one begins, secrets and all, and nothing else does.
    (tmp_path / ".precious").touch()
    (tmp_path / "mine.json").touch()
    state.lock()
    assert sorted(os.listdir(tmp_path)) == [".precious", "lock", "mine.json", "node.json"]
    state.unlock()


@pytest.mark.parametrize("content", [b"", b'{"key": ', b"[1]", b"\xff\xfe", b"null"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    state = StateDirectory(tmp_path)
    state.write_json("node.json", {})
    (tmp_path / "node.json").write_bytes(content)
    with pytest.raises(OperatorError, match=r"node\.json is damaged .*backup"):
        state.read_json("node.json")


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o602])
def test_a_secret_that_others_may_read_or_write_is_refused(tmp_path: Path, bits: int) -> None:
    state = StateDirectory(tmp_path)
    state.write_json("key", {"k": 1})
    (tmp_path / "key").chmod(bits)
    with pytest.raises(OperatorError, match="chmod 600"):
        state.read_json("key")


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    state.write_json("a", {})
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo", 0o600)
    before = os.listdir("/proc/self/fd")
    for name in ("link", "folder", "fifo"):
        with pytest.raises(OperatorError, match=name):
            state.read_json(name)
    assert os.listdir("/proc/self/fd") == before


def test_a_directory_others_may_write_into_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    with pytest.raises(OperatorError, match="chmod 700"):
        StateDirectory(tmp_path)
    tmp_path.chmod(0o755)  # what systemd's StateDirectory= makes
    StateDirectory(tmp_path)


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("file", "file/below"):
        with pytest.raises(OperatorError, match="file"):
            StateDirectory(tmp_path / path)


@root_only
def test_what_belongs_to_somebody_else_is_refused(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    state.write_json("key", {})
    os.chown(tmp_path / "key", 12345, -1)
    with pytest.raises(OperatorError, match="belongs to user 12345"):
        state.read_json("key")
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(OperatorError, match="belongs to user 12345"):
        StateDirectory(tmp_path)
    os.chown(tmp_path, 0, -1)


@root_only
def test_root_without_capabilities_is_told_the_same(tmp_path: Path) -> None:
    """It may not even read the file: once started, a node has no other rights than a user."""
    state = StateDirectory(tmp_path)
    state.write_json("key", {})
    os.chown(tmp_path / "key", 12345, -1)
    program = f"""
from tunnel.drivers.files import StateDirectory
from tunnel.errors import OperatorError
try:
    StateDirectory({str(tmp_path)!r}).read_json("key")
except OperatorError as error:
    print(error)
"""
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    said = subprocess.run(
        [*bare, sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert "belongs to user 12345" in said


def test_two_on_one_directory(tmp_path: Path) -> None:
    first, second = StateDirectory(tmp_path), StateDirectory(tmp_path)
    first.lock()
    first.lock()
    with pytest.raises(OperatorError, match=rf"already running .*\(pid {os.getpid()}\)"):
        second.lock()
    first.unlock()
    first.unlock()
    second.lock()
    second.unlock()


def test_a_process_that_died_holds_no_lock(tmp_path: Path) -> None:
    program = f"""
from tunnel.drivers.files import StateDirectory
import os
state = StateDirectory({str(tmp_path)!r})
state.lock()
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    assert (tmp_path / "lock").read_text().strip().isdigit()
    state = StateDirectory(tmp_path)
    state.lock()
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    state.unlock()


def test_the_file_is_json_a_person_can_read(tmp_path: Path) -> None:
    StateDirectory(tmp_path).write_json("a", {"x": 1})
    assert json.loads((tmp_path / "a").read_text()) == {"x": 1}
    assert (tmp_path / "a").read_text().endswith("}\n")
