"""Installing, upgrading and removing, by scripts/install.sh and as a Debian package."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .conftest import INSTALL, PIP
from .container import Container
from .test_services import traces
from .tree import ROOT, build_wheel

pytestmark = pytest.mark.root

SERVER = "punchtun-server.service"


def test_the_script(bare: Container, tmp_path: Path) -> None:
    def install(*options: str) -> str:
        return bare.run("sh", "/root/install.sh", *options, env=PIP)

    before = traces(bare)
    bare.put(INSTALL, "/root")
    assert "punchtun, version" in install("--from", "punchtun")
    bare.run("punchtun", "service", "install", "server")
    url = bare.run("punchtun", "server", "url", "--host", bare.address)
    pid = bare.show(SERVER, "MainPID")

    # An upgrade, while it runs.
    newer = build_wheel(tmp_path, "99.0")
    bare.put(newer, "/root")
    assert "punchtun, version 99.0" in install("--from", f"/root/{newer.name}")
    assert bare.show(SERVER, "ActiveState") == "active"
    assert bare.show(SERVER, "MainPID") != pid

    # Away, and back: it is the same server.
    install("--remove")
    assert bare.try_run("which", "punchtun").returncode != 0
    assert bare.try_run("ls", "/opt/punchtun").returncode != 0
    assert bare.show(SERVER, "LoadState") == "not-found"
    install("--from", "punchtun")
    bare.run("punchtun", "service", "install", "server")
    assert bare.run("punchtun", "server", "url", "--host", bare.address) == url

    # And all of it.
    install("--remove", "--purge")
    assert traces(bare) == before
    assert bare.try_run("ls", "/opt/punchtun", "/usr/local/bin/punchtun").stdout == ""


def test_the_debian_package(bare: Container, tmp_path: Path) -> None:
    before = traces(bare)
    built = subprocess.run(
        [ROOT / "scripts/build-deb", tmp_path], capture_output=True, text=True, check=True
    )
    package = Path(built.stdout.splitlines()[-1])
    bare.put(package, "/root")
    bare.run("dpkg", "--install", f"/root/{package.name}")
    # Nothing runs unasked. The units are the package's.
    assert bare.show(SERVER, "ActiveState") == "inactive"
    assert "write" not in bare.run("punchtun", "service", "install", "server")
    bare.run("systemd-analyze", "security", "--no-pager", "--threshold=20", SERVER)
    url = bare.run("punchtun", "server", "url", "--host", bare.address)
    by_hand = bare.start("punchtun", "up", "--server", url)
    bare.wait_for("punchtun", "wait")
    bare.interrupt(by_hand)
    bare.run("punchtun", "service", "install", "node")
    bare.run("punchtun", "wait")
    pid = bare.show(SERVER, "MainPID")

    # As an upgrade does it.
    bare.run("dpkg", "--install", f"/root/{package.name}")
    assert bare.show(SERVER, "MainPID") not in (pid, "0")
    bare.run("punchtun", "wait")

    bare.run("dpkg", "--remove", "punchtun")
    assert bare.show(SERVER, "LoadState") == "not-found"
    assert bare.run("stat", "--format=%F %U", "/var/lib/punchtun/server") == "directory root"
    bare.run("dpkg", "--install", f"/root/{package.name}")
    assert bare.run("punchtun", "server", "url", "--host", bare.address) == url
    bare.run("dpkg", "--purge", "punchtun")
    assert traces(bare) == before
