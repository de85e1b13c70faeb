"""punchtun behind a router with a real miniupnpd: PCP, NAT-PMP and UPnP-IGD.

Its routers have addresses that are public by the book: miniupnpd does nothing behind one of the
documentation ranges, which the lab uses otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .igd import Igd
from .lab import Lab, Router
from .wait import wait_until
from .world import PATIENCE, Node, World

pytestmark = pytest.mark.root

PUBLIC = "5.5.5.7"
PROTOCOLS = {
    "pcp": {"upnp": False},
    "nat-pmp": {"upnp": False, "pcp": False},
    "upnp": {"natpmp": False},
}


def port_mapping(node: Node) -> Any:
    return node.status()["nat"]["port_mapping"]


def wait_for_mapping(node: Node, state: str = "mapped") -> Any:
    """What `status` says once it is in that state."""

    def found() -> Any:
        described = port_mapping(node)
        return described if described and described["state"] == state else None

    return wait_until(found, timeout=PATIENCE, interval=0.1, what=f"port mapping {state}")


def home(lab: Lab, **nat: Any) -> Router:
    return lab.home_router("home", public=PUBLIC, **nat)


def strangers_datagrams(node: Node) -> int:
    return int(node.status()["drops"].get("unknown type", 0))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_mapped_reachable_and_given_up(
    lab: Lab, world: World, tmp_path: Path, protocol: str
) -> None:
    router = home(lab, mapping="address-and-port-dependent")
    igd = Igd(router, tmp_path, **PROTOCOLS[protocol])
    attic = world.found("attic", router.host("pi"))
    described = wait_for_mapping(attic)
    port = attic.status()["node"]["listen_port"]
    assert described["protocol"] == protocol
    assert described["external"] == f"{PUBLIC}:{port}"
    assert 7000 < described["lifetime_s"] <= 7200
    (rule,) = igd.rules()
    assert rule.endswith(f"dnat ip to {attic.host.ip4}:{port}")
    (event,) = attic.events("port_mapped")
    assert (event["protocol"], event["is_reachable"]) == (protocol, True)

    stranger = lab.public_host("stranger", "203.0.113.99").udp_socket()
    before = strangers_datagrams(attic)
    stranger.sendto(b"\xff anybody may send here", (PUBLIC, port))
    wait_until(lambda: strangers_datagrams(attic) == before + 1, what="the stranger's datagram")

    assert attic.stop() == 0
    assert igd.rules() == []


def test_a_varying_mapping_meets_a_port_restricted_one(
    lab: Lab, world: World, tmp_path: Path
) -> None:
    """The pair that punching alone does not bring together: the other side goes in by the port
    that the router forwards."""
    router = home(lab, mapping="address-and-port-dependent")
    Igd(router, tmp_path)
    attic = world.found("attic", router.host("pi"))
    external = wait_for_mapping(attic)["external"]
    other = lab.home_router("other", public="192.0.2.33").host("cam")
    camera = world.join("camera", other, attic)
    world.wait_direct(attic, camera)
    assert camera.peer("attic")["path"]["remote"] == external
    attic.host.run(["ping", "-c2", "-i0.2", camera.ip4])
    camera.host.run(["ping", "-c2", "-i0.2", attic.ip4])


def test_a_pair_that_is_relayed_goes_direct_when_the_port_is_mapped(
    lab: Lab, world: World, tmp_path: Path
) -> None:
    """The router's daemon starts late, and says so: nobody has to wait or restart anything."""
    router = home(lab, mapping="address-and-port-dependent")
    attic = world.found("attic", router.host("pi"), "--no-port-guessing")
    other = lab.home_router("other", public="192.0.2.33").host("cam")
    camera = world.join("camera", other, attic)
    wait_for_mapping(attic, "unavailable")
    assert "closed" in port_mapping(attic)["reason"]
    attic.wait("camera")
    Igd(router, tmp_path)
    external = wait_for_mapping(attic)["external"]
    camera.wait_for_state("attic", "direct")
    wait_until(
        lambda: camera.peer("attic")["path"]["remote"] == external,
        timeout=PATIENCE,
        what="the mapped endpoint in use",
    )


def test_renewed_in_time(lab: Lab, world: World, tmp_path: Path) -> None:
    router = home(lab)
    igd = Igd(router, tmp_path, upnp=False, max_lifetime=10)
    attic = world.found("attic", router.host("pi"))
    assert wait_for_mapping(attic)["lifetime_s"] <= 10
    # Asked three times, 5 s apart: by the last one the first lease is over.
    asked = "PCP MAP: added mapping"
    wait_until(lambda: igd.process.stderr.count(asked) >= 4, timeout=40, what=asked)
    assert len(igd.rules()) == 1
    assert len(attic.events("port_mapped")) == 1
    assert attic.events("port_mapping_lost") == []


@pytest.mark.parametrize("protocol", ["pcp", "nat-pmp"])
def test_mapped_again_when_the_router_has_forgotten(
    lab: Lab, world: World, tmp_path: Path, protocol: str
) -> None:
    router = home(lab)
    igd = Igd(router, tmp_path, **PROTOCOLS[protocol])
    attic = world.found("attic", router.host("pi"))
    external = wait_for_mapping(attic)["external"]
    # Its clock counts seconds: it must have counted some before it starts again.
    wait_until(lambda: wait_for_mapping(attic)["lifetime_s"] < 7196)
    igd.restart()
    wait_until(igd.rules, timeout=PATIENCE, what="the mapping, made again")
    assert port_mapping(attic)["external"] == external
    assert attic.stop() == 0
    assert igd.rules() == []


def test_a_router_behind_another_nat(lab: Lab, world: World, tmp_path: Path) -> None:
    """miniupnpd maps nothing then, and `status` says what it said. Routers that map all the same
    are in tests/core."""
    carrier = lab.carrier("cgn", public="192.0.2.33")
    router = carrier.home_router("home", lan="192.168.1.0/24")
    igd = Igd(router, tmp_path)
    attic = world.found("attic", router.host("pi"))
    reason = wait_for_mapping(attic, "refused")["reason"]
    assert reason == "PCP: no resources; NAT-PMP: network failure; UPnP: Action Failed"
    assert igd.rules() == []


def test_switched_off(lab: Lab, world: World, tmp_path: Path) -> None:
    router = home(lab)
    igd = Igd(router, tmp_path)
    attic = world.found("attic", router.host("pi"), "--no-port-mapping")
    file = tmp_path / "off.toml"
    file.write_text("port_mapping = false\n")
    camera = world.join("camera", router.host("cam"), attic, "--config", str(file))
    attic.wait("camera", direct=True)
    assert port_mapping(attic) is None
    assert port_mapping(camera) is None
    assert igd.rules() == []
    assert "request received" not in igd.process.stderr
