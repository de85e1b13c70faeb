"""Somebody who types what README says, word for word, and compares the answers.

Addresses and secrets are those that the programs gave; nothing else is replaced.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Protocol

from tests.docs.markdown import ROOT, read_page, split_row
from tests.docs.prompts import Step, learn, steps_in, substitute

from .host import Host
from .lab import Lab
from .process import Process
from .wait import wait_until
from .world import PATIENCE, SERVER_ADDRESS

README = read_page(ROOT / "README.md")
STEPS = steps_in(README.section("Set up three machines"))
SERVICES = [step for step in STEPS if "punchtun service install" in step.command]
"""Of step 5, "For good"."""
_STAYS = ("punchtun server run", "punchtun up", "ping ")
"""In the foreground, until somebody presses Ctrl-C."""


def make_machines(lab: Lab) -> dict[str, Host]:
    """`vps` with its public address, `a` behind a home router's NAT, `pi` behind those of an LTE
    router and of the carrier."""
    home = lab.home_router("home", public="198.51.100.7")
    carrier = lab.carrier("cgn", public="192.0.2.33")
    lte = carrier.home_router("lte", lan="192.168.8.0/24")
    return {
        "vps": lab.public_host("vps", SERVER_ADDRESS),
        "a": home.host("a"),
        "pi": lte.host("pi"),
    }


class Terminal(Protocol):
    """A machine, and what is typed on it."""

    def type(self, command: str) -> Process: ...

    def interrupt(self, process: Process) -> None:
        """Ctrl-C: to all that it started; it ends well."""

    def resolves(self, name: str) -> bool: ...

    def listen(self, address: str) -> Process:
        """A program that prints what comes to TCP port 22 of the address."""


class Reader:
    """Who does what the page says."""

    def __init__(self, terminals: Mapping[str, Terminal]) -> None:
        self.terminals = terminals
        self.known: dict[str, str] = {}
        self.staying: dict[str, Process] = {}
        """Command → what runs in the foreground."""

    def follow(self, step: Step) -> None:
        command = substitute(step.command, self.known)
        terminal = self.terminals[step.machine]
        if command.startswith("ssh "):
            self._greet(command, terminal)
            return
        if command.startswith("ping "):
            # People type more slowly than names of members are written.
            wait_until(lambda: terminal.resolves(command.split()[1]), timeout=PATIENCE)
        process = terminal.type(command)
        if not any(word in step.command for word in _STAYS):
            assert process.wait(PATIENCE) == 0, process.tail()
        for line in step.answer:
            self._expect(line, process)
        if command.startswith("ping "):
            process.wait_for("bytes from", timeout=PATIENCE)
            terminal.interrupt(process)
        elif process.returncode is None:
            self.staying[f"{step.machine}$ {step.command}"] = process

    def interrupt(self, command: str) -> None:
        """Ctrl-C where this runs: `a$ sudo punchtun up`, say."""
        self.terminals[command.partition("$")[0]].interrupt(self.staying.pop(command))

    def follow_every_day(self) -> None:
        """What the table "Every day" has, in an order that leaves somebody to talk to; `pi` is
        expelled last."""
        commands = everyday_commands()
        places = {"punchtun rotate-key": "pi", "punchtun server status": "vps"}
        for last in ("punchtun revoke pi", "punchtun down"):
            commands.append(commands.pop(commands.index(last)))
        commands.insert(0, commands.pop(commands.index("punchtun wait --peer pi --direct")))
        assert len(commands) > 8
        for command in commands:
            terminal = self.terminals[places.get(command, "a")]
            process = terminal.type("sudo " + command.replace("NAME", "phone"))
            assert process.wait(60) == 0, process.tail()

    def _expect(self, line: str, process: Process) -> None:
        def is_said() -> bool:
            said = "\n".join([process.stdout, process.stderr])
            return learn(line, said, self.known) or process.returncode not in (None, 0)

        with contextlib.suppress(TimeoutError):
            wait_until(is_said, timeout=PATIENCE)
        assert learn(line, f"{process.stdout}\n{process.stderr}", self.known), (
            f"not said: {line}\n{process.tail()}"
        )

    def _greet(self, command: str, terminal: Terminal) -> None:
        """Nobody's sshd is asked for a password: that its client gets there will do."""
        listener = self.terminals["pi"].listen(command.partition("@")[2])
        process = terminal.type(command)
        listener.wait_for("SSH-2.0", timeout=PATIENCE)
        process.stop()
        listener.stop()


def everyday_commands() -> list[str]:
    """The first column of the table "Every day"."""
    rows = README.section("Every day").tables[0][1:]
    return [re.findall(r"`([^`]+)`", split_row("|".join(["", *row, ""]))[0])[0] for row in rows]
