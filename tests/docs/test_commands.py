"""Every command and option that the pages name exists; every example of a file is accepted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tunnel.cli.config_file import find_faults
from tunnel.cli.node import up
from tunnel.cli.server import run

from .commands import all_options, commands_in, complaint_about, options_of
from .markdown import ROOT, Page, all_pages

PAGES = {str(page.path.relative_to(ROOT)): page for page in all_pages()}
del PAGES["CHANGELOG.md"]  # It may tell of what is no more.
PROTOCOL = "docs/protocol/"
"""There `punchtun v1 …` are bytes that are hashed."""

OF_OTHERS = """
    --against --binary --contender --coverage --jobs --json --keep --link --measure --minutes --plot
    --queue --quick --rate --repeat --repetitions --replay --scenario --seconds --simulator
    --device --dry-run --from --prefix --purge --remove --ipv6
"""
"""Options of benchmarks, of scripts and of other people's programs, in code spans."""


@pytest.mark.parametrize("name", [name for name in PAGES if not name.startswith(PROTOCOL)])
def test_every_command_exists(name: str) -> None:
    commands = dict.fromkeys(commands_in(PAGES[name]))
    complaints = {command: complaint_about(command) for command in commands}
    assert {command: said for command, said in complaints.items() if said} == {}


def test_the_commands_are_found() -> None:
    found = set(commands_in(PAGES["README.md"]))
    assert {
        "server run",
        "server url --host 203.0.113.10",
        "up --server 'punchtun://203.0.113.10:12345/…'",
        "up 'punchtun-join:…'",
        "wait --peer pi --direct",
    } <= found


@pytest.mark.parametrize(
    "command",
    [
        "sever run",
        "up --mut 1280",
        "server run --listen",
        "status pi",
        "network exprot FILE",
        "up 'punchtun-join:…",
    ],
)
def test_what_does_not_exist_is_seen(command: str) -> None:
    (found,) = commands_in(Page(f"see `sudo punchtun {command}`"))
    assert found == command
    assert complaint_about(found) is not None


@pytest.mark.parametrize("name", PAGES)
def test_every_option_exists(name: str) -> None:
    known = {*all_options(), *OF_OTHERS.split()}
    spans = " ".join(PAGES[name].spans)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]", spans))
    assert named - known == set()


@pytest.mark.parametrize("name", PAGES)
def test_options_in_a_row_are_of_its_command(name: str) -> None:
    """In README, where the first cell is a command, options beside it are its own; elsewhere those
    of a table whose head says of which command."""
    for table in PAGES[name].tables:
        of_table = re.search(r"option of `([^`]+)`", table[0][0])
        for row in table[1:]:
            command = re.match(r"`(?:sudo )?punchtun ([a-z -]+?)(?= [^a-z]|`)", row[0])
            for option in re.findall(r"`(--?[a-z][a-z-]*)", " ".join(row)):
                if of_table and row[0].startswith(f"`{option}"):
                    assert option in options_of(of_table[1]), row
                elif command and name.startswith("README"):
                    assert option in options_of(command[1]), row


def test_the_options_of_a_command_are_known() -> None:
    assert {"--watch", "--json"} <= options_of("status")
    assert "--watch" not in options_of("ping pi")
    assert "--passphrase-file" in options_of("network export FILE")


@pytest.mark.parametrize("name", PAGES)
def test_every_script_and_module_exists(name: str) -> None:
    text = PAGES[name].text
    scripts = set(re.findall(r"(?<![\w/])scripts/[\w.-]*\w", text))
    assert [script for script in sorted(scripts) if not (ROOT / script).is_file()] == []
    modules = {name.replace(".", "/") for name in re.findall(r"python -m ([\w.]+)", text)}
    assert [m for m in sorted(modules) if not _is_module(ROOT / m)] == []


def _is_module(path: Path) -> bool:
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@pytest.mark.parametrize("name", PAGES)
def test_options_of_scripts_exist(name: str) -> None:
    lines = [line for block in PAGES[name].blocks for line in block.text.splitlines()]
    for line in [*lines, *PAGES[name].spans]:
        command = re.search(r"(scripts/[\w.-]*\w)((?: [\w=.-]+)*)", line.partition("#")[0])
        for option in re.findall(r" (--[a-z-]+)", command[2] if command else ""):
            assert command
            assert f"{option})" in (ROOT / command[1]).read_text().replace(" | ", ")"), line


def test_examples_of_the_configuration_file_are_accepted() -> None:
    blocks = [b for page in PAGES.values() for b in page.blocks if b.language == "toml"]
    for block in blocks:
        assert [] in [find_faults(block.text, command)[1] for command in (up, run)], block.text
    assert blocks
