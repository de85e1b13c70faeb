"""Pairs that plain checks never bring together: predicted or guessed ports, in virtual time."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest

from tests.sim.guessing import (
    MAX_TABLE,
    build,
    fresh_sockets,
    is_sound,
    locals_in_use,
    peak,
)
from tests.sim.nat import Nat
from tests.sim.trace import DAY, SENT
from tests.sim.world import SERVER_ADDRESS, World
from tunnel.core.attempt import GuessState
from tunnel.core.events import PathChanged
from tunnel.core.port_guessing import PortGuessing
from tunnel.core.stuck_pairs import SPACING
from tunnel.wire.check import Refusal
from tunnel.wire.endpoint import Endpoint


def way_of(world: World, name: str, of: str) -> str:
    best = world.peer(name, of).traversal.best
    return "none" if best is None else best.kind.text


@pytest.mark.parametrize("steady", ["steady", "tracks"])
@pytest.mark.parametrize(
    ("varying", "timeout"),
    [
        ("sequential", 10),
        ("random", 120),
        ("block64", 10),
        ("block512", 10),
        ("block2048", 10),
        ("random by address", 900),
        ("block512 by address", 300),
    ],
)
def test_one_mapping_varies(steady: str, varying: str, timeout: float) -> None:
    """At the first attempt, unless the whole range has to be guessed (a chance of 94 % in one), or
    the server's two ports don't show that the mapping depends on the address."""
    for seed, sides in enumerate(((steady, varying), (varying, steady))):
        world = build(*sides, seed=seed)
        assert world.wait_until_direct(timeout=timeout), sides
        if steady != "tracks" or "address" not in varying:
            assert peak(world) < MAX_TABLE


@pytest.mark.parametrize(
    ("sides", "timeout"),
    [
        (("sequential", "sequential"), 10),
        (("sequential", "block64"), 300),
        (("sequential", "block512"), 400),
        (("block64", "block64"), 400),
        (("block64", "block512"), 400),
        (("block512", "block512"), 600),
    ],
)
def test_both_mappings_vary(sides: tuple[str, str], timeout: float) -> None:
    """A lottery, but for two that count."""
    seeds = range(4)
    met = 0
    for seed in seeds:
        world = build(*sides, seed=seed)
        met += world.wait_until_direct(timeout=timeout)
        assert peak(world) < MAX_TABLE
    assert met >= len(seeds) - 1


def test_the_widest_lottery_stays_within_its_bounds() -> None:
    """Two blocks of 2048 need an hour or more; the tables never notice."""
    world = build("block2048", "block2048", seed=3)
    before = world.net.trace.statistics["a"].datagrams_sent
    world.net.run_for(1200)
    assert peak(world) < MAX_TABLE
    record = world.node("a").guessing.record(world.peer("a", "b"))
    assert record.is_lottery or world.is_direct()
    assert world.net.trace.statistics["a"].datagrams_sent - before < 1200 / 30 * 440


@pytest.mark.parametrize(
    "sides",
    [
        ("linux+block512", "linux"),
        ("linux+random", "steady"),
        ("linux+sequential", "linux"),
        ("linux+sequential", "linux+sequential"),
        ("steady+block512", "steady+block64"),
        ("block512+random", "linux"),
        ("linux+steady", "linux+block2048"),
    ],
)
def test_behind_two_nats(sides: tuple[str, str]) -> None:
    world = build(*sides)
    assert world.wait_until_direct(timeout=300)
    assert peak(world) < MAX_TABLE


@pytest.mark.parametrize("loss", [0.05, 0.2])
@pytest.mark.parametrize(
    "sides",
    [
        ("steady", "sequential"),
        ("sequential", "sequential"),
        ("linux", "block64"),
        ("tracks", "block512"),
        ("random", "steady"),
    ],
)
def test_loss_delays_but_does_not_prevent(sides: tuple[str, str], loss: float) -> None:
    """Not for ever, either: one of these takes two dozen attempts, with rests between them."""
    for seed in range(3):
        world = build(*sides, seed=seed, loss=loss)
        assert world.wait_until_direct(timeout=2000), seed


def test_hopeless_stays_relayed_and_quiet() -> None:
    """Both random over the full range: it is told at once, and asked again every ten minutes."""
    world = build("random", "random")
    world.net.run_for(60)
    assert world.states() == {"relayed"}
    for one, other in ("ab", "ba"):
        assert world.node(one).guessing.record(world.peer(one, other)).refusal is Refusal.HOPELESS
    quiet = build("random", "random", may_guess=False)
    quiet.net.run_for(60)
    cost = []
    for each in (world, quiet):
        before = each.net.trace.statistics["a"].bytes
        each.net.run_for(3600)
        cost.append((each.net.trace.statistics["a"].bytes - before) * DAY / 3600)
    assert world.states() == {"relayed"}
    assert peak(world) < 64
    assert cost[0] - cost[1] < 0.35e6


@pytest.mark.parametrize("sides", [("steady", "random"), ("sequential", "block64")])
def test_switched_off(sides: tuple[str, str]) -> None:
    """Nothing goes anywhere but to the server and to where the peer was announced or seen."""
    world = build(*sides, may_guess=False)
    world.net.run_for(900)
    assert world.states() == {"relayed"}
    targets = {
        to
        for _, what, _, where, _, to, _, _ in world.net.trace.records
        if what == SENT and where in "ab" and to is not None and to.host != SERVER_ADDRESS
    }
    assert 0 < len(targets) < 16
    assert not any(fresh_sockets(world, name) for name in "ab")
    assert peak(world) < 64


class Starts:
    """When a node's attempts began to send to guessed ports, and that there is one at a time."""

    def __init__(self, world: World, name: str) -> None:
        self.at: list[float] = []
        self.guessing: PortGuessing = world.node(name).guessing
        self._was = GuessState.IDLE
        self._attempt: object = None
        host = world.hosts[name]
        settle = host.settle

        def watch() -> None:
            attempt, state = self.guessing._attempt, self.guessing.state
            assert (attempt is None) == (state is GuessState.IDLE)
            if state is GuessState.STRIKING and attempt is not self._attempt:
                self._attempt = attempt
                assert attempt is not None
                assert attempt.ours is not None
                assert attempt.theirs is not None
                if max(attempt.ours.size, attempt.theirs.size) > 1:
                    self.at.append(host.now)
            settle()

        host.settle = watch  # type: ignore[method-assign]


