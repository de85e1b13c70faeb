from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

import tunnel
from tunnel.drivers.names_file import CHANGED
from tunnel.drivers.places import STATE
from tunnel.drivers.units import NODE_UNITS, SERVER_UNITS, render_unit, why_unreachable


@pytest.mark.parametrize(
    ("command", "quoted"),
    [
        ("/usr/bin/punchtun", "/usr/bin/punchtun"),
        ("/opt/my tools/punchtun", '"/opt/my tools/punchtun"'),
        ('/opt/a"b\\c/punchtun', '"/opt/a\\"b\\\\c/punchtun"'),
        ("/opt/100%/punchtun", "/opt/100%%/punchtun"),
    ],
)
def test_the_command_is_where_it_was_installed(command: str, quoted: str) -> None:
    text = render_unit("punchtun@.service", command)
    assert f"\nExecStart={quoted} up --state-dir /var/lib/punchtun/%i\n" in text
    assert "ExecStart=punchtun" not in text


@pytest.mark.parametrize("name", [*SERVER_UNITS, *NODE_UNITS])
def test_nothing_but_the_command_differs(name: str) -> None:
    shipped = (Path(tunnel.__file__).parent / "units" / name).read_text()
    assert render_unit(name, "punchtun") == shipped


@pytest.mark.parametrize("name", ["punchtun-server.service", "punchtun@.service"])
def test_services_start_after_the_network_and_again_after_failures(name: str) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign, assignment]
    unit.read_string(render_unit(name, "punchtun"))
    # After= alone pulls nothing in.
    assert unit["Unit"]["After"] == "network-online.target"
    assert "network-online.target" in unit["Unit"]["Wants"].split()
    assert unit["Service"]["Type"] == "notify"
    assert unit["Service"]["Restart"] == "on-failure"
    assert int(unit["Service"]["WatchdogSec"]) > 0


def test_names_are_seen_to_while_a_node_runs_and_when_it_ends() -> None:
    node, path = (
        render_unit(name, "punchtun") for name in ("punchtun@.service", "punchtun-names@.path")
    )
    assert re.search("^Wants=.* punchtun-names@%i.path$", node, re.M)
    assert f"\nExecStopPost=-touch {STATE}/%i/{CHANGED}\n" in node
    assert f"\nPathExists={STATE}/%i/{CHANGED}\n" in path


def test_what_a_service_does_not_see() -> None:
    assert why_unreachable([Path("/usr/bin/env")]) is None
    assert "/home" in (why_unreachable([Path("/usr/bin/env"), Path("/home/me/punchtun")]) or "")


def test_a_link_to_what_a_service_does_not_see(tmp_path: Path) -> None:
    # As a virtual environment's Python may be.
    link = tmp_path / "python"
    link.symlink_to("/root/python")
    assert "/root/python is below /root" in (why_unreachable([link]) or "")


def test_what_other_users_may_not_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunnel.drivers.units._HIDDEN", ())
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_mode & 0o005 != 0o005:
            parent.chmod(0o755)  # what pytest makes is its own user's alone
    closed = tmp_path / "venv"
    closed.mkdir(mode=0o700)
    program = closed / "punchtun"
    program.touch()
    program.chmod(0o755)
    assert f"may not use {closed}" in (why_unreachable([program]) or "")
    closed.chmod(0o755)
    assert why_unreachable([program]) is None
    program.chmod(0o750)
    assert f"may not use {program}" in (why_unreachable([program]) or "")
