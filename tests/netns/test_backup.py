"""The founding machine is lost, and the network goes on from its backup; and two that invite."""

from __future__ import annotations

from pathlib import Path

import pytest

from .lab import Lab
from .traffic import ping_reaches
from .world import Node, World

pytestmark = pytest.mark.root


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The option that gives the passphrase."""
    file = tmp_path / "words"
    file.write_text("correct horse\n")
    file.chmod(0o600)
    return ["--passphrase-file", str(file)]


def members(node: Node) -> set[str]:
    return {peer["name"] for peer in node.status()["peers"]}


def test_a_lost_founder_is_replaced_and_invites(
    lab: Lab, world: World, tmp_path: Path, words: list[str]
) -> None:
    backup = str(tmp_path / "backup")
    home = lab.home_router("homeA", public="198.51.100.7")
    camera_host = lab.carrier("cgn", public="192.0.2.33").host("b")
    attic = world.found("attic", home.host("a"))
    camera = world.join("camera", camera_host, attic)
    attic.wait("camera")
    taken = {attic.ip4, camera.ip4}
    attic.run("network", "export", backup, *words)  # While it runs.
    attic.kill()

    vault = world.node("vault", lab.home_router("homeC", public="198.51.100.8").host("c"))
    done = vault.run("network", "import", backup, "--name", "vault", *words)
    assert "vault is 10." in done.stderr
    vault.up().wait("camera")
    assert vault.ip4 not in taken
    for address in (camera.ip4, camera.ip6):
        assert ping_reaches(vault.host, address)

    pi = world.join("pi", home.host("d"), vault)
    pi.wait("camera")
    assert pi.ip4 not in taken | {vault.ip4}
    for address in (camera.ip4, camera.ip6):
        assert ping_reaches(pi.host, address)
    assert ping_reaches(camera.host, pi.ip4)
    assert members(camera) >= {"vault", "pi"}
    assert not camera.events("address_contested")


def test_a_member_becomes_a_second_inviter(
    lab: Lab, world: World, tmp_path: Path, words: list[str]
) -> None:
    backup = str(tmp_path / "backup")
    home = lab.home_router("homeA", public="198.51.100.7")
    attic = world.found("attic", home.host("a"))
    string = attic.invite("camera")
    camera = world.node("camera", home.host("b")).up(string)
    address = camera.ip4
    refused = camera.run("invite", "pi", check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "network import" in refused.stderr
    attic.run("network", "export", backup, *words)
    running = camera.run("network", "import", backup, *words, check=False)
    assert running.returncode == 1
    assert "the node is running" in running.stderr
    assert camera.stop() == 0
    camera.run("network", "import", backup, *words)
    camera.up(string).wait("attic")  # As it was started before: that is a plain `up` now.

    # Both invite before either has heard of the other's.
    strings = {"pi": camera.invite("pi"), "lamp": attic.invite("lamp")}
    hosts = {name: home.host(name) for name in strings}
    joined = {name: world.node(name, hosts[name]).up(strings[name]) for name in strings}
    pi, lamp = joined["pi"], joined["lamp"]
    pi.wait("lamp")
    pi.wait("attic")
    assert camera.status()["node"]["addresses"][0] == address, "it stays who it was"
    assert len({node.ip4 for node in (attic, camera, pi, lamp)}) == 4
    assert ping_reaches(pi.host, lamp.ip4)
    attic.wait("pi")
    taken = attic.run("invite", "pi", check=False)
    assert "'pi' exists already" in taken.stderr
    assert not attic.events("address_contested")
