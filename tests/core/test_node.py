"""The node's contract (DESIGN section 4, tunnel/core/machine.py), whatever arrives."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.ends import (
    ALTERNATE,
    SERVER,
    URL,
    WALL,
    Clock,
    Network,
    ScriptedServer,
    key,
    seeded,
)
from tests.sim.nat import Nat
from tests.sim.world import World
from tests.wire.messages import KINDS, candidate_lists, endpoints
from tunnel.core.candidates import HostAddress
from tunnel.core.configuration import KnownPeer, NodeConfig
from tunnel.core.events import MemberRevoked, PeerGone, PeerIntroduced, PingAnswered
from tunnel.core.indices import IndexTable
from tunnel.core.membership import sign_certificate
from tunnel.core.node import Node
from tunnel.core.path import RELAYED
from tunnel.core.revocations import sign_revocation
from tunnel.core.session import Session
from tunnel.noise.handshake import PUNCHTUN
from tunnel.noise.sealing import seal_blob
from tunnel.wire.candidate import Announcement, Candidate, CandidateKind
from tunnel.wire.check import CallMe, GoodBye, Missing, Ping, parse_check
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.handshake import COOKIE_REPLY, INITIATION, RESPONSE
from tunnel.wire.relay import RELAY, pack_relay, parse_relay
from tunnel.wire.rendezvous import (
    Asked,
    FromServer,
    Gone,
    Grant,
    Introduction,
    Moved,
    Register,
    Registered,
    parse_from_server,
)
from tunnel.wire.transport import TRANSPORT, pack_header

NODE = Endpoint("203.0.113.1", 40001)
OBSERVED = Endpoint("203.0.113.2", 40002)
STRANGER = Endpoint("192.0.2.66", 666)
NETWORK = Network()


class Alone:
    """One node that may invite, and a server that says what it is told."""

    def __init__(self, known_peers: tuple[KnownPeer, ...] = ()) -> None:
        self.clock = Clock()
        self.server = ScriptedServer(self.clock)
        self.sent: list[tuple[Endpoint, bytes]] = []
        config = NodeConfig(
            NETWORK.founder, NETWORK.identity, NETWORK.certificate, URL, known_peers
        )
        self.node = Node(
            config,
            now=self.clock.now,
            random_bytes=seeded(1),
            wall_clock=self.clock.wall,
            ledger=NETWORK.ledger(),
        )

    def start(self) -> Alone:
        address = HostAddress(ipaddress.ip_interface(f"{NODE.host}/24"))
        self.node.network_changed([address], NODE.port, self.clock.now)
        self.node.set_server_endpoints([SERVER], self.clock.now)
        self.settle()
        for register in self.server.take(Register):
            self.say(Registered(register.sequence, NODE, ALTERNATE.port, 60))
        assert self.node.registration.is_connected
        return self

    def settle(self) -> None:
        """To the server at once; everything else is noted."""
        while transmits := self.node.datagrams_to_send(self.clock.now):
            for transmit in transmits:
                data = bytes(transmit.data)
                assert transmit.endpoint.port > 0
                if transmit.endpoint == SERVER and data[0] != RELAY:
                    for answer in self.server.receive(data, NODE):
                        self.node.receive_datagrams([answer], SERVER, self.clock.now)
                else:
                    self.sent.append((transmit.endpoint, data))

    def say(self, message: FromServer | bytes) -> None:
        self.receive(self.server.seal(message), SERVER)

    def receive(self, datagram: bytes, source: Endpoint, local: int = 0) -> list[bytes]:
        packets = self.node.receive_datagrams([datagram], source, self.clock.now, local)
        self.settle()
        return packets

    def run(self, seconds: float) -> None:
        until = self.clock.now + seconds
        handled = 0
        while (timer := self.node.get_timer()) is not None and timer <= until:
            self.clock.now = max(timer, self.clock.now)
            self.node.handle_timer(self.clock.now)
            self.settle()
            handled += 1
            assert handled < 100 * (seconds + 10), "it must not spin"
        self.clock.now = until

    @property
    def drops(self) -> int:
        return sum(self.node.drops.values())

    def introduction(
        self,
        number: int = 2,
        *,
        serial: int = 1,
        candidates: tuple[Candidate, ...] = (),
        observed: Endpoint = OBSERVED,
        certificate: bytes | None = None,
        instance: int = 1,
        issued: int = 1,
        channel: int = 0,
    ) -> Introduction:
        """What the server would hand over for member `number`."""
        static = key(number)
        packed = certificate or NETWORK.certify(static, f"n{number}", number).pack()
        announcement = Announcement(instance, issued, packed, candidates)
        peer = static.public_key.data
        identity = NETWORK.identity
        sealed = seal_blob(
            identity.announcement_key, announcement.pack(), bytes(24), peer + identity.tag
        )
        return Introduction(serial, 0, 20_000, channel, peer, observed, sealed)


# Strangers


def test_strangers_get_nothing_and_every_datagram_is_counted() -> None:
    alone = Alone().start()
    before = alone.drops
    sent = 0
    for kind in range(256):
        for length in (*range(50), 64, 92, 148, 149, 300):
            alone.receive((bytes([kind, 0, 0, 0]) + bytes(300))[:length], STRANGER)
            sent += 1
    assert alone.drops - before == sent
    assert [data for to, data in alone.sent if to == STRANGER] == []
    assert all(alone.node.drops)


datagrams = st.one_of(
    st.binary(max_size=200),
    st.tuples(
        st.sampled_from([INITIATION, RESPONSE, COOKIE_REPLY, TRANSPORT, RELAY]),
        st.binary(max_size=160),
    ).map(lambda pair: bytes([pair[0], 0, 0, 0]) + pair[1]),
    st.sampled_from(
        [(INITIATION, 148), (RESPONSE, 92), (COOKIE_REPLY, 64), (TRANSPORT, 32)]
    ).flatmap(
        lambda pair: st.binary(min_size=pair[1] - 4, max_size=pair[1] - 4).map(
            lambda rest: bytes([pair[0], 0, 0, 0]) + rest
        )
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(datagrams, min_size=1, max_size=8), st.sampled_from([STRANGER, SERVER, ALTERNATE]))
def test_any_datagrams(received: list[bytes], source: Endpoint) -> None:
    alone = Alone().start()
    alone.sent.clear()
    before, timer = alone.drops, alone.node.get_timer()
    lent = [bytearray(datagram) for datagram in received]
    views: list[Any] = [memoryview(datagram) for datagram in lent]
    assert alone.node.receive_datagrams(views, source, alone.clock.now) == []
    for buffer in lent:
        buffer[:] = bytes(len(buffer))
    assert alone.node.datagrams_to_send(alone.clock.now) == []
    assert alone.drops - before == len(received)
    assert alone.node.get_timer() == timer


def test_a_flood_of_mac1_guesses_costs_no_cookie() -> None:
    alone = Alone().start()
    for number in range(1000):
        alone.clock.now += 0.001
        alone.receive(bytes([INITIATION, 0, 0, 0]) + number.to_bytes(144, "big"), STRANGER)
    assert alone.node.drops["mac1"] == 1000
    assert [to for to, _ in alone.sent if to == STRANGER] == []


def initiation(number: int, clock: Clock) -> bytes:
    """Of somebody with that key, to our node."""
    session = Session(
        construction=PUNCHTUN,
        static=key(number),
        remote_static=NETWORK.founder.public_key,
        preshared=NETWORK.identity.preshared,
        indices=IndexTable(seeded(number)),
        random_bytes=seeded(number),
        wall_clock=clock.wall,
    )
    session.initiate(clock.now)
    (datagram,) = session.take_datagrams()
    return datagram


def test_one_who_is_no_member_gets_no_answer() -> None:
    """He knows our public key, and even the network's secret, but holds no certificate."""
    alone = Alone().start()
    alone.receive(initiation(66, alone.clock), STRANGER)
    assert alone.node.drops["initiation of a stranger"] == 1
    assert [to for to, _ in alone.sent if to == STRANGER] == []


