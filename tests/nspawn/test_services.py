"""What the person does who sets punchtun up on a VPS and a machine at home."""

from __future__ import annotations

import pytest

from .conftest import Machines
from .container import Container

pytestmark = pytest.mark.root


def traces(machine: Container) -> set[str]:
    """What is on the disk of punchtun's, but for the program itself, and interfaces."""
    places = ("/etc/systemd", "/var/lib/punchtun", "/var/lib/private", "/run/punchtun", "/usr/lib")
    found = machine.try_run("find", *places, "-name", "*punchtun*", "-o", "-path", "*/punchtun/*")
    links = machine.run("ip", "-brief", "link").splitlines()
    return {*found.stdout.splitlines(), *(link.split()[0] for link in links)}


def test_from_the_foreground_to_services_and_back(machines: Machines) -> None:
    vps, home = machines
    before = traces(vps)

    # The server is tried by hand first.
    server = vps.start("punchtun", "server", "run")
    vps.wait_for("punchtun", "server", "status")
    url = vps.run("punchtun", "server", "url", "--host", vps.address)
    assert "stop it" in vps.refused("punchtun", "service", "install", "server")
    vps.interrupt(server)
    said = vps.run("punchtun", "service", "install", "server")
    assert "systemctl enable punchtun-server.service" in said
    assert vps.run("punchtun", "server", "url", "--host", vps.address) == url
    assert vps.show("punchtun-server", "StatusText").startswith("serving on UDP 12345")

    # So is the network.
    assert "in no network yet" in vps.refused("punchtun", "service", "install", "node")
    node = vps.start("punchtun", "up", "--server", url)
    vps.wait_for("punchtun", "wait", "--timeout", "20")
    assert "punchtun down" in vps.refused("punchtun", "service", "install", "node")
    vps.interrupt(node)
    vps.run("punchtun", "service", "install", "node")

    # Commands find the service's node without being told, and it can let others in.
    join = vps.run("punchtun", "invite", "home")
    node = home.start("punchtun", "up", join)
    home.wait_for("punchtun", "wait", "--peer", "vps")
    home.interrupt(node)
    home.run("punchtun", "service", "install", "node")
    home.run("punchtun", "wait", "--peer", "vps")
    tunnel = vps.status()["node"]["addresses"][0]
    home.run("ping", "-c", "1", "-W", "5", tunnel)
    vps.run("punchtun", "wait", "--peer", "home")
    assert vps.show("punchtun@default", "StatusText").startswith(
        "connected to the server; peers: 1"
    )

    # A second time nothing happens, and by hand it does not get in the way.
    for kind in ("server", "node"):
        assert "nothing to do" in vps.run("punchtun", "service", "install", kind)
    assert "systemctl start" in vps.refused("punchtun", "up")

    # Back: the same node, by hand.
    home.run("punchtun", "service", "uninstall", "node")
    node = home.start("punchtun", "up")
    home.wait_for("punchtun", "wait", "--peer", "vps")
    home.interrupt(node)

    for kind in ("node", "server"):
        vps.run("punchtun", "service", "uninstall", kind, "--purge")
        assert vps.run("punchtun", "service", "uninstall", kind, "--purge") == ""
    assert traces(vps) == before


def test_one_service_for_each_network(machines: Machines) -> None:
    vps, _ = machines
    vps.run("punchtun", "service", "install", "server")
    url = vps.run("punchtun", "server", "url", "--host", vps.address)
    # As some hosters of containers have it.
    vps.run("chmod", "600", "/dev/net/tun")
    for name, address in (("one", "10.81.0.1"), ("two", "10.82.0.1")):
        state = f"/var/lib/punchtun/{name}"
        assert state in vps.refused("punchtun", "service", "install", "node", name)
        node = vps.start("punchtun", "up", "--server", url, "--ip", address, "--state-dir", state)
        vps.wait_for("punchtun", "wait", "--state-dir", state)
        vps.interrupt(node)
        vps.run("punchtun", "service", "install", "node", name)
    assert vps.status("--state-dir", "/var/lib/punchtun/two")["node"]["addresses"][0] == address
    # The template is needed as long as there is another.
    vps.run("punchtun", "service", "uninstall", "node", "one")
    assert vps.run("systemctl", "is-active", "punchtun@two") == "active"
    assert vps.run("stat", "--format=%F %U", "/var/lib/punchtun/one") == "directory root"
    vps.run("punchtun", "service", "uninstall", "node", "two")
    assert not any("punchtun@" in trace for trace in traces(vps))
    vps.refused("punchtun", "service", "install", "node", "server", code=2)


def test_a_rehearsal_changes_nothing(machines: Machines) -> None:
    vps, _ = machines
    before = traces(vps)
    said = vps.run("punchtun", "service", "install", "server", "--dry-run")
    assert "would write /etc/systemd/system/punchtun-server.service" in said
    assert "would systemctl start punchtun-server.service" in said
    assert traces(vps) == before
    vps.run("punchtun", "service", "install", "server")
    installed = traces(vps)
    said = vps.run("punchtun", "service", "uninstall", "server", "--purge", "--dry-run")
    assert "would delete /var/lib/punchtun/server" in said
    assert traces(vps) == installed


def test_a_program_that_a_service_cannot_see_is_not_installed(machines: Machines) -> None:
    vps, _ = machines
    # As `pipx install` does it for one user.
    vps.run("cp", "-a", "/opt/punchtun", "/root/punchtun")
    vps.run("sed", "-i", "1s,/opt/,/root/,", "/root/punchtun/bin/punchtun")
    said = vps.refused("/root/punchtun/bin/punchtun", "service", "install", "server")
    assert "/root/punchtun" in said
    assert "install" in said
    assert "punchtun-server.service" not in vps.run("systemctl", "list-unit-files")
