"""Time to live that runs out on the way, who says so, and sockets a machine gives up."""

from __future__ import annotations

import pytest

from tests.sim.host import Host
from tests.sim.nat import Firewall, Nat
from tests.sim.network import VirtualInternet
from tests.sim.tiny import Echo, Sender
from tunnel.core.events import SocketsReleased
from tunnel.wire.endpoint import Endpoint


class Prober(Sender):
    """Hears of hops."""

    def __init__(self) -> None:
        super().__init__()
        self.hops: list[tuple[Endpoint, str, float, int]] = []

    def receive_error(self, endpoint: Endpoint, mtu: int, now: float) -> None:
        raise AssertionError("nothing was too big")

    def receive_time_exceeded(
        self, endpoint: Endpoint, router_address: str, now: float, local: int
    ) -> None:
        self.hops.append((endpoint, router_address, now, local))


def probe(net: VirtualInternet, host: Host, to: Endpoint, ttl: int, local: int = 0) -> str | None:
    """Which router says that a datagram with that time to live got no further."""
    host.machine.hops.clear()
    host.call(lambda machine, now: machine.send(b"opener", to, local=local, ttl=ttl))
    net.run_for(1)
    for endpoint, router, _, socket in host.machine.hops:
        assert (endpoint, socket) == (to, local)
        return str(router)
    return None


def chain() -> tuple[VirtualInternet, Host, Host, list[Nat]]:
    """a behind its router behind a carrier's; b behind its router."""
    net = VirtualInternet()
    carrier = net.add_router(Nat(), "carrier", address="5.1.1.1")
    home = net.add_router(Nat(), "home", behind=carrier, prefix="192.168.8.")
    office = net.add_router(Nat(), "office", address="5.2.2.2", prefix="192.168.9.")
    a, b = (net.add_host(n, behind=r, ports=(1000, 2000)) for n, r in (("a", home), ("b", office)))
    for host in (a, b):
        host.hears_icmp = True
        host.start(Prober())
    return net, a, b, [home, carrier, office]


@pytest.mark.parametrize(
    ("ttl", "router"),
    [
        (1, "192.168.8.254"),
        (2, "100.64.2.254"),
        (3, "5.255.255.1"),
        (5, "5.255.255.3"),
        (6, "5.2.2.2"),
        (7, None),
    ],
)
@pytest.mark.parametrize("local", [0, 1])
def test_every_hop_answers_with_its_near_address(ttl: int, router: str | None, local: int) -> None:
    net, a, b, (_, carrier, office) = chain()
    towards_a = Endpoint("5.1.1.1", 7000)
    carrier.forward(7000, Endpoint("100.64.2.1", 7000))
    assert probe(net, b, towards_a, 64) is None
    external = office.find_external(b.endpoint(), towards_a)
    assert external is not None
    office.forward(external.port, b.endpoint())
    assert probe(net, a, external, ttl, local) == router
    assert len(b.machine.received) == (router is None)


def test_the_answer_comes_after_a_round_trip() -> None:
    net, a, _, _ = chain()
    a.link.set(delay=0.03)
    began = a.now
    assert probe(net, a, Endpoint("5.2.2.2", 9), 2) == "100.64.2.254"
    assert a.machine.hops[0][2] - began == pytest.approx(2 * (0.03 + 0.01))


@pytest.mark.parametrize("ttl", [1, 2, 6])
def test_a_router_that_does_not_answer(ttl: int) -> None:
    net, a, b, routers = chain()
    routers[2].forward(7000, b.endpoint())
    for router in routers:
        router.answers_ttl = False
    assert probe(net, a, Endpoint("5.2.2.2", 7000), ttl) is None
    assert probe(net, a, Endpoint("5.2.2.2", 7000), 4) == "5.255.255.2"


def test_nothing_is_told_to_machines_that_do_not_ask_or_have_closed_the_socket() -> None:
    net, a, _, _ = chain()
    a.hears_icmp = False
    assert probe(net, a, Endpoint("5.2.2.2", 9), 1) is None
    a.hears_icmp = True
    a.call(lambda machine, now: machine.send(b"opener", Endpoint("5.2.2.2", 9), local=1, ttl=3))
    a.close_socket(1)
    net.run_for(1)
    assert a.machine.hops == []
    assert [error.router for _, error in a.icmp_errors] == ["192.168.8.254", "5.255.255.1"]
    a.start(Sender())
    a.call(lambda machine, now: machine.send(b"opener", Endpoint("5.2.2.2", 9), ttl=3))
    net.run_for(1)


def test_hops_of_ipv6() -> None:
    net = VirtualInternet()
    wall = net.add_router(Firewall(), "wall")
    a = net.add_host("a", behind=wall, machine=Prober())
    a.hears_icmp = True
    b = net.add_host("b", "2a00:9::1", machine=Sender())
    found = [probe(net, a, b.endpoint(), ttl) for ttl in range(1, 6)]
    assert found == ["2a00:1::ffff", "2a00::1", "2a00::2", "2a00::3", None]


class Releasing(Echo):
    """Gives up sockets when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.given_up: list[SocketsReleased] = []

    def next_event(self) -> SocketsReleased | None:
        return self.given_up.pop() if self.given_up else None


def test_released_sockets_are_closed_and_may_be_opened_anew() -> None:
    net = VirtualInternet()
    a = net.add_host("a", machine=Releasing())
    b = net.add_host("b", machine=Echo())
    a.opens_sockets = True

    def send(local: int) -> None:
        a.call(lambda machine, now: machine.send(b"x", b.endpoint(), local=local))

    for local in (0, 1, 2):
        send(local)
    ports = dict(a.sockets)
    a.call(lambda machine, now: machine.given_up.append(SocketsReleased((1, 2, 77))))
    assert a.sockets == {0: ports[0]}
    net.run_for(1)
    assert {local for *_, local in a.machine.received} == {0}
    send(1)
    assert a.sockets[1] not in (ports[1], ports[0])


@pytest.mark.parametrize(("ttl", "router"), [(1, "192.168.8.254"), (2, None)])
def test_a_hairpin_is_one_hop(ttl: int, router: str | None) -> None:
    net = VirtualInternet()
    home = net.add_router(Nat(hairpin=True), "home", prefix="192.168.8.")
    a = net.add_host("a", behind=home, machine=Prober())
    b = net.add_host("b", behind=home, machine=Echo())
    a.hears_icmp = True
    open_to_all = home.forward(7000, b.endpoint())
    assert probe(net, a, open_to_all, ttl) == router
    assert [source for _, _, source, _ in b.machine.received] == (
        [] if router else [home.find_external(a.endpoint(), open_to_all)]
    )
