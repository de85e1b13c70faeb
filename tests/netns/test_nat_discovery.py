"""What a node learns of the kernel's NATs, beside what STUN tools say behind the same routers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .lab import Host, Lab, Router
from .stun_tools import Discovery, Verdict, mapped_address, start_coturn
from .wait import wait_until
from .world import SERVER_ADDRESS, Json, Node, World

pytestmark = pytest.mark.root

SECOND_ADDRESS = "203.0.113.20"
INTERNET = "192.0.2.1"
"""Its router, the last one that is asked."""
BEHAVIOURS = ("endpoint-independent", "address-dependent", "address-and-port-dependent")
RFC3489 = {
    "endpoint-independent": "Independent Filter",
    "address-dependent": "Address Dependent Filter",
    "address-and-port-dependent": "Port Dependent Filter",
}
"""Of the line that ``stun`` prints, for mappings that do not vary."""
KINDS: list[dict[str, Any]] = [
    *({"mapping": m, "filtering": f} for m, f in product(BEHAVIOURS, BEHAVIOURS)),
    {"mapping": "address-and-port-dependent", "allocation": "sequential"},
    {"unsolicited": "track"},
]


class Comparison(NamedTuple):
    ours: Json
    theirs: Discovery
    kind: dict[str, Any]


class Town(NamedTuple):
    world: World
    comparisons: list[Comparison]
    routers: list[Router]


def two_addresses(lab: Lab, folder: Path) -> World:
    """A world whose server has two addresses, and a coturn beside it."""
    world = World(lab, folder)
    vps = lab.public_host("vps", SERVER_ADDRESS)
    lab.internet().add_address(vps, SECOND_ADDRESS)
    listen = [word for a in (SERVER_ADDRESS, SECOND_ADDRESS) for word in ("--listen", f"{a}:12345")]
    world.start_server(*listen, host=vps)
    return world


def start(world: World, name: str, host: Host) -> Node:
    node = world.node(name, host)
    node.start("--server", world.url, "--name", name)
    return node


def wait_for_nat(node: Node) -> Json:
    """Until everything is known; `nat` of its status."""
    node.wait_until_up()
    node.wait()

    nat: Json = {}

    def is_known() -> bool:
        nat.update(node.status()["nat"])
        has_traced = INTERNET in nat["routers"]  # Begun anew when the network has changed.
        is_tried = nat["filtering"] is not None and (
            nat["hairpin"] is not None or not nat["present"]
        )
        return has_traced and is_tried

    wait_until(is_known, timeout=60.0, interval=0.3, what=f"{node.name} to know its NAT")
    return nat


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A node and the tools behind every kind of router, all at once: what is filtered takes its
    time."""
    folder = tmp_path_factory.mktemp("town")
    with Lab() as lab:
        world = two_addresses(lab, folder)
        start_coturn(world.vps, [SERVER_ADDRESS, SECOND_ADDRESS], folder)
        routers = [
            lab.home_router(f"home{n}", public=f"198.51.100.{n + 1}", **kind)
            for n, kind in enumerate(KINDS)
        ]
        hosts = [router.host(f"pi{n}") for n, router in enumerate(routers)]
        nodes = [start(world, f"pi{n}", host) for n, host in enumerate(hosts)]
        theirs = [Discovery(host, SERVER_ADDRESS) for host in hosts]
        ours = [wait_for_nat(node) for node in nodes]
        yield Town(
            world, [Comparison(*row) for row in zip(ours, theirs, KINDS, strict=True)], routers
        )
        world.close()


@pytest.mark.parametrize("number", range(len(KINDS)), ids=[str(kind) for kind in KINDS])
def test_verdicts_agree(town: Town, number: int) -> None:
    ours, tools, kind = town.comparisons[number]
    expected = Verdict(
        kind.get("mapping", "endpoint-independent"),
        kind.get("filtering", "address-and-port-dependent"),
    )
    assert Verdict(ours["mapping"], ours["filtering"]) == expected, ours["evidence"]
    assert tools.rfc5780() == expected
    said = tools.rfc3489()
    if expected.mapping == BEHAVIOURS[0]:
        assert said.startswith(f"Independent Mapping, {RFC3489[expected.filtering]}")
    else:
        assert said.startswith("Dependent Mapping")
    assert (ours["hairpin"], ours["present"]) == (False, True)
    assert "no hairpin" in said
    assert ours["routers"] == ["192.168.1.1", "192.0.2.1"]


def test_the_server_s_own_stun(town: Town) -> None:
    for node, router in zip(town.world.nodes, town.routers, strict=True):
        for port in (12345, 12346):
            assert mapped_address(node.host, SERVER_ADDRESS, port) == router.ip4


def test_without_nat(lab: Lab, tmp_path: Path) -> None:
    world = two_addresses(lab, tmp_path)
    start_coturn(world.vps, [SERVER_ADDRESS, SECOND_ADDRESS], tmp_path)
    host = lab.public_host("office", "198.51.100.7")
    tools = Discovery(host, SERVER_ADDRESS)
    nat = wait_for_nat(start(world, "office", host))
    assert (nat["mapping"], nat["filtering"]) == (BEHAVIOURS[0], BEHAVIOURS[0])
    assert (nat["present"], nat["hairpin"]) == (False, None)
    assert tools.rfc3489().startswith("Open")
    world.close()


def test_a_second_nat_and_what_an_opener_needs(lab: Lab, tmp_path: Path) -> None:
    """It crosses both, and nobody beyond hears of it."""
    world = two_addresses(lab, tmp_path)
    carrier = lab.carrier("carrier", public="192.0.2.33", mapping="address-and-port-dependent")
    home = carrier.home_router("lte", lan="192.168.8.0/24")
    host = home.host("pi")
    other = lab.public_host("other", "203.0.113.30").udp_socket(4000)
    node = start(world, "pi", host)
    nat = wait_for_nat(node)
    assert nat["routers"] == ["192.168.8.1", "100.64.0.1", "192.0.2.1"]
    assert any("carrier-grade NAT" in sentence for sentence in nat["evidence"])
    assert (nat["mapping"], nat["filtering"]) == (BEHAVIOURS[2], BEHAVIOURS[2])
    opener = host.udp_socket()
    opener.setsockopt(0, 2, 3)  # IP_TTL
    opener.sendto(b"opener", ("203.0.113.30", 4000))
    wait_until(
        lambda: any(str(m).find("203.0.113.30") >= 0 for m in carrier.mappings()),
        what="the opener in the carrier's table",
    )
    other.settimeout(0.3)
    with pytest.raises(TimeoutError):
        other.recv(64)
    world.close()


def test_another_network_is_learned_afresh(lab: Lab, tmp_path: Path) -> None:
    world = two_addresses(lab, tmp_path)
    home = lab.home_router("home", public="198.51.100.7", filtering="endpoint-independent")
    cafe = lab.home_router(
        "cafe", public="198.51.100.8", lan="192.168.7.0/24", mapping=BEHAVIOURS[2]
    )
    laptop = home.host("laptop")
    node = start(world, "laptop", laptop)
    nat = wait_for_nat(node)
    assert (nat["mapping"], nat["filtering"]) == (BEHAVIOURS[0], BEHAVIOURS[0])
    laptop.attach(cafe)
    wait_until(
        lambda: (
            node.status()["nat"]["filtering"] == BEHAVIOURS[2]
            and node.status()["nat"]["mapping"] == BEHAVIOURS[2]
        ),
        timeout=30.0,
        interval=0.3,
        what="the other NAT's behaviour",
    )
    assert node.status()["nat"]["routers"] == ["192.168.7.1", "192.0.2.1"]
    world.close()
