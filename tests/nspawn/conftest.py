"""`machines`: two of them that have booted, with punchtun installed."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.netns.cleanup import Cleanup, remove_stale

from .container import Container, make_network, remove_stale_machines
from .tree import ROOT, build_wheel, debian, download_needed

INSTALL = ROOT / "scripts/install.sh"
PIP = ("PIP_NO_INDEX=1", "PIP_FIND_LINKS=/wheels")
"""pip's environment in a container."""


class Machines(NamedTuple):
    vps: Container
    home: Container


@contextmanager
def _boot(names: tuple[str, ...], lowers: list[Path], wheels: Path) -> Iterator[list[Container]]:
    cleanup = Cleanup(grace=5.0)
    containers: list[Container] = []

    def remove() -> None:
        for each in containers:
            each.close()
            each.remove_files()
        cleanup.run()

    atexit.register(remove)
    try:
        make_network(cleanup)
        for name in names:
            containers.append(Container(name, cleanup, lowers, reads=wheels))
        yield containers
    finally:
        for each in containers:
            print(each.name, each.try_run("journalctl", "--boot", "--lines=60").stdout)
        remove()
        atexit.unregister(remove)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip finds in the containers, which reach no registry."""
    into = tmp_path_factory.mktemp("wheels")
    download_needed(debian(), build_wheel(into), into)
    return into


@pytest.fixture(scope="session")
def installed(wheels: Path) -> Iterator[Path]:
    """The tree of a machine on which punchtun has been installed, to begin with."""
    remove_stale()
    remove_stale_machines()
    with _boot(("vps",), [debian()], wheels) as (machine,):
        machine.put(INSTALL, "/root")
        machine.run("sh", "/root/install.sh", "--from", "punchtun", env=PIP)
        machine.run("systemctl", "stop", "systemd-journald.socket", "systemd-journald")
        machine.close()
        yield machine.tree


@pytest.fixture
def machines(installed: Path, wheels: Path) -> Iterator[Machines]:
    with _boot(("vps", "home"), [installed, debian()], wheels) as (vps, home):
        yield Machines(vps, home)


@pytest.fixture(scope="module")
def connected(installed: Path, wheels: Path) -> Iterator[Machines]:
    """Services on both: the server and a node at the VPS, a node at home. Each test leaves them
    connected."""
    with _boot(("vps", "home"), [installed, debian()], wheels) as (vps, home):
        machines = Machines(vps, home)
        vps.run("punchtun", "service", "install", "server")
        url = vps.run("punchtun", "server", "url", "--host", vps.address)
        _join(vps, "--server", url)
        _join(home, vps.run("punchtun", "invite", "home"))
        home.run("punchtun", "wait", "--peer", "vps")
        yield machines


def _join(machine: Container, *arguments: str) -> None:
    by_hand = machine.start("punchtun", "up", *arguments)
    machine.wait_for("punchtun", "wait")
    machine.interrupt(by_hand)
    machine.run("punchtun", "service", "install", "node")


@pytest.fixture
def bare(wheels: Path) -> Iterator[Container]:
    """A machine without punchtun."""
    with _boot(("vps",), [debian()], wheels) as (machine,):
        yield machine
