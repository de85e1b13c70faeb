from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.messages import networks
from tunnel.core.routes import RoutingTable, host_network
from tunnel.wire.certificate import Network

Target = str


class LinearScan:
    """The same by looking at every route."""

    def __init__(self) -> None:
        self.routes: dict[Network, Target] = {}

    def add(self, network: Network, target: Target) -> None:
        self.routes[network] = target

    def remove_target(self, target: Target) -> None:
        self.routes = {n: t for n, t in self.routes.items() if t is not target}

    def find(self, address: bytes) -> Target | None:
        ip = ipaddress.ip_address(address)
        holding = [n for n in self.routes if n.version == ip.version and ip in n]
        return self.routes[max(holding, key=lambda n: n.prefixlen)] if holding else None


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


# Few bits vary, so that prefixes overlap.
small_networks = st.one_of(
    st.builds(
        lambda bits, length: ipaddress.ip_network((bits << 28, length), strict=False),
        st.integers(0, 15),
        st.integers(0, 32),
    ),
    st.builds(
        lambda bits, length: ipaddress.ip_network((0xFD << 120 | bits << 60, length), strict=False),
        st.integers(0, 15),
        st.integers(0, 128),
    ),
    networks,
)
targets = st.sampled_from(["a", "b", "c"])
operations = st.lists(st.tuples(small_networks | st.none(), targets), max_size=25)


@settings(max_examples=150, deadline=None)
@given(operations, st.lists(small_networks, min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_like_a_linear_scan(
    steps: list[tuple[Network | None, Target]], probes: list[Network], offset: int
) -> None:
    table: RoutingTable[Target] = RoutingTable()
    scan = LinearScan()
    for network, target in steps:
        if network is None:
            table.remove_target(target)
            scan.remove_target(target)
        else:
            table.add(network, target)
            scan.add(network, target)
        for probe in probes:
            address = probe[offset % probe.num_addresses].packed
            assert table.find(address) == scan.find(address)
            assert table.get(probe) == scan.routes.get(probe)


def test_empty() -> None:
    table: RoutingTable[Target] = RoutingTable()
    assert table.find(packed("10.0.0.1")) is None
    assert table.find(packed("fd00::1")) is None


def test_default_route_and_longest_prefix() -> None:
    table: RoutingTable[Target] = RoutingTable()
    table.add(ipaddress.ip_network("0.0.0.0/0"), "exit")
    table.add(ipaddress.ip_network("10.9.0.0/24"), "net")
    table.add(host_network(ipaddress.ip_address("10.9.0.7")), "host")
    assert table.find(packed("10.9.0.7")) == "host"
    assert table.find(packed("10.9.0.8")) == "net"
    assert table.find(packed("10.9.1.8")) == "exit"
    assert table.find(packed("::1")) is None
    table.remove_target("host")
    assert table.find(packed("10.9.0.7")) == "net"


def test_a_route_has_one_target_the_last() -> None:
    table: RoutingTable[Target] = RoutingTable()
    network = ipaddress.ip_network("10.9.0.0/24")
    table.add(network, "one")
    table.add(network, "other")
    assert table.find(packed("10.9.0.7")) == "other"
    table.remove_target("one")
    assert table.find(packed("10.9.0.7")) == "other"


@pytest.mark.parametrize("text", ["10.9.0.7", "fd00::7"])
def test_host_network(text: str) -> None:
    network = host_network(ipaddress.ip_address(text))
    assert network.num_addresses == 1
    assert network.network_address == ipaddress.ip_address(text)
