"""The ledger is on disk before an answer leaves, whoever comes meanwhile and whenever we die."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import gevent
import pytest

from tests.core.ends import URL, WALL, Network, seeded
from tunnel.config import LEDGER_FILE, pack_ledger
from tunnel.core.configuration import NodeConfig
from tunnel.core.inviter import Inviter
from tunnel.drivers.files import StateDirectory
from tunnel.drivers.ledger_file import LedgerFile
from tunnel.errors import OperatorError

NETWORK = Network()


class SlowDirectory(StateDirectory):
    """Each write waits until it is let through."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.begun: list[dict[str, Any]] = []
        self.may_end: list[threading.Event] = []

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        gate = threading.Event()
        self.begun.append(content)
        self.may_end.append(gate)
        assert gate.wait(30)
        super().write_json(name, content)


def make_inviter() -> Inviter:
    config = NodeConfig(NETWORK.founder, NETWORK.identity, NETWORK.certificate, URL)
    return Inviter(config, NETWORK.ledger(), (), seeded(4), lambda: WALL)


def content_of(inviter: Inviter) -> dict[str, Any]:
    assert inviter.ledger is not None
    return pack_ledger(inviter.ledger)


def test_two_saves_are_written_in_turn(tmp_path: Path) -> None:
    directory, inviter = SlowDirectory(tmp_path), make_inviter()
    file = LedgerFile(directory)
    inviter.invite("pi")
    before = content_of(inviter)
    first = gevent.spawn(file.save, inviter)
    while not directory.begun:
        gevent.sleep(0.001)
    inviter.invite("desk")
    second = gevent.spawn(file.save, inviter)
    gevent.sleep(0.01)
    assert directory.begun == [before], "the second waits, or could be overtaken by the first"
    directory.may_end[0].set()
    assert first.get() == 1
    while len(directory.begun) < 2:
        gevent.sleep(0.001)
    directory.may_end[1].set()
    assert second.get() == 2
    assert directory.read_json(LEDGER_FILE) == content_of(inviter)


def test_what_is_on_disk_is_not_written_again(tmp_path: Path) -> None:
    directory, inviter = StateDirectory(tmp_path), make_inviter()
    file = LedgerFile(directory)
    inviter.invite("pi")
    assert file.save(inviter) == 1
    (tmp_path / LEDGER_FILE).unlink()
    assert file.save(inviter) == 1
    assert directory.read_json(LEDGER_FILE) is None
    inviter.invite("desk")
    assert file.save(inviter) == 2
    assert directory.read_json(LEDGER_FILE) == content_of(inviter)


def test_a_write_that_failed_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, inviter = StateDirectory(tmp_path), make_inviter()
    file = LedgerFile(directory)
    inviter.invite("pi")

    def fail(name: str, content: dict[str, Any]) -> None:
        raise OperatorError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(directory, "write_json", fail)
        with pytest.raises(OperatorError):
            file.save(inviter)
    assert file.save(inviter) == 1
    assert directory.read_json(LEDGER_FILE) == content_of(inviter)
