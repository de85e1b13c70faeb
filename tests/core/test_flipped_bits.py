"""Every single bit of every message, flipped: refused, without an answer longer than the message,
and nothing changes but the count of drops. The true message still counts after all of them.

Frames of trains: `tests/dataplane/test_opening.py`. Certificates: `tests/core/test_membership.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core.ends import WALL, Town, key, seeded
from tests.core.state import describe_state, find_changes
from tests.core.test_membership import NETWORK, invite, request
from tests.core.test_node import STRANGER, Alone, frame_of, pair
from tests.core.test_rendezvous import channels
from tests.core.test_session import End, Pair
from tunnel.core.handshakes import HandshakeReceiver
from tunnel.core.membership import open_join_answer
from tunnel.core.nat_hairpin import HairpinDiscovery
from tunnel.errors import AuthenticationFailed, Malformed
from tunnel.noise.cookie import CookieChecker, CookieGenerator
from tunnel.noise.handshake import PUNCHTUN
from tunnel.noise.keys import PublicKey
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.feeler import parse_hairpin
from tunnel.wire.handshake import COOKIE_REPLY, INITIATION, RESPONSE
from tunnel.wire.invitation import JoinStatus, parse_join_answer, parse_join_request
from tunnel.wire.relay import RELAY_HEADER_LENGTH, pack_relay
from tunnel.wire.rendezvous import Echo
from tunnel.wire.transport import TRANSPORT

COUNTS = ("drops", "_drops", "sieve", "_calm")
"""What may change: what is counted; an initiation whose mac1 is right takes its share."""
MACS, MAC2 = 32, 16


def flips(message: bytes, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Each with one bit of those bytes flipped."""
    for position in range(start, len(message) if end is None else end):
        for bit in range(8):
            changed = bytearray(message)
            changed[position] ^= 1 << bit
            yield bytes(changed)


def known(datagrams: Iterator[bytes]) -> Iterator[bytes]:
    """Without those whose kind became none that a session is given."""
    return (datagram for datagram in datagrams if INITIATION <= datagram[0] <= TRANSPORT)


def assert_unchanged(root: object, before: dict[str, object]) -> None:
    assert find_changes(before, describe_state(root, COUNTS)) == {}


def refuse(end: End, source: Endpoint, changed: Iterator[bytes], reasons: set[str]) -> None:
    """Each of them, and `end` is as before."""
    before, count, dropped = describe_state(end.session, COUNTS), 0, len(end.drops)
    payloads = list(end.payloads)
    for datagram in changed:
        assert end.receive(datagram, source) == []
        assert end.session.take_datagrams() == []
        assert_unchanged(end.session, before)
        count += 1
    assert len(end.drops) - dropped == count
    assert set(end.drops[dropped:]) <= reasons
    assert end.payloads == payloads


def mend(datagrams: Iterator[bytes], number: int) -> Iterator[bytes]:
    """With mac1 made right again, by somebody who knows the receiver's public key."""
    generator = CookieGenerator(PUNCHTUN, key(number).public_key)
    return (generator.stamp(datagram, 0.0) for datagram in datagrams)


CIPHERS = pytest.mark.parametrize("may_use_aegis", [True, False], ids=["aegis", "chacha"])


# Handshakes. mac2 counts under load alone.


@CIPHERS
def test_initiation(may_use_aegis: bool) -> None:
    ends = Pair(a_may_use_aegis=may_use_aegis)
    ends.a.session.initiate(ends.clock.now)
    (true,) = ends.a.session.take_datagrams()
    source = ends.a.endpoint
    unknown = {"initiation type", "response length", "mac1"}
    # The kind itself: other messages have another length, or do not name one of our sessions.
    others = {"cookie reply length", "unknown type", "no such keypair"}
    refuse(ends.b, source, known(flips(true, 0, 1)), unknown | others)
    refuse(ends.b, source, flips(true, 1, len(true) - MAC2), unknown)
    # What Noise covers: all but the offer and the sender's index.
    body = flips(true, 8, len(true) - MACS)
    ends.b.receiver = HandshakeReceiver(PUNCHTUN, key(2), seeded(9), calm_rate=1e9)
    refuse(ends.b, source, mend(body, 2), {"initiation"})
    (response,) = ends.b.receive(true, source)
    assert response[0] == RESPONSE


