"""The doctor before `up`: an examination of a server from behind any NAT, in virtual time."""

from __future__ import annotations

import pytest

from tests.sim.host import Host
from tests.sim.nat import Filtering, Mapping, Nat
from tests.sim.ports import Allocation
from tests.sim.streams import VirtualStreams
from tests.sim.world import SERVER_ADDRESS, SERVER_PORT, World
from tunnel.core.examination import PATIENCE, Examination, Way
from tunnel.wire.endpoint import Endpoint


class Examined:
    def __init__(
        self,
        *nats: Nat,
        is_blocked: bool = False,
        wall_clock_error: float = 0.0,
        is_server_there: bool = True,
        has_streams: bool = True,
    ) -> None:
        self.world = World()
        net = self.world.net
        behind = None
        for number, nat in enumerate(reversed(nats)):
            behind = net.add_router(nat, f"nat{number}", behind=behind)
        self.host: Host = net.add_host("pi", None if behind else "5.6.7.8", behind=behind)
        self.host.opens_sockets = self.host.hears_icmp = True
        self.host.wall_clock_error = wall_clock_error
        if has_streams:
            VirtualStreams(net, self.world.server_host, self.host)
        if is_blocked:
            net.block_udp(self.host)
        if not is_server_there:
            self.world.server_host.stop()
        self.machine = Examination(
            self.world._url,
            self.host.addresses,
            now=self.host.now,
            random_bytes=self.host.random_bytes,
            wall_clock=self.host.wall_clock,
        )
        self.host.start(self.machine)
        began = net.now
        server = Endpoint(SERVER_ADDRESS, SERVER_PORT)
        self.host.call(lambda machine, now: machine.set_server_endpoints([server], now))
        assert net.run_until_true(lambda: self.machine.is_done, PATIENCE + 0.1)
        self.seconds = net.now - began

    def way(self, name: str) -> Way:
        return next(way for way in self.machine.ways if way.name == name)


def varying() -> Nat:
    return Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=Allocation.RANDOM)


@pytest.mark.parametrize(
    ("nat", "mapping", "filtering"),
    [
        (Nat(), "endpoint-independent", "address-and-port-dependent"),
        (varying(), "address-and-port-dependent", "address-and-port-dependent"),
        (
            Nat(filtering=Filtering.ADDRESS_DEPENDENT),
            "endpoint-independent",
            "address-dependent",
        ),
    ],
)
def test_what_the_nat_does(nat: Nat, mapping: str, filtering: str) -> None:
    examined = Examined(nat)
    machine = examined.machine
    assert machine.mapping().behaviour == mapping
    assert machine.filtering.behaviour == filtering
    assert machine.present() is True
    assert machine.hairpin.works is nat.hairpin
    assert examined.way("UDP over IPv4").is_reached
    assert examined.way("TCP").is_reached
    assert examined.way("UDP over IPv6").is_reached is None
    assert examined.way("WebSocket").is_reached is None
    assert machine.path_mtu == 1500
    assert examined.seconds < PATIENCE


def test_nothing_is_registered_and_nobody_is_told() -> None:
    examined = Examined(Nat())
    status = examined.world.server.status(examined.world.net.now)
    assert (status["nodes"], status["networks"], status["introductions"]) == (0, 0, 0)
    assert status["drops"] == {}


def test_no_nat() -> None:
    machine = Examined().machine
    assert machine.present() is False
    assert machine.mapping().behaviour == "endpoint-independent"


def test_udp_is_blocked() -> None:
    examined = Examined(Nat(), is_blocked=True)
    assert examined.way("TCP").is_reached
    udp = examined.way("UDP over IPv4")
    assert udp.is_reached is False
    assert udp.reason == "no answer"
    assert examined.machine.mapping().behaviour is None
    assert examined.machine.path_mtu is None


def test_nobody_is_there() -> None:
    examined = Examined(Nat(), is_server_there=False, has_streams=False)
    assert not any(way.is_reached for way in examined.machine.ways)
    assert examined.seconds == pytest.approx(PATIENCE)


@pytest.mark.parametrize("error", [-7200.0, 0.0, 90.0])
def test_the_clock(error: float) -> None:
    assert Examined(Nat(), wall_clock_error=error).machine.clock_offset == pytest.approx(
        error, abs=0.1
    )


def test_a_name_that_does_not_resolve() -> None:
    world = World()
    host = world.net.add_host("pi", "5.6.7.8")
    machine = Examination(
        world._url,
        host.addresses,
        now=host.now,
        random_bytes=host.random_bytes,
        wall_clock=host.wall_clock,
    )
    host.start(machine)
    host.call(lambda examination, now: examination.set_server_endpoints([], now))
    for opening in machine.take_openings():
        host.call(lambda m, now, n=opening.number: m.stream_closed(n, "no such name", now))
    world.net.run_for(PATIENCE + 0.1)
    assert machine.is_done
    assert not any(way.is_reached for way in machine.ways)


def test_the_contract_of_a_machine() -> None:
    """The timer only reads; firing early changes nothing; garbage is dropped."""
    examined = Examined(Nat())
    world = examined.world
    machine = Examination(
        world._url,
        ["5.6.7.8"],
        now=0.0,
        random_bytes=examined.host.random_bytes,
        wall_clock=examined.host.wall_clock,
    )
    machine.set_server_endpoints([Endpoint(SERVER_ADDRESS, SERVER_PORT)], 0.0)
    assert machine.datagrams_to_send(0.0)
    timer = machine.get_timer()
    assert timer == machine.get_timer()
    machine.handle_timer(0.0)
    assert machine.datagrams_to_send(0.0) == []
    assert machine.get_timer() == timer
    for length in range(80):
        for kind in range(8):
            datagram = bytes([kind]) + bytes(length)
            for local in (0, 2, 3, 4, 1 << 16):
                source = Endpoint("1.2.3.4", 5)
                assert machine.receive_datagrams([datagram], source, 0.1, local) == []
