"""What docs/security.md says to be tested is: every test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "security.md").read_text()
PROMISES = TEXT.split("\n## What is promised\n")[1].split("\n## ")[0]
ATTACKERS = TEXT.split("\n## Attackers\n")[1].split("\n## ")[0]
ATTACKS = ROOT / "tests" / "netns" / "test_attacks.py"


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def promises() -> dict[int, str]:
    found = re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |\Z)", PROMISES, re.MULTILINE | re.DOTALL)
    return {int(number): text for number, text in found}


def rows() -> list[list[str]]:
    lines = [line for line in ATTACKERS.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_page_is_understood() -> None:
    assert list(promises()) == list(range(1, len(promises()) + 1))
    assert len(promises()) > 14
    assert {
        *("stranger", "off-path attacker", "on-path attacker"),
        *("malicious server", "malicious member", "stolen device"),
    } <= {row[0] for row in rows()}


def test_every_file_that_is_named_exists() -> None:
    named = set(re.findall(r"`((?:tests|benchmarks|docs|tunnel)/[\w/.]+)`", TEXT))
    assert len(named) > 50
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_test_that_is_named_exists() -> None:
    pairs = re.findall(r"`(tests/[\w/]+\.py)`\s+\(`(test_\w+)`", TEXT)
    assert len(pairs) > 10
    assert [pair for pair in pairs if pair[1] not in names_in(ROOT / pair[0])] == []
    alone = set(re.findall(r"`(test_\w+)`", TEXT)) - {name for _, name in pairs}
    assert alone <= names_in(ATTACKS)


@pytest.mark.parametrize("number", promises())
def test_every_promise_names_a_test(number: int) -> None:
    assert "`tests/" in promises()[number]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_every_attacker_is_tried(row: list[str]) -> None:
    _, has, cannot, _, tried = row
    assert has
    assert "`test" in tried
    numbers = [int(n) for group in re.findall(r"\(([\d, ]+)\)", cannot) for n in group.split(",")]
    assert numbers
    assert set(numbers) <= set(promises())


def test_every_attack_has_its_attacker() -> None:
    assert {name for name in names_in(ATTACKS) if f"`{name}`" not in ATTACKERS} == set()
