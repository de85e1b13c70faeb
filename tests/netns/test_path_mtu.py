"""Paths of 1280 bytes on which nobody says "too big", and what the nodes make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from .lab import Lab
from .router import Router
from .traffic import FileServer
from .wait import wait_until
from .world import Node, World

pytestmark = pytest.mark.root

SIZE = 10_000_000
LARGEST = {4: 1200, 6: 1180}
"""What 1280 bytes leave for a packet, by the underlay's IP version, of the sizes that are tried:
exactly that with AEGIS-128L, the next below 1216 and 1196 with ChaCha20-Poly1305."""

Underlay = Literal[4, 6]


def make_routers(lab: Lab, underlay: Underlay) -> tuple[Router, Router]:
    """Behind which two hosts reach each other by that IP version only."""
    if underlay == 4:
        return (
            lab.home_router("home", public="198.51.100.7"),
            lab.home_router("other", public="198.51.100.8"),
        )
    mapping = "address-and-port-dependent"
    return (
        lab.home_router(
            "home",
            public="198.51.100.7",
            public6="2001:db8:1::7",
            lan6="2001:db8:a::/64",
            mapping=mapping,
        ),
        lab.home_router(
            "other",
            public="198.51.100.8",
            public6="2001:db8:1::8",
            lan6="2001:db8:b::/64",
            mapping=mapping,
        ),
    )


def found_mtu(node: Node, peer: str) -> int:
    return int(node.peer(peer)["path"]["mtu"])


@pytest.mark.parametrize("inner", [4, 6])
@pytest.mark.parametrize("is_one_way", [False, True])
@pytest.mark.parametrize("underlay", [4, 6])
def test_narrow_from_the_beginning(
    world: World, lab: Lab, tmp_path: Path, underlay: Underlay, is_one_way: bool, inner: int
) -> None:
    home, other = make_routers(lab, underlay)
    if is_one_way:
        home.link.drop_larger_than(1280)
    else:
        home.set_mtu(1280, too_big_answered=False)
    one, two = world.pair(home.host("one"), other.host("two"))
    assert (":" in one.peer("camera")["path"]["remote"].rsplit(":", 1)[0]) is (underlay == 6)
    address = one.ip4 if inner == 4 else one.ip6
    server = FileServer(one.host, address, tmp_path / "www", size=SIZE)
    assert server.fetch(two.host) == SIZE
    assert one.peer("camera")["state"] == "direct"
    wait_until(lambda: found_mtu(one, "camera") == LARGEST[underlay], what="one's path MTU")
    expected = 1400 if is_one_way else LARGEST[underlay]
    wait_until(lambda: found_mtu(two, "attic") == expected, what="two's path MTU")


def test_the_path_becomes_narrow_under_a_download(world: World, lab: Lab, tmp_path: Path) -> None:
    """The sender's kernel is told, too: later packets are made to fit."""
    home, other = make_routers(lab, 4)
    one, two = world.pair(home.host("one"), other.host("two"))
    server = FileServer(one.host, one.ip4, tmp_path / "www", size=SIZE)
    wait_until(lambda: found_mtu(one, "camera") == 1400, what="the whole passes")
    download = server.begin(two.host, rate="2M")
    wait_until(lambda: download.size > 1_000_000, what="part of the file")
    home.link.drop_larger_than(1280)
    assert download.finish() == SIZE
    assert found_mtu(one, "camera") == LARGEST[4]
    assert f"mtu {LARGEST[4]}" in one.host.run(["ip", "route", "get", two.ip4]).stdout
    assert one.peer("camera")["state"] == "direct"
