"""A NAT that forgets after 14 s, and a node that finds out."""

from __future__ import annotations

import time

import pytest

from .lab import Lab
from .traffic import ping_stream
from .wait import wait_until
from .world import World

pytestmark = pytest.mark.root

LASTS = 14


def test_a_short_lived_mapping_is_kept_alive(world: World, lab: Lab) -> None:
    """The usual 25 s would lose it, and so would our own 15 s before anything is measured, if the
    interval were a little longer."""
    nat = {"udp_timeout": LASTS, "udp_timeout_stream": LASTS}
    home = lab.home_router("home", public="198.51.100.7", **nat)
    other = lab.home_router("other", public="198.51.100.8", **nat)
    attic, camera = world.pair(home.host("a"), other.host("b"))
    for node in (attic, camera):
        wait_until(
            lambda node=node: node.status()["nat"]["mapping_lifetime_s"] == 12.0,  # type: ignore[misc]
            timeout=60.0,
            interval=0.5,
            what=f"{node.name}'s measurement",
        )
        assert node.status()["nat"]["keepalive_s"] == 9.0
    idle_since = time.monotonic()
    wait_until(lambda: time.monotonic() > idle_since + 2 * LASTS, timeout=60.0, what="silence")
    result = ping_stream(camera.host, attic.ip4, interval=0.2, count=10).result()
    assert result.lost == []
    for node, peer in ((attic, "camera"), (camera, "attic")):
        assert node.peer(peer)["state"] == "direct"
        assert len(node.events("path_changed")) == 1, "the first path of all is still in use"
