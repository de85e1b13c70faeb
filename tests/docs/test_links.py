"""Every relative link in every page leads to a file that is there, and to an anchor in it; rows of
tables are as long as their head."""

from __future__ import annotations

from pathlib import Path

import pytest

from .markdown import ROOT, Page, all_pages, read_page, slug

PAGES = {str(page.path.relative_to(ROOT)): page for page in all_pages()}


def dead_links(page: Page) -> list[str]:
    dead = []
    for link in page.links:
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path
        is_there = target.exists() and target.is_relative_to(ROOT)
        if is_there and anchor:
            is_there = target.suffix == ".md" and anchor in _anchors(target, page)
        if not is_there:
            dead.append(link)
    return dead


def _anchors(target: Path, page: Page) -> set[str]:
    return page.anchors if target == page.path else read_page(target).anchors


def test_the_pages_are_found() -> None:
    assert {"README.md", "CHANGELOG.md", "docs/operations.md", "docs/protocol/checks.md"} <= set(
        PAGES
    )
    assert sum(len(page.links) for page in PAGES.values()) > 80


@pytest.mark.parametrize("name", PAGES)
def test_no_link_is_dead(name: str) -> None:
    assert dead_links(PAGES[name]) == []


def test_no_page_is_out_of_reach() -> None:
    """From the README, by links; what is for programs or tests alone has no page."""
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        targets = [link.partition("#")[0] for link in read_page(path).links if "://" not in link]
        waiting += [
            (path.parent / target).resolve() for target in targets if target.endswith(".md")
        ]
    pages = {page.path for page in PAGES.values() if "tests" not in page.path.parts}
    assert {str(path.relative_to(ROOT)) for path in pages - reached} == set()


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("The server's page", "the-servers-page"),
        ("1. The server", "1-the-server"),
        ("`rotate-key`, twice", "rotate-key-twice"),
        ("See [here](x.md)", "see-here"),
        ("Каждый день", "каждый-день"),
    ],
)
def test_anchors_are_those_of_github(heading: str, anchor: str) -> None:
    assert slug(heading) == anchor


def test_a_dead_link_is_seen() -> None:
    text = "# One\n\n# One\n\n[a](#one) [b](#one-1) [c](#two) [d](docs/none.md) [e](LICENSE) "
    text += "`[f](not-a-link.md)` [![g](none.svg)](README.md#none)"
    assert dead_links(Page(text)) == ["#two", "docs/none.md", "README.md#none", "none.svg"]


@pytest.mark.parametrize("name", PAGES)
def test_every_row_of_a_table_has_as_many_cells_as_its_head(name: str) -> None:
    uneven = [row for t in PAGES[name].tables for row in t if len(row) != len(t[0])]
    assert uneven == []
