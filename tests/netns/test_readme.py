"""README's set-up of three machines, typed word for word, its answers compared; then what is for
every day. Addresses and secrets are those that the programs gave; nothing else is replaced.
And its demo, and the examples of docs/contributing.md.

Each machine has /var/lib and /run of its own, its own name, and a `sudo` (everybody is root here).
The services of step 5 want systemd: tests/nspawn/test_services.py.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, read_page, split_row
from tests.docs.prompts import Step, learn, steps_in, substitute

from .host import Host
from .lab import Lab
from .process import Process
from .wait import wait_until
from .world import PATIENCE, SERVER_ADDRESS

pytestmark = pytest.mark.root

README = read_page(ROOT / "README.md")
SERVICE = "punchtun service install"
STAYS = ("punchtun server run", "punchtun up", "ping ")
"""In the foreground, until somebody presses Ctrl-C."""
ON_ITS_OWN = """
    mount --bind "$0/lib" /var/lib && mount --bind "$0/run" /run &&
    echo "$1" > /proc/sys/kernel/hostname && exec sh -c "exec $2"
"""


class Terminal:
    """A machine and what is typed on it."""

    def __init__(self, name: str, host: Host, folder: Path) -> None:
        self.host = host
        self.processes: list[Process] = []
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
        process = self.host.popen(argv, env=self._env)
        self.processes.append(process)
        return process

    def interrupt(self, process: Process) -> None:
        """Ctrl-C: to all that it started."""
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0, process.tail()


class Reader:
    """Who does what the page says."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        home = lab.home_router("home", public="198.51.100.7")
        carrier = lab.carrier("cgn", public="192.0.2.33")
        lte = carrier.home_router("lte", lan="192.168.8.0/24")
        hosts = {
            "vps": lab.public_host("vps", SERVER_ADDRESS),
            "a": home.host("a"),
            "pi": lte.host("pi"),
        }
        self.terminals = {name: Terminal(name, host, folder) for name, host in hosts.items()}
        self.known: dict[str, str] = {}
        self.staying: dict[str, Process] = {}
        """Command → what runs in the foreground."""

    def follow(self, step: Step) -> None:
        command = substitute(step.command, self.known)
        if command.startswith("ssh "):
            self._greet(command, step.machine)
            return
        if "ping " in command:
            # People type more slowly than names of members are written.
            hosts = self.terminals[step.machine].host.hosts_file
            wait_until(lambda: command.split()[1] in hosts.read_text(), timeout=PATIENCE)
        process = self.terminals[step.machine].type(command)
        if not any(word in step.command for word in STAYS):
            assert process.wait(PATIENCE) == 0, process.tail()
        for line in step.answer:
            self._expect(line, process)
        if "ping " in step.command:
            process.wait_for("bytes from", timeout=PATIENCE)
            self.terminals[step.machine].interrupt(process)
        elif process.returncode is None:
            self.staying[f"{step.machine}$ {step.command}"] = process

    def _expect(self, line: str, process: Process) -> None:
        def is_said() -> bool:
            said = "\n".join([process.stdout, process.stderr])
            return learn(line, said, self.known) or process.returncode not in (None, 0)

        with contextlib.suppress(TimeoutError):
            wait_until(is_said, timeout=PATIENCE)
        assert learn(line, f"{process.stdout}\n{process.stderr}", self.known), (
            f"not said: {line}\n{process.tail()}"
        )

    def _greet(self, command: str, machine: str) -> None:
        """Nobody's sshd is asked for a password: that its client gets there will do."""
        address = command.partition("@")[2]
        pi = self.terminals["pi"].host
        listener = pi.popen(["socat", "-u", f"TCP-LISTEN:22,bind={address}", "STDOUT"])
        wait_until(lambda: ":22 " in pi.run(["ss", "-ltn"]).stdout, timeout=PATIENCE)
        process = self.terminals[machine].type(command)
        listener.wait_for("SSH-2.0", timeout=PATIENCE)
        process.stop()
        listener.stop()


def everyday_commands() -> list[str]:
    """The first column of the table "Every day"."""
    rows = README.section("Every day").tables[0][1:]
    return [re.findall(r"`([^`]+)`", split_row("|".join(["", *row, ""]))[0])[0] for row in rows]


def test_three_machines_are_set_up_as_the_readme_says(lab: Lab, tmp_path: Path) -> None:
    reader = Reader(lab, tmp_path)
    steps = steps_in(README.section("Set up three machines"))
    services = [step for step in steps if SERVICE in step.command]
    assert [step.machine for step in services] == ["vps", "a", "pi"]
    for step in steps:
        if step not in services:
            reader.follow(step)
    assert len(reader.staying) == 3

    # "Later, plain `sudo punchtun up` is enough on a and pi."
    assert "Later, plain `sudo punchtun up` is enough on `a` and `pi`" in README.text
    for machine in ("a", "pi"):
        (command,) = [c for c in reader.staying if c.startswith(f"{machine}$")]
        reader.terminals[machine].interrupt(reader.staying.pop(command))
        address = reader.known["10.192.213.1" if machine == "a" else "10.192.213.2"]
        again = reader.terminals[machine].type("sudo punchtun up")
        again.wait_for(f"{machine} is {address} on interface", timeout=PATIENCE)
        reader.staying[f"{machine}$ sudo punchtun up"] = again

    check_every_day(reader)
    stopped = reader.staying.pop("a$ sudo punchtun up")
    assert stopped.wait(PATIENCE) == 0, "the last of the commands is `down`"
    for command, process in reader.staying.items():
        reader.terminals[command.partition("$")[0]].interrupt(process)


def check_every_day(reader: Reader) -> None:
    """What the table has, in an order that leaves somebody to talk to; `pi` is expelled last."""
    a, pi, vps = (reader.terminals[name] for name in ("a", "pi", "vps"))
    commands = everyday_commands()
    places = {"punchtun rotate-key": pi, "punchtun server status": vps}
    for last in ("punchtun revoke pi", "punchtun down"):
        commands.append(commands.pop(commands.index(last)))
    commands.insert(0, commands.pop(commands.index("punchtun wait --peer pi --direct")))
    assert len(commands) > 8
    for command in commands:
        process = places.get(command, a).type("sudo " + command.replace("NAME", "phone"))
        assert process.wait(60) == 0, process.tail()


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
