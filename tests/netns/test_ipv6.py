"""IPv6 beside IPv4, instead of it, and without it, with the real program: firewalls that let in
only what was asked for, and no NAT."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .host import Host
from .lab import Lab
from .router import Router
from .traffic import ping_reaches, ping_stream
from .wait import wait_until
from .world import PATIENCE, PORT, Node, World

pytestmark = pytest.mark.root

NAME = "vps.example.test"
SERVER_V6 = "2001:db8::10"
IMPOSSIBLE: dict[str, Any] = {"software": True, "mapping": "address-and-port-dependent"}
"""Two of these never meet: random ports over the whole range."""


class DualStack(World):
    """The server's name has addresses of both families."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        super().__init__(lab, folder)
        self.start_server()
        self.url = self.server_url(NAME)
        self.routers: list[Router] = []

    def add_host(self, name: str, *, has_ipv6: bool = True, **nat: Any) -> Host:
        """Behind a router of its own."""
        number = len(self.routers) + 1
        ipv6 = {"public6": f"2001:db8:{number}::1", "lan6": f"2001:db8:{number}:1::/64"}
        router = self.lab.home_router(
            f"r-{name}", public=f"198.51.100.{number}", **(ipv6 if has_ipv6 else {}), **nat
        )
        self.routers.append(router)
        host = router.host(name)
        host.name_hosts({NAME: [SERVER_V6, self.vps.ip4]})
        return host


@pytest.fixture
def dual(lab: Lab, tmp_path: Path) -> Iterator[DualStack]:
    world = DualStack(lab, tmp_path)
    yield world
    world.close()


def remote(one: Node, other: Node) -> str:
    """Where one reaches the other."""
    return str(one.peer(other.name)["path"]["remote"])


def wait_for_ipv6(*nodes: Node) -> None:
    for one, other in (nodes, nodes[::-1]):
        wait_until(
            lambda one=one, other=other: remote(one, other).startswith("[2001:db8:"),  # type: ignore[misc]
            timeout=PATIENCE,
            interval=0.1,
            what=f"{one.name}: {other.name} by IPv6",
        )


def test_direct_by_ipv6_where_ipv4_cannot(dual: DualStack) -> None:
    a, b = dual.add_host("a", **IMPOSSIBLE), dual.add_host("b", **IMPOSSIBLE)
    attic, camera = dual.pair(a, b)
    wait_for_ipv6(attic, camera)
    stream = ping_stream(a, camera.ip4, interval=0.02)
    time.sleep(3)
    result = stream.stop()
    assert set(result.lost) <= {result.sent}
    wait_for_ipv6(attic, camera)
    # The server sees both, and both are told.
    observed = attic.status()["server"]["observed"]
    assert {text.startswith("[") for text in observed} == {False, True}


def test_one_side_has_ipv6_only(dual: DualStack) -> None:
    a, b = dual.add_host("a"), dual.add_host("b", **IMPOSSIBLE)
    a.drop_ipv4()
    attic, camera = dual.pair(a, b)
    wait_for_ipv6(attic, camera)
    assert ping_reaches(a, camera.ip4)
    assert ping_reaches(b, attic.ip4)


def test_joining_by_ipv6_only_and_a_url_with_an_address(dual: DualStack) -> None:
    dual.url = dual.server_url(SERVER_V6)
    assert dual.url.startswith(f"punchtun://[{SERVER_V6}]:{PORT}/")
    a, b = dual.add_host("a"), dual.add_host("b")
    for host in (a, b):
        host.drop_ipv4()
    attic, camera = dual.pair(a, b)
    wait_for_ipv6(attic, camera)
    assert attic.status()["server"]["endpoints"] == [f"[{SERVER_V6}]:{PORT}"]
    assert ping_reaches(a, camera.ip6)


