"""When names are written, and what becomes of complaints."""

from __future__ import annotations

import logging
from typing import Any

import gevent
import pytest

from tests.core.ends import Network, key
from tunnel.drivers import member_names
from tunnel.drivers.member_names import MemberNames, open_hosts
from tunnel.drivers.names_file import CHANGED, NamesFile
from tunnel.errors import OperatorError

NETWORK = Network()
PI = NETWORK.certify(key(2), "pi", 2)


class Hosts:
    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.written: list[list[str]] = []
        self.is_closed = False

    def write(self, names: dict[str, Any]) -> None:
        self.written.append(list(names))
        if self.outcomes and (error := self.outcomes.pop(0)) is not None:
            raise error

    def close(self) -> None:
        self.is_closed = True


class Peer:
    certificate = PI


class Node:
    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.is_revoked = False


@pytest.fixture(autouse=True)
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SETTLE", "AGAIN"):
        monkeypatch.setattr(member_names, name, 0.0)


def names_of(hosts: Hosts | None, node: Node) -> MemberNames:
    return MemberNames(hosts, NETWORK.certificate, node)  # type: ignore[arg-type]


def settle(names: MemberNames) -> None:
    with gevent.Timeout(20):
        gevent.joinall([names._writing])


def test_changes_are_written_together() -> None:
    hosts, node = Hosts(), Node()
    names = names_of(hosts, node)
    names.changed()
    node.peers.append(Peer())
    names.changed()
    settle(names)
    assert hosts.written == [["founder", "pi"]]
    node.is_revoked = True
    names.changed()
    settle(names)
    assert hosts.written[1:] == [[]]
    names.close()
    assert hosts.is_closed


def test_what_fails_is_told_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    hosts = Hosts(OperatorError("it is locked"), OperatorError("it is locked"), None)
    names = names_of(hosts, Node())
    names.changed()
    settle(names)
    assert hosts.written == [["founder"]] * 3
    assert caplog.messages == ["names of members: it is locked"]


def test_without_a_file_nothing_is_done() -> None:
    names = names_of(None, Node())
    names.changed()
    names.close()
    assert names._writing is None


@pytest.mark.parametrize("is_wanted", [True, False])
def test_a_file_that_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Any,
    is_wanted: bool,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OperatorError("it is read-only")

    monkeypatch.setattr(member_names, "HostsFile", refuse)
    with caplog.at_level(logging.INFO):
        assert open_hosts(tmp_path, "punchtun0", is_wanted=is_wanted) is None
    told = ["names such as pi.punchtun do not resolve here: it is read-only"]
    assert caplog.messages == (told if is_wanted else [])
    # As systemd tells a service. Another one takes them.
    environment = {"STATE_DIRECTORY": "/var/lib/punchtun/default"}
    hosts = open_hosts(tmp_path, "punchtun0", is_wanted=is_wanted, environment=environment)
    assert isinstance(hosts, NamesFile) == is_wanted
    # What a run before has left goes.
    assert (tmp_path / CHANGED).exists() == (not is_wanted)
    assert len(caplog.messages) == is_wanted
