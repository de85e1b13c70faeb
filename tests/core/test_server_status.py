"""What the server's owner is told of networks and of what is relayed in them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.ends import TAG, ScriptedNode, Town
from tests.sim.nat import Mapping, Nat
from tests.sim.ports import Allocation
from tests.sim.world import World
from tests.spellings import Search
from tunnel.core.relay_tally import WINDOW, WINDOWS, RelayTally
from tunnel.core.server_status import MAX_SHOWN, shown_name
from tunnel.wire.relay import RELAY_HEADER_LENGTH, pack_relay
from tunnel.wire.rendezvous import Introduction, Leave

RELAYED_FOR = (WINDOWS - 1) * WINDOW
"""Seconds after the last datagram in which a pair counts as relayed at least."""
OTHER_TAG = b"another network."


def status(town: Town) -> dict[str, Any]:
    found: dict[str, Any] = town.server.status(town.clock.now)
    return found


def relay(sender: ScriptedNode, receiver: ScriptedNode, size: int) -> None:
    """`size` bytes, envelope included."""
    channel = next(
        each.channel
        for each in sender.heard
        if isinstance(each, Introduction)
        if each.peer == receiver.key.data
    )
    sender.send_raw(pack_relay(channel, bytes(size - RELAY_HEADER_LENGTH)))


def test_nobody_is_there() -> None:
    found = status(Town())
    assert (found["relayed_pairs"], found["busiest_networks"]) == (0, [])


def test_networks_are_told_apart() -> None:
    town = Town()
    a, b, c = (town.add(number) for number in (1, 2, 3))
    d, e = (town.add(number, tag=OTHER_TAG) for number in (4, 5))
    relay(a, b, 100)
    relay(b, a, 40)
    relay(a, c, 60)
    relay(d, e, 50)
    found = status(town)
    assert found["relayed_pairs"] == 3
    assert found["busiest_networks"] == [
        {
            "id": shown_name(TAG),
            "nodes": 3,
            "pairs": 3,
            "relayed_pairs": 2,
            "relayed_bytes": 200,
        },
        {
            "id": shown_name(OTHER_TAG),
            "nodes": 2,
            "pairs": 1,
            "relayed_pairs": 1,
            "relayed_bytes": 50,
        },
    ]
    assert found["relayed_bytes"] == 250
    assert json.loads(json.dumps(found)) == found


def test_a_pair_is_relayed_as_long_as_it_uses_the_relay() -> None:
    town = Town()
    a, b = town.add(1), town.add(2)
    assert status(town)["relayed_pairs"] == 0
    relay(a, b, 100)
    town.clock.now += RELAYED_FOR
    assert status(town)["relayed_pairs"] == 1
    town.clock.now += WINDOW
    assert status(town)["relayed_pairs"] == 0
    relay(b, a, 100)
    assert status(town)["relayed_pairs"] == 1


def test_what_is_refused_does_not_count() -> None:
    town = Town()
    a, b = town.add(1), town.add(2)
    (introduced,) = a.take(Introduction)
    datagram = pack_relay(introduced.channel, bytes(100))
    town.receive(datagram, b.endpoint)
    assert status(town)["relayed_pairs"] == 0
    assert status(town)["busiest_networks"][0]["relayed_bytes"] == 0


def test_who_leaves_is_not_told_of() -> None:
    town = Town()
    a, b = town.add(1), town.add(2)
    relay(a, b, 100)
    b.send(Leave())
    (network,) = status(town)["busiest_networks"]
    assert (network["nodes"], network["pairs"], network["relayed_pairs"]) == (1, 0, 0)
    a.send(Leave())
    assert status(town)["busiest_networks"] == []


def test_a_server_that_does_not_relay() -> None:
    town = Town(relay=False)
    town.add(1)
    town.add(2)
    (network,) = status(town)["busiest_networks"]
    assert (network["nodes"], network["pairs"]) == (2, 0)


def test_the_busiest_are_told_when_there_are_many() -> None:
    town = Town()
    for number in range(1, MAX_SHOWN + 10):
        town.add(number, tag=number.to_bytes(16, "big"))
    town.add(200, tag=(3).to_bytes(16, "big"))
    found = status(town)
    assert found["networks"] == MAX_SHOWN + 9
    assert len(found["busiest_networks"]) == MAX_SHOWN
    assert found["busiest_networks"][0]["id"] == shown_name((3).to_bytes(16, "big"))
    assert [network["nodes"] for network in found["busiest_networks"]] == [2] + [1] * 19


def test_tags_and_keys_are_not_told() -> None:
    """Who knows a tag may ask for introductions in that network."""
    town = Town()
    a, b = town.add(1), town.add(2)
    relay(a, b, 100)
    search = Search([TAG, a.key.data, b.key.data])
    assert not search.finds_any(json.dumps(status(town)))


def test_reading_changes_nothing() -> None:
    town = Town()
    a, b = town.add(1), town.add(2)
    relay(a, b, 100)
    timer = town.server.get_timer()
    assert status(town) == status(town)
    assert town.server.get_timer() == timer
    assert town.server.datagrams_to_send(town.clock.now) == []


@pytest.mark.parametrize("is_direct", [True, False])
def test_of_real_nodes(is_direct: bool) -> None:
    """A direct pair is silent at the relay; one that is relayed, however idle, is not."""
    world = World()
    mapping = Mapping.ENDPOINT_INDEPENDENT if is_direct else Mapping.ADDRESS_AND_PORT_DEPENDENT
    for name in "ab":
        world.add_node(name, Nat(mapping, allocation=Allocation.RANDOM))
    world.net.run_for(30)
    assert world.server.status(world.net.now)["relayed_pairs"] == 1
    world.net.run_for(RELAYED_FOR)
    assert world.is_direct() is is_direct
    for _ in range(40):
        world.net.run_for(30)
        assert world.server.status(world.net.now)["relayed_pairs"] == (not is_direct)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 7), st.sampled_from(["note", "note", "note", "close"]), st.floats(0, 100)
        ),
        max_size=80,
    )
)
def test_counts_are_those_of_a_slow_count(steps: list[tuple[int, str, float]]) -> None:
    """Whatever pairs do, in whatever windows: as if each were looked at."""
    tally, now = RelayTally(), 0.0
    tags = [b"one" if number % 2 else b"other" for number in range(8)]
    pairs = {number: tally.open(tag) for number, tag in enumerate(tags)}
    seen: dict[int, float] = {}
    for number, step, passed in steps:
        now += passed
        pair = pairs.get(number)
        if pair is None:
            pairs[number] = tally.open(tags[number])
        elif step == "close":
            tally.close(pair)
            del pairs[number]
            seen.pop(number, None)
        else:
            if pair.window != tally.window or now >= tally.ends_at:
                tally.turn(pair, now)
            seen[number] = now
        for tag in (b"one", b"other"):
            mine = [number for number in pairs if tags[number] == tag]
            relayed = [n for n in mine if n in seen and seen[n] // WINDOW > now // WINDOW - WINDOWS]
            assert tally.read(tag, now)[:2] == (len(mine), len(relayed))
        assert tally.count(now) == tally.read(b"one", now)[1] + tally.read(b"other", now)[1]
    for pair in pairs.values():
        tally.close(pair)
    assert (tally.count(now), tally.read(b"one", now)) == (0, (0, 0, 0))
