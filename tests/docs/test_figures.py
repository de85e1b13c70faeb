"""Where pages compare punchtun with others, each figure stands in docs/performance.md, which says
how it was measured."""

from __future__ import annotations

import re

import pytest

from .markdown import ROOT, Page, read_page

PERFORMANCE = read_page(ROOT / "docs" / "performance.md")
COMPARISON = read_page(ROOT / "docs" / "comparison.md")
README = read_page(ROOT / "README.md")

Table = list[list[str]]


def measured_tables() -> dict[str, Table]:
    found = {f"README {n}": t for n, t in enumerate(README.section("How it compares").tables)}
    for heading in COMPARISON.headings:
        if heading.text.startswith("Measured:"):
            tables = COMPARISON.section(heading.text).tables
            found |= {f"{heading.text} {n}": table for n, table in enumerate(tables)}
    return found


def is_part_of(table: Table, whole: Table) -> bool:
    """Rows and columns may be left out, nothing else changed."""
    head, *rows = whole
    if not set(table[0]) <= set(head):
        return False
    columns = [head.index(cell) for cell in table[0]]
    parts = [[row[column] for column in columns] for row in rows]
    return all(row in parts for row in table[1:])


def test_there_are_tables() -> None:
    assert len(measured_tables()) >= 4


@pytest.mark.parametrize("name", measured_tables())
def test_tables_are_parts_of_those_that_were_measured(name: str) -> None:
    table = measured_tables()[name]
    assert any(is_part_of(table, whole) for whole in PERFORMANCE.tables)


def test_another_figure_is_seen() -> None:
    whole = [["", "a", "b"], ["x", "1", "2"], ["y", "3", "4"]]
    assert is_part_of([["", "b"], ["y", "4"]], whole)
    assert not is_part_of([["", "b"], ["y", "2"]], whole)
    assert not is_part_of([["", "c"], ["y", "4"]], whole)


def test_figures_in_sentences_were_measured() -> None:
    """Of an idle pair. What users of others report names the place where they do."""
    text = COMPARISON.section("Measured: idle").text
    ours, others = text.split("Users of others report")
    figures = re.findall(r"(\d+\.\d+) MB", ours)
    assert len(figures) == 2
    source = PERFORMANCE.section("A pair that is idle").text
    assert [figure for figure in figures if figure not in source] == []
    assert len(re.findall(r"\d+ MB", others)) == len(re.findall(r"\w#\d+", others))


def test_the_translation_has_the_same_figures() -> None:
    russian: Page = read_page(ROOT / "README.ru.md")
    ours = [row for table in russian.section("В сравнении с другими").tables for row in table[1:]]
    theirs = [row for table in README.section("How it compares").tables for row in table[1:]]
    digits = re.compile(r"[\d.]+")
    assert [[digits.findall(c) for c in row] for row in ours] == [
        [digits.findall(c) for c in row] for row in theirs
    ]
