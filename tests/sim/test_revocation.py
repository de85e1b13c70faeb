"""A member is expelled: by one node, for all of them, for ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.sim.nat import Filtering, Mapping, Nat
from tests.sim.world import World
from tunnel.core.configuration import KnownPeer
from tunnel.core.events import (
    AddressContested,
    MemberRevoked,
    ServerRegistered,
    SessionEstablished,
)
from tunnel.core.expulsion import MOST_TOLD
from tunnel.core.revocations import sign_revocation
from tunnel.errors import AuthenticationFailed
from tunnel.noise.keys import PublicKey
from tunnel.wire.candidate import Candidate, CandidateKind
from tunnel.wire.certificate import parse_certificate
from tunnel.wire.revocation import RevocationDigest, RevocationList

SPREAD = 2.0
"""Seconds of virtual time in which members that reach each other have told each other."""


def build(names: str, *, seed: int = 1, is_natted: bool = True) -> World:
    """Members that are direct to each other, all of them."""
    world = World(seed)
    for name in names:
        nat = Nat(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
        world.add_node(name, nat if is_natted else None)
    pairs = [(a, b) for a in names for b in names if a < b]
    assert world.net.run_until_true(lambda: all(world.is_direct(*pair) for pair in pairs), 30)
    world.net.run_for(5)
    return world


def knows(world: World, name: str, revoked: str) -> bool:
    return world.revocation(revoked).key in world.node(name).revocations


def ignore_revocations(world: World, name: str) -> None:
    """That member wants to stay: it takes no notice of revocations, and tells of none."""
    expulsion = world.node(name)._expulsion
    expulsion.receive_list = lambda *_: None  # type: ignore[method-assign]
    expulsion.handle_timer = lambda *_: None  # type: ignore[method-assign]
    expulsion.get_timer = lambda: None  # type: ignore[method-assign]


def sent_meanwhile(world: World, source: str, destination: str) -> Callable[[], int]:
    """How many datagrams the one sends to the other's addresses from now on."""
    hosts = {e.host for e in world.node(destination).registration.observed.values()}
    hosts |= set(world.hosts[destination].addresses)
    counts = world.net.trace.destinations[source]

    def count() -> int:
        return sum(number for to, number in counts.items() if to.host in hosts)

    before = count()
    return lambda: count() - before


def known_peers(world: World, name: str) -> tuple[KnownPeer, ...]:
    """What the driver has kept of the peers."""
    return tuple(
        KnownPeer(peer.packed_certificate, (peer.traversal.best.endpoint,))
        for peer in world.node(name).peers
        if peer.traversal.best is not None
    )


def restart(world: World, name: str) -> None:
    """As after a reboot: with what the state directory holds."""
    peers = known_peers(world, name)
    revocations = tuple(one.pack() for one in world.node(name).revocations)
    world.start_node(name, peers, revocations)


# All are there


def test_everybody_drops_the_member_at_once() -> None:
    world = build("abc")
    moment = world.net.now
    world.revoke("c", at="a")
    assert world.state("a", "c") == "unknown", "at the node itself before the call returns"
    assert world.net.run_until_true(lambda: knows(world, "b", "c"), SPREAD)
    print(f"b knows after {world.net.now - moment:.3f} s")
    assert world.state("b", "c") == "unknown"
    world.net.run_for(60)
    assert world.is_direct("a", "b")
    for name in "ab":
        (event,) = world.events(name, MemberRevoked)
        assert (event.peer, event.is_own) == ("c", False)
        assert PublicKey.parse(event.key).data == world.revocation("c").key
        node = world.node(name)
        status = node.status(world.hosts[name].now)
        assert [peer["name"] for peer in status["peers"]] == [{"a": "b", "b": "a"}[name]]
        assert [one["public_key"] for one in status["network"]["revoked"]] == [event.key]
        assert not status["node"]["is_revoked"]


def test_no_packet_passes_either_way() -> None:
    world = build("abc")
    ignore_revocations(world, "c")
    before = [world.stream(*way, 1) for way in (("a", "c"), ("c", "a"), ("c", "b"))]
    world.net.run_for(2)
    assert [stream.lost for stream in before] == [0, 0, 0]
    world.revoke("c", at="a")
    world.net.run_for(SPREAD)
    streams = [
        world.stream(*way, 10, size=40) for way in (("a", "c"), ("b", "c"), ("c", "a"), ("c", "b"))
    ]
    others = world.stream("a", "b", 10)
    world.net.run_for(15)
    assert [len(stream.arrivals) for stream in streams] == [0, 0, 0, 0]
    assert others.lost == 0
    assert world.node("a").drops["sent: no route"] >= 1000