def test_initiation_under_load() -> None:
    """What is wrong with mac2 is asked to come with a cookie, which is shorter."""
    ends = Pair()
    ends.b.receiver = HandshakeReceiver(PUNCHTUN, key(2), seeded(9), calm_rate=0.0)
    source = ends.a.endpoint
    ends.a.session.initiate(ends.clock.now)
    (first,) = ends.a.session.take_datagrams()
    (reply,) = ends.b.receive(first, source)
    assert reply[0] == COOKIE_REPLY
    assert ends.a.receive(reply, ends.b.endpoint) == []
    ends.clock.now += 1
    ends.a.session.restart_handshake(ends.clock.now)
    (true,) = ends.a.session.take_datagrams()
    assert true[-MAC2:] != bytes(MAC2)

    refuse(ends.b, source, flips(true, 1, len(true) - MAC2), {"initiation type", "mac1"})
    before = describe_state(ends.b.session)
    for datagram in flips(true, len(true) - MAC2):
        (answer,) = ends.b.receive(datagram, source)
        assert answer[0] == COOKIE_REPLY
        assert len(answer) < len(datagram)
    assert_unchanged(ends.b.session, before)
    (response,) = ends.b.receive(true, source)
    assert response[0] == RESPONSE


def test_cookie_reply() -> None:
    """To a node, which looks for the session that it names."""
    alone = Alone().start()
    alone.say(alone.introduction(2))
    (initiation,) = (data for _, data in alone.sent if data[0] == INITIATION)
    checker = CookieChecker(PUNCHTUN, key(2).public_key, seeded(4))
    true = checker.create_reply(initiation, bytes(18), alone.clock.now).pack()
    before = describe_state(alone.node, COUNTS)
    alone.sent.clear()
    for datagram in flips(true):
        dropped = alone.drops
        assert alone.receive(datagram, STRANGER) == []
        assert alone.drops == dropped + 1
        assert_unchanged(alone.node, before)
    assert alone.sent == []
    alone.receive(true, STRANGER)
    assert describe_state(alone.node, COUNTS) != before


@CIPHERS
def test_response(may_use_aegis: bool) -> None:
    ends = Pair(a_may_use_aegis=may_use_aegis)
    ends.a.session.initiate(ends.clock.now)
    (initiation,) = ends.a.session.take_datagrams()
    (true,) = ends.b.receive(initiation, ends.a.endpoint)
    source = ends.b.endpoint
    refused = {"response type", "response to no initiation of ours", "mac1"}
    others = {"initiation length", "cookie reply length", "unknown type", "no such keypair"}
    refuse(ends.a, source, known(flips(true, 0, 1)), refused | others)
    refuse(ends.a, source, flips(true, 1, len(true) - MAC2), refused)
    body = flips(true, 8, len(true) - MACS)
    refuse(ends.a, source, mend(body, 1), {"response", "response to no initiation of ours"})
    (frame,) = ends.a.receive(true, source)
    assert frame[0] == TRANSPORT


@pytest.mark.parametrize("kind", [INITIATION, RESPONSE])
def test_mac2_in_the_calm(kind: int) -> None:
    """Whatever it is, the message is the same one: it counts, and once."""
    ends = Pair()
    ends.a.session.initiate(ends.clock.now)
    (true,) = ends.a.session.take_datagrams()
    receiver, sender = ends.b, ends.a
    if kind == RESPONSE:
        (true,) = ends.b.receive(true, ends.a.endpoint)
        receiver, sender = ends.a, ends.b
    changed = list(flips(true, len(true) - MAC2))
    assert len(receiver.receive(changed[0], sender.endpoint)) == 1
    again = {INITIATION: 0, RESPONSE: len(changed)}[kind]
    for datagram in [*changed, true]:
        assert receiver.receive(datagram, sender.endpoint) == []
    assert len(receiver.drops) >= again
    assert receiver.session.handshakes == 1


# Frames


@CIPHERS
@pytest.mark.parametrize("direction", ["from the initiator", "from the responder"])
@pytest.mark.parametrize("payload", [b"", b"an IP packet"], ids=["empty", "full"])
def test_frame(may_use_aegis: bool, direction: str, payload: bytes) -> None:
    ends = Pair(a_may_use_aegis=may_use_aegis)
    ends.handshake()
    sender, receiver = ends.a, ends.b
    if direction == "from the responder":
        sender, receiver = receiver, sender
    true = sender.session.seal(payload, ends.clock.now)
    assert true is not None
    others = {"initiation length", "response length", "cookie reply length", "transport type"}
    refuse(receiver, sender.endpoint, known(flips(true)), {"tag", "no such keypair"} | others)
    receiver.receive(true, sender.endpoint)
    assert receiver.payloads[-1] == payload
    refuse(receiver, sender.endpoint, iter([true]), {"replay"})


@pytest.mark.parametrize("cipher", ["aegis", "chacha"])
def test_frame_to_a_node(cipher: str) -> None:
    """The whole node, which has a peer by every way: no path, peer or timer changes either."""
    world = pair(seed={"aegis": 5, "chacha": 6}[cipher])
    if cipher == "chacha":
        world.without_aegis.add("b")
        world.start_node("b")
        assert world.wait_until_direct()
    node, host = world.node("a"), world.hosts["a"]
    source = world.hosts["b"].endpoint()
    assert list(node.datagrams_to_send(host.now)) == []
    true = frame_of(world, world.packet("b", "a", b"hello"))
    before, timer = describe_state(node, COUNTS), node.get_timer()
    for position in range(len(true)):
        changed = list(flips(true, position, position + 1))
        dropped = node.drops.total()
        assert node.receive_datagrams(changed, source, host.now) == []
        assert list(node.datagrams_to_send(host.now)) == []
        assert node.drops.total() - dropped == 8
        assert_unchanged(node, before)
    assert node.get_timer() == timer
    assert len(node.receive_datagrams([true], source, host.now)) == 1


