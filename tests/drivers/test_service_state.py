from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunnel.drivers import places, service_state
from tunnel.drivers.files import StateDirectory
from tunnel.errors import OperatorError


def fill(directory: Path, *names: str) -> Path:
    directory.mkdir(mode=0o700, exist_ok=True)
    for name in names:
        (directory / name).write_text(f"{directory.name}: {name}")
    return directory


def content(directory: Path) -> dict[str, str]:
    return {each.name: each.read_text() for each in directory.iterdir() if each.is_file()}


def test_a_node_moves_with_its_files_and_nothing_else(tmp_path: Path) -> None:
    source = fill(tmp_path / "a", "ledger.json", "node.json", "peers.json", "lock", "other")
    fill(source / "server", "server.json")
    service_state.move_node(source, tmp_path / "b")
    assert set(content(source)) == {"lock", "other"}
    assert (source / "server/server.json").exists()
    assert set(content(tmp_path / "b")) == {"ledger.json", "node.json", "peers.json"}
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o700


def test_a_move_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch) -> None:
    source, target = fill(tmp_path / "a", "ledger.json", "node.json", "peers.json"), tmp_path / "b"
    replace, moved = os.replace, []

    def replace_once(old: Path, new: Path) -> None:
        if moved:
            raise OSError(5, "Input/output error")
        moved.append(old)
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_once)
        with pytest.raises(OperatorError, match="Input/output error"):
            service_state.move_node(source, target)
    assert (source / "node.json").exists()  # what tells that a node is there goes last
    service_state.move_node(source, target)
    assert set(content(target)) == {"ledger.json", "node.json", "peers.json"}
    assert not content(source)


def test_no_node_is_overwritten(tmp_path: Path) -> None:
    source, target = fill(tmp_path / "a", "node.json"), fill(tmp_path / "b", "node.json")
    with pytest.raises(OperatorError, match="move one away"):
        service_state.move_node(source, target)
    assert content(target) == {"node.json": "b: node.json"}


def test_who_runs_is_not_disturbed(tmp_path: Path) -> None:
    running = StateDirectory(tmp_path / "state")
    running.lock()
    with pytest.raises(OperatorError, match="stop it"):
        service_state.refuse_running(running.path)
    running.unlock()
    service_state.refuse_running(running.path)
    service_state.refuse_running(tmp_path / "nothing here")


def test_commands_ask_the_default_service_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "STATE", tmp_path)
    by_hand = places.Places(tmp_path, Path("/run/punchtun/control.sock"))
    assert places.node_places(None) == by_hand
    # What it links to is another user's: it need not be reachable.
    (tmp_path / "default").symlink_to("/nowhere/at/all")
    state = tmp_path / "default"
    assert places.node_places(None) == places.Places(state, state / "control.sock")
    assert places.node_places("/x") == places.Places(Path("/x"), Path("/x/control.sock"))


@pytest.mark.root
def test_what_a_service_leaves_becomes_roots_and_links_are_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    os.chown(victim, 1234, 1234)
    private = fill(fill(tmp_path / "private") / "pi", "node.json")
    (private / "link").symlink_to(victim)
    for each in (private, *private.iterdir()):
        os.lchown(each, 65000, 65000)
    path = tmp_path / "pi"
    path.symlink_to(private)
    service_state.give_back(path, private)
    assert not path.is_symlink()
    assert {each.lstat().st_uid for each in (path, *path.iterdir())} == {0}
    assert victim.stat().st_uid == 1234
    assert not private.exists()
    service_state.give_back(path, private)  # harmless


@pytest.mark.root
def test_a_directory_of_a_service_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    os.chown(tmp_path, 61184, 61184)
    with pytest.raises(OperatorError, match="belongs to a service: start it with `systemctl"):
        StateDirectory(tmp_path)
