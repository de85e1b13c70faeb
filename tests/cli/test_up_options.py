"""What is typed after `punchtun up` reaches the node."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from tunnel.cli.node import up
from tunnel.config import UpOptions


def options_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, *arguments: str) -> UpOptions:
    taken: list[UpOptions] = []
    monkeypatch.setattr("tunnel.drivers.startup.run_node", lambda options, _: taken.append(options))
    state = ["--state-dir", str(tmp_path)]
    result = CliRunner().invoke(up, [*arguments, *state], catch_exceptions=False)
    assert result.exit_code == 0
    return taken[0]


@pytest.mark.parametrize(
    "name", ["port_mapping", "port_guessing", "tun_offload", "uso", "gso", "gro", "aegis"]
)
def test_switches(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, name: str) -> None:
    file = tmp_path / "home.toml"
    file.write_text(f"{name} = true\n")
    option = "--no-" + name.replace("_", "-")
    for arguments, value in (
        ([], None),
        ([option], False),
        (["--config", str(file)], None),
        ([option, "--config", str(file)], False),
    ):
        options = options_of(monkeypatch, tmp_path, *arguments)
        assert getattr(options, name) is value
