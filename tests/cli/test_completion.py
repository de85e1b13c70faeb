"""Completion in shells, and the manual page."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import BashComplete

from tests.cli.command import PUNCHTUN, User
from tests.cli.status import sample
from tests.test_layers import ROOT
from tunnel.cli import main
from tunnel.cli.man_page import build_page
from tunnel.errors import NotRunning

PAGE = ROOT / "docs/man/punchtun.1"
BUILD = "python -m tunnel.cli.man_page > docs/man/punchtun.1"


def completed(*words: str) -> list[str]:
    *before, incomplete = words
    found = BashComplete(main, {}, "punchtun", "_PUNCHTUN_COMPLETE")
    return [item.value for item in found.get_completions(before, incomplete)]


def needs(program: str) -> pytest.MarkDecorator:
    missing = shutil.which(program) is None
    return pytest.mark.skipif(missing, reason=f"{program} is not installed")


def test_commands_and_options() -> None:
    assert completed("st") == ["status"]
    assert completed("config", "") == ["check"]
    assert completed("up", "--log-format", "") == ["text", "json"]
    assert "--relay-quota" in completed("server", "run", "--relay-")


@pytest.mark.parametrize(
    "words",
    [["ping"], ["events"], ["doctor"], ["revoke"], ["wait", "--peer"], ["ping", "-c", "3"]],
)
def test_peers(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    asked: list[Path] = []

    def answer(control: Path, body: dict[str, Any], timeout: float) -> Iterator[dict[str, Any]]:
        asked.append(control)
        assert body == {"command": "status"}
        return iter([sample()])

    monkeypatch.setattr("tunnel.drivers.control.request", answer)
    assert completed(*words, "") == ["nas", "pi", "tv"]
    assert completed(*words[:1], "--state-dir", "/srv/x", *words[1:], "p") == ["pi"]
    assert asked == [Path("/run/punchtun/control.sock"), Path("/srv/x/control.sock")]


def test_no_node_has_no_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise NotRunning("no node is running")

    monkeypatch.setattr("tunnel.drivers.control.request", refuse)
    assert completed("ping", "") == []


def test_bash(user: User, tmp_path: Path) -> None:
    script = tmp_path / "completion"
    result = user.run("completion", "bash")
    assert (result.code, result.stderr) == (0, "")
    script.write_text(result.stdout)
    code = f"""
PATH={Path(PUNCHTUN).parent}:$PATH; source {script}
COMP_WORDS=(punchtun server r) COMP_CWORD=2
_punchtun_completion punchtun; echo "${{COMPREPLY[@]}}"; complete -p punchtun
"""
    ran = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[0] == "run"
    assert "_punchtun_completion punchtun" in ran.stdout


@pytest.mark.parametrize("shell", [pytest.param(s, marks=needs(s)) for s in ("zsh", "fish")])
def test_other_shells_can_read_theirs(user: User, tmp_path: Path, shell: str) -> None:
    script = tmp_path / "completion"
    script.write_text(user.run("completion", shell).stdout)
    assert "_PUNCHTUN_COMPLETE" in script.read_text()
    subprocess.run([shell, "-n", str(script)], check=True, capture_output=True)


def test_an_unknown_shell(user: User) -> None:
    result = user.run("completion", "csh")
    assert (result.code, "'bash', 'zsh', 'fish'" in result.stderr) == (2, True)


def commands(group: click.Group, path: str = "punchtun") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        elif not command.hidden:
            yield f"{path} {name}", command


@pytest.mark.parametrize("page", [build_page(), PAGE.read_text()], ids=["built", "packaged"])
def test_the_manual_page_has_every_command_and_option(page: str) -> None:
    plain = page.replace("\\-", "-")
    for path, command in commands(main):
        assert f'.SS "{path}"\n' in plain, BUILD
        section = plain.split(f'.SS "{path}"\n')[1].split("\n.S")[0]
        for param in command.params:
            if isinstance(param, click.Option):
                for spelling in [*param.opts, *param.secondary_opts]:
                    assert re.search(rf"{spelling}(?![a-z-])", section), BUILD


@needs("mandoc")
def test_mandoc_reads_it() -> None:
    lint = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", str(PAGE)], capture_output=True, text=True
    )
    # It has a version instead.
    assert [line for line in lint.stdout.splitlines() if "missing date" not in line] == []


@needs("groff")
def test_groff_reads_it() -> None:
    argv = ["groff", "-man", "-Tutf8", "-Kutf8", "-ww", str(PAGE)]
    ran = subprocess.run(argv, capture_output=True, check=True)
    assert ran.stderr == b""
    assert "punchtun-join:…" in ran.stdout.decode()


def test_it_says_what_is_typed_as_it_is_typed() -> None:
    assert "\\fBpunchtun server url\\fR" in build_page()


def test_nothing_in_it_is_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUNCHTUN_UP_NAME", "secret-name")
    assert "secret-name" not in build_page()
