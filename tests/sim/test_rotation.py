"""A member changes its key: with loss, with members away, and with a thief of the old one."""

from __future__ import annotations

import pytest

from tests.sim.nat import Filtering, Mapping, Nat
from tests.sim.test_revocation import ignore_revocations, known_peers
from tests.sim.world import World
from tunnel.core.events import AddressContested, KeyReplaced, MemberRevoked
from tunnel.core.rotation import RotationState
from tunnel.noise.keys import PrivateKey

NEW, STOLEN = PrivateKey(b"\x77" * 32), PrivateKey(b"\x78" * 32)


def build(names: str, *, seed: int = 1) -> World:
    """Members that are direct to each other; a may invite."""
    world = World(seed)
    for name in names:
        nat = Nat(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
        world.add_node(name, nat)
    world.make_inviter("a")
    pairs = [(a, b) for a in names for b in names if a < b]
    assert world.net.run_until_true(lambda: all(world.is_direct(*pair) for pair in pairs), 30)
    world.net.run_for(5)
    return world


def ask(world: World, name: str, new: PrivateKey = NEW) -> None:
    world.hosts[name].call(lambda node, now: node.rotate(new, now))


def is_granted(world: World, name: str) -> bool:
    world.save_ledger("a")
    return world.node(name).rotation.state is RotationState.GRANTED


def has_key(world: World, name: str, of: str, new: PrivateKey = NEW) -> bool:
    found = world.node(name).find_peer(of)
    is_new = found is not None and found.key == new.public_key
    return is_new and world.state(name, of) == "direct"


def test_everybody_has_the_new_key_under_the_same_name_and_address() -> None:
    world = build("abc")
    before = world._certificates["b"]
    ask(world, "b")
    assert world.net.run_until_true(lambda: is_granted(world, "b"), 5)
    (event,) = world.events("b", KeyReplaced)
    assert event.key == str(NEW.public_key)
    # Nothing changes before it is used.
    stream = world.stream("c", "b", 2)
    world.net.run_for(3)
    assert stream.lost == 0
    assert world.peer("c", "b").key.data == before.key
    world.rotated("b")
    assert world.net.run_until_true(
        lambda: has_key(world, "a", "b") and has_key(world, "c", "b"), 20
    )
    world.net.run_for(3)
    for name in "ac":
        (event,) = world.events(name, MemberRevoked)
        assert event.successor == str(NEW.public_key)
        assert len(world.node(name).peers) == 2
        assert not world.events(name, AddressContested)
    streams = [world.stream(*way, 3) for way in (("c", "b"), ("b", "c"), ("a", "b"))]
    world.net.run_for(5)
    assert [stream.lost for stream in streams] == [0, 0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_with_loss(seed: int) -> None:
    """Requests and answers get lost; the same is answered again, and the ledger has it once."""
    world = build("ab", seed=seed)
    for host in world.hosts.values():
        host.link.set(loss=0.3)
    ask(world, "b")
    assert world.net.run_until_true(lambda: is_granted(world, "b"), 600)
    assert len(world.ledgers["a"].successors) == 1
    world.rotated("b")
    assert world.net.run_until_true(lambda: has_key(world, "a", "b"), 120)


def test_a_member_that_was_away_learns_it_when_it_is_back() -> None:
    world = build("abc")
    kept = known_peers(world, "c")
    world.hosts["c"].stop()
    ask(world, "b")
    assert world.net.run_until_true(lambda: is_granted(world, "b"), 5)
    world.rotated("b")
    assert world.net.run_until_true(lambda: has_key(world, "a", "b"), 20)
    world.start_node("c", kept)
    assert world.net.run_until_true(lambda: has_key(world, "c", "b"), 30)
    assert world.state("c", "a") == "direct"


def test_the_inviter_is_away_and_the_request_is_repeated_until_it_is_back() -> None:
    world = build("abc")
    world.hosts["a"].stop()
    ask(world, "b")
    world.net.run_for(300)
    assert world.node("b").rotation.state is RotationState.ASKING
    world.start_node("a")
    assert world.net.run_until_true(lambda: is_granted(world, "b"), 120)


def test_the_member_dies_before_the_answer_is_kept() -> None:
    """It asks again when it is started, with the key that it has kept, and gets the same."""
    world = build("ab")
    ask(world, "b")
    assert world.net.run_until_true(lambda: is_granted(world, "b"), 5)
    first = world.node("b").rotation.grant
    world.start_node("b", known_peers(world, "b"))
    assert world.net.run_until_true(lambda: world.is_direct("a", "b"), 30)
    ask(world, "b")
    assert world.net.run_until_true(lambda: is_granted(world, "b"), 60)
    again = world.node("b").rotation.grant
    assert first is not None
    assert again is not None
    assert again.certificate == first.certificate


def test_a_thief_comes_second() -> None:
    """The owner has rotated its key: who has a copy of the old one is nobody."""
    world = build("abc")
    old, kept = world._keys["b"], known_peers(world, "b")
    certificate = world._certificates["b"]
    ask(world, "b")
    assert world.net.run_until_true(lambda: is_granted(world, "b"), 5)
    world.rotated("b")
    assert world.net.run_until_true(
        lambda: has_key(world, "a", "b") and has_key(world, "c", "b"), 20
    )
    world._keys["thief"], world._certificates["thief"] = old, certificate
    world.add_node("thief")
    ignore_revocations(world, "thief")
    world.start_node("thief", kept)
    ask(world, "thief", STOLEN)
    world.net.run_for(60)
    world.save_ledger("a")
    assert world.node("thief").rotation.state is RotationState.ASKING
    assert has_key(world, "a", "b")
    assert has_key(world, "c", "b")
    assert STOLEN.public_key.data not in {c.key for c in world.ledgers["a"].issued}


def test_a_thief_comes_first_and_the_owner_notices() -> None:
    """It has a copy of the key, and a new one certified. The owner sees that it is a member no
    more; revoking the name ends both keys."""
    world = build("abc")
    ask(world, "b", STOLEN)
    assert world.net.run_until_true(lambda: is_granted(world, "b"), 5)
    owner, certificate, kept = world._keys["b"], world._certificates["b"], known_peers(world, "b")
    # Before the thief uses it, the owner wants a new key, too.
    world.start_node("b", kept)
    assert world.net.run_until_true(lambda: world.is_direct("a", "b"), 30)
    ask(world, "b", NEW)

    def is_refused() -> bool:
        world.save_ledger("a")
        return world.node("b").rotation.state is RotationState.REFUSED

    assert world.net.run_until_true(is_refused, 30)
    assert world.events("b", KeyReplaced)[-1].key == ""
    # At the inviter: by its name, as `punchtun revoke` does it.
    revocation = world.node("a").inviter.sign_revocation("b")
    assert revocation.key == certificate.key == owner.public_key.data
    world.hosts["a"].call(lambda node, now: node.revoke(revocation, now))
    revoked = world.node("a").revocations
    assert STOLEN.public_key.data in revoked
    assert certificate.key in revoked
    assert world.net.run_until_true(
        lambda: STOLEN.public_key.data in world.node("c").revocations, 5
    )
    assert world.node("b").is_revoked


def test_another_inviter_expels_a_member_whose_key_is_being_replaced() -> None:
    """It knows nothing of the new key; whoever has signed that hears of it, and revokes it."""
    world = build("abc")
    ask(world, "b", STOLEN)
    assert world.net.run_until_true(lambda: is_granted(world, "b"), 5)
    world.revoke("b", at="c")
    assert world.net.run_until_true(
        lambda: STOLEN.public_key.data in world.node("c").revocations, 5
    )


@pytest.mark.parametrize("owner_is_first", [True, False])
def test_owner_and_thief_ask_two_inviters_that_do_not_hear_of_each_other(
    owner_is_first: bool,
) -> None:
    """Both get a certificate. As soon as they use them, one of the two is left, on every node."""
    world = build("abcd")
    world.make_inviter("d")
    assert world.net.run_until_true(lambda: world.is_direct("b", "d"), 30)
    world._keys["thief"] = world._keys["b"]
    world._certificates["thief"] = world._certificates["b"]

    first, second = (NEW, STOLEN) if owner_is_first else (STOLEN, NEW)
    world.hosts["d"].stop()
    ask(world, "b", first)
    assert world.net.run_until_true(lambda: is_granted(world, "b"), 60)
    peers = known_peers(world, "b")
    grant = world.node("b").rotation.grant
    world.hosts["b"].stop()
    world.hosts["a"].stop()
    world.start_node("d")
    world.add_node("thief")
    ask(world, "thief", second)

    def is_second_granted() -> bool:
        world.save_ledger("d")
        return world.node("thief").rotation.state is RotationState.GRANTED

    assert world.net.run_until_true(is_second_granted, 120)
    world.start_node("a")
    world.rotated("thief")
    assert grant is not None
    world._keys["b"], world._certificates["b"] = first, grant.certificate
    world.start_node("b", peers, (grant.revocation.pack(),))
    both = {key.public_key.data for key in (first, second)}
    lost = max(both)

    def is_settled() -> bool:
        known = [world.node(name).revocations for name in "acd"]
        return all({key for key in both if key in each} == {lost} for each in known)

    assert world.net.run_until_true(is_settled, 60)
    world.net.run_for(60)
    assert is_settled()
    for name in "acd":
        assert world.peer(name, "b").key.data == min(both)
        assert len({peer.key for peer in world.node(name).peers if peer.name == "b"}) == 1