def test_the_member_itself_is_told_and_is_silent_from_then_on() -> None:
    world = build("abc")
    world.revoke("c", at="a")
    world.net.run_for(SPREAD)
    node = world.node("c")
    (event,) = world.events("c", MemberRevoked)
    assert (event.peer, event.is_own) == ("c", True)
    assert node.is_revoked
    assert node.status(world.hosts["c"].now)["node"]["is_revoked"]
    assert node.status(world.hosts["c"].now)["server"]["state"] == "unreachable"
    assert len(node.peers) == 0
    sent = world.net.trace.statistics["c"].datagrams_sent
    stream = world.stream("c", "a", 5)
    world.net.run_for(5)
    # Whatever the driver asks of it.
    world.tell_addresses("c")
    host = world.hosts["c"]
    host.call(lambda node, now: node.rebound(host.endpoint().port, now))
    host.call(lambda node, now: node.routes_changed([], now))
    host.call(lambda node, now: node.ping("a", now))
    server = [world.server_host.endpoint()]
    host.call(lambda node, now: node.set_server_endpoints(server, now))
    world.net.run_for(3600)
    host.call(lambda node, now: node.close(now))
    assert world.net.trace.statistics["c"].datagrams_sent == sent
    assert len(stream.arrivals) == 0
    assert node.get_timer() is None
    assert node.registration.datagrams_to_send() == [], "nor does it pile up"
    before = node.drops["this node is revoked"]
    host.receive([b"anything"], world.hosts["a"].endpoint(), 0)
    assert node.drops["this node is revoked"] == before + 1


def test_it_is_told_on_lossy_links() -> None:
    """There is no second time, so it is told three times by each member."""
    told = 0
    for seed in range(10):
        world = build("abc", seed=seed)
        world.hosts["c"].link.set(loss=0.3)
        world.revoke("c", at="a")
        world.net.run_for(SPREAD)
        told += world.node("c").is_revoked
    assert told >= 9


def test_it_stays_silent_when_it_is_started_again() -> None:
    """Though it knows where to find the others: they have public addresses."""
    world = build("abc", is_natted=False)
    world.revoke("c", at="a")
    world.net.run_for(SPREAD)
    sent = world.net.trace.statistics["c"].datagrams_sent
    peers = (KnownPeer(world.certificate("a"), (world.hosts["a"].endpoint(),)),)
    revocations = tuple(one.pack() for one in world.node("c").revocations)
    world.start_node("c", peers, revocations)
    world.net.run_for(600)
    assert world.node("c").is_revoked
    assert world.net.trace.statistics["c"].datagrams_sent == sent
    assert [event.is_own for event in world.events("c", MemberRevoked)] == [True, True]


def test_who_hears_of_its_own_end_passes_it_on() -> None:
    """The one that revokes reaches nobody but the member itself, which is honest."""
    world = build("abc")
    a, b = world.hosts["a"], world.hosts["b"]
    world.server_host.stop()
    for one, other in ((a, b), (b, a)):
        world.net.block(one, other)
    world.revoke("c", at="a")
    assert world.net.run_until_true(lambda: knows(world, "b", "c"), SPREAD)
    assert world.state("b", "c") == "unknown"


# Some are not


def test_who_was_offline_learns_from_any_member() -> None:
    """Not only from the one that revoked; and a member that ignores its end is dropped then."""
    world = build("abcd")
    ignore_revocations(world, "c")
    peers = known_peers(world, "b")
    world.hosts["b"].stop()
    world.revoke("c", at="a")
    world.net.run_for(SPREAD)
    assert knows(world, "d", "c")
    world.hosts["a"].stop()
    world.net.run_for(120)
    world.start_node("b", peers)
    assert world.net.run_until_true(lambda: knows(world, "b", "c"), 10)
    world.net.run_for(30)
    assert world.state("b", "c") == "unknown"
    assert world.is_direct("b", "d")


