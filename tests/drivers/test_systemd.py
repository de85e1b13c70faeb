from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest

from tunnel.drivers import systemd


@pytest.fixture(params=["file", "abstract"])
def supervisor(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name = str(tmp_path / "notify")
    if request.param == "abstract":
        name = f"@punchtun-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0", 1) if name[0] == "@" else name)
        receiver.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield receiver


def test_notifications(supervisor: socket.socket) -> None:
    assert systemd.ready()
    assert systemd.ready("two peers")
    assert systemd.status("one\npeer")
    assert systemd.alive()
    assert systemd.stopping()
    assert [supervisor.recv(999) for _ in range(5)] == [
        b"READY=1",
        b"READY=1\nSTATUS=two peers",
        b"STATUS=one peer",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


def test_a_reload_is_reported_from_beginning_to_end(
    supervisor: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers: dict[int, Callable[[], None]] = {}
    monkeypatch.setattr(gevent, "signal_handler", handlers.__setitem__)
    systemd.obey_reload(lambda: systemd.status("reading anew") and None)
    handlers[signal.SIGHUP]()
    first, second, third = (supervisor.recv(999) for _ in range(3))
    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", first)
    assert (second, third) == (b"STATUS=reading anew", b"READY=1")


def test_without_systemd_a_terminal_that_is_gone_ends_the_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setattr(gevent, "signal_handler", lambda *_: pytest.fail("SIGHUP was taken"))
    systemd.obey_reload(lambda: None)


@pytest.mark.parametrize("address", [None, "", "relative", "/nowhere/at/all", "/" + "x" * 300])
def test_nobody_listens(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not systemd.ready()


@pytest.mark.parametrize(
    ("microseconds", "process", "interval"),
    [
        (None, None, None),
        ("30000000", None, 15.0),
        ("30000000", str(os.getpid()), 15.0),
        ("30000000", "1", None),
        ("0", None, None),
        ("soon", None, None),
    ],
)
def test_watchdog_interval(
    microseconds: str | None,
    process: str | None,
    interval: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", process)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert systemd.watchdog_interval() == interval
