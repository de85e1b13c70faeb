"""Options from files and from the environment, and `punchtun config check`."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from tests.core.ends import URL
from tests.test_layers import ROOT
from tunnel.cli import config_file, main
from tunnel.cli.config_file import Fault, find_faults, key_of, keys_of, kind_words
from tunnel.cli.node import up
from tunnel.cli.server import run as server_run

COMMANDS = {"up": up, "server run": server_run}


class Runner:
    """Runs `punchtun`, and notes what node and server would have been started with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder = folder
        self.taken: list[Any] = []
        startup = "tunnel.drivers.startup"
        monkeypatch.setattr(f"{startup}.run_node", lambda options, _: self.taken.append(options))
        monkeypatch.setattr(
            f"{startup}.run_server", lambda *given, **named: self.taken.append((given, named))
        )
        # What `--log-format` sets up is gone with the test.
        monkeypatch.setattr(logging.getLogger("tunnel"), "handlers", [])
        monkeypatch.setattr(config_file.NodeConfigured, "default_file", folder / "node.toml")
        monkeypatch.setattr(config_file.ServerConfigured, "default_file", folder / "server.toml")

    def write(self, text: str, name: str = "home.toml") -> str:
        (self.folder / name).write_text(text)
        return str(self.folder / name)

    def invoke(self, *arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(main, arguments, env=environment)

    def run(self, *arguments: str, **environment: str) -> Any:
        result = self.invoke(*arguments, **environment)
        assert result.exit_code == 0, result.output
        return self.taken.pop()


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runner:
    return Runner(monkeypatch, tmp_path)


def test_a_node(runner: Runner) -> None:
    file = runner.write(
        'name = "pi"\nmtu = 1300\ngro = false\nuso = true\nhosts = false\njoin = "-"'
    )
    options = runner.run("up", "--config", file, "--mtu", "1280")
    assert (options.name, options.mtu, options.gro, options.uso) == ("pi", 1280, False, None)
    assert (options.hosts, options.log_format) == (False, None)
    assert runner.run("up", "--config", file, "--hosts").hosts is True


def test_a_server(runner: Runner) -> None:
    file = runner.write(
        'listen = ["192.0.2.1:7", "[::1]:9"]\nrelay_rate = "10M"\nhttp = "80"\nrelay_pairs = 7\n'
        f'state_dir = "{runner.folder}"'
    )
    (addresses,), named = runner.run("server", "run", "--config", file)
    assert addresses == [("192.0.2.1", 7), ("::1", 9)]
    assert named["http"] == [(None, 80)]
    assert (named["relay"].rate, named["relay"].pairs) == (10_000_000, 7)
    assert named["places"].state == runner.folder
    (addresses,), named = runner.run("server", "run", "--config", file, "--listen", "99")
    assert addresses == [(None, 99)]
    off = runner.write("relay = false")
    assert not runner.run("server", "run", "--config", off)[1]["relay"].is_on
    assert runner.run("server", "run", "--config", off, "--relay")[1]["relay"].is_on


def test_typed_before_environment_before_file(runner: Runner) -> None:
    file = runner.write('name = "file"\nlisten_port = 1\nlog_format = "json"')
    environment = {"PUNCHTUN_UP_NAME": "environment", "PUNCHTUN_UP_LISTEN_PORT": "2"}
    options = runner.run("up", "--config", file, "--listen-port", "3", **environment)
    assert (options.name, options.listen_port, options.log_format) == ("environment", 3, "json")
    assert runner.run("up", PUNCHTUN_UP_CONFIG=file).name == "file"
    assert runner.run("up", PUNCHTUN_UP_NO_GSO="1", PUNCHTUN_UP_HOSTS="no").hosts is False
    (addresses,), _ = runner.run("server", "run", PUNCHTUN_SERVER_RUN_LISTEN="192.0.2.1:7 9")
    assert addresses == [("192.0.2.1", 7), (None, 9)]


def test_the_state_directory_has_one_name_for_all_commands(runner: Runner) -> None:
    assert runner.run("up", PUNCHTUN_STATE_DIR="/nowhere/else").state_dir == "/nowhere/else"
    asked = runner.invoke("status", PUNCHTUN_STATE_DIR="/nowhere/else")
    assert (asked.exit_code, "/nowhere/else" in asked.output) == (6, True)
    _, named = runner.run("server", "run", PUNCHTUN_SERVER_STATE_DIR="/nowhere/server")
    assert str(named["places"].state) == "/nowhere/server"


def test_files_that_are_read_by_themselves(runner: Runner) -> None:
    assert runner.run("up").name is None
    runner.write('name = "pi"', "node.toml")
    runner.write("relay = false", "server.toml")
    assert runner.run("up").name == "pi"
    assert not runner.run("server", "run")[1]["relay"].is_on
    # Another node of this machine has another.
    assert runner.run("up", "--state-dir", "/nowhere/else").name is None
    assert runner.run("up", PUNCHTUN_STATE_DIR="/nowhere/else").name is None
    assert runner.run("up", "--config", runner.write('name = "nas"')).name == "nas"


def test_help_needs_no_file(runner: Runner) -> None:
    result = runner.invoke("up", "--config", "/nowhere/home.toml", "--help")
    assert (result.exit_code, "--config FILE" in result.output) == (0, True)


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("\nnmae = 'pi'", 2, "unknown key 'nmae'; did you mean name?"),
        ("zzz = 1", 1, "unknown key 'zzz'; known are join, server, name"),
        ("no_gso = true", 1, "unknown key 'no_gso'; did you mean gso?"),
        ("config = 'x'", 1, "unknown key 'config'"),
        ("mtu = 'large'", 1, "mtu must be a whole number"),
        ("mtu = true", 1, "mtu must be a whole number"),
        ("port_mapping = 'no'", 1, "port_mapping must be true or false"),
        ("hosts = 0", 1, "hosts must be true or false"),
        ("name = 5", 1, "name must be a string in quotes"),
        ("name = ['pi']", 1, "name must be a string in quotes"),
        ("listen_port = 70000", 1, "listen_port: 70000 is not in the range 1<=x<=65535"),
        ("log_format = 'xml'", 1, "log_format: 'xml' is not one of 'text', 'json'"),
        ("# node\n[node]\nname = 'pi'", 2, "unknown key 'node'"),
        ("name = 'pi'\nname = 'pi'", 2, "this is no TOML: Cannot overwrite a value"),
        ("name = pi", 1, "this is no TOML"),
    ],
)
def test_a_mistake(runner: Runner, text: str, line: int, sentence: str) -> None:
    _, faults = find_faults(text, up)
    assert [fault.line for fault in faults] == [line]
    assert faults[0].sentence.startswith(sentence)
    file = runner.write(text)
    for arguments in (["up", "--config", file], ["config", "check", file]):
        result = runner.invoke(*arguments)
        assert result.exit_code == 2
        assert f"{file}:{line}: {sentence}" in result.output
        assert runner.taken == []


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file or directory"), (b"\xff", "this is no TOML: it is not UTF-8")],
)
def test_a_file_that_cannot_be_read(runner: Runner, content: bytes | None, words: str) -> None:
    file = runner.folder / "home.toml"
    if content is not None:
        file.write_bytes(content)
    for arguments in (["up", "--config", str(file)], ["config", "check", str(file)]):
        result = runner.invoke(*arguments)
        assert (result.exit_code, result.output) == (2, f"punchtun: --config {file}: {words}\n")


