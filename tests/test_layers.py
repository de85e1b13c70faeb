"""DESIGN section 4: who may import whom, and the other rules that the text of a module shows.

The rules are an allow-list: what is not named is forbidden. A planted fault for each of them shows
that the test can fail.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "tunnel"


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PURE = words(
    """abc base64 binascii bisect collections contextlib copy dataclasses enum functools hashlib
    heapq hmac ipaddress itertools json math operator re string struct typing"""
)
"""Of the standard library: without clock, randomness, files, network or threads."""


@dataclass(frozen=True)
class Layer:
    inside: frozenset[str]
    """Layers and top modules of tunnel it may import, beside itself."""
    outside: frozenset[str] | None
    """Modules from elsewhere; None: any but those of `_OWNED`."""


def layer(inside: str, outside: str | frozenset[str] | None) -> Layer:
    return Layer(words(inside), words(outside) if isinstance(outside, str) else outside)


LAYERS = {
    "wire": layer(
        "errors",
        """struct ipaddress dataclasses enum typing collections functools re base64 binascii
        urllib.parse""",
    ),
    "noise": layer(
        "wire constants errors", "nacl hashlib hmac mmap struct typing collections dataclasses"
    ),
    "core": layer("wire noise constants errors", PURE - {"hashlib", "hmac", "json"}),
    "dataplane": layer("wire constants errors", "struct array mmap typing collections dataclasses"),
    "drivers": layer("wire noise core dataplane config state constants errors", None),
    "config": layer("core noise wire constants errors", PURE | words("urllib.parse")),
    "state": layer("core noise wire errors", PURE),
    "cli": layer(
        "config drivers errors",
        PURE | words("click difflib os segno sys textwrap time pathlib tomli tomllib"),
    ),
    "constants": layer("", ""),
    "errors": layer("", ""),
    "__main__": layer("cli", ""),
    "__init__": layer("", ""),
}
_OWNED = {"nacl": "noise", "click": "cli"}
"""Packages with one home, also where all else is allowed."""
_FORESEEABLE = words("random uuid numpy.random")
"""Not even drivers draw from these. What is random comes from os.urandom (`clock.random_bytes`), so
that nobody has to ask of a number whether it may be guessed."""

LONG_FILES: dict[str, str] = {}
"""File → why it may be long."""
LONGEST = 500
FORBIDDEN_WORDS = {"manager", "handler", "helper", "helpers", "util", "utils"}
IMPURE_CALLS = {"__import__", "breakpoint", "eval", "exec", "hash", "id", "input", "open", "print"}
"""Built-ins that reach out of the core, or whose result is another one in another process."""


SECRET_WORDS = words("cookie digest hmac mac mac1 mac2 nonce secret signature tag token")
"""Of names whose values are compared in constant time: who guesses must not learn how much of his
guess was right."""
SECRET_NAMES = words("invitation_id preshared")


@dataclass(frozen=True)
class Module:
    path: Path
    tree: ast.Module
    name: tuple[str, ...]
    """From the package down: ("core", "node")."""
    is_package: bool

    @property
    def layer(self) -> str:
        return self.name[0] if self.name else "__init__"

    def at(self, node: ast.stmt | ast.expr, fault: str) -> str:
        return f"{self.path}:{node.lineno}: {fault}"


def modules(package: Path) -> list[Module]:
    found = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = parts[:-1] if is_package else parts
        found.append(Module(path, ast.parse(path.read_text(), str(path)), name, is_package))
    return found


def imports(module: Module) -> Iterator[tuple[ast.stmt, str]]:
    """Every import anywhere in the module, as the full dotted name of what is imported."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                drop = node.level - 1 if module.is_package else node.level
                above = (PACKAGE, *module.name)[: len(module.name) + 1 - drop]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                yield node, f"{base}.{alias.name}"