def test_under_load_cookies_go_to_where_the_initiation_came_from() -> None:
    """Through the relay too: or a relayed peer could never come in."""
    alone = Alone().start()
    alone.say(alone.introduction(2, channel=0x01020304))
    for number in range(3, 204):
        alone.receive(initiation(number, alone.clock), STRANGER)
    assert [data[0] for to, data in alone.sent if to == STRANGER] == [COOKIE_REPLY]
    alone.sent.clear()
    alone.receive(pack_relay(0x01020304, initiation(2, alone.clock)), SERVER)
    (data,) = (data for to, data in alone.sent if to == SERVER)
    channel, inner = parse_relay(data)
    assert channel == 0x01020304
    assert inner[0] == COOKIE_REPLY


def test_initiations_that_are_refused() -> None:
    alone = Alone().start()
    alone.say(alone.introduction(2, channel=7))
    datagram = initiation(2, alone.clock)
    alone.sent.clear()
    alone.receive(datagram, STRANGER)
    assert [data[0] for to, data in alone.sent if to == STRANGER] == [RESPONSE]
    alone.run(1)
    alone.sent.clear()
    alone.receive(datagram, STRANGER)
    assert alone.node.drops["initiation replayed"] == 1
    assert [to for to, _ in alone.sent if to == STRANGER] == []
    # The server's port has changed, and nobody has answered there yet.
    alone.node.set_server_endpoints([SERVER._replace(port=999)], alone.clock.now)
    alone.receive(pack_relay(7, initiation(2, alone.clock)), SERVER)
    assert alone.node.drops["relayed by no server"] == 1


