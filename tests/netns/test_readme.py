"""README's set-up of three machines, typed word for word, its answers compared; then what is for
every day. And its demo, and the examples of docs/contributing.md.

Each machine has /var/lib and /run of its own, its own name, and a `sudo` (everybody is root here).
The services of step 5 want systemd: tests/nspawn/test_readme.py.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, read_page

from .host import Host
from .lab import Lab
from .process import Process
from .reader import README, SERVICES, STEPS, Reader, make_machines
from .wait import wait_until
from .world import PATIENCE

pytestmark = pytest.mark.root

ON_ITS_OWN = """
    mount --bind "$0/lib" /var/lib && mount --bind "$0/run" /run &&
    echo "$1" > /proc/sys/kernel/hostname && exec sh -c "exec $2"
"""


class Terminal:
    """On a machine of the lab."""

    def __init__(self, name: str, host: Host, folder: Path) -> None:
        self._host = host
        self._name = name
        self._folder = folder / name
        for part in ("lib", "run", "bin"):
            (self._folder / part).mkdir(parents=True)
        sudo = self._folder / "bin" / "sudo"
        sudo.write_text('#!/bin/sh\nexec "$@"\n')
        sudo.chmod(0o755)
        programs = Path(sys.executable).parent
        self._env = {"PATH": f"{self._folder / 'bin'}:{programs}:/usr/sbin:/usr/bin:/sbin:/bin"}

    def type(self, command: str) -> Process:
        argv = ["unshare", "--mount", "--uts", "sh", "-c", ON_ITS_OWN]
        argv += [str(self._folder), self._name, command]
        return self._host.popen(argv, env=self._env)

    def interrupt(self, process: Process) -> None:
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0, process.tail()

    def resolves(self, name: str) -> bool:
        return name in self._host.hosts_file.read_text()

    def listen(self, address: str) -> Process:
        listener = self._host.popen(["socat", "-u", f"TCP-LISTEN:22,bind={address}", "STDOUT"])
        wait_until(lambda: ":22 " in self._host.run(["ss", "-ltn"]).stdout, timeout=PATIENCE)
        return listener


def test_three_machines_are_set_up_as_the_readme_says(lab: Lab, tmp_path: Path) -> None:
    machines = make_machines(lab)
    terminals = {name: Terminal(name, host, tmp_path) for name, host in machines.items()}
    reader = Reader(terminals)
    assert [step.machine for step in SERVICES] == ["vps", "a", "pi"]
    for step in STEPS:
        if step not in SERVICES:
            reader.follow(step)
    assert len(reader.staying) == 3

    # "Later, plain `sudo punchtun up` is enough on a and pi."
    assert "Later, plain `sudo punchtun up` is enough on `a` and `pi`" in README.text
    for machine in ("a", "pi"):
        (command,) = [c for c in reader.staying if c.startswith(f"{machine}$")]
        reader.interrupt(command)
        address = reader.known["10.192.213.1" if machine == "a" else "10.192.213.2"]
        again = terminals[machine].type("sudo punchtun up")
        again.wait_for(f"{machine} is {address} on interface", timeout=PATIENCE)
        reader.staying[f"{machine}$ sudo punchtun up"] = again

    reader.follow_every_day()
    stopped = reader.staying.pop("a$ sudo punchtun up")
    assert stopped.wait(PATIENCE) == 0, "the last of the commands is `down`"
    for command in list(reader.staying):
        reader.interrupt(command)


def test_the_demo_ends_well_and_leaves_nothing() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "demo.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    assert said.count("✓") > 8, said
    assert "✗" not in said
    for promised in ("forget everything", "restarts", "server dies"):
        assert promised in said
    names = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert f"pt{process.pid}-" not in names


def test_the_examples_of_the_lab_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = read_page(ROOT / "docs" / "contributing.md").blocks
    first, second = (block.text for block in blocks if block.language == "python")
    programs = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin")
    names = {"Lab": Lab, "folder": str(tmp_path / "server")}
    exec(first, names)
    assert names["carrier"]
    with Lab() as lab:
        names = {"lab": lab}
        exec(second, names)
        assert names["router"]
