"""Names on their way from a service to root, who believes nothing of what it finds."""

from __future__ import annotations

import fcntl
import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tunnel.cli import main
from tunnel.core.names import format_names
from tunnel.drivers import names_file
from tunnel.drivers.names_file import (
    CHANGED,
    MAX_LENGTH,
    NAMES_FILE,
    NamesFile,
    remove_names_files,
    update_hosts,
)
from tunnel.errors import OperatorError

OTHERS = "127.0.0.1\tlocalhost\n# end\n"
NAMES = {"pi": [ipaddress.ip_address("10.81.7.2")]}
MORE = NAMES | {"attic": [ipaddress.ip_address("fd00::1")]}


@pytest.fixture(autouse=True)
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_file, "PAUSE", 0.0)
    monkeypatch.setattr(names_file, "GRACE", 0.0)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    state = tmp_path / "home"
    state.mkdir()
    return state


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    hosts = tmp_path / "hosts"
    hosts.write_text(OTHERS)
    return hosts


@pytest.fixture
def held(state: Path) -> Iterator[Path]:
    """The file, with a line in it, of a node that runs."""
    path = state / NAMES_FILE
    path.write_bytes(format_names(NAMES))
    with path.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield path


def named(state: Path, hosts: Path) -> bytes:
    """The lines of the block after a run of root's; the others are as they were."""
    update_hosts(state, hosts)
    text = hosts.read_bytes()
    assert text.startswith(OTHERS.encode())
    lines = text[len(OTHERS) :].splitlines(keepends=True)
    if lines:
        assert f"begin {state} (punchtun@home)" in lines[0].decode()
        assert f"end {state}" in lines[-1].decode()
    return b"".join(lines[1:-1])


def test_names_come_and_go(state: Path, hosts: Path) -> None:
    node = NamesFile(state)
    node.write(NAMES)
    assert (state / CHANGED).exists()
    assert (state / NAMES_FILE).stat().st_mode & 0o777 == 0o600
    assert named(state, hosts) == format_names(NAMES)
    assert not (state / CHANGED).exists()
    node.write(MORE)
    assert named(state, hosts) == format_names(MORE)
    node.close()
    assert (state / CHANGED).exists()
    assert named(state, hosts) == b""
    assert list(state.iterdir()) == []
    node.write(NAMES)
    assert list(state.iterdir()) == []
    node.close()


def test_nothing_is_written_without_a_change(state: Path) -> None:
    node = NamesFile(state)
    node.write(NAMES)
    (state / CHANGED).unlink()
    before = (state / NAMES_FILE).stat()
    node.write(NAMES)
    assert not (state / CHANGED).exists()
    assert (state / NAMES_FILE).stat() == before
    # Of the next run the first names are written, whatever is there.
    node = NamesFile(state)
    node.write(NAMES)
    assert (state / CHANGED).exists()
    node.close()


def test_names_of_a_dead_node_go(state: Path, hosts: Path) -> None:
    node = NamesFile(state)
    node.write(NAMES)
    assert named(state, hosts) != b""
    # As the kernel does it, with all that a process had open.
    assert node._file is not None
    os.close(node._file)
    assert named(state, hosts) == b""
    assert (state / NAMES_FILE).exists()
    remove_names_files(state)
    assert list(state.iterdir()) == []


def test_a_node_that_is_started_again_keeps_its_names(
    state: Path, hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = NamesFile(state)
    node.write(NAMES)
    assert named(state, hosts) == format_names(NAMES)
    assert node._file is not None
    os.close(node._file)
    again = NamesFile(state)
    seen = []

    def start_again(seconds: float) -> None:
        seen.append((seconds, format_names(NAMES) in hosts.read_bytes()))
        again.write(MORE)

    monkeypatch.setattr(names_file, "GRACE", 5.0)
    monkeypatch.setattr(names_file.time, "sleep", start_again)
    assert named(state, hosts) == format_names(MORE)
    assert seen == [(5.0, True), (0.0, True)]
    again.close()


def test_a_change_in_the_meantime(
    state: Path, hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is another process's: the mark is there again. However many there are, there is a pause."""
    node = NamesFile(state)
    node.write(NAMES)
    slept = []

    def change(seconds: float) -> None:
        slept.append(seconds)
        node.write(MORE)

    monkeypatch.setattr(names_file.time, "sleep", change)
    assert named(state, hosts) == format_names(NAMES)
    assert (state / CHANGED).exists()
    assert named(state, hosts) == format_names(MORE)
    assert not (state / CHANGED).exists()
    assert slept == [names_file.PAUSE] * 2
    node.close()


def test_no_state_or_no_hosts(
    tmp_path: Path, held: Path, hosts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    update_hosts(tmp_path / "none", hosts)
    assert hosts.read_text() == OTHERS
    hosts.unlink()
    update_hosts(held.parent, hosts)
    assert not hosts.exists()
    assert [text.split(":")[0] for text in caplog.messages] == [f"there is no {hosts}"]


def test_bad_lines_are_left_out(held: Path, hosts: Path, caplog: pytest.LogCaptureFixture) -> None:
    held.write_bytes(b"127.0.0.1 pi.punchtun\n10.1.1.1 example.org\n10.1.1.2 nas.punchtun\n")
    assert named(held.parent, hosts) == b"10.1.1.2 nas.punchtun\n"
    assert "2 lines are left out" in caplog.text


def test_a_file_without_end(held: Path, hosts: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.truncate(held, MAX_LENGTH + 1)
    assert named(held.parent, hosts) == b""
    assert "too long" in caplog.text
    os.truncate(held, 1 << 36)
    assert named(held.parent, hosts) == b""


@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_what_is_no_file(state: Path, hosts: Path, tmp_path: Path, kind: str) -> None:
    path, secret = state / NAMES_FILE, tmp_path / "secret"
    secret.write_bytes(format_names(NAMES))
    with secret.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if kind == "link":
            path.symlink_to(secret)
        elif kind == "directory":
            path.mkdir()
        else:
            os.mkfifo(path)
        (state / CHANGED).touch()
        with pytest.raises(OperatorError, match="hosts"):
            update_hosts(state, hosts)
    assert hosts.read_text() == OTHERS


def test_a_mark_that_is_something_else(held: Path, hosts: Path, tmp_path: Path) -> None:
    mark, target = held.parent / CHANGED, tmp_path / "target"
    target.touch()
    mark.symlink_to(target)
    assert named(held.parent, hosts) == format_names(NAMES)
    assert target.exists()
    assert not mark.is_symlink()
    mark.mkdir()
    with pytest.raises(OperatorError, match="directory"):
        update_hosts(held.parent, hosts)


def test_a_node_follows_no_links_either(state: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("kept")
    (state / names_file._NEW).symlink_to(target)
    with pytest.raises(OperatorError, match="hosts"):
        NamesFile(state).write(NAMES)
    assert target.read_text() == "kept"


def test_the_command(held: Path, hosts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "update-names" not in CliRunner().invoke(main, ["--help"]).output
    defaults = (hosts,)
    monkeypatch.setattr(names_file.update_hosts, "__defaults__", defaults)
    done = CliRunner().invoke(main, ["update-names", "--state-dir", str(held.parent)])
    assert (done.exit_code, done.output) == (0, "")
    assert format_names(NAMES) in hosts.read_bytes()
    held.unlink()
    held.mkdir()
    done = CliRunner().invoke(main, ["update-names", "--state-dir", str(held.parent)])
    assert done.exit_code == 1
    assert CliRunner().invoke(main, ["update-names"]).exit_code == 2
