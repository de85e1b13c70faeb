"""Nobody aims us at a third: whoever names endpoints, what we send there is bounded. Counted is
every datagram that leaves, openers too, whatever becomes of it."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable

import pytest

from tests.sim.dual_stack import DualStack
from tests.sim.nat import Nat
from tests.sim.world import World
from tunnel.core.candidates import is_public
from tunnel.core.check_budget import (
    ENDPOINT_BURST,
    ENDPOINT_RATE,
    PEER_BURST,
    PEER_HOST_BURST,
    PEER_HOST_RATE,
    PEER_RATE,
    STRANGER_BURST,
    STRANGER_RATE,
)
from tunnel.core.node import Node
from tunnel.wire.candidate import MAX_CANDIDATES, Candidate, CandidateKind
from tunnel.wire.check import Seen
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.rendezvous import Introduction, Moved

VICTIM = Endpoint("198.51.100.66", 53)
SECONDS = 10
REFLEXIVE = CandidateKind.SERVER_REFLEXIVE

Attack = Callable[["Town", int], None]


class Town(DualStack):
    """a, the target; b, its good peer; m, a member that lies."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self.net.add_host("victim", VICTIM.host, ports=(VICTIM.port,))
        self.add("a", Nat())
        self.add("b", Nat())
        self.add("m", None)
        for pair in ("ab", "am", "bm"):
            assert self.wait_until_direct(*pair)
        self.net.run_for(30)
        self._before = self.sent()

    def sent(self) -> Counter[Endpoint]:
        """Where a has sent how much."""
        return self.net.trace.destinations["a"].copy()

    def news(self) -> Counter[Endpoint]:
        """Since the attack began, to others than the server and m, and where it sent before."""
        known = {*self.server_host.addresses, *self.hosts["m"].addresses}
        return Counter(
            {
                endpoint: count
                for endpoint, count in (self.sent() - self._before).items()
                if endpoint.host not in known and endpoint not in self._before
            }
        )

    def attack(self, attack: Attack, times: int, *, seconds: float = SECONDS) -> None:
        """That often, evenly; and b's traffic with a loses nothing meanwhile."""
        streams = [self.stream("a", "b", seconds), self.stream("b", "a", seconds)]
        for number in range(times):
            self.net.call_later(number * seconds / times, attack, self, number)
        self.net.run_for(seconds + 0.1)
        assert [stream.lost for stream in streams] == [0, 0]
        assert self.is_direct()

    def call(self, *candidates: Candidate) -> None:
        """m asks a to check these."""

        def ask(node: Node, now: float) -> None:
            peer = self.peer("m", "a")
            peer.traversal.checks.call(candidates)
            peer.touch()

        assert len(candidates) <= MAX_CANDIDATES
        self.hosts["m"].call(ask)

    def announce(self, *candidates: Candidate) -> None:
        """m announces these."""

        def announce(node: Node, now: float) -> None:
            node._announcer.candidates = candidates
            node.registration.announce(node._announcer.seal(), now)

        self.hosts["m"].call(announce)

    def move(self, endpoint: Endpoint) -> None:
        """The server, or whoever has its key, says that m is there."""
        registrants = self.server._registrants
        a, m = (registrants[self.certificate_key(name)] for name in "am")
        a.notify(Moved(a.next_serial(), m.key.data, endpoint), self.server_host.now)
        self.server_host.call(lambda server, now: server._send_due(a, now))

    def introduce(self, endpoint: Endpoint) -> None:
        """The same by an introduction, as often as it likes."""
        registrants = self.server._registrants
        a, m = (registrants[self.certificate_key(name)] for name in "am")
        m.endpoints[False], m.is_main_ipv6 = endpoint, False
        self.server_host.call(lambda server, now: server._introduce(m, a, now))
        self.server_host.call(lambda server, now: server._send_due(a, now))

    def tell(self, endpoint: Endpoint) -> None:
        """m says that it hears b there."""

        def lie(node: Node, now: float) -> None:
            seen = Seen(self.certificate_key("b"), endpoint)
            node._witness.learn(seen, self.peer("a", "m"), now)

        self.hosts["a"].call(lie)

    def certificate_key(self, name: str) -> bytes:
        return self.node(name).config.certificate.key


