"""The server is gone, and a router gives out other ports: a third member tells the pair."""

from __future__ import annotations

import pytest

from .lab import Lab
from .traffic import ping_stream
from .wait import wait_until
from .world import World, growing

pytestmark = pytest.mark.root


@pytest.mark.parametrize("has_witness", [True, False])
def test_a_member_on_a_public_machine_stands_in(world: World, lab: Lab, has_witness: bool) -> None:
    """Without one, such a pair waits for the server: so it is the member that helps."""
    home = lab.home_router("home", public="198.51.100.7")
    other = lab.home_router("other", public="192.0.2.33", lan="192.168.2.0/24")
    attic, camera = world.pair(home.host("a"), other.host("b"))
    if has_witness:
        office = world.join("office", lab.public_host("office", "203.0.113.77"), attic)
        for node in (attic, camera):
            world.wait_direct(node, office)
    world.server.send_signal(9)
    world.server.wait()
    tun = attic.interface
    stream = ping_stream(attic.host, camera.ip4, interval=0.05)

    def arrived() -> int:
        return attic.host.interface_counters(tun).rx_packets

    growing(arrived, 40)
    before = camera.peer("attic")["path"]["remote"]
    home.reboot()
    if has_witness:
        growing(arrived, 60)
        assert camera.peer("attic")["path"]["remote"] != before
        assert attic.peer("camera")["state"] == camera.peer("attic")["state"] == "direct"
        result = stream.stop()
        assert result.longest_gap < 5.0
    else:
        wait_until(
            lambda: camera.peer("attic")["state"] != "direct",
            timeout=30.0,
            interval=0.5,
            what="the pair lost",
        )
        stream.stop()
        world.start_server()
        world.wait_direct(attic, camera)