def test_frames_to_the_wrong_place() -> None:
    alone = Alone().start()
    alone.receive(alone.server.seal(Gone(1, bytes(32))), STRANGER)
    assert alone.node.drops["server's frame from elsewhere"] == 1
    world = pair()
    frame = frame_of(world, b"")
    source = world.hosts["b"].endpoint()
    world.hosts["a"].call(lambda node, now: node.receive_datagrams([frame], source, now, 1))
    assert world.node("a").drops["frame of a peer to another socket"] == 1


# The server says anything


def test_introduced() -> None:
    alone = Alone().start()
    while alone.node.next_event():
        pass
    alone.say(alone.introduction())
    assert isinstance(alone.node.next_event(), PeerIntroduced)
    peer = alone.node.find_peer("n2")
    assert peer is not None
    assert alone.node.find_peer("10.9.0.2") is peer
    assert alone.node.find_peer("n3") is None
    assert peer.traversal.path_table.candidates == [Endpoint("203.0.113.2", 40002)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"announcement": b""}, "blob"),
        ({"announcement": bytes(100)}, "blob"),
        ({"peer": key(3).public_key.data}, "blob"),
    ],
)
def test_introductions_that_the_server_made_up(change: dict[str, Any], reason: str) -> None:
    alone = Alone().start()
    alone.say(alone.introduction()._replace(**change))
    assert alone.node.drops[reason] == 1
    assert len(alone.node.peers) == 0


def test_introductions_by_others_than_the_network() -> None:
    alone = Alone().start()
    foreign = Network(seed=8).certify(key(2), "n2", 2)
    alone.say(alone.introduction(certificate=foreign.pack()))
    assert alone.node.drops["signature"] == 1
    expired = NETWORK.certify(key(2), "n2", 2, expires=1)
    alone.say(alone.introduction(certificate=expired.pack()))
    assert alone.node.drops["certificate expired"] == 1
    others = NETWORK.certify(key(3), "n3", 3)
    alone.say(alone.introduction(certificate=others.pack()))
    assert alone.node.drops["announcement of another node"] == 1
    assert len(alone.node.peers) == 0