def forget_m(world: Town) -> None:
    """As if m had come by another way: a has no path to it, and looks for one."""
    for address in world.hosts["m"].addresses:
        world.net.block(world.hosts["a"], address)
    world.peer("a", "m").touch()
    world.hosts["a"].call(lambda node, now: world.peer("a", "m").traversal.forget_paths())
    world.net.run_for(5)
    assert world.state("a", "m") == "relayed"
    world._before = world.sent()


NEVER = [
    "0.0.0.0",
    "127.0.0.1",
    "169.254.7.7",
    "192.0.0.8",
    "192.88.99.1",
    "224.0.0.251",
    "239.255.255.250",
    "255.255.255.255",
    "10.9.0.3",  # in the tunnel
    "192.168.2.0",
    "192.168.2.255",
    "10.11.12.13",
    "172.16.5.5",
    "100.64.7.7",
    "::",
    "::1",
    "fe80::7",
    "ff02::1",
    "ff0e::1",
    "fd12:3456::1",
    "64:ff9b::c633:6442",
    "64:ff9b:1::c633:6442",
    "2002:c633:6442::1",
    "2001:0:c633:6442::1",
    "::198.51.100.66",
]


@pytest.mark.parametrize("way", ["announce", "call", "move", "introduce", "tell"])
def test_what_is_never_checked(way: str) -> None:
    world = Town()
    own = world.hosts["a"].endpoints()
    own += world.node("a").registration.reflexive_endpoints()
    tunnel = [str(a.ip) for a in world.node("a").config.certificate.addresses]
    endpoints = [Endpoint(host, 9) for host in (*NEVER, *tunnel)] + own
    assert world.hosts["a"].address.startswith("192.168.2."), "whose broadcast is among them"
    forget_m(world)
    if way in ("announce", "call"):
        for kind in (CandidateKind.HOST, REFLEXIVE, CandidateKind.PORT_MAPPED):
            getattr(world, way)(*[Candidate(kind, endpoint) for endpoint in endpoints])
            world.net.run_for(3)
    else:
        for endpoint in endpoints:
            getattr(world, way)(endpoint)
            world.net.run_for(0.5)
    world.net.run_for(30)
    assert world.news() == Counter()
    assert all(is_public(ipaddress.ip_address(e.host)) for e in world.sent() - world._before)


def at_victim(ports: int) -> list[Candidate]:
    return [Candidate(REFLEXIVE, VICTIM._replace(port=53 + number)) for number in range(ports)]


def strangers(number: int, count: int = MAX_CANDIDATES) -> list[Candidate]:
    """Others each time."""
    first = number * count
    return [Candidate(REFLEXIVE, Endpoint(f"2a0f::{first + n:x}", 9)) for n in range(1, count + 1)]


def limit(rate: float, burst: float) -> float:
    return burst + rate * (SECONDS + 0.2)


@pytest.mark.parametrize("per_second", [1, 30, 300])
@pytest.mark.parametrize("is_lost", [False, True])
def test_calling_again_and_again_with_one_victim(is_lost: bool, per_second: int) -> None:
    world = Town()
    if is_lost:
        forget_m(world)
    world.attack(lambda town, number: town.call(*at_victim(1)), per_second * SECONDS)
    assert 0 < world.news()[VICTIM] <= limit(ENDPOINT_RATE, ENDPOINT_BURST)


@pytest.mark.parametrize("is_lost", [False, True])
def test_the_victim_among_ever_other_strangers(is_lost: bool) -> None:
    """What is known of an endpoint outlives its place in the table of paths."""
    world = Town()
    if is_lost:
        forget_m(world)

    def attack(town: Town, number: int) -> None:
        town.call(*at_victim(1), *strangers(number, 15))

    world.attack(attack, 100 * SECONDS)
    news = world.news()
    assert news[VICTIM] <= limit(ENDPOINT_RATE, ENDPOINT_BURST)
    assert len(news) <= limit(STRANGER_RATE, STRANGER_BURST)
    assert max(news.values()) <= limit(ENDPOINT_RATE, ENDPOINT_BURST)
    assert news.total() <= limit(PEER_RATE, PEER_BURST)
    assert world.node("a").drops["sent: over the budget of checks"] > 0