def test_to_the_server() -> None:
    """A registration by frame, an initiation, and the head of an envelope."""
    town = Town()
    a, b, channel, _ = channels(town)
    frame = a.link.session.seal(Echo(1, 0).pack(), town.clock.now)
    assert frame is not None
    a.link.session.restart_handshake(town.clock.now + 1)
    (transmit,) = a.link.datagrams_to_send()
    initiation, envelope = bytes(transmit.data), pack_relay(channel, b"inner")
    for true, end in (
        (frame, len(frame)),
        (initiation, len(initiation) - MAC2),
        (envelope, RELAY_HEADER_LENGTH),
    ):
        before = describe_state(town.server, COUNTS)
        for position in range(end):
            dropped = town.server.drops.total()
            for datagram in flips(true, position, position + 1):
                town.receive(datagram, a.endpoint)
            assert town.server.drops.total() - dropped == 8
            assert_unchanged(town.server, before)
    assert town.lost == []
    assert b.channels == []
    for true in (frame, envelope, initiation):
        town.receive(true, a.endpoint)
    assert len(b.channels) == 1


# What the server carries unread


def test_announcement() -> None:
    """Neither it nor the key it is said to be of can be changed by the server."""
    alone = Alone().start()
    true = alone.introduction()
    changed = [true._replace(announcement=sealed) for sealed in flips(true.announcement)]
    changed += [true._replace(peer=peer) for peer in flips(true.peer)]
    peers = list(alone.node.peers)
    before = describe_state(alone.node.peers, ["_indices"])
    for number, introduction in enumerate(changed):
        alone.say(introduction._replace(serial=number))
    assert find_changes(before, describe_state(alone.node.peers, ["_indices"])) == {}
    assert peers == []
    assert alone.node.drops["blob"] == len(changed)
    alone.say(true)
    assert len(alone.node.peers) == 1


def test_join_request() -> None:
    """By the server, or who guesses: the invitation is not used up, and what is answered to an id
    that nobody has is shorter than the request."""
    ledger, joiner = NETWORK.ledger(), key(5)
    token = invite(ledger).token
    true = request(token, joiner).pack()
    before = describe_state(ledger)
    for packed in flips(true):
        try:
            changed = parse_join_request(packed)
            answer, consumed = ledger.redeem(changed, joiner.public_key, WALL, seeded(3))
        except (Malformed, AuthenticationFailed):
            continue
        assert consumed is None
        assert answer.status is JoinStatus.UNKNOWN
        assert len(answer.pack()) < len(packed)
    for other in flips(joiner.public_key.data):
        with pytest.raises(AuthenticationFailed):
            ledger.redeem(parse_join_request(true), PublicKey(other), WALL, seeded(3))
    assert_unchanged(ledger, before)
    answer, consumed = ledger.redeem(parse_join_request(true), joiner.public_key, WALL, seeded(3))
    assert consumed is not None


@pytest.mark.parametrize("status", [JoinStatus.GRANTED, JoinStatus.USED])
def test_join_answer(status: JoinStatus) -> None:
    ledger, joiner, inviter = NETWORK.ledger(), key(5), NETWORK.founder.public_key
    token = invite(ledger).token
    if status is JoinStatus.USED:
        ledger.redeem(request(token, key(6)), key(6).public_key, WALL, seeded(3))
    true, _ = ledger.redeem(request(token, joiner), joiner.public_key, WALL, seeded(4))
    assert true.status is status
    for packed in flips(true.pack()):
        with pytest.raises((Malformed, AuthenticationFailed)):
            open_join_answer(parse_join_answer(packed), joiner, inviter, token)
    opened = open_join_answer(true, joiner, inviter, token)
    assert isinstance(opened, JoinStatus) is (status is not JoinStatus.GRANTED)


def test_a_hairpin_that_is_not_ours() -> None:
    discovery = HairpinDiscovery(seeded(1))
    one, other = (0, Endpoint("203.0.113.1", 1)), (1, Endpoint("203.0.113.1", 2))
    discovery.start(one, other, 0.0)
    (true, *_) = (bytes(transmit.data) for transmit in discovery.take_transmits())
    before = describe_state(discovery)
    for datagram in flips(true):
        try:
            token = parse_hairpin(datagram).token
        except Malformed:
            continue
        assert not discovery.receive(token)
        assert_unchanged(discovery, before)
    assert discovery.receive(parse_hairpin(true).token)