def test_an_older_announcement_of_the_same_instance() -> None:
    alone = Alone().start()
    alone.say(alone.introduction(issued=5))
    alone.say(alone.introduction(issued=4, serial=2))
    assert alone.node.drops["announcement older than the one held"] == 1
    alone.say(alone.introduction(issued=4, instance=2, serial=3))
    assert alone.node.drops["announcement older than the one held"] == 1


def test_an_announcement_of_an_earlier_process() -> None:
    """A notice that was late, or a server that repeats what was true once: no process comes back,
    and no handshake is begun with one that is gone."""
    alone = Alone().start()
    alone.say(alone.introduction(issued=5))
    alone.say(alone.introduction(issued=6, instance=2, serial=2))
    peer = alone.node.find_peer("n2")
    assert peer is not None
    instance, announced_at = peer.instance, peer.announced_at
    for number in range(5):
        alone.say(alone.introduction(issued=7 + number, serial=3 + number))
        assert (peer.instance, peer.announced_at) == (instance, announced_at)
    assert alone.node.drops["announcement of an earlier process"] == 5
    alone.say(alone.introduction(issued=1, instance=3, serial=20))
    assert peer.instance == 3, "the clock of the next one may be wrong"


def test_a_newer_certificate_replaces_the_older() -> None:
    alone = Alone().start()
    alone.say(alone.introduction())
    newer = NETWORK.certify(key(2), "renamed", 77, serial=9)
    alone.say(alone.introduction(certificate=newer.pack(), issued=2, serial=2))
    assert alone.node.find_peer("n2") is None
    assert alone.node.find_peer("10.9.0.77") is alone.node.find_peer("renamed")
    assert alone.node.find_peer("10.9.0.2") is None
    alone.say(alone.introduction(issued=3, serial=3))
    assert alone.node.find_peer("renamed") is not None


def test_the_servers_endpoints_are_admitted_like_any_other() -> None:
    """It cannot aim us at private addresses, nor at port 0."""
    alone = Alone().start()
    for number, observed in enumerate(
        (Endpoint("192.168.1.1", 53), Endpoint("8.8.8.8", 0), Endpoint("224.0.0.1", 5))
    ):
        alone.say(alone.introduction(observed=observed, serial=number, issued=number + 1))
        alone.say(Moved(100 + number, key(2).public_key.data, observed))
    peer = alone.node.find_peer("n2")
    assert peer is not None
    assert peer.traversal.path_table.candidates == []
    alone.run(60)
    assert {to.host for to, _ in alone.sent} <= {SERVER.host}


from_server = st.one_of(
    st.one_of([kind.any for kind in KINDS if kind.parse is parse_from_server]),
    st.builds(
        lambda number, candidates, observed, instance, issued, channel, start: Alone.introduction(
            None,  # type: ignore[arg-type]
            number,
            candidates=candidates,
            observed=observed,
            instance=instance,
            issued=issued,
            channel=channel,
        )._replace(start=start),
        st.integers(2, 4),
        candidate_lists,
        endpoints,
        st.integers(0, 2),
        st.integers(0, 9),
        st.integers(0, 3),
        st.integers(0, 65535),
    ),
    st.builds(
        Moved, st.just(1), st.sampled_from([key(n).public_key.data for n in (2, 3)]), endpoints
    ),
    st.builds(Gone, st.just(1), st.sampled_from([key(n).public_key.data for n in (2, 3)])),
    st.builds(
        Asked, st.just(1), st.just(2), st.just(key(5).public_key.data), st.binary(max_size=60)
    ),
    st.binary(max_size=100),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(from_server, st.floats(0, 30)), max_size=12))