@pytest.mark.parametrize("is_lost", [False, True])
def test_one_victim_by_many_ports(is_lost: bool) -> None:
    world = Town()
    if is_lost:
        forget_m(world)
    world.attack(lambda town, number: town.call(*at_victim(MAX_CANDIDATES)), 50 * SECONDS)
    total = sum(count for e, count in world.news().items() if e.host == VICTIM.host)
    assert 0 < total <= limit(PEER_HOST_RATE, PEER_HOST_BURST)


@pytest.mark.parametrize("way", ["announce", "call"])
@pytest.mark.parametrize("is_lost", [False, True])
def test_a_thousand_candidates(is_lost: bool, way: str) -> None:
    """By 32 in a message, replaced all the time."""
    world = Town()
    if is_lost:
        forget_m(world)

    def attack(town: Town, number: int) -> None:
        getattr(town, way)(*strangers(number))

    world.attack(attack, 32)
    news = world.news()
    assert len(news) <= limit(STRANGER_RATE, STRANGER_BURST)
    assert len(world.peer("a", "m").traversal.paths()) <= 64
    assert max(news.values(), default=0) <= ENDPOINT_BURST
    world.net.run_for(60)
    assert world.is_direct()


@pytest.mark.parametrize("per_second", [1, 50])
@pytest.mark.parametrize("way", ["move", "introduce", "tell"])
@pytest.mark.parametrize("is_lost", [False, True])
def test_what_the_server_or_a_member_says_of_another(
    is_lost: bool, way: str, per_second: int
) -> None:
    world = Town()
    if is_lost:
        forget_m(world)
    world.attack(lambda town, number: getattr(town, way)(VICTIM), per_second * SECONDS)
    sent = world.news()[VICTIM]
    # A pair that is direct is not punched again because the server introduces it.
    assert sent <= limit(ENDPOINT_RATE, ENDPOINT_BURST)
    assert sent > 0 or (way == "introduce" and not is_lost)


@pytest.mark.parametrize("way", ["move", "introduce", "tell"])
def test_what_is_said_of_ever_other_places(way: str) -> None:
    world = Town()
    forget_m(world)

    def attack(town: Town, number: int) -> None:
        getattr(town, way)(strangers(number, 1)[0].endpoint)

    world.attack(attack, 50 * SECONDS)
    news = world.news()
    assert 0 < len(news) <= limit(STRANGER_RATE, STRANGER_BURST)
    assert max(news.values()) <= limit(ENDPOINT_RATE, ENDPOINT_BURST)
    assert news.total() <= limit(PEER_RATE, PEER_BURST)


@pytest.mark.parametrize("per_second", [1, 45])
def test_handshakes_with_a_member_that_has_left(per_second: int) -> None:
    """The server says that it is back, at the victim, and offers no relay: there are no keys to
    check with, so it is handshakes that a sends."""
    world = Town(seed=1)
    registrants = world.server._registrants
    a, m = (registrants[world.certificate_key(name)] for name in "am")
    assert a.key.data < m.key.data, "a is the one that begins"
    lie = Introduction(0, 0, 0, 0, m.key.data, VICTIM, m.announcement)
    world.hosts["m"].call(lambda node, now: node.close(now))
    world.net.run_for(1)
    world.hosts["m"].stop()
    assert not world.peer("a", "m").has_keys

    def introduce(town: Town, number: int) -> None:
        a.notify(lie._replace(serial=a.next_serial()), town.server_host.now)
        town.server_host.call(lambda server, now: server._send_due(a, now))

    world.attack(introduce, per_second * SECONDS)
    assert 0 < world.news()[VICTIM] <= limit(ENDPOINT_RATE, ENDPOINT_BURST)


def test_no_more_than_was_asked_comes_from_an_honest_punch() -> None:
    """The budget is not felt: a dozen nodes that look for each other drop nothing."""
    world = World()
    names = [f"n{number}" for number in range(12)]
    home = world.net.add_router(Nat(), "home")
    for number, name in enumerate(names):
        if number < 6:
            world.add_node(name, behind=home)
        else:
            world.add_node(name, Nat())
    pairs = [(x, y) for x in names for y in names if x < y]
    assert world.net.run_until_true(lambda: all(world.is_direct(x, y) for x, y in pairs), 20)
    world.net.run_for(20)
    for name in names:
        assert "sent: over the budget of checks" not in world.node(name).drops