def test_it_holds_over_restarts_of_all() -> None:
    world = build("abc")
    ignore_revocations(world, "c")
    world.revoke("c", at="a")
    world.net.run_for(SPREAD)
    kept = known_peers(world, "c") or (
        KnownPeer(world.certificate("a")),
        KnownPeer(world.certificate("b")),
    )
    for name in "ab":
        restart(world, name)
    world.start_server()
    world.start_node("c", kept)
    assert world.wait_until_direct("a", "b")
    world.net.run_for(120)
    for name in "ab":
        assert world.state(name, "c") == "unknown"
        assert knows(world, name, "c")
        assert world.node(name).drops["certificate of a revoked member"] > 0
        # It was told by no one, and is told by nobody now.
        assert not knows(world, "c", "c")


def test_remembered_peers_that_are_revoked_are_not_tried() -> None:
    """The list of peers was saved before the revocation came; so was the revocation."""
    world = build("abc")
    peers = known_peers(world, "b")
    assert len(peers) == 2
    ignore_revocations(world, "c")
    world.revoke("c", at="a")
    world.net.run_for(SPREAD)
    revocations = tuple(one.pack() for one in world.node("b").revocations)
    count = sent_meanwhile(world, "b", "c")
    world.start_node("b", peers, revocations)
    world.net.run_for(60)
    assert count() == 0
    assert world.node("b").drops["remembered peer: certificate of a revoked member"] == 1


def test_a_damaged_memory_is_counted_and_the_rest_of_it_counts() -> None:
    world = build("abc")
    good = world.revocation("c")
    forged = replace(good, key=world.revocation("b").key)
    world.start_node("a", (), (b"", forged.pack(), good.pack()))
    assert knows(world, "a", "c")
    assert not knows(world, "a", "b")
    assert world.node("a").drops["remembered revocation: signature"] == 1
    assert world.node("a").drops["remembered revocation: revocation length"] == 1


def test_parted_members_learn_by_way_of_others() -> None:
    """a and b do not reach each other, nor the server; d reaches both."""
    world = build("abcd")
    ignore_revocations(world, "c")
    world.server_host.stop()
    for one, other in (("a", "b"), ("b", "a")):
        world.net.block(world.hosts[one], world.hosts[other])
    world.revoke("c", at="a")
    assert world.net.run_until_true(lambda: knows(world, "b", "c"), SPREAD)
    assert world.state("b", "c") == "unknown"


def test_two_halves_that_meet_again() -> None:
    """Each has revoked somebody meanwhile; both know both then."""
    world = build("abcdef", is_natted=False)
    halves = ("ace", "bdf")
    world.server_host.stop()
    for one in halves[0]:
        for other in halves[1]:
            world.net.block(world.hosts[one], world.hosts[other])
            world.net.block(world.hosts[other], world.hosts[one])
    world.net.run_for(5)
    world.revoke("e", at="a")
    world.revoke("f", at="b")
    world.net.run_for(SPREAD)
    assert knows(world, "c", "e")
    assert not knows(world, "c", "f")
    assert not knows(world, "d", "e")
    world.net.run_for(200)
    for one in halves[0]:
        for other in halves[1]:
            world.net.unblock(world.hosts[one], world.hosts[other])
            world.net.unblock(world.hosts[other], world.hosts[one])
    world.start_server()
    four = "abcd"
    assert world.net.run_until_true(
        lambda: all(knows(world, name, end) for name in four for end in "ef"), 30
    )


# The server


def test_a_server_that_is_away_or_withholds_prevents_nothing() -> None:
    """It sees none of it: members tell each other on their direct paths."""
    world = build("abc")
    ignore_revocations(world, "c")
    world.net.block(world.server_host)
    world.revoke("c", at="a")
    assert world.net.run_until_true(lambda: knows(world, "b", "c"), SPREAD)


