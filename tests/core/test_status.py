"""The snapshot behind ``punchtun status --json``: DESIGN section 2 lists what it has at least."""

from __future__ import annotations

import json

import pytest

from tests.sim.nat import Mapping, Nat
from tests.sim.ports import Allocation
from tests.sim.theory import Side
from tests.sim.world import World


def status(world: World, name: str = "a") -> dict[str, object]:
    snapshot = world.node(name).status(world.hosts[name].now)
    assert json.loads(json.dumps(snapshot)) == snapshot, "it is JSON as it is"
    return snapshot


def pair(a: Side, b: Side) -> World:
    world = World()
    world.add_node("a", a)
    world.add_node("b", b)
    return world


def varying() -> Nat:
    return Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=Allocation.RANDOM)


KEYS = {
    "node": {"name", "public_key", "addresses", "interface", "mtu", "version", "flood"},
    "network": {"id", "cidr"},
    "server": {"url", "state", "rtt_ms", "transport", "endpoints"},
    "nat": {
        "mapping",
        "filtering",
        "hairpin",
        "present",
        "routers",
        "evidence",
        "port_mapping",
        "mapping_lifetime_s",
        "keepalive_s",
    },
}
PEER_KEYS = {
    "name",
    "public_key",
    "addresses",
    "state",
    "path",
    "why_not_direct",
    "handshake_age_s",
    "cipher",
    "rx_bytes",
    "tx_bytes",
    "rx_packets",
    "tx_packets",
    "duplicates_dropped",
    "outages",
}


def test_the_contract() -> None:
    world = pair(Nat(), Nat())
    assert world.wait_until_direct()
    snapshot = status(world)
    for section, keys in KEYS.items():
        found = snapshot[section]
        assert isinstance(found, dict)
        assert keys <= set(found)
    (peer,) = snapshot["peers"]  # type: ignore[misc]
    assert set(peer) >= PEER_KEYS  # type: ignore[has-type]


def test_no_secret_is_in_it() -> None:
    world = pair(Nat(), Nat())
    world.wait_until_direct()
    config = world.node("a").config
    text = json.dumps(status(world))
    assert config.server.text not in text
    assert config.static.data.hex() not in text
    assert config.identity.secret.hex() not in text


@pytest.mark.parametrize(
    ("sides", "state", "code"),
    [
        ((Nat(), Nat()), "direct", None),
        ((varying(), varying()), "relayed", "both-scattered"),
    ],
)
def test_direct_and_relayed(sides: tuple[Side, Side], state: str, code: str | None) -> None:
    world = pair(*sides)
    world.net.run_for(10)
    (peer,) = status(world)["peers"]  # type: ignore[misc]
    assert peer["state"] == state  # type: ignore[has-type]
    path, why = peer["path"], peer["why_not_direct"]  # type: ignore[has-type]
    assert path["rtt_ms"] > 0
    if code is None:
        assert why is None
        assert path["kind"] != "relayed"
    else:
        assert path["remote"] == "relay"
        assert why["code"] == code
        assert why["reason"]
        assert why["evidence"]
        assert why["fix"]


@pytest.mark.parametrize(
    ("without", "cipher"),
    [(set(), "AEGIS-128L"), ({"a"}, "ChaCha20-Poly1305"), ({"a", "b"}, "ChaCha20-Poly1305")],
)
def test_the_cipher_that_a_pair_agreed_on(without: set[str], cipher: str) -> None:
    world = World()
    world.without_aegis = without
    world.add_node("a", Nat())
    world.add_node("b", Nat())
    assert world.wait_until_direct()
    for name in "ab":
        (peer,) = status(world, name)["peers"]  # type: ignore[misc]
        assert peer["cipher"] == cipher  # type: ignore[has-type]


def test_connecting_and_offline() -> None:
    world = pair(Nat(), Nat())
    seen = set()
    for _ in range(100):
        world.net.run_for(0.005)
        for peer in status(world)["peers"]:  # type: ignore[attr-defined]
            seen.add(peer["state"])
    assert "connecting" in seen
    assert world.wait_until_direct()
    world.hosts["b"].call(lambda node, now: node.close(now))
    world.hosts["b"].stop()
    world.net.run_for(2)
    (peer,) = status(world)["peers"]  # type: ignore[misc]
    assert peer["state"] == "offline"
    assert peer["path"] is None
    assert peer["cipher"] is None
    assert peer["why_not_direct"]["reason"] == "the peer is offline"


def test_the_server_is_away() -> None:
    world = pair(Nat(), Nat())
    assert world.wait_until_direct()
    world.server_host.stop()
    world.net.run_for(120)
    snapshot = status(world)
    assert snapshot["server"]["state"] == "unreachable"  # type: ignore[index]
    assert world.is_direct(), "established paths live on"