def import_faults(module: Module) -> Iterator[str]:
    rules = LAYERS.get(module.layer)
    if rules is None:
        yield f"{module.path}:1: no layer has the name {module.layer}"
        return
    for node, target in imports(module):
        first, _, rest = target.partition(".")
        if first == "__future__":
            continue
        if first == PACKAGE:
            to = rest.partition(".")[0]
            if to not in LAYERS:  # `from tunnel import __version__`: the package itself
                continue
            if to != module.layer and to not in rules.inside:
                yield module.at(node, f"{module.layer} may not import {to} ({target})")
        elif _OWNED.get(first, module.layer) != module.layer:
            yield module.at(node, f"only {_OWNED[first]} may import {first}")
        elif any(f"{target}.".startswith(f"{name}.") for name in _FORESEEABLE):
            yield module.at(node, f"{target} can be foreseen: draw from os.urandom")
        elif rules.outside is not None and not (
            first in rules.outside or any(f"{target}.".startswith(f"{m}.") for m in rules.outside)
        ):
            yield module.at(node, f"{module.layer} may not import {target}: not in its list")


def purity_faults(module: Module) -> Iterator[str]:
    """The core gets time and randomness as arguments; what it calls must give the same again."""
    if module.layer not in ("core", "noise", "wire"):
        return
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id in IMPURE_CALLS:
            inside = _function_around(module.tree, node)
            if not (called.id == "hash" and inside == "__hash__"):
                yield module.at(node, f"calls {called.id}()")
        elif (
            isinstance(called, ast.Attribute)
            and isinstance(called.value, ast.Name)
            and called.value.id in ("time", "random", "secrets", "os", "datetime", "uuid")
        ):
            yield module.at(node, f"calls {called.value.id}.{called.attr}()")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Global):
            yield module.at(node, "assigns a global after import")


def _function_around(tree: ast.Module, inner: ast.AST) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(child is inner for child in ast.walk(node)):
            return node.name
    return ""