def test_a_server_that_introduces_nobody_but_the_revoked_member() -> None:
    """It keeps b, which was away, from the one that knows. They find each other without it, where
    they were before; until then b cannot know."""
    world = build("abc", is_natted=False)
    ignore_revocations(world, "c")
    peers = known_peers(world, "b")
    world.hosts["b"].stop()
    world.revoke("c", at="a")
    for ends in (
        (world.hosts["a"], world.server_host),
        (world.server_host, world.hosts["a"]),
        (world.hosts["a"], world.hosts["b"]),
        (world.hosts["b"], world.hosts["a"]),
    ):
        world.net.block(*ends)
    world.net.run_for(120)
    world.start_node("b", peers)
    world.net.run_for(20)
    assert world.state("b", "c") == "direct", "the server sees to that"
    world.net.unblock(world.hosts["a"], world.hosts["b"])
    world.net.unblock(world.hosts["b"], world.hosts["a"])
    stream = world.stream("b", "a", 30, 0.5)
    assert world.net.run_until_true(lambda: knows(world, "b", "c"), 120)
    world.net.run_for(30)
    assert world.state("b", "c") == "unknown"
    assert len(stream.arrivals) > 0


def test_a_server_that_still_introduces_the_member() -> None:
    """It knows nothing of membership. The member has the network's secret, its old certificate and
    the others' endpoints, registers, and is introduced again and again."""
    world = build("abc")
    ignore_revocations(world, "c")
    peers = known_peers(world, "c")
    assert len(peers) == 2
    world.revoke("c", at="a")
    world.net.run_for(SPREAD)
    counts = [sent_meanwhile(world, name, "c") for name in "ab"]
    world.start_node("c", peers)
    streams = [world.stream("c", name, 60, 0.1) for name in "ab"]
    world.net.run_for(100)
    assert world.events("c", ServerRegistered), "the server does serve it"
    assert [count() for count in counts] == [0, 0]
    assert [len(stream.arrivals) for stream in streams] == [0, 0]
    for name in "ab":
        assert world.state(name, "c") == "unknown"
        assert world.node(name).drops["certificate of a revoked member"] > 0
        assert world.node(name).drops["initiation of a stranger"] > 0
        assert not [e for e in world.events(name, SessionEstablished)[2:] if e.peer == "c"]


def test_members_that_only_the_relay_joins() -> None:
    """Nor is the direct path needed: what is sealed goes the way that frames go."""
    world = World()
    for name in "abc":
        nat = Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
        world.add_node(name, nat)
    pairs = (("a", "b"), ("a", "c"), ("b", "c"))
    talking = {"relayed", "direct"}
    assert world.net.run_until_true(
        lambda: all(world.states(*pair) <= talking for pair in pairs), 10
    )
    channel = world.peer("b", "c").channel
    assert world.node("b").peers.has_channel(channel)
    world.revoke("c", at="a")
    assert world.net.run_until_true(lambda: knows(world, "b", "c"), SPREAD)
    assert world.net.run_until_true(lambda: world.node("c").is_revoked, SPREAD)
    assert not world.node("b").peers.has_channel(channel)


def test_nothing_comes_of_a_peer_that_somebody_still_holds() -> None:
    """A batch of frames may have been half read when it was removed."""
    world = build("abc", is_natted=False)
    ignore_revocations(world, "c")
    peer = world.peer("a", "c")
    endpoint = world.hosts["c"].endpoint()
    world.revoke("c", at="a")
    count = sent_meanwhile(world, "a", "c")

    def go_on(node: object, now: float) -> None:
        peer.note_received(endpoint, now, 100, 0)
        peer.traversal.add_candidate(Candidate(CandidateKind.HOST, endpoint))
        peer.traversal.open_mappings(now)
        peer.traversal.punch(now, "late")
        peer.session.initiate(now)
        assert peer.seal(b"late", now) is None
        assert peer.session.take_datagrams() == []
        peer.touch()

    world.hosts["a"].call(go_on)
    world.net.run_for(60)
    assert count() == 0


# Others


def test_a_forged_revocation_of_a_member_does_nothing() -> None:
    world = build("abc")
    forged = replace(world.revocation("b"), key=world.revocation("a").key)
    host = world.hosts["c"]

    def lie(node: object, now: float) -> None:
        peer = world.peer("c", "b")
        world.node("c")._outbound.send(peer, RevocationList((forged,)).pack(), now)

    host.call(lie)
    world.net.run_for(5)
    assert len(world.node("b").revocations) == 0
    assert world.node("b").drops["signature"] == 1
    assert world.is_direct("a", "b")
    assert world.is_direct("b", "c")


