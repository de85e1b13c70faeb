"""README.ru.md is kept in step with README.md: whoever changes one has to change the other."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from .markdown import ROOT, Page, read_page

ENGLISH = read_page(ROOT / "README.md")
RUSSIAN = read_page(ROOT / "README.ru.md")


def sections(page: Page) -> list[Page]:
    """What is before the first heading of the second level, and each section behind it."""
    texts = re.split(r"^(?=## )", page.text, flags=re.MULTILINE)
    return [Page(text, page.path) for text in texts]


PAIRS = list(zip(sections(ENGLISH), sections(RUSSIAN), strict=False))


def test_both_have_the_same_headings() -> None:
    assert [h.level for h in RUSSIAN.headings] == [h.level for h in ENGLISH.headings]
    assert len(PAIRS) > 6


def test_russian_headings_are_russian() -> None:
    assert [h.text for h in RUSSIAN.headings[1:] if not re.search("[а-яё]", h.text)] == []


def differences(english: Page, russian: Page) -> list[str]:
    """What one says and the other does not, as far as no words are concerned."""
    found = []
    if english.blocks != russian.blocks:
        found.append("blocks")
    if [[len(row) for row in table] for table in english.tables] != [
        [len(row) for row in table] for table in russian.tables
    ]:
        found.append("tables")
    for what, one, other in (
        ("code", english.spans, russian.spans),
        ("links", _targets(english), _targets(russian)),
        ("figures", _figures(english), _figures(russian)),
        ("bold", _steps(english), _steps(russian)),
    ):
        if Counter(one) != Counter(other):
            only = [*(Counter(one) - Counter(other)), *(Counter(other) - Counter(one))]
            found.append(f"{what}: {only}")
    paragraphs = [len(re.findall(r"\n\n(?=\S)", page.prose)) for page in (english, russian)]
    if paragraphs[0] != paragraphs[1]:
        found.append(f"paragraphs: {paragraphs}")
    return found


def _targets(page: Page) -> list[str]:
    return [link for link in page.links if not link.startswith("README")]


def _figures(page: Page) -> list[str]:
    """Numbers with more than one digit, or a point; those with one may be words."""
    return re.findall(r"\d+(?:\.\d+)+|\d{2,}", page.prose)


def _steps(page: Page) -> list[str]:
    return re.findall(r"^\*\*(\d+)\.", page.prose, re.MULTILINE)


@pytest.mark.parametrize(
    ("english", "russian"), PAIRS, ids=[page.headings[0].text for page, _ in PAIRS]
)
def test_each_section_says_the_same(english: Page, russian: Page) -> None:
    assert differences(english, russian) == []


def test_a_difference_is_seen() -> None:
    one = Page("## A\n\nuse `x` for 24 h\n\n```\ncode\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")
    assert differences(one, one) == []
    for old, new in (
        ("`x`", "`y`"),
        ("24 h", "25 h"),
        ("code", "cod"),
        ("| 1 | 2 |\n", ""),
        ("use", "use [it](b.md)"),
        ("use", "use\n\nit"),
    ):
        assert differences(one, Page(one.text.replace(old, new)))
