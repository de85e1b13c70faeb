"""The table of bounds in docs/security.md against the code: it must neither lie nor leave out."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from tunnel.core.configuration import ServerConfig
from tunnel.core.refusals import WORDS
from tunnel.wire.rendezvous import RefusalReason

SECURITY = Path(__file__).parent.parent / "docs" / "security.md"
NAMED = re.compile(r"`([a-zA-Z_.]+\.[A-Za-z_]+)` (\([^)]*\)|[\d.]+|None)")


def rows() -> list[list[str]]:
    """The cells of each row of the section."""
    section = SECURITY.read_text().split("\n## Bounds\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


ROWS = [row for row in rows() if row[-1] != "in the code"]
CLAIMS = [claim for row in ROWS for claim in NAMED.findall(row[-1])]


def look_up(name: str) -> Any:
    if name.startswith("ServerConfig."):
        return getattr(ServerConfig, name.removeprefix("ServerConfig."))
    module, _, constant = name.rpartition(".")
    return getattr(importlib.import_module(f"tunnel.{module}"), constant)


@pytest.mark.parametrize(("name", "value"), CLAIMS)
def test_each_value(name: str, value: str) -> None:
    assert look_up(name) == ast.literal_eval(value)


def test_each_row_names_a_value() -> None:
    assert len(ROWS) > 40
    for row in ROWS:
        assert len(row) == 5, row
        assert NAMED.findall(row[-1]), row


def numbers_in(text: str) -> list[float]:
    """Those a person reads: 1,000 and 64 KiB and 1.25 GB."""
    units = {"KiB": 1024.0, "GB": 1e9}
    found = re.findall(r"(\d[\d,]*(?:\.\d+)?)(?: (KiB|GB))?", text)
    return [float(number.replace(",", "")) * units.get(unit, 1.0) for number, unit in found]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}")
def test_the_words_say_the_same(row: list[str]) -> None:
    """Whatever is in the code is in the sentence, and the other way round."""
    values: list[float] = []
    for _, text in NAMED.findall(row[-1]):
        value = ast.literal_eval(text)
        values += value if isinstance(value, tuple) else [] if value is None else [value]
    words = {"thrice": 3.0}
    said = numbers_in(row[2]) + [number for word, number in words.items() if word in row[2]]
    share = "cookie is demanded from" in row[2]
    if share:
        assert said[1] == said[0] / look_up("core.admission.WARY_SHARE")
        values = [value for value in values if value != look_up("core.admission.WARY_SHARE")]
        said = said[:1]
    assert sorted(said) == sorted(values)


def test_every_bound_of_the_configuration_is_there() -> None:
    named = {name.removeprefix("ServerConfig.") for name, _ in CLAIMS if "ServerConfig" in name}
    fields = {field.name for field in dataclasses.fields(ServerConfig)}
    bounds = {name for name in fields if name.startswith(("max_", "relay_"))} - {"relay_use"}
    assert named == bounds


def test_every_refusal_that_is_told_is_there_and_has_words() -> None:
    of_requests = {RefusalReason.INVITER_OFFLINE}
    assert set(RefusalReason) - of_requests == set(WORDS)
    text = " ".join(row[3] for row in ROWS)
    for reason, words in WORDS.items():
        if reason is not RefusalReason.TOO_MANY:
            assert f"`{words.code}`" in text
            assert words.fix


def test_every_rate_of_the_core_is_there() -> None:
    """A constant that is called a rate or a bound per source cannot be left out."""
    core = Path(importlib.import_module("tunnel.core").__path__[0])
    named = {name for name, _ in CLAIMS}
    for path in core.glob("*.py"):
        for match in re.finditer(r"^([A-Z_, ]+) = ", path.read_text(), re.MULTILINE):
            for constant in match[1].split(", "):
                if constant.endswith(("_RATE", "_BURST", "_LIMIT")) and constant != "MIN_BURST":
                    assert f"core.{path.stem}.{constant}" in named