def test_older_versions_are_asked_ever_less_often() -> None:
    """They drop what they do not know, and nothing else changes for them."""
    world = build("ab")
    peers = known_peers(world, "a")
    expulsion = world.node("b")._expulsion
    heard = []
    expulsion.receive_digest = lambda digest, *_: heard.append(world.net.now)  # type: ignore[method-assign]
    expulsion.handle_timer = lambda *_: None  # type: ignore[method-assign]
    expulsion.get_timer = lambda: None  # type: ignore[method-assign]
    began = world.net.now
    world.start_node("a", peers)
    world.net.run_for(3600)
    assert world.is_direct()
    early = [at for at in heard if at < began + 100]
    assert 4 <= len(early) <= 7
    assert len(heard) - len(early) <= 3600 / 600 + 1


def test_a_member_that_never_agrees_gets_little_for_it() -> None:
    """It says every 20 ms that it knows something else: what it is told stays bounded."""
    world = build("ab")
    many = [
        sign_revocation(PublicKey(bytes([number]) * 32), 5, world._signing_key)
        for number in range(200)
    ]
    world.start_node("a", known_peers(world, "a"), tuple(one.pack() for one in many))
    assert world.wait_until_direct()
    ignore_revocations(world, "b")
    world.net.run_for(30)
    sent = world.net.trace.statistics["a"].datagrams_sent

    def lie(number: int) -> None:
        digest = RevocationDigest(bytes([number % 256]) * 128, wants_answer=True)
        peer = world.peer("b", "a")
        world.hosts["b"].call(lambda node, now: node._outbound.send(peer, digest.pack(), now))

    for number in range(500):
        world.net.call_later(number * 0.02, lie, number)
    world.net.run_for(10)
    # 11 frames every half second, and the answers to what else goes on.
    assert world.net.trace.statistics["a"].datagrams_sent - sent < 11 * 21 + 100


