"""While as much as fits is under way both ways, the control plane has its turns."""

from __future__ import annotations

import json

import pytest

from .lab import Lab
from .traffic import ping_reaches
from .world import World

pytestmark = pytest.mark.root

SECONDS = 8


def test_a_member_joins_and_no_path_is_lost(world: World, lab: Lab) -> None:
    left = lab.home_router("left", public="198.51.100.7").host("a")
    right = lab.home_router("right", public="198.51.100.8").host("b")
    other = lab.home_router("other", public="198.51.100.9").host("c")
    attic = world.found("attic", left)
    camera = world.join("camera", right, attic)
    world.wait_direct(attic, camera)
    before = {node.name: len(node.events("path_changed")) for node in (attic, camera)}
    server = left.popen(["iperf3", "-s", "-1", "--forceflush", "-B", attic.ip4])
    server.wait_for("Server listening")
    argv = ["iperf3", "-c", attic.ip4, "-J", "--bidir", "-t", str(SECONDS)]
    transfer = right.popen([*argv, "--connect-timeout", "5000"])
    gate = world.join("gate", other, attic)  # attic answers it, and the server introduces them.
    world.wait_direct(attic, gate)
    world.wait_direct(camera, gate)
    for node in (attic, camera):
        assert ping_reaches(other, node.ip4)
        assert ping_reaches(other, node.ip6)
    assert transfer.returncode is None, "all of that was beside the transfer"
    transfer.wait(SECONDS + 30)
    end = json.loads(transfer.stdout)["end"]
    for direction in ("sum_received", "sum_received_bidir_reverse"):
        assert end[direction]["bytes"] > 10_000_000
    for node, peer in ((attic, "camera"), (camera, "attic")):
        assert node.peer(peer)["state"] == "direct"
        changed = [event for event in node.events("path_changed") if event["peer"] == peer]
        assert len(changed) == before[node.name], changed
