"""docs/troubleshooting.md has each code that punchtun can say, none that it cannot, and quotes only
what the program says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tunnel.core.refusals import OF_RELAY, WORDS

from .markdown import ROOT, Page, read_page

PAGE = read_page(ROOT / "docs" / "troubleshooting.md")
CORE = ROOT / "tunnel" / "core"
RELAY_CODES = {"relay-quota", "relay-pairs"}
"""Of `diagnosis._CUTS`: these stand in no `_Verdict(...)` by themselves."""


def first_arguments(path: Path, function: str) -> set[str]:
    """Of all calls, as text; a name stands for all that it is ever assigned. What is computed
    is `{}`."""
    tree = ast.parse(path.read_text())
    values: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values.setdefault(node.targets[0].id, []).append(node.value)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            if node.func.id != function:
                continue
            argument = node.args[0]
            name = argument.id if isinstance(argument, ast.Name) else ""
            found |= {_text_of(value) for value in values.get(name, [argument])}
    return found


def _text_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text_of(value) for value in node.values)
    return "{}"


def listed(section: str) -> list[str]:
    """The codes in the first column of its table."""
    rows = PAGE.section(section).tables[0][1:]
    return [code for row in rows for code in re.findall(r"`([^`]+)`", row[0])]


def test_each_reason_is_listed_once() -> None:
    codes = first_arguments(CORE / "diagnosis.py", "_Verdict")
    assert len(codes) > 18
    assert sorted(listed("Reasons")) == sorted(codes - {"{}"} | RELAY_CODES)


def test_those_of_the_relay_are_what_the_code_takes_over() -> None:
    from tunnel.core.diagnosis import _CUTS

    assert {WORDS[reason].code for reason in _CUTS} == RELAY_CODES


def test_each_refusal_of_the_server_is_listed_once() -> None:
    codes = [words.code for words in WORDS.values()]
    assert {WORDS[reason].code for reason in OF_RELAY} <= set(codes)
    assert sorted(listed("Refused by the server")) == sorted(codes)


def ways() -> set[str]:
    """Findings that have the name of a way to the server."""
    text = (CORE / "examination.py").read_text()
    names = re.findall(r'"((?:UDP over IPv\d|TCP|WebSocket)(?: without TLS)?)"', text)
    return {name.lower().replace(" ", "-") for name in names}


def test_each_finding_is_listed_once() -> None:
    named = first_arguments(CORE / "checkup.py", "Finding")
    assert {"server", "port-mapping", "peer {}", "{}"} <= named
    assert len(ways()) == 5
    expected = named - {"{}", "peer {}"} | ways() | {"peer NAME"}
    assert sorted(listed("What `doctor` says of a machine")) == sorted(expected)


def test_status_json_lists_the_same_findings() -> None:
    text = read_page(ROOT / "docs" / "status-json.md").section("punchtun doctor --json").text
    (row,) = (line for line in text.splitlines() if line.startswith("| `findings[].name`"))
    assert set(re.findall(r"`([\w -]+)`", row)) == set(listed("What `doctor` says of a machine"))


@cache
def said() -> str:
    """All strings of the program, a line each."""
    lines = []
    for path in (ROOT / "tunnel").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Constant, ast.JoinedStr)):
                lines.append(_text_of(node))
    return "\n".join(lines)


def is_said(quoted: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in quoted.split("…"))
    return re.search(pattern, said()) is not None


def quotes() -> Iterator[str]:
    """What stands in the column "it says" between backticks, and has more than one word."""
    for table in PAGE.tables:
        if "it says" in table[0]:
            column = table[0].index("it says")
            for row in table[1:]:
                found: list[str] = re.findall(r"`([^`]+)`", row[column])
                yield from (text for text in found if " " in text and "--" not in text)


def test_there_are_quotes() -> None:
    assert len(list(quotes())) > 25
    assert {len(row) for table in PAGE.tables if "it says" in table[0] for row in table} == {4}


@pytest.mark.parametrize("quoted", dict.fromkeys(quotes()))
def test_what_is_quoted_is_what_the_program_says(quoted: str) -> None:
    assert is_said(quoted)


def test_what_nobody_says_is_seen() -> None:
    assert is_said("the tunnel's … clashes with the route …")
    assert not is_said("the tunnel's … crashes with the route …")


def test_a_symptom_has_a_cure() -> None:
    empty = [row for table in PAGE.tables for row in table[1:] if not row[0] or not row[-1]]
    assert empty == []


def test_readme_quotes_the_page() -> None:
    section: Page = read_page(ROOT / "README.md").section("When it does not work")
    assert is_said("no answer yet; wrong URL, or UDP is blocked?")
    assert "`no answer yet; wrong URL, or UDP is blocked?`" in section.text