def test_lists_are_taken_at_a_bounded_rate() -> None:
    world = build("ab")
    forged = RevocationList((replace(world.revocation("b"), key=bytes(32)),)).pack()

    def send(node: object, now: float) -> None:
        for _ in range(1000):
            world.node("a")._outbound.send(world.peer("a", "b"), forged, now)

    world.hosts["a"].call(send)
    world.net.run_for(5)
    drops = world.node("b").drops
    assert 200 <= drops["signature"] <= 201
    assert drops["too many lists of revocations"] == 1000 - drops["signature"]


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_many_are_told_to_one_that_knows_none(loss: float) -> None:
    """By and by, and each is told in vain a few times at most."""
    world = build("ab")
    many = [
        # All of one group, so that its digest says nothing until the last is known.
        sign_revocation(PublicKey(bytes([number % 16, number // 16]) * 16), 5, world._signing_key)
        for number in range(300)
    ]
    world.start_node("a", known_peers(world, "a"), tuple(one.pack() for one in many))
    for host in world.hosts.values():
        host.link.set(loss=loss)
    began = world.net.now
    assert world.net.run_until_true(lambda: len(world.node("b").revocations) == 300, 3600)
    took = world.net.now - began
    print(f"300 revocations in {took:.1f} s with a loss of {loss:.0%}")
    assert took > 300 / MOST_TOLD * 0.4, "in parts"
    world.net.run_for(700)
    sent = world.net.trace.statistics["a"].datagrams_sent
    world.net.run_for(60)
    assert world.net.trace.statistics["a"].datagrams_sent - sent < 60, "and then there is quiet"


# Its name and address


@pytest.mark.parametrize("comes_first", ["former", "new"])
def test_what_two_hold_is_the_older_ones_until_that_is_revoked(comes_first: str) -> None:
    """In whatever order their certificates come, and at once."""
    world = build("abcd")
    former = world._certificates["c"]
    addresses = (former.addresses[0], world._certificates["d"].addresses[1])
    again = replace(world._certificates["d"], name="c", addresses=addresses, issued=1)
    packed = [former.pack(), world.sign(again).pack()]
    world.server_host.stop()
    node = world.start_node("b")
    table = node.peers
    for certificate in packed if comes_first == "former" else packed[::-1]:
        table.remember(certificate, ())
    new, old = table.get(again.key), table.get(former.key)
    address = former.addresses[0].ip.packed
    assert table.routes.find(address) is old
    assert table.find("c") is old
    (told,) = [event for event in table.take_events() if isinstance(event, AddressContested)]
    world.revoke("c", at="b")
    assert table.routes.find(address) is new
    assert table.find("c") is new
    with pytest.raises(AuthenticationFailed, match="revoked"):
        table.remember(packed[0], ())
    assert table.routes.find(address) is new
    assert not [event for event in table.take_events() if isinstance(event, AddressContested)]
    # That was settled; another contest between members of the same names is told of.
    third = replace(again, key=world._certificates["a"].key, issued=2)
    table.remember(world.sign(third).pack(), ())
    assert told in table.take_events()


def test_what_it_held_alone_is_nobodys_and_what_it_had_first_is_the_next_ones() -> None:
    world = build("abc")
    taken = world._certificates["a"].addresses[0]
    both = replace(world._certificates["c"], addresses=(taken, *world._certificates["c"].addresses))
    table = world.node("b").peers
    a = world.peer("b", "a")
    a.certificate = replace(a.certificate, issued=5)
    older = table.remember(world.sign(replace(both, serial=99)).pack(), ())
    assert table.routes.find(taken.ip.packed) is older
    world.revoke("c", at="b")
    assert table.routes.find(taken.ip.packed) is a
    assert table.routes.find(both.addresses[1].ip.packed) is None


def test_the_younger_of_two_is_revoked() -> None:
    """The contest is settled as well, and nothing changes for the older one."""
    world = build("abc")
    world.add_successor("younger", "c")
    assert world.net.run_until_true(lambda: len(world.node("b").peers) == 3, 10)
    older = world.peer("b", "c")
    assert older.key.data == world._certificates["c"].key
    world.revoke("younger", at="a")
    assert world.net.run_until_true(lambda: knows(world, "b", "younger"), SPREAD)
    assert world.peer("b", "c") is older
    stream = world.stream("b", "c", 5)
    world.net.run_for(6)
    assert stream.lost == 0


def test_the_address_goes_to_the_member_that_was_invited_again() -> None:
    """Revoked, and invited again with a new key, while one of the members is away, and while the
    device that was stolen still runs and takes no notice."""
    world = build("abc")
    ignore_revocations(world, "c")
    peers = known_peers(world, "b")
    assert {parse_certificate(known.certificate).name for known in peers} == {"a", "c"}
    world.hosts["b"].stop()
    world.revoke("c", at="a")
    world.net.run_for(SPREAD)
    world.add_successor("new", "c")
    assert world.net.run_until_true(lambda: world.state("a", "c") == "direct", 10)
    assert not world.events("a", AddressContested)
    # It comes back, and meets the stolen device first: the others know it at once.
    world.start_node("b", peers)
    new_key = world._certificates["new"].key
    assert world.net.run_until_true(lambda: knows(world, "b", "c"), 10)
    assert world.net.run_until_true(
        lambda: world.state("b", "c") == "direct" and world.peer("b", "c").key.data == new_key, 10
    )
    streams = [world.stream(name, "new", 5) for name in "ab"]
    stolen = [world.stream("c", name, 5, size=40) for name in "ab"]
    world.net.run_for(60)
    assert [stream.lost for stream in streams] == [0, 0]
    assert [len(stream.arrivals) for stream in stolen] == [0, 0]
    assert all(world.peer(name, "c").key.data == new_key for name in "ab")


def test_a_stolen_device_that_knows_of_it_first_displaces_nobody() -> None:
    """It is not revoked yet, and all it has is its own certificate: no name, no address but that.
    Once it is revoked it can say of others what it likes."""
    world = build("abc")
    stolen = world.hosts["c"]
    forged = replace(world.revocation("c"), key=world._certificates["a"].key)
    mine = replace(world._certificates["c"], addresses=world._certificates["a"].addresses, serial=9)

    def lie(node: object, now: float) -> None:
        world.node("c")._outbound.send(
            world.peer("c", "b"), RevocationList((forged, world.revocation("c"))).pack(), now
        )

    with pytest.raises(AuthenticationFailed):
        world.node("b").peers.remember(mine.pack(), ())
    stolen.call(lie)
    world.net.run_for(SPREAD)
    assert len(world.node("b").revocations) == 0
    assert world.peer("b", "a").key.data == world._certificates["a"].key
    stream = world.stream("b", "a", 5)
    world.net.run_for(6)
    assert stream.lost == 0
