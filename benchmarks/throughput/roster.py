"""Which contenders there are, and which of them this machine has."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.outage.rivals import N2n, Nebula, Tinc
from tests.netns.world import PUNCHTUN

from .contender import Contender, Plain
from .dual_stack import DualNebula, DualPunchtun, DualWireguardGo
from .fastd import Fastd
from .openvpn import OpenVpn

CHACHA = "--no-aegis"
"""Option of `punchtun up` that makes it seal with ChaCha20-Poly1305."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A program, of which several builds may take part."""

    commands: tuple[str, ...]
    """What has to be found; the first is the one that `--binary` names, others lie beside it."""
    version: tuple[str, ...]
    """Arguments that make it tell its version."""
    make: Callable[[Mapping[str, str], Sequence[str]], Contender]
    """From files of the commands, and further arguments."""


KINDS: dict[str, Kind] = {
    "plain": Kind((), (), lambda files, extra: Plain()),
    "punchtun": Kind(
        ("punchtun",), ("--version",), lambda files, extra: DualPunchtun(files["punchtun"], extra)
    ),
    "nebula": Kind(
        ("nebula", "nebula-cert"), ("-version",), lambda files, extra: _make_nebula(files)
    ),
    "wireguard-go": Kind(
        ("wireguard-go", "wg"), ("--version",), lambda files, extra: DualWireguardGo(files)
    ),
    "openvpn": Kind(("openvpn", "openssl"), ("--version",), lambda files, extra: OpenVpn(files)),
    "fastd": Kind(("fastd",), ("--version",), lambda files, extra: Fastd(files)),
    "tinc": Kind(("tincd",), ("--version",), lambda files, extra: Tinc(files)),
    "n2n": Kind(("edge", "supernode", "ifconfig"), ("-h",), lambda files, extra: N2n(files)),
}
"""In the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A contender that can be started here; or why not."""

    name: str
    kind: Kind
    files: Mapping[str, str]
    extra: tuple[str, ...] = ()
    missing: str = ""
    """What it lacks; empty if nothing."""
    version: str = field(default="", compare=False)

    def make(self) -> Contender:
        """A contender that has not been started."""
        return self.kind.make(self.files, self.extra)

    def as_json(self) -> dict[str, Any]:
        """What took part."""
        files = dict(self.files)
        return {"version": self.version, "files": files, "options": list(self.extra)}


def muster(binaries: Sequence[str]) -> dict[str, Entry]:
    """All contenders: of PATH, and of `--binary` arguments, "NAME=FILE [ARGUMENT ...]".

    NAME is a kind, whose program of PATH it replaces, or a kind, a hyphen and anything. ValueError
    if it is neither, or the file can't be run.
    """
    files: dict[str, tuple[str, ...]] = dict.fromkeys(KINDS, ())
    files["punchtun"], files["punchtun-chacha"] = (PUNCHTUN,), (PUNCHTUN, CHACHA)
    for argument in binaries:
        name, _, words = argument.partition("=")
        kind_of(name)
        command = tuple(shlex.split(words))
        if not command or shutil.which(command[0]) is None:
            raise ValueError(f"--binary {argument}: no such program")
        files[name] = command
        if name == "punchtun":
            files["punchtun-chacha"] = (*command, CHACHA)
    kinds = list(KINDS)
    names = sorted(files, key=lambda name: kinds.index(kind_of(name)))
    return {name: _entry(name, files[name]) for name in names}


def kind_of(name: str) -> str:
    """The kind that a contender's name begins with. ValueError if there is none."""
    for kind in KINDS:
        if name == kind or name.startswith(f"{kind}-"):
            return kind
    raise ValueError(f"{name}: not one of {', '.join(KINDS)}, or one of them, a hyphen and a word")


def _entry(name: str, command: tuple[str, ...]) -> Entry:
    kind = KINDS[kind_of(name)]
    program, extra = (command[0], command[1:]) if command else ("", ())
    found = _locate(kind, program)
    missing = [name for name, file in found.items() if not file]
    files = {name: file for name, file in found.items() if file}
    if missing:
        return Entry(name, kind, files, extra, f"{', '.join(missing)} not found")
    if CHACHA in extra and CHACHA not in _output([files["punchtun"], "up", "--help"]):
        return Entry(name, kind, files, extra, f"`punchtun up` has no {CHACHA}")
    version = _first_line(_output([files[kind.commands[0]], *kind.version])) if files else ""
    return Entry(name, kind, files, extra, version=version)


def _locate(kind: Kind, program: str) -> dict[str, str]:
    """The file of each command, empty if there is none: beside `program`, or in PATH."""
    found = {}
    for command in kind.commands:
        beside = Path(program).with_name(command) if program else None
        if program and command == kind.commands[0]:
            found[command] = program
        elif beside is not None and shutil.which(beside):
            found[command] = str(beside)
        else:
            found[command] = shutil.which(command) or ""
    return found


def _make_nebula(files: Mapping[str, str]) -> Nebula:
    knows_both = "-networks" in _output([files["nebula-cert"], "sign", "-help"])
    return DualNebula(files) if knows_both else Nebula(files)


def _output(argv: Sequence[str]) -> str:
    try:
        result = subprocess.run(
            argv, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout + result.stderr


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