def test_whatever_the_server_says(messages: list[tuple[FromServer | bytes, float]]) -> None:
    alone = Alone().start()
    for message, pause in messages:
        alone.say(message)
        alone.run(pause)
    alone.node.close(alone.clock.now)
    while alone.node.next_event():
        pass
    assert alone.node.status(alone.clock.now)["node"]["name"] == "founder"


# A peer says anything


def pair(seed: int = 1) -> World:
    world = World(seed)
    world.add_node("a")
    world.add_node("b")
    assert world.wait_until_direct()
    return world


def frame_of(world: World, payload: bytes, name: str = "b", to: str = "a") -> bytes:
    """Sealed by `name` for `to`."""
    frame = world.peer(name, to).session.seal(payload, world.hosts[name].now)
    assert frame is not None
    return frame


def give(world: World, payload: bytes, source: Endpoint | None = None) -> list[bytes]:
    """A frame of b's, received by a."""
    source = source or world.hosts["b"].endpoint()
    frame = frame_of(world, payload)
    return world.hosts["a"].call(lambda node, now: node.receive_datagrams([frame], source, now))


WORLD = pair()
"""Shared by the tests that leave the pair as it was, or do not mind."""

payloads = st.one_of(
    st.binary(max_size=100),
    st.one_of([kind.any for kind in KINDS if kind.parse is parse_check]).map(
        lambda check: check.pack()
    ),
    st.binary(max_size=60).map(lambda rest: b"\x45\0\0\x20" + rest),
    st.binary(max_size=60).map(lambda rest: b"\x60\0\0\0\0\x08" + rest),
)


@settings(max_examples=150, deadline=None)
@given(payloads, st.sampled_from([None, STRANGER, Endpoint("2001:db8::66", 6)]))
def test_whatever_a_peer_says(payload: bytes, source: Endpoint | None) -> None:
    own = WORLD.packet("b", "a")[12:16]
    for packet in give(WORLD, payload, source):
        assert packet[12:16] == own, "only from its own address"
    WORLD.net.run_for(0.05)


def test_and_afterwards_the_pair_is_as_before() -> None:
    test_whatever_a_peer_says()
    assert WORLD.wait_until_direct(timeout=60)
    WORLD.net.run_for(20)
    stream = WORLD.stream("a", "b", 2)
    WORLD.net.run_for(3)
    assert stream.lost == 0


def test_inner_addresses() -> None:
    world = pair()
    good = world.packet("b", "a", b"payload")
    assert give(world, good) == [good]
    assert give(world, good + b"\0\0\0") == [good], "padding is cut off"
    drops = world.node("a").drops
    for spoofed in (world.packet("a", "a"), good[:12] + bytes([8, 8, 8, 8]) + good[16:]):
        assert give(world, spoofed) == []
    assert drops["inner source is not the peer's"] == 2
    assert give(world, b"\x45" + bytes(10)) == []
    assert give(world, b"\x50" + bytes(40)) == []


def test_a_counter_that_leaps() -> None:
    """To the end of its range at once: what was skipped is not asked for one by one."""
    world = pair()
    keypair = world.peer("b", "a").session
    for leap in (1, 100, 2**16, 2**33, 2**62):
        current = keypair._keypairs.current  # There is no public way to leap, nor should there be.
        assert current is not None
        current.sending_counter += leap
        assert give(world, world.packet("b", "a")) != []
        world.net.run_for(0.1)


@pytest.mark.parametrize("length", [1, 64, 65535])
def test_missing_frames_are_sent_again_within_bounds(length: int) -> None:
    world = pair()
    for number in range(300):
        world.hosts["a"].send_packet(world.packet("a", "b", number.to_bytes(4, "big")))
    world.net.run_for(1)
    index = int.from_bytes(frame_of(world, b"", "a", "b")[4:8], "little")
    before = len(world.hosts["b"].packets_received)
    sent_before = world.net.trace.digest()
    give(world, Missing(length, index, 0).pack())
    give(world, Missing(length, index, 2**64 - 1).pack())
    give(world, Missing(length, index ^ 1, 0).pack())
    world.net.run_for(1)
    assert len(world.hosts["b"].packets_received) == before, "all were there: replays"
    assert sent_before != world.net.trace.digest()