def comparison_faults(module: Module) -> Iterator[str]:
    """``==`` on what ought to go through ``constant_time_equal``, as far as names tell."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Compare):
            continue
        operands = [part for side in (node.left, *node.comparators) for part in _parts(side)]
        names = [_name_of(operand) for operand in operands]
        # With a constant of the module, or a literal, it is about a kind or an empty value.
        if any(name.isupper() for name in names):
            continue
        if len(operands) == 2 and any(isinstance(operand, ast.Constant) for operand in operands):
            continue
        if any(isinstance(op, (ast.Eq, ast.NotEq)) for op in node.ops):
            for name in names:
                if name in SECRET_NAMES or set(name.split("_")) & SECRET_WORDS:
                    yield module.at(node, f"compares {name}: use constant_time_equal")


def _parts(side: ast.expr) -> list[ast.expr]:
    """Of a tuple or list its elements."""
    return list(side.elts) if isinstance(side, (ast.Tuple, ast.List)) else [side]


def _name_of(operand: ast.expr) -> str:
    """What a value is called, or the function that makes it; "" if it has no name."""
    if isinstance(operand, ast.Call):
        return _name_of(operand.func)
    if isinstance(operand, ast.Subscript):
        return _name_of(operand.value)
    if isinstance(operand, ast.Attribute):
        return operand.attr
    return operand.id if isinstance(operand, ast.Name) else ""


def name_faults(module: Module) -> Iterator[str]:
    if module.name and set(module.name[-1].split("_")) & FORBIDDEN_WORDS:
        yield f"{module.path}:1: module name"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef):
            parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]*|[a-z]+", node.name)
            if {part.lower() for part in parts} & FORBIDDEN_WORDS:
                yield module.at(node, f"class name {node.name}")


def length_faults(module: Module, package: Path) -> Iterator[str]:
    lines = len(module.path.read_text().splitlines())
    if lines > LONGEST and str(module.path.relative_to(package)) not in LONG_FILES:
        yield f"{module.path}:{lines}: longer than {LONGEST} lines; split it"


OURS = modules(ROOT / PACKAGE)


def test_imports_follow_the_layers() -> None:
    assert [fault for module in OURS for fault in import_faults(module)] == []


def test_core_noise_and_wire_are_pure() -> None:
    assert [fault for module in OURS for fault in purity_faults(module)] == []


def test_secrets_are_compared_in_constant_time() -> None:
    assert [fault for module in OURS for fault in comparison_faults(module)] == []


def test_no_vague_names() -> None:
    assert [fault for module in OURS for fault in name_faults(module)] == []


def test_no_file_is_too_long() -> None:
    assert [f for module in OURS for f in length_faults(module, ROOT / PACKAGE)] == []


def test_every_layer_is_there() -> None:
    """A rule for a folder that was renamed would say nothing."""
    assert {module.layer for module in OURS} == set(LAYERS)


def test_importing_the_core_loads_no_driver() -> None:
    """What ``ast`` may have missed: the interpreter's own list."""
    code = (
        "import sys, tunnel.core.node, tunnel.core.rendezvous, tunnel.core.join, tunnel.config\n"
        "bad = {'gevent', 'pytun', 'click', 'tunnel.drivers', 'tunnel.cli', 'tunnel.dataplane'}\n"
        "print(sorted(bad & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


PLANTED_IMPORTS = [
    ("wire/bad.py", "import os", "wire may not import os"),
    ("wire/bad.py", "import collections.abc\nimport urllib.request", ":2: wire may not import url"),
    ("wire/bad.py", "from tunnel.noise import keys", "wire may not import noise"),
    ("wire/bad.py", "from ..noise.keys import PublicKey", "wire may not import noise"),
    ("wire/__init__.py", "from ..core import node", "wire may not import core"),
    ("noise/bad.py", "from tunnel.core.node import Node", "noise may not import core"),
    ("noise/bad.py", "import secrets", "noise may not import secrets"),
    ("core/bad.py", "import nacl.bindings", "only noise may import nacl"),
    ("core/bad.py", "from nacl import bindings", "only noise may import nacl"),
    ("core/bad.py", "def f():\n    import socket", ":2: core may not import socket"),
    ("core/bad.py", "from time import monotonic", "core may not import time.monotonic"),
    ("core/bad.py", "import random", "random can be foreseen"),
    ("core/bad.py", "import gevent.select", "core may not import gevent.select"),
    ("core/bad.py", "import os.path", "core may not import os.path"),
    ("core/bad.py", "from .. import drivers", "core may not import drivers"),
    ("core/bad.py", "from tunnel import config", "core may not import config"),
    (
        "core/bad.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tunnel.drivers.udp",
        ":3: core may not import drivers",
    ),
    ("dataplane/bad.py", "from tunnel.core.machine import Transmit", "may not import core"),
    ("dataplane/bad.py", "import nacl", "only noise may import nacl"),
    ("drivers/bad.py", "import nacl.bindings", "only noise may import nacl"),
    ("drivers/bad.py", "from tunnel.cli import node", "drivers may not import cli"),
    ("drivers/bad.py", "import click", "only cli may import click"),
    ("drivers/bad.py", "def f():\n    from random import uniform", ":2: random.uniform can be"),
    ("drivers/bad.py", "import uuid", "uuid can be foreseen"),
    ("config.py", "from tunnel.drivers.files import StateDirectory", "may not import drivers"),
    ("cli/bad.py", "from tunnel.core.node import Node", "cli may not import core"),
    ("cli/bad.py", "import socket", "cli may not import socket"),
    ("constants.py", "import math", "constants may not import math"),
    ("engine/bad.py", "import math", "no layer has the name engine"),
]


def plant(folder: Path, path: str, text: str) -> Module:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    (module,) = modules(folder)
    return module


@pytest.mark.parametrize(("path", "text", "fault"), PLANTED_IMPORTS)
def test_a_planted_import_is_found(tmp_path: Path, path: str, text: str, fault: str) -> None:
    found = list(import_faults(plant(tmp_path, path, text)))
    assert len(found) == 1
    assert re.match(rf"{re.escape(str(tmp_path / path))}:\d+: ", found[0])
    assert fault in found[0]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("wire/good.py", "from __future__ import annotations\nfrom urllib.parse import urlsplit"),
        ("wire/good.py", "import urllib.parse\nfrom tunnel.errors import Malformed"),
        ("core/good.py", "from collections.abc import Sequence\nfrom tunnel.core.path import Path"),
        ("core/good.py", "from .path import Path\nfrom ..wire import endpoint\nfrom . import peer"),
        ("noise/good.py", "from nacl import bindings"),
        ("drivers/good.py", "import os, socket, gevent.socket\nimport tunnel.core.node"),
        ("cli/good.py", "import click\nfrom tunnel import __version__"),
    ],
)
def test_a_permitted_import_is_not(tmp_path: Path, path: str, text: str) -> None:
    assert list(import_faults(plant(tmp_path, path, text))) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("def f():\n    return time.monotonic()", ":2: calls time.monotonic()"),
        ("def f(s):\n    return hash(s)", ":2: calls hash()"),
        ("x = open('/dev/urandom')", ":1: calls open()"),
        ("def f():\n    random.random()", ":2: calls random.random()"),
        ("def f():\n    global x\n    x = 1", ":2: assigns a global"),
    ],
)
def test_planted_impurity_is_found(tmp_path: Path, text: str, fault: str) -> None:
    found = list(purity_faults(plant(tmp_path, "core/bad.py", text)))
    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("def f(a, token):\n    return a == token", ":2: compares token"),
        ("if token != self._token: ...", ":1: compares token"),
        ("ok = mac(key, body) == datagram[-16:]", "compares mac"),
        ("ok = datagram[:16] == expected_mac1", "compares expected_mac1"),
        ("ok = (message.nonce, message.port) != asked", "compares nonce"),
        ("ok = invitation_id(a) == b", "compares invitation_id"),
    ],
)
def test_a_planted_comparison_is_found(tmp_path: Path, text: str, fault: str) -> None:
    found = list(comparison_faults(plant(tmp_path, "core/bad.py", text)))
    assert found
    assert fault in found[0]


