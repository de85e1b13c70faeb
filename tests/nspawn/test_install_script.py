"""What scripts/install.sh would do on other systems, told by its rehearsal. Only Debian's way is
also walked, in test_install.py."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .tree import ROOT

INSTALL = ROOT / "scripts/install.sh"
TOOLS = ("sh", "sed", "id", "readlink", "dirname", "env", "mkdir", "ln")


def rehearse(
    tmp_path: Path, release: str, *options: str, machine: str = "x86_64"
) -> subprocess.CompletedProcess[str]:
    """On a system without Python."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    (tools / "uname").write_text(f"#!/bin/sh\necho {machine}\n")
    (tools / "uname").chmod(0o755)
    os_release = tmp_path / "os-release"
    os_release.write_text(release)
    # /usr/bin/python3 is asked by its path.
    text = INSTALL.read_text().replace(" /usr/bin/python3 ", " ")
    script = tmp_path / "install.sh"
    script.write_text(text)
    env = {"PATH": str(tools), "PUNCHTUN_OS_RELEASE": str(os_release)}
    return subprocess.run(
        ["sh", str(script), "--dry-run", *options], env=env, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("release", "machine", "command"),
    [
        ("ID=debian", "x86_64", "apt-get install -yq --no-install-recommends python3 python3-venv"),
        ('ID=ubuntu\nID_LIKE="debian"', "x86_64", "python3 python3-venv"),
        ("ID=raspbian\nID_LIKE=debian", "armv7l", "gcc libc6-dev python3-dev"),
        ("ID=debian", "aarch64", "gcc libc6-dev python3-dev"),
        ("ID=fedora", "x86_64", "dnf install -y python3 python3-pip"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"', "aarch64", "python3-pip gcc python3-devel"),
        ("ID=alpine", "x86_64", "apk add python3 py3-pip gcc musl-dev linux-headers"),
    ],
)
def test_what_is_installed_first(tmp_path: Path, release: str, machine: str, command: str) -> None:
    done = rehearse(tmp_path, release, "--from", "punchtun", machine=machine)
    assert done.returncode == 0, done
    first, *rest = [line for line in done.stdout.splitlines() if "apt-get update" not in line]
    assert command in first
    assert any(line.startswith("+ python3 -m venv /opt/punchtun") for line in rest)
    assert all(line.startswith("+ ") or "systemd" in line for line in rest)


def test_an_unknown_system_is_told_what_it_lacks(tmp_path: Path) -> None:
    done = rehearse(tmp_path, "ID=plan9", "--from", "punchtun")
    assert done.returncode == 1
    assert "install Python 3.10" in done.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--prefix", "/"], "directory of its own"),
        (["--prefix", "/opt"], "directory of its own"),
        (["--prefix", "opt/x"], "directory of its own"),
        (["--prefix", "/usr/bin"], "no virtual environment"),
        (["--purge"], "goes with --remove"),
        (["--from"], "wants a value"),
        (["--remove", "--prefix", "/usr/bin"], "no punchtun in /usr/bin"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, options: list[str], complaint: str) -> None:
    done = rehearse(tmp_path, "ID=debian", *options)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert done.stdout == ""


def test_a_join_string_is_not_repeated(tmp_path: Path) -> None:
    done = rehearse(tmp_path, "ID=debian", "punchtun-join:secret")
    assert done.returncode == 1
    assert "secret" not in done.stdout + done.stderr