def test_no_family_in_common(dual: DualStack) -> None:
    """Relayed by the server, which has both; and the status says why."""
    a, b = dual.add_host("a"), dual.add_host("b", has_ipv6=False)
    a.drop_ipv4()
    attic = dual.found("attic", a)
    camera = dual.join("camera", b, attic)
    attic.wait_for_state("camera", "relayed")
    camera.wait_for_state("attic", "relayed")
    assert ping_reaches(a, camera.ip4)
    time.sleep(5)
    for node, peer in ((attic, "camera"), (camera, "attic")):
        entry = node.peer(peer)
        assert entry["state"] == "relayed"
        assert entry["why_not_direct"]["code"] == "no-common-family"
    assert attic.run(
        "wait", "--peer", "camera", "--direct", "--timeout", "1", check=False
    ).returncode


@pytest.mark.parametrize("when", ["from the start", "later"])
def test_a_black_hole_instead_of_ipv6(dual: DualStack, when: str) -> None:
    """Addresses and routes are there; packets are not. IPv4 does it all."""
    a, b = dual.add_host("a"), dual.add_host("b")

    def swallow() -> None:
        dual.routers[0].nft("""
            table ip6 hole {
                chain forward { type filter hook forward priority filter - 10; drop; }
            }""")

    if when == "from the start":
        swallow()
    attic, camera = dual.pair(a, b)
    stream = ping_stream(a, camera.ip4, interval=0.02)
    if when == "later":
        time.sleep(2)
        swallow()
    time.sleep(2)
    wait_until(
        lambda: remote(attic, camera).startswith("198.51.100."), timeout=PATIENCE, what="IPv4"
    )
    result = stream.stop()
    assert len(result.lost) <= 2
    assert attic.status()["server"]["state"] == "connected"
    assert attic.peer("camera")["state"] == "direct"


class PrivacyAddresses:
    """The kernel's own, by a prefix that is announced to last, with lifetimes of seconds."""

    def __init__(self, host: Host, stable: str) -> None:
        self._host = host
        settings = {"use_tempaddr": 2, "temp_prefered_lft": 16, "temp_valid_lft": 24}
        host.run(["ip", "-6", "addr", "flush", "dev", host.uplink, "scope", "global"])
        for name, value in settings.items():
            key = f"net.ipv6.conf.{host.uplink}.{name}={value}"
            subprocess.run(
                ["ip", "netns", "exec", host.namespace, "sysctl", "-q", "-w", key], check=True
            )
        host.run(["ip", "addr", "add", stable, "dev", host.uplink, "nodad", "mngtmpaddr"])
        wait_until(self.usable, timeout=PATIENCE, what="a temporary address")

    def listed(self, *flags: str) -> list[str]:
        argv = ["ip", "-6", "-o", "addr", "show", "dev", self._host.uplink, "temporary"]
        lines = self._host.run([*argv, *flags]).stdout.splitlines()
        return [line.split()[3].split("/")[0] for line in lines if "tentative" not in line]

    def usable(self) -> list[str]:
        return self.listed("-deprecated")


def test_privacy_addresses_rotate_under_traffic(dual: DualStack) -> None:
    """The kernel makes new ones, deprecates those before, and takes them away in the end: no more
    is lost than is under way at such a moment, and IPv4 could not do it."""
    a, b = dual.add_host("a", **IMPOSSIBLE), dual.add_host("b", **IMPOSSIBLE)
    addresses = PrivacyAddresses(a, "2001:db8:1:1::77/64")
    attic, camera = dual.pair(a, b)
    wait_for_ipv6(attic, camera)
    first = addresses.listed()
    streams = [ping_stream(a, camera.ip4, interval=0.02), ping_stream(b, attic.ip4, interval=0.02)]

    def has_moved() -> bool:
        at = remote(camera, attic)
        return at.startswith("[2001:db8:1:1:") and not any(
            f"[{address}]" in at for address in first
        )

    wait_until(lambda: not set(first) & set(addresses.listed()), timeout=40, what="the first's end")
    wait_until(has_moved, timeout=PATIENCE, interval=0.1, what="the path at a new address")
    time.sleep(3)
    for stream in streams:
        result = stream.stop()
        print(result)
        assert len(result.lost) <= 4, "of more than a thousand"
    assert attic.peer("camera")["state"] == camera.peer("attic")["state"] == "direct"