def test_check_tells_all_at_once(runner: Runner) -> None:
    file = runner.write("mtu = 7\nnmae = 'pi'\n\nserver = 'punchtun://x'\nip = '10.0.0.0/24'\n")
    result = runner.invoke("config", "check", file)
    assert result.exit_code == 2
    assert [re.sub(r"(?<=:\d: ).*?(\w+).*", r"\1", x) for x in result.output.splitlines()] == [
        f"{file}:1: mtu",
        f"{file}:2: unknown",
        f"{file}:4: this",
        f"{file}:5: ip",
    ]
    told = runner.invoke("up", "--config", runner.write("nmae = 1\nmut = 2"))
    assert f"nmae'; did you mean name? (and 1 more: `punchtun config check {file}`)" in told.output


def test_check_of_a_server(runner: Runner) -> None:
    file = runner.write('listen = "vps"\ntcp = ["none", "x"]\ntls_key = "k"\nrelay_quota = "1G"\n')
    result = runner.invoke("config", "check", file)
    assert result.exit_code == 2
    assert [line.removeprefix(file).split()[0:2] for line in result.output.splitlines()] == [
        [":1:", "--listen"],
        [":2:", "--tcp"],
        [":3:", "--tls-cert"],
        [":4:", "--relay-quota"],
    ]
    assert f"{file}:4: --relay-quota 1G" in result.output
    off = runner.write("log_format = 'text'\nrelay = false\nrelay_pairs = 3")
    assert f"{off}:2: --no-relay" in runner.invoke("config", "check", off).output


def test_check_of_what_is_in_order(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    node = runner.write(f'server = "{URL.text}"\nlog_format = "json"')
    server = runner.write('listen = "[::]:7"\nlog_format = "json"', "vps.toml")
    for file, kind in ((node, "node"), (server, "server")):
        result = runner.invoke("config", "check", file)
        assert (result.exit_code, result.output) == (0, f"{file}: in order, for a {kind}\n")
    monkeypatch.setattr("tunnel.cli.config.NODE_FILE", Path(node))
    monkeypatch.setattr("tunnel.cli.config.SERVER_FILE", Path(server))
    both = runner.invoke("config", "check")
    assert (both.exit_code, both.output.count("in order")) == (0, 2)
    for name in ("NODE_FILE", "SERVER_FILE"):
        monkeypatch.setattr(f"tunnel.cli.config.{name}", Path("/nowhere/x"))
    assert runner.invoke("config", "check").exit_code == 0


@given(st.text())
def test_any_text_has_faults_or_values(text: str) -> None:
    for command in COMMANDS.values():
        values, faults = find_faults(text, command)
        assert all(isinstance(fault, Fault) for fault in faults)
        assert set(values) <= {param.name for param in command.params}


# The documentation

DOCUMENT = (ROOT / "docs/configuration.md").read_text()


def rows(heading: str) -> list[tuple[str, str, str]]:
    """Key, option and kind of the table below a heading."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|", section, re.MULTILINE)
    return [(key, option.replace("`", ""), kind) for key, option, kind in found]


def spelling(param: click.Parameter) -> str:
    return param.human_readable_name if isinstance(param, click.Argument) else param.opts[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented(name: str) -> None:
    known = keys_of(COMMANDS[name])
    assert rows(f"punchtun {name}") == [
        (key, spelling(param), kind_words(param)) for key, param in known.items()
    ]
    assert [key_of(param) for param in known.values()] == list(known)


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL))
def test_examples_are_in_order(runner: Runner, text: str) -> None:
    result = runner.invoke("config", "check", runner.write(text.replace("punchtun://…", URL.text)))
    assert (result.exit_code, "in order" in result.output) == (0, True)