def test_attempts_of_a_pair_are_spaced() -> None:
    world = build("block2048", "block512", seed=2)
    starts = [Starts(world, name) for name in "ab"]
    world.net.run_for(900)
    for each in starts:
        assert len(each.at) > 1
        assert all(later - earlier >= SPACING for earlier, later in pairwise(each.at))


def test_a_network_of_four() -> None:
    """Every pair that can, ends direct; one attempt at a time, within one budget."""
    world = build("linux", "steady", "block64", "sequential")
    for name in world.hosts:
        Starts(world, name)
    pairs = list(combinations("abcd", 2))
    assert world.net.run_until_true(lambda: all(world.is_direct(*pair) for pair in pairs), 900)
    assert peak(world) < MAX_TABLE
    world.net.run_for(60)
    for name in world.hosts:
        assert fresh_sockets(world, name) == locals_in_use(world, name)


@pytest.mark.parametrize(
    "sides", [("steady", "sequential"), ("linux", "block512"), ("sequential", "sequential")]
)
def test_afterwards_it_is_a_path_like_any_other(sides: tuple[str, str]) -> None:
    """It survives half an hour of idling, costs what others do, and comes back after its mapping
    is lost; sockets that no path uses are closed."""
    world = build(*sides)
    assert world.wait_until_direct(timeout=60)
    world.net.run_for(900)
    for name in "ab":
        assert fresh_sockets(world, name) == locals_in_use(world, name) != set()
    before = world.net.trace.statistics["a"].bytes
    world.net.run_for(1800)
    assert (world.net.trace.statistics["a"].bytes - before) * DAY / 1800 < 2e6
    assert is_sound(world)
    assert len(world.events("a", PathChanged)) == 1
    for router in list(world.net.routers.values()):
        assert isinstance(router, Nat)
        for disturb in (router.flush, router.reboot):
            disturb()
            streams = [world.stream(*way, duration=10) for way in ("ab", "ba")]
            world.net.run_for(0.5)
            assert world.net.run_until_true(lambda: is_sound(world), 300)
            world.net.run_for(40)
            assert [stream.lost for stream in streams] == [0, 0]
            assert is_sound(world)
    for name in "ab":
        assert fresh_sockets(world, name) == locals_in_use(world, name)
    assert peak(world) < MAX_TABLE


def test_the_network_changes_during_an_attempt() -> None:
    for after in (1.25, 1.3, 1.36, 1.5, 2.0, 2.5):
        world = build("steady", "random")
        world.net.run_for(after)
        for name in "ab":
            world.tell_addresses(name)
        assert world.wait_until_direct(timeout=300), after
        world.net.run_for(60)
        for name in "ab":
            assert fresh_sockets(world, name) == locals_in_use(world, name)


def test_the_peer_vanishes_during_an_attempt() -> None:
    for after in (1.25, 1.3, 1.36, 1.5, 2.0):
        world = build("steady", "random")
        world.net.run_for(after)
        world.hosts["b"].stop()
        world.net.run_for(60)
        assert world.node("a").guessing.state is GuessState.IDLE
        assert not fresh_sockets(world, "a")
        world.start_node("b")
        assert world.wait_until_direct(timeout=300), after


def test_same_seed_same_trace() -> None:
    digests = []
    for seed in (7, 7, 8):
        world = build("steady", "random", seed=seed, loss=0.1)
        world.net.run_for(60)
        digests.append(world.net.trace.digest())
    assert digests[0] == digests[1] != digests[2]


def test_nothing_goes_to_an_address_the_server_did_not_see() -> None:
    """A member that lies about its address makes nobody send there."""
    victim = Endpoint("198.51.100.99", 1)
    world = build("steady", "random")
    liar = world.node("b").guessing
    tell = liar._tell

    def lie(attempt, *told, **more):  # type: ignore[no-untyped-def]
        if attempt.ours is not None:
            host = victim.host
            attempt.ours = attempt.ours._replace(first=Endpoint(host, attempt.ours.first.port))
        tell(attempt, *told, **more)

    liar._tell = lie  # type: ignore[method-assign]
    world.net.run_for(300)
    assert not any(
        to is not None and to.host == victim.host
        for _, what, _, where, _, to, _, _ in world.net.trace.records
        if what == SENT and where == "a"
    )
