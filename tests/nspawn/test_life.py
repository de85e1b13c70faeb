"""What happens to services in the years after they were installed. One pair of machines for all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.netns.wait import wait_until

from .conftest import Machines
from .container import Container
from .tree import build_wheel

pytestmark = pytest.mark.root

NODE, SERVER = "punchtun@default.service", "punchtun-server.service"


def main_pid(machine: Container, unit: str) -> str:
    return machine.show(unit, "MainPID")


def wait_for_another(machine: Container, unit: str, before: str) -> None:
    wait_until(
        lambda: (
            main_pid(machine, unit) not in (before, "0")
            and machine.show(unit, "ActiveState") == "active"
        ),
        timeout=60,
        interval=0.2,
        what=f"{unit} started again",
    )


def kill(machine: Container, unit: str) -> None:
    """SIGKILL, and wait until systemd has started it again."""
    before = main_pid(machine, unit)
    machine.run("systemctl", "kill", "--signal=KILL", unit)
    wait_for_another(machine, unit, before)


def assert_connected(machines: Machines) -> None:
    """Packets go through the tunnel, both ways."""
    vps, home = machines
    address = vps.status()["node"]["addresses"][0]
    home.run("punchtun", "wait", "--peer", "vps")
    home.run("ping", "-c", "1", "-W", "5", address)


@pytest.mark.parametrize("unit", [SERVER, NODE, "punchtun-online@default.service"])
def test_a_service_may_do_little(connected: Machines, unit: str) -> None:
    vps, _ = connected
    said = vps.run("systemd-analyze", "security", "--no-pager", "--threshold=20", unit)
    print(said.splitlines()[-1])
    text = vps.run("systemd-analyze", "verify", "--recursive-errors=no", unit)
    assert text == ""


def test_a_service_runs_as_nobody_who_owns_anything(connected: Machines) -> None:
    vps, home = connected
    for machine, unit in ((vps, SERVER), (vps, NODE), (home, NODE)):
        status = machine.run("cat", f"/proc/{main_pid(machine, unit)}/status")
        fields = dict(line.split(":", 1) for line in status.splitlines())
        assert fields["Uid"].split()[0] not in ("0", "65534")
        net_admin = 1 << 12
        assert int(fields["CapPrm"], 16) == (net_admin if unit == NODE else 0)
        assert (fields["NoNewPrivs"].strip(), fields["Seccomp"].strip()) == ("1", "2")


@pytest.mark.parametrize("unit", [SERVER, NODE])
def test_killed(connected: Machines, unit: str) -> None:
    kill(connected.vps, unit)
    assert_connected(connected)


@pytest.mark.parametrize("unit", [SERVER, NODE])
def test_killed_again_and_again(connected: Machines, unit: str) -> None:
    """More often than systemd permits by default: who is far away cannot start it by hand."""
    with connected.vps.drop_in(unit, "RestartSec=0"):
        for _ in range(8):
            kill(connected.vps, unit)
    assert_connected(connected)


@pytest.mark.parametrize("unit", [SERVER, NODE])
def test_hung(connected: Machines, unit: str) -> None:
    vps, _ = connected
    with vps.drop_in(unit, "WatchdogSec=2", "TimeoutStopSec=1"):
        vps.run("systemctl", "restart", unit)
        before = main_pid(vps, unit)
        vps.run("kill", "-STOP", before)
        wait_for_another(vps, unit, before)
    said = vps.run("journalctl", "--boot", f"--unit={unit}", "--output=cat")
    assert "Watchdog timeout" in said
    vps.run("systemctl", "restart", unit)
    assert_connected(connected)


def test_the_journal_knows_what_matters(connected: Machines) -> None:
    vps, _ = connected
    # Nobody has joined here: that does not mend itself, so it is tried once.
    vps.refused("systemctl", "start", "punchtun@empty.service")
    entries = [
        json.loads(line)
        for line in vps.run(
            "journalctl", "--boot", "--unit=punchtun@empty", "--output=json"
        ).splitlines()
    ]
    ours = [entry for entry in entries if entry.get("SYSLOG_IDENTIFIER") == "punchtun"]
    assert [entry["PRIORITY"] for entry in ours] == ["3"]
    assert ours[0]["MESSAGE"].startswith("punchtun: this machine is in no network yet")
    assert vps.show("punchtun@empty.service", "NRestarts") == "0"
    vps.run("systemctl", "reset-failed", "punchtun@empty.service")
    lines = vps.run("journalctl", "--boot", f"--unit={NODE}", "--output=json").splitlines()
    told = [e for e in map(json.loads, lines) if "connected to the server at" in e["MESSAGE"]]
    assert {entry["PRIORITY"] for entry in told} == {"6"}


@pytest.mark.parametrize("unit", [SERVER, NODE])
def test_reloaded(connected: Machines, unit: str) -> None:
    vps, _ = connected
    before = main_pid(vps, unit)
    vps.run("systemctl", "reload", unit)
    assert_connected(connected)
    assert main_pid(vps, unit) == before


def test_rebooted(connected: Machines) -> None:
    """What needs the tunnel is started when it is there."""
    _, home = connected
    needing = """
        [Unit]
        Wants=punchtun-online.target
        After=punchtun-online.target
        [Service]
        Type=oneshot
        ExecStart=punchtun status --json
        StandardOutput=file:/root/seen
        [Install]
        WantedBy=multi-user.target
        """
    text = "".join(line.strip() + "\n" for line in needing.splitlines())
    home.run("tee", "/etc/systemd/system/needing.service", stdin=text)
    home.run("systemctl", "enable", "needing.service")
    home.reboot()
    assert json.loads(home.run("cat", "/root/seen"))["server"]["state"] == "connected"
    assert_connected(connected)


def test_upgraded_while_it_runs(connected: Machines, tmp_path: Path) -> None:
    _, home = connected
    newer = build_wheel(tmp_path, "99.0")
    home.put(newer, "/root")
    before = main_pid(home, NODE)
    home.run(
        *("/opt/punchtun/bin/pip", "install", "--quiet", "--no-index", "--no-deps"),
        f"/root/{newer.name}",
    )
    assert_connected(connected)  # by the old one still
    assert main_pid(home, NODE) == before
    home.run("systemctl", "restart", NODE)
    assert_connected(connected)
    assert home.status()["node"]["version"] == "99.0"
    # Its units are those of the new one.
    assert "nothing to do" in home.run("punchtun", "service", "install", "node")
