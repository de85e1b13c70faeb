"""`punchtun revoke`: a stolen machine, with the real program from the theft to its successor."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest

from tunnel.noise.keys import PublicKey
from tunnel.wire.invitation import encode_base64

from .lab import Lab
from .traffic import ping_reaches
from .wait import wait_until
from .world import PATIENCE, Node, World

pytestmark = pytest.mark.root


def knows(node: Node, key: str) -> bool:
    return key in [one["public_key"] for one in node.status()["network"]["revoked"]]


def refused(node: Node, name: str, code: int, text: str) -> None:
    result = node.run("revoke", name, check=False)
    assert (result.returncode, result.stdout) == (code, "")
    assert text in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_stolen_machine(world: World, lab: Lab, tmp_path: Path) -> None:
    home = lab.home_router("homeA", public="198.51.100.7")
    carrier = lab.carrier("cgn", public="192.0.2.33")
    attic, camera = world.pair(home.host("a"), carrier.host("b"))
    laptop = world.join("laptop", lab.home_router("homeB", public="203.0.113.77").host("c"), attic)
    world.wait_direct(attic, laptop)
    world.wait_direct(camera, laptop)
    address, key = camera.ip4, camera.status()["node"]["public_key"]

    refused(laptop, "camera", 1, "this machine holds no signing key, so it may not revoke")
    refused(attic, "nas", 2, "no member is called 'nas'; known here: camera, laptop")
    refused(attic, "attic", 2, "this machine itself")
    attic.invite("nas")
    assert attic.json("revoke", "nas") == {"name": "nas", "public_key": None, "told": []}
    refused(attic, "nas", 2, "no member is called 'nas'")

    # The thief has the disk's content; the machine itself runs on. One member is away meanwhile.
    loot = tmp_path / "loot"
    shutil.copytree(camera.state, loot, ignore=shutil.ignore_patterns("*.sock", "lock"))
    laptop.stop()
    answer = attic.json("revoke", "camera")
    assert (answer["name"], answer["public_key"]) == ("camera", key)
    assert "camera" not in [peer["name"] for peer in attic.status()["peers"]]

    camera.process.wait_for("this machine has been revoked", timeout=PATIENCE)
    (event,) = camera.events("member_revoked")
    assert (event["peer"], event["key"], event["is_own"]) == ("camera", key, True)
    status = camera.status()
    assert (status["node"]["is_revoked"], status["peers"]) == (True, [])
    assert "REVOKED" in camera.run("status").stdout
    assert not ping_reaches(attic.host, address, tries=2)

    # It holds over the founder's end without a good-bye, and the one that was away hears of it.
    attic.kill()
    attic.up().wait()
    assert knows(attic, key)
    laptop.up().wait("attic")
    wait_until(lambda: knows(laptop, key), timeout=PATIENCE, what="laptop hears of it")
    for node in (attic, laptop, camera):
        file = node.state / "revocations.json"
        wait_until(file.exists, timeout=PATIENCE, what=f"{node.name} keeps it")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    # What was stolen lets nobody in, though the server serves it.
    thief = world.node("thief", lab.home_router("homeC", public="198.51.100.99").host("d"))
    shutil.move(loot, thief.state)
    thief.up().wait()
    for peer in ("attic", "laptop"):
        result = thief.run("wait", "--peer", peer, "--timeout", "4", check=False)
        assert result.returncode == 4, result
    for node in (attic, laptop):
        assert "camera" not in [peer["name"] for peer in node.status()["peers"]]
        assert node.status()["drops"]["certificate of a revoked member"] > 0
    thief.stop()

    # Starting it again says why not, and that once.
    camera.stop()
    process = camera.start()
    world.expected_to_fail.append(process)
    assert process.wait(PATIENCE) == 2
    assert "this machine has been revoked" in process.stderr

    # Its successor, on the same machine, has another key and all else.
    invitation = attic.invite("camera", "--ip", address)
    camera.up(invitation)
    world.wait_direct(attic, camera)
    world.wait_direct(laptop, camera)
    assert camera.status()["node"]["public_key"] != key
    # It knew from the inviter whom to have nothing to do with: itself, as it was.
    kept = json.loads((camera.state / "revocations.json").read_text())
    assert kept["announced"] == [encode_base64(PublicKey.parse(key).data[:8])]
    assert camera.ip4 == address
    assert ping_reaches(attic.host, address)
    assert ping_reaches(laptop.host, address)
