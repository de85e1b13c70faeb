"""Metrics of the real programs: whom they are told to, and that privileges are given up all the
same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .host import Host
from .lab import Lab
from .test_privileges import NET_ADMIN, check_least
from .wait import wait_until
from .world import PATIENCE, PUNCHTUN, World

pytestmark = pytest.mark.root


def fetch(host: Host, where: str) -> str:
    """Empty if nobody answers."""
    argv = ["curl", "-s", "--noproxy", "*", "--max-time", "5", f"http://{where}/metrics"]
    return host.run(argv, check=False).stdout


def value(text: str, series: str) -> float | None:
    found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
    return None if found is None else float(found[1])


def test_of_a_pair_and_its_server(lab: Lab, tmp_path: Path) -> None:
    world = World(lab, tmp_path)
    vps = lab.public_host("vps", "203.0.113.10")
    world.start_server("--metrics", "9102", host=vps)
    attic = world.found("attic", lab.public_host("a", "198.51.100.7"), "--metrics", "*:9101")
    camera = world.join("camera", lab.public_host("b", "192.0.2.33"), attic, "--metrics", ":9101")
    world.wait_direct(attic, camera)
    attic.host.run(["ping", "-c3", "-i0.2", camera.ip4])

    of_server = fetch(vps, "127.0.0.1:9102")
    assert value(of_server, "punchtun_server_nodes") == 2
    assert value(of_server, "punchtun_server_channels") == 1
    of_attic = fetch(attic.host, "localhost:9101")
    direct = 'punchtun_peer_state{peer="camera",state="direct"}'
    assert value(of_attic, direct) == 1
    assert (value(of_attic, 'punchtun_peer_sent_packets_total{peer="camera"}') or 0) >= 3
    assert (value(of_attic, "process_resident_memory_bytes") or 0) > 1e6

    camera_ip = camera.ip4

    # On loopback for this machine alone; where it was asked for, for others too, with a warning.
    assert fetch(attic.host, "203.0.113.10:9102") == ""
    assert fetch(attic.host, f"{camera.ip4}:9101") == ""
    assert value(fetch(camera.host, f"{attic.ip4}:9101"), direct) == 1
    assert "whoever can reach this machine may read the metrics" in attic.process.stderr
    for process in (camera.process, world.server):
        assert "may read the metrics" not in process.stderr
        assert "metrics at http://127.0.0.1:910" in process.stderr
    check_least(world.server, 0)
    check_least(attic.process, NET_ADMIN)

    # On the tunnel's address, which is there only when the tunnel is.
    assert camera.stop() == 0
    camera.up("--metrics", f"{camera_ip}:9101").wait("attic")
    assert fetch(attic.host, f"{camera_ip}:9101") != ""
    assert fetch(attic.host, f"{camera.host.ip4}:9101") == ""
    assert "is no address of this machine" not in camera.process.stderr

    camera.kill()
    wait_until(
        lambda: value(fetch(attic.host, "127.0.0.1:9101"), direct) == 0,
        timeout=3 * PATIENCE,
        what="the loss of the camera",
    )
    world.close()


def test_an_address_that_never_comes(lab: Lab, world: World) -> None:
    attic = world.found("attic", lab.public_host("a", "198.51.100.7"), "--metrics", "192.0.2.9:91")
    assert "--metrics: 192.0.2.9 is no address of this machine" in attic.process.stderr


def test_the_port_is_taken(lab: Lab, world: World) -> None:
    """Told before anything is made."""
    host = lab.public_host("a", "198.51.100.7")
    attic = world.found("attic", host, "--metrics", "9101")
    state = world.folder / "second"
    argv = [PUNCHTUN, "up", "--server", world.url, "--metrics", "9101", "--state-dir", str(state)]
    refused = host.run(argv, check=False)
    assert refused.returncode == 1
    assert "TCP port 9101 is in use: choose another with --metrics" in refused.stderr
    assert not list(state.glob("*.json"))
    assert attic.status()["server"]["state"] == "connected"