def test_a_frame_through_a_channel_of_nobody() -> None:
    world = pair()
    drops = world.node("a").drops
    server = world.server_host.endpoint()
    frame = frame_of(world, Ping(7).pack())
    for datagram, source, reason in (
        (pack_relay(12345, frame), server, "unknown channel"),
        (pack_relay(12345, frame), STRANGER, "relay envelope not from the server"),
        (pack_relay(world.peer("a", "b").channel, pack_relay(1, b"x")), server, "unknown channel"),
        (pack_header(99, 0) + bytes(16), STRANGER, "unknown receiver"),
    ):
        before = drops[reason]
        world.hosts["a"].call(
            lambda node, now, d=datagram, s=source: node.receive_datagrams([d], s, now)
        )
        assert drops[reason] == before + 1


def test_good_bye() -> None:
    world = pair()
    give(world, GoodBye().pack())
    assert world.events("a", PeerGone)[-1].peer == "b"
    assert world.state("a", "b") == "offline"


def test_calls_are_admitted_like_any_candidates() -> None:
    world = pair()
    victims = tuple(
        Candidate(CandidateKind.HOST, Endpoint(host, 53)) for host in ("192.168.1.1", "127.0.0.1")
    )
    give(world, CallMe(0, victims).pack())
    assert not {v.endpoint for v in victims} & set(
        world.peer("a", "b").traversal.path_table.candidates
    )


# Commands


def test_server_first_network_later() -> None:
    """A name server may be quicker than netlink: nothing is announced before there is something."""
    alone = Alone()
    alone.node.set_server_endpoints([SERVER], alone.clock.now)
    alone.settle()
    alone.run(1)
    assert alone.server.take(Register) == []
    alone.start()


def test_subnets_behind_a_peer() -> None:
    alone = Alone().start()
    behind = replace(
        NETWORK.certify(key(2), "n2", 2), routes=(ipaddress.IPv4Network("192.168.8.0/24"),)
    )
    alone.say(alone.introduction(certificate=sign_certificate(behind, NETWORK.signing_key).pack()))
    packet = bytes([0x45, 0, 0, 20]) + bytes(8) + bytes([10, 9, 0, 1, 192, 168, 8, 9])
    alone.node.send_packets([packet], alone.clock.now)
    assert alone.node.drops["sent: no route"] == 0
    alone.node.send_packets([packet[:-2] + b"\x09\x09"], alone.clock.now)
    assert alone.node.drops["sent: no route"] == 1


def test_packets_that_go_nowhere() -> None:
    alone = Alone().start()
    good = bytes([0x45, 0, 0, 20]) + bytes(8) + bytes([10, 9, 0, 1, 10, 9, 0, 99])
    alone.node.send_packets([b"", b"\x45", good, bytes(40)], alone.clock.now)
    assert alone.node.drops["sent: no route"] == 1
    assert sum(n for reason, n in alone.node.drops.items() if reason.startswith("sent: ")) == 4


def test_packets_wait_for_the_session() -> None:
    world = World()
    world.add_node("a")
    world.add_node("b", Nat())
    packet = world.packet("a", "b", b"early")
    assert world.net.run_until_true(lambda: world.node("a").find_peer("b") is not None, 5)
    for _ in range(200):
        world.hosts["a"].send_packet(packet)
    world.net.run_for(2)
    assert 0 < len(world.hosts["b"].packets_received) <= 64