@pytest.mark.parametrize(
    "text",
    [
        "ok = constant_time_equal(token, self._token)",
        "ok = len(token) == 16 or len(token) != len(other)",
        "ok = cookie != MAGIC_COOKIE and kind == COOKIE_REPLY",
        "ok = token == b'' or token is None or not token",
        "ok = machine == other and stage == tagged",
        "ok = counter <= tag_length and invitation in invitations",
    ],
)
def test_a_comparison_of_something_else_is_not(tmp_path: Path, text: str) -> None:
    assert list(comparison_faults(plant(tmp_path, "core/good.py", text))) == []


@pytest.mark.parametrize(
    ("path", "text", "faults"),
    [
        ("core/peer_manager.py", "", 1),
        ("core/utils.py", "", 1),
        ("core/good.py", "class PacketHandler: ...\nclass HTTPHelper: ...", 2),
        ("core/good.py", "class Mishandled: ...\ndef handle_timer(): ...", 0),
    ],
)
def test_planted_names_are_found(tmp_path: Path, path: str, text: str, faults: int) -> None:
    assert len(list(name_faults(plant(tmp_path, path, text)))) == faults


def test_a_planted_long_file_is_found(tmp_path: Path) -> None:
    module = plant(tmp_path, "core/long.py", "x = 1\n" * (LONGEST + 1))
    assert len(list(length_faults(module, tmp_path))) == 1
    module.path.write_text("x = 1\n" * LONGEST)
    assert list(length_faults(module, tmp_path)) == []
