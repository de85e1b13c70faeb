"""README's steps on three machines with a minimal Debian, word for word: `scripts/install.sh` in a
checkout, the set-up by hand, services for good. `a` is behind a home router's NAT, `pi` behind an
LTE router's and the carrier's.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.host import Host
from tests.netns.lab import Lab
from tests.netns.process import Process
from tests.netns.reader import README, SERVICES, STEPS, Reader, make_machines
from tests.netns.wait import wait_until
from tests.netns.world import PATIENCE

from .conftest import PIP
from .container import Container
from .tree import copy_checkout, debian

pytestmark = pytest.mark.root

CHECKOUT = "/root/punchtun"
LISTENER = """
import socket, sys
listener = socket.create_server((sys.argv[1], 22))
print("listening", flush=True)
print(listener.accept()[0].recv(100), flush=True)
"""


class Terminal:
    """On a machine with systemd, in a shell of root's."""

    def __init__(self, host: Host, container: Container) -> None:
        self._host = host
        self.container = container
        # There is no other user, and no sudo in a minimal Debian.
        container.run("tee", "/usr/local/bin/sudo", stdin='#!/bin/sh\nexec "$@"\n')
        container.run("chmod", "755", "/usr/local/bin/sudo")

    def type(self, command: str) -> Process:
        shell = ["sh", "-c", f"cd {CHECKOUT} && exec {command}"]
        return self._host.popen(self.container.argv(shell, env=PIP))

    def interrupt(self, process: Process) -> None:
        # nsenter itself is no part of the terminal.
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        for child in children.split():
            os.kill(int(child), signal.SIGINT)
        assert process.wait(PATIENCE) == 0, process.tail()

    def resolves(self, name: str) -> bool:
        return self.container.try_run("getent", "hosts", name).returncode == 0

    def listen(self, address: str) -> Process:
        argv = self.container.argv(["/opt/punchtun/bin/python", "-c", LISTENER, address])
        listener = self._host.popen(argv)
        listener.wait_for("listening", timeout=PATIENCE)
        return listener


@pytest.fixture
def terminals(wheels: Path, tmp_path: Path) -> Iterator[dict[str, Terminal]]:
    """The three machines, fresh, with a checkout on each."""
    checkout = copy_checkout(tmp_path / "punchtun")
    with Lab() as lab, contextlib.ExitStack() as machines:
        terminals = {}
        for name, host in make_machines(lab).items():
            container = Container(name, lab.cleanup, [debian()], reads=wheels)
            machines.callback(container.remove_files)
            machines.callback(container.close)
            container.put_tree(checkout, "/root")
            terminals[name] = Terminal(host, container)
        yield terminals
        print(lab.transcript())
        for name, terminal in terminals.items():
            journal = terminal.container.try_run("journalctl", "--boot", "--lines=60").stdout
            print(name, journal)


def test_from_a_fresh_debian_to_services(terminals: dict[str, Terminal]) -> None:
    script = README.section("Install").blocks[0].text.splitlines()[0]
    assert script == "sudo scripts/install.sh"
    for terminal in terminals.values():
        installing = terminal.type(script)
        assert installing.wait(180) == 0, installing.tail()

    reader = Reader(terminals)
    for step in STEPS:
        if step not in SERVICES:
            reader.follow(step)

    # "For good … press Ctrl-C in each and:"
    assert "press Ctrl-C in each" in README.text
    for command in list(reader.staying):
        reader.interrupt(command)
    for step in SERVICES:
        reader.follow(step)
    assert reader.staying == {}
    pings = [step for step in STEPS if step.command.startswith("ping ")]
    for step in pings:
        reader.follow(step)

    # "… and start at boot".
    for terminal in terminals.values():
        terminal.container.reboot()
    wait_until(lambda: terminals["a"].container.status()["peers"], timeout=60)
    waiting = terminals["a"].type("sudo punchtun wait --peer pi --direct")
    assert waiting.wait(90) == 0, waiting.tail()
    for step in pings:
        reader.follow(step)
    reader.follow_every_day()