def test_ping() -> None:
    world = pair()
    transaction = world.hosts["a"].call(lambda node, now: node.ping("b", now))
    world.net.run_for(1)
    (answer,) = world.events("a", PingAnswered)
    assert (answer.peer, answer.transaction) == ("b", transaction)
    assert answer.seconds == pytest.approx(0.04, abs=0.01)
    assert world.hosts["a"].call(lambda node, now: node.ping("nobody", now)) is None


def test_ping_before_there_is_a_session_begins_one() -> None:
    alone = Alone().start()
    alone.say(alone.introduction(candidates=(Candidate(CandidateKind.HOST, OBSERVED),)))
    alone.sent.clear()
    alone.run(120)
    assert alone.node.ping("n2", alone.clock.now) is None
    alone.settle()
    assert INITIATION in [data[0] for to, data in alone.sent if to == OBSERVED]


def test_a_change_of_the_network_is_told_and_punched_at_once() -> None:
    world = pair()
    punches = world.peer("a", "b").traversal.punches
    world.hosts["a"].move()
    world.tell_addresses("a")
    assert world.peer("a", "b").traversal.punches > punches
    stream = world.stream("b", "a", 2)
    world.net.run_for(3)
    assert stream.lost <= 20, "a fifth of a second"
    assert world.is_direct()


def test_remembered_peers() -> None:
    good = NETWORK.certify(key(2), "n2", 2).pack()
    alone = Alone(
        (
            KnownPeer(good, (Endpoint("203.0.113.2", 40002), Endpoint("192.168.1.1", 5))),
            KnownPeer(good[:-1] + b"\0"),
            KnownPeer(NETWORK.certificate.pack()),
            KnownPeer(b""),
        )
    ).start()
    assert [peer.name for peer in alone.node.peers] == ["n2"]
    assert alone.drops >= 2
    targets = {to for to, data in alone.sent if data[0] == INITIATION}
    assert targets == {Endpoint("203.0.113.2", 40002)}


def test_the_server_moves_while_the_node_runs() -> None:
    alone = Alone().start()
    elsewhere = Endpoint("198.51.100.7", 12345)
    alone.node.set_server_endpoints([elsewhere], alone.clock.now)
    alone.run(60)
    assert (elsewhere, INITIATION) in {(to, data[0]) for to, data in alone.sent}


# Buffers, clock, determinism


def test_lent_buffers_may_be_overwritten_after_the_call() -> None:
    world = World()
    for name in ("a", "b"):
        world.add_node(name, Nat())
    for host in (*world.hosts.values(), world.server_host):
        host.lends_buffers = True
    assert world.wait_until_direct()
    stream = world.stream("a", "b", 3)
    world.net.run_for(5)
    assert stream.lost == 0


def test_timer_reads_only_and_may_fire_early_or_twice() -> None:
    """Around every event of a first minute."""
    world = World()
    for name in ("a", "b"):
        world.add_node(name, Nat())
    for _ in range(600):
        world.net.run_for(0.1)
        for name in ("a", "b"):
            node, now = world.node(name), world.hosts[name].now
            timer = node.get_timer()
            assert timer is not None
            assert node.get_timer() == timer
            if timer > now:
                node.handle_timer(now)
                assert node.datagrams_to_send(now) == []
                assert node.next_event() is None
    assert world.is_direct()


def digest(seed: int, script: Callable[[World], None]) -> str:
    world = World(seed)
    for name in ("a", "b"):
        world.add_node(name, Nat())
    script(world)
    return world.net.trace.digest()


def script(world: World) -> None:
    world.wait_until_direct()
    world.stream("a", "b", 20)
    world.net.run_for(5)
    world.net.routers["nat-a0"].flush()  # type: ignore[attr-defined]
    world.net.run_for(5)
    world.start_server()
    world.net.run_for(40)
    world.hosts["b"].call(lambda node, now: node.close(now))
    world.net.run_for(5)


def test_same_seed_same_bytes() -> None:
    first = digest(5, script)
    assert digest(5, script) == first
    assert digest(6, script) != first


