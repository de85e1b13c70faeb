"""Which endpoints are announced and checked, with the real program."""

from __future__ import annotations

import time
from typing import Any

import pytest

from .host import Host
from .lab import Lab
from .traffic import ping_reaches, ping_stream
from .wait import wait_until
from .world import PATIENCE, Node, World

pytestmark = pytest.mark.root

ROUTERS: dict[str, dict[str, Any]] = {
    "kernel": {},
    "kernel, hairpin": {"filtering": "endpoint-independent", "hairpin": True},
    "software": {"software": True},
    "software, hairpin": {"software": True, "hairpin": True},
    "software, varying": {"software": True, "mapping": "address-and-port-dependent"},
}


def assert_inside(one: Node, other: Node, host: Host) -> None:
    """From one the other is reached at its address in the LAN."""
    wait_until(
        lambda: str(one.peer(other.name)["path"]["remote"]).startswith(f"{host.ip4}:"),
        timeout=PATIENCE,
        interval=0.1,
        what=f"{one.name}: {other.name} at {host.ip4}",
    )


@pytest.mark.parametrize("router", ROUTERS)
def test_one_lan(lab: Lab, world: World, router: str) -> None:
    """Inside, whatever the router makes of packets to its own outside."""
    home = lab.home_router("home", public="198.51.100.7", **ROUTERS[router])
    a, b = home.host("a"), home.host("b")
    attic, camera = world.pair(a, b)
    assert_inside(attic, camera, b)
    assert_inside(camera, attic, a)
    assert attic.peer("camera")["path"]["kind"] in ("host", "peer-reflexive")
    assert ping_reaches(a, camera.ip4)
    # They need no router: without it they go on.
    home.block_udp()
    stream = ping_stream(a, camera.ip4, interval=0.02)
    time.sleep(2)
    result = stream.stop()
    assert set(result.lost) <= {result.sent}, "but for one under way when it was stopped"


@pytest.mark.parametrize("router", ["kernel", "software", "software, hairpin"])
def test_two_segments_of_one_home(lab: Lab, world: World, router: str) -> None:
    """Joined by a route that their hosts have; the second router does not translate."""
    home = lab.home_router("home", public="198.51.100.7", **ROUTERS[router])
    a = home.host("a")
    inner = home.home_router("inner", lan="192.168.2.0/24")
    inner.nft("flush ruleset")
    home.run(["ip", "route", "add", "192.168.2.0/24", "via", inner.ip4])
    b = inner.host("b")
    attic = world.found("attic", a)
    camera = world.join("camera", b, attic)
    camera.wait("attic")
    before = attic.peer("camera")["path"]["remote"]
    assert not before.startswith("192.168."), "without a route it is a stranger's"
    a.run(["ip", "route", "add", "192.168.2.0/24", "via", inner.ip4])
    b.run(["ip", "route", "add", "192.168.1.0/24", "via", "192.168.2.1"])
    world.wait_direct(attic, camera)
    if "hairpin" not in router:
        # A path by the hairpin may be as good.
        assert_inside(attic, camera, b)
        assert_inside(camera, attic, a)
    assert ping_reaches(a, camera.ip4)


def test_a_vps_sends_nothing_to_private_addresses(lab: Lab, world: World) -> None:
    """To none of its peers' candidates, whatever their routers are and wherever they roam."""
    cloud = lab.public_host("cloud", "203.0.113.20", ipv6="2001:db8::20")
    counter, server_counter = cloud.count_private(), world.vps.count_private()
    home = lab.home_router("home", public="198.51.100.7")
    carrier = lab.carrier(
        "cgn", public="192.0.2.33", software=True, mapping="address-and-port-dependent"
    )
    pi, phone = home.host("pi"), carrier.home_router("lte", lan="192.168.8.0/24").host("phone")
    attic = world.found("attic", cloud)
    camera = world.join("camera", pi, attic)
    mobile = world.join("mobile", phone, attic)
    for node in (camera, mobile):
        world.wait_direct(attic, node)
    pi.attach(carrier)
    time.sleep(3)
    home.reboot()
    carrier.flush_mappings()
    assert ping_reaches(cloud, camera.ip4)
    assert ping_reaches(cloud, mobile.ip4)
    time.sleep(5)
    assert counter.sent().packets == server_counter.sent().packets == 0
    for address in ("192.168.1.2", "100.64.0.2"):  # That the counter counts.
        cloud.run(["ping", "-c1", "-W", "0.1", address], check=False)
    assert counter.sent().packets == 2
