"""`punchtun rotate-key` with the real program: the inviter away, the answer, the next start."""

from __future__ import annotations

import json

import pytest

from .lab import Lab
from .traffic import ping_reaches
from .wait import wait_until
from .world import PATIENCE, Node, World

pytestmark = pytest.mark.root


def key_of(node: Node) -> str:
    return str(node.status()["node"]["public_key"])


def knows_as(node: Node, name: str, key: str) -> bool:
    found = [peer["public_key"] for peer in node.status()["peers"] if peer["name"] == name]
    return found == [key]


def test_a_new_key_under_the_same_name_and_address(world: World, lab: Lab) -> None:
    home = lab.home_router("homeA", public="198.51.100.7")
    carrier = lab.carrier("cgn", public="192.0.2.33")
    attic, camera = world.pair(home.host("a"), carrier.host("b"))
    laptop = world.join("laptop", lab.home_router("homeB", public="203.0.113.77").host("c"), attic)
    world.wait_direct(camera, laptop)
    addresses, old = (camera.ip4, camera.ip6), key_of(camera)

    refused = attic.run("rotate-key", check=False)
    assert refused.returncode == 1
    assert "this machine may invite" in refused.stderr

    # Who may invite is away: it is asked when it is back, and the key is the one chosen before.
    attic.stop()
    away = camera.run("rotate-key", "--timeout", "2", check=False)
    assert (away.returncode, away.stdout) == (4, "")
    assert "no machine that may invite" in away.stderr
    node = json.loads((camera.state / "node.json").read_text())
    assert "next_private_key" in node
    camera.kill()
    camera.up().wait("laptop")
    attic.up().wait("camera")

    def is_kept() -> bool:
        return "retired" in json.loads((camera.state / "node.json").read_text())

    wait_until(is_kept, timeout=PATIENCE, what="the answer is kept")
    (event,) = camera.events("key_replaced")
    assert event["inviter"] == "attic"
    new = event["key"]
    assert key_of(camera) == old, "it is used from the next start on"
    assert ping_reaches(laptop.host, addresses[0])
    again = camera.run("rotate-key", check=False)
    assert again.returncode == 1
    assert "has a new key already" in again.stderr

    # One of the members is away when it is used.
    laptop.stop()
    camera.kill()
    camera.up().wait("attic")
    assert key_of(camera) == new
    assert (camera.ip4, camera.ip6) == addresses
    wait_until(lambda: knows_as(attic, "camera", new), timeout=PATIENCE, what="attic knows")
    assert ping_reaches(attic.host, addresses[0])
    assert ping_reaches(attic.host, addresses[1])
    (revoked,) = attic.events("member_revoked")
    assert (revoked["peer"], revoked["key"], revoked["successor"]) == ("camera", old, new)
    laptop.up().wait("camera")
    wait_until(lambda: knows_as(laptop, "camera", new), timeout=PATIENCE, what="laptop knows")
    assert ping_reaches(laptop.host, addresses[0])

    # And once more, with everybody there.
    assert camera.json("rotate-key")["public_key"] != new