def test_relayed_is_no_endpoint() -> None:
    """The way through the relay has a name that no datagram can come from."""
    with pytest.raises(ValueError, match="address"):
        ipaddress.ip_address(RELAYED.host)


# Revoked members


def test_a_revoked_members_join_request_is_not_answered() -> None:
    """Not with another invitation either: who comes back comes with another key."""
    alone = Alone().start()
    alone.node.revoke(
        sign_revocation(key(5).public_key, WALL, NETWORK.signing_key), alone.clock.now
    )
    alone.say(Asked(1, 2, key(5).public_key.data, b"whatever"))
    assert alone.node.drops["join request of a revoked member"] == 1
    assert alone.server.take(Grant) == []


def test_revoking_strikes_the_member_from_the_ledger() -> None:
    alone = Alone().start()
    ledger = alone.node.inviter.ledger
    assert ledger is not None
    ledger.issued.append(NETWORK.certify(key(2), "n2", 2))
    alone.say(alone.introduction())
    assert alone.node.find_peer("n2") is not None
    alone.node.revoke(ledger.sign_revocation("n2", WALL), alone.clock.now)
    assert alone.node.find_peer("n2") is None
    assert [c.name for c in ledger.issued] == ["founder"]
    # The server says that it is there again; it is no peer of ours any more.
    alone.say(alone.introduction(serial=2, issued=2))
    assert alone.node.find_peer("n2") is None
    assert alone.node.drops["certificate of a revoked member"] == 1
    alone.run(60)


def test_a_ledger_saved_before_the_member_was_struck() -> None:
    """The process ended between saving the revocation and saving the ledger."""
    ledger = NETWORK.ledger()
    ledger.issued.append(NETWORK.certify(key(2), "n2", 2))
    revocation = ledger.sign_revocation("n2", WALL)
    config = NodeConfig(
        NETWORK.founder,
        NETWORK.identity,
        NETWORK.certificate,
        URL,
        revocations=(revocation.pack(),),
    )
    clock = Clock()
    Node(
        config,
        now=clock.now,
        random_bytes=seeded(1),
        wall_clock=clock.wall,
        ledger=ledger,
    )
    assert [c.name for c in ledger.issued] == ["founder"]


def test_a_ledger_from_a_backup_that_knows_less_than_the_members() -> None:
    """They tell of a revocation that was made after the backup."""
    alone = Alone().start()
    ledger = alone.node.inviter.ledger
    assert ledger is not None
    ledger.issued.append(NETWORK.certify(key(2), "n2", 2))
    told = ledger.sign_revocation("n2", WALL)
    alone.node._expulsion.carry_out(told, alone.clock.now)
    assert alone.node.inviter.invite("n2")
    assert [c.name for c in ledger.struck] == ["n2"]


def test_a_node_that_knows_itself_revoked_begins_nothing() -> None:
    """Whatever is done to it first; and it says so once."""
    own = sign_revocation(NETWORK.founder.public_key, WALL, NETWORK.signing_key)
    peer = KnownPeer(NETWORK.certify(key(2), "n2", 2).pack(), (OBSERVED,))
    clock = Clock()
    node = Node(
        NodeConfig(
            NETWORK.founder,
            NETWORK.identity,
            NETWORK.certificate,
            URL,
            (peer,),
            (own.pack(),),
        ),
        now=clock.now,
        random_bytes=seeded(1),
        wall_clock=clock.wall,
    )
    address = HostAddress(ipaddress.ip_interface(f"{NODE.host}/24"))
    node.network_changed([address], NODE.port, clock.now)
    node.set_server_endpoints([SERVER], clock.now)
    assert node.datagrams_to_send(clock.now) == []
    assert node.get_timer() is None
    event = node.next_event()
    assert isinstance(event, MemberRevoked)
    assert event.is_own
    assert node.next_event() is None
