"""Messages of older and newer versions come in: docs/protocol.md, "Versions and what is not known".

What is dropped changes nothing but the count of its reason. What is dropped out of an authentic
frame changes no more than an empty frame does; out of a notice, no more than any notice that means
nothing to its receiver.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import pytest

from tests.core.ends import SERVER, TAG, URL, Clock, ScriptedServer, Town, key, seeded
from tests.core.state import changes_of
from tests.core.test_node import NETWORK as ALONE_NETWORK
from tests.core.test_node import STRANGER, Alone
from tests.protocol.meeting import HERE, THERE, Meeting
from tests.protocol.second.handshake import (
    Initiation,
    Use,
    add_macs,
    between_nodes,
    respond,
    tai64n,
)
from tests.protocol.second.node import SecondNode
from tests.protocol.test_versions import BY_NAME, kinds_of, unknown_firsts
from tunnel.core.indices import IndexTable
from tunnel.core.join import Joiner
from tunnel.core.session import Session
from tunnel.errors import AuthenticationFailed
from tunnel.noise.handshake import PUNCHTUN
from tunnel.noise.sealing import seal_blob
from tunnel.wire.certificate import SIGNED_PREFIX
from tunnel.wire.check import parse_check
from tunnel.wire.handshake import parse_response
from tunnel.wire.invitation import JoinStatus, JoinString, parse_join_request
from tunnel.wire.rendezvous import (
    AnswerFrom,
    Asked,
    Gone,
    Grant,
    Granted,
    Introduction,
    Redeem,
    RefusalReason,
    Register,
    Registered,
    parse_from_node,
    parse_from_server,
)

DROPS = ["drops", "_drops", "sieve"]
"""Where reasons and strangers are counted."""


def of_lengths(firsts: Iterable[int]) -> Iterator[bytes]:
    for first in firsts:
        for length in (1, 4, 40, 200):
            yield (bytes([first, 0, 0, 0]) + bytes(200))[:length]


def cut_short(parse: object) -> Iterator[bytes]:
    """The messages that it parses, at every length at which they are not whole."""
    for kind in kinds_of(parse):
        for length in range(1, len(kind.packed) - (kind.tail or 0)):
            yield kind.packed[:length]


# A member says it, in authentic frames


class Peers:
    """A node of ours, and the second implementation as its peer, with keys and a direct path."""

    def __init__(self) -> None:
        self.meeting = Meeting(2)
        self.meeting.begin()
        self.meeting.run(5.0)
        self.node, self.second = self.meeting.node, self.meeting.second
        self.hear(b"")
        self.usual = set(self.hear(b""))
        """What an empty frame changes."""

    def receive(self, *datagrams: bytes) -> set[str]:
        """What changes, by the way to it; nothing is answered."""
        now = self.meeting.clock.now
        changes = changes_of(
            self.node, lambda: self.node.receive_datagrams(datagrams, THERE, now), DROPS
        )
        assert self.node.datagrams_to_send(now) == []
        return set(changes)

    def hear(self, *payloads: bytes) -> set[str]:
        assert self.second.peer_keys is not None
        return self.receive(*map(self.second.peer_keys.seal, payloads))

    @property
    def drops(self) -> int:
        return sum(self.node.drops.values())

    def drop(self, payloads: Iterable[bytes]) -> None:
        before, dropped = self.drops, list(payloads)
        assert self.hear(*dropped) <= self.usual
        assert self.drops == before + len(dropped)


PACKETS = [
    0x10,
    0x30,
    *range(0x40, 0x50),
    *range(0x60, 0x70),
    *range(0xC0, 0xD0),
    *range(0xE0, 0xF0),
]


def test_payloads_of_unknown_kinds() -> None:
    peers = Peers()
    assert peers.usual
    firsts = [first for first in unknown_firsts(parse_check) if first not in PACKETS]
    peers.drop(of_lengths(firsts))
    assert not peers.hear(BY_NAME["good-bye"].packed) <= peers.usual  # That is not dropped.


def malformed_checks() -> Iterator[bytes]:
    yield from cut_short(parse_check)
    yield BY_NAME["call-me"].packed + b"\0"
    yield bytes([10, 0]) + BY_NAME["nature"].packed[2:]
    prediction = BY_NAME["prediction"].packed
    for phase, kind_of_it in ((0, 1), (4, 1), (1, 0), (2, 99), (3, 99)):
        yield bytes([9, phase, kind_of_it]) + prediction[3:]


def test_checks_that_are_shorter_or_say_what_is_not_known() -> None:
    Peers().drop(malformed_checks())


def test_a_longer_ping_is_answered() -> None:
    peers = Peers()
    before = len(peers.second.payloads)
    now = peers.meeting.clock.now
    assert peers.second.peer_keys is not None
    frame = peers.second.peer_keys.seal(bytes([1, 9, 9, 9]) + b"transact" + b"and more, not zero")
    peers.node.receive_datagrams([frame], THERE, now)
    peers.meeting.settle()
    pong, _ = peers.second.payloads[before]
    assert (pong[0], pong[4:12]) == (2, b"transact")


def test_datagrams_of_unknown_kinds_and_reserved_bytes() -> None:
    peers = Peers()
    assert peers.second.peer_keys is not None
    frame = peers.second.peer_keys.seal(b"")
    before, firsts = peers.drops, (0, *range(7, 256))
    assert peers.receive(*(bytes([first]) + frame[1:] for first in firsts)) == set()
    assert peers.drops == before + len(firsts)
    for position in (2, 3):
        changed = frame[:position] + b"\1" + frame[position + 1 :]
        assert peers.receive(changed) == set()
    assert peers.receive(frame) <= peers.usual  # The true one is still taken.
    assert peers.node.drops["transport type"] == 2


def initiation(second: SecondNode, use: Use, offer: int, number: int) -> Initiation:
    peer = ALONE_NETWORK.founder.public_key.data
    index = number.to_bytes(4, "little")
    stamp = tai64n(1.9e9 + number)
    return Initiation(use, key(2).data, peer, bytes([number]) * 32, index, stamp, offer)


def test_initiations_of_another_version() -> None:
    peers = Peers()
    secret = ALONE_NETWORK.identity.secret
    today = between_nodes(secret)
    now = peers.meeting.clock.now
    for number, identifier in enumerate((b"punchtun v2 tunnel", b"punchtun v0 tunnel", b""), 1):
        begun = initiation(peers.second, Use(identifier, today.preshared), 1, number)
        changed = peers.receive(begun.datagram)
        assert {way.split(".")[-2] for way in changed} <= {"_calm"}
    assert peers.node.drops["initiation"] == 3
    for position in (2, 3):
        datagram = bytearray(initiation(peers.second, today, 1, 4).datagram)
        datagram[position] = 1
        assert peers.receive(bytes(datagram)) == set()
    for number, offer, choice in ((5, 0xFE, 0), (6, 0xFF, 1)):
        begun = initiation(peers.second, today, offer, number)
        peers.meeting.clock.now = now = now + 1.0
        peers.node.receive_datagrams([begun.datagram], THERE, now)
        (response,) = [
            bytes(transmit.data)
            for transmit in peers.node.datagrams_to_send(now)
            if transmit.data[0] == 2
        ]
        assert begun.finish(response).choice == choice


@pytest.mark.parametrize(("may_use_aegis", "choices"), [(True, (2, 3, 255)), (False, (1, 2))])
def test_a_response_that_chooses_what_was_not_offered(
    may_use_aegis: bool, choices: tuple[int, ...]
) -> None:
    """It leaves no trace, and the true one is still taken."""
    clock, today = Clock(), between_nodes(ALONE_NETWORK.identity.secret)
    session = Session(
        construction=PUNCHTUN,
        static=key(1),
        remote_static=key(2).public_key,
        preshared=ALONE_NETWORK.identity.preshared,
        indices=IndexTable(seeded(1)),
        random_bytes=seeded(2),
        wall_clock=clock.wall,
        may_use_aegis=may_use_aegis,
    )
    session.initiate(clock.now)
    (datagram,) = session.take_datagrams()
    _, _, response, keys = respond(today, key(2).data, datagram, b"f" * 32, b"indx", 1)
    assert keys.choice == may_use_aegis

    def receive(choice: int) -> None:
        body = bytes([2, choice]) + response[2:-32]
        stamped = add_macs(body, today, key(1).public_key.data)
        with pytest.raises(AuthenticationFailed, match=r"^response$"):
            session.receive_response(parse_response(stamped), clock.now)

    for choice in choices:
        assert changes_of(session, partial(receive, choice)) == {}
    session.receive_response(parse_response(response), clock.now)
    assert session.is_established(clock.now)


# The server says it


class Told:
    """A node that a server can tell anything."""

    def __init__(self) -> None:
        self.alone = Alone().start()
        self.alone.say(b"")
        self.usual = set(self.hear(b""))
        self.hear(Gone(98, bytes(32)).pack())
        self.usual_of_notice = set(self.hear(Gone(99, bytes(32)).pack()))
        self.alone.sent.clear()

    def hear(self, *payloads: bytes) -> set[str]:
        def say() -> None:
            for payload in payloads:
                self.alone.say(payload)

        return set(changes_of(self.alone.node, say, DROPS))

    def drop(self, payloads: Iterable[bytes], usual: set[str]) -> None:
        before, dropped = self.alone.drops, list(payloads)
        assert self.hear(*dropped) <= usual
        assert self.alone.drops == before + len(dropped)
        assert self.alone.sent == []


def test_messages_of_the_server_of_unknown_kinds_or_cut_short() -> None:
    told = Told()
    told.drop(of_lengths(unknown_firsts(parse_from_server)), told.usual)
    told.drop(cut_short(parse_from_server), told.usual)
    told.drop(
        (bytes([0x88, reason]) + bytes(10) for reason in (0, max(RefusalReason) + 1, 255)),
        told.usual,
    )
    assert told.alone.node.registration.is_connected
    assert not told.hear(announced(announcement(GOOD), 100)) <= told.usual_of_notice


def announced(plaintext: bytes, serial: int) -> bytes:
    """An introduction of member 2 with that announcement, sealed as a member would."""
    identity, peer = ALONE_NETWORK.identity, key(2).public_key.data
    sealed = seal_blob(identity.announcement_key, plaintext, bytes(24), peer + identity.tag)
    return Introduction(serial, 0, 20_000, 0, peer, HERE, sealed).pack()


def certify(change: Callable[[bytes], bytes]) -> bytes:
    """Member 2's certificate with a changed content, signed by the network."""
    part = change(ALONE_NETWORK.certify(key(2), "n2", 2).signed_part())
    return part + ALONE_NETWORK.signing_key.sign(SIGNED_PREFIX + part)


def announcement(certificate: bytes, version: int = 1, end: bytes = b"\0") -> bytes:
    return struct.pack("<BIQH", version, 1, 1, len(certificate)) + certificate + end


GOOD = certify(bytes)
CANDIDATE_OF_LATER = b"\2" + bytes([99]) + bytes(16) + b"\1\2" + b"\1" + bytes(10) + b"\xff\xff"
NOT_ANNOUNCEMENTS = {
    "version 0": announcement(GOOD, 0),
    "version 2": announcement(GOOD, 2),
    "version 2, longer": announcement(GOOD, 2, b"\0more"),
    "longer": announcement(GOOD, 1, b"\0more"),
    "certificate of version 0": announcement(certify(lambda part: b"\0" + part[1:])),
    "certificate of version 2": announcement(certify(lambda part: b"\2" + part[1:])),
    "certificate with another flag": announcement(certify(lambda part: b"\1\2" + part[2:])),
    "certificate that says more": announcement(certify(lambda part: part + b"\1more")),
    "certificate with bytes behind": announcement(GOOD + b"\0"),
}


@pytest.mark.parametrize("name", NOT_ANNOUNCEMENTS)
def test_announcements_and_certificates_of_other_versions(name: str) -> None:
    told = Told()
    told.drop([announced(NOT_ANNOUNCEMENTS[name], 100)], told.usual_of_notice)
    assert len(told.alone.node.peers) == 0
    told.hear(announced(announcement(GOOD), 101))
    assert told.alone.node.find_peer("n2") is not None


def test_candidates_of_a_kind_that_is_not_known() -> None:
    told = Told()
    known = CANDIDATE_OF_LATER + bytes([203, 0, 113, 2]) + b"\x9c\x42"
    told.hear(announced(announcement(GOOD, 1, known), 100) + b"and more")
    peer = told.alone.node.find_peer("n2")
    assert peer is not None
    assert [c.endpoint.port for c in peer.announced if c.endpoint.host == "203.0.113.2"] == [40002]


@pytest.mark.parametrize("request_", [b"\0" + bytes(60), b"\2" + bytes(60), b"\1", b""])
def test_join_requests_of_other_versions(request_: bytes) -> None:
    told = Told()
    asked = Asked(100, 1, key(9).public_key.data, request_).pack()
    told.drop([asked], told.usual_of_notice)
    assert told.alone.server.take(Grant) == []


ANSWERS = {
    "version 0": b"\0\0" + bytes(60),
    "version 2": b"\2\0" + bytes(60),
    "version 2, longer": b"\2\0" + bytes(500),
    "another status": bytes([1, max(JoinStatus) + 1]) + bytes(60),
    "cut short": b"\1\0",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_join_answers_of_other_versions(name: str) -> None:
    """The joiner goes on asking, and takes the true answer."""
    clock = Clock()
    server, ledger = ScriptedServer(clock), ALONE_NETWORK.ledger()
    invitation = ledger.invite("new", clock.wall(), seeded(1))
    join = JoinString(ALONE_NETWORK.founder.public_key.data, invitation.token, URL)
    joiner = Joiner(join, key(9), now=clock.now, random_bytes=seeded(2), wall_clock=clock.wall)
    joiner.set_server_endpoints([SERVER], clock.now)
    while transmits := joiner.datagrams_to_send(clock.now):
        for transmit in transmits:
            answers = server.receive(bytes(transmit.data), HERE)
            joiner.receive_datagrams(answers, SERVER, clock.now)
    (redeem,) = server.take(Redeem)

    def hear(number: int, sealed: bytes) -> set[str]:
        frame = server.seal(Granted(number, redeem.request, sealed))

        def take() -> None:
            joiner.receive_datagrams([frame], SERVER, clock.now)
            joiner.datagrams_to_send(clock.now)

        return set(changes_of(joiner, take))

    forged = b"\1\0" + bytes(60)
    hear(1, forged)
    usual = hear(2, forged)
    assert hear(3, ANSWERS[name]) <= usual
    assert not joiner.is_done
    request = parse_join_request(redeem.sealed)
    answer, _ = ledger.redeem(request, key(9).public_key, clock.wall(), seeded(3))
    hear(4, answer.pack())
    assert joiner.admission is not None


# A node says it


class Heard:
    """A server, and a node that can tell it anything."""

    def __init__(self) -> None:
        self.town = Town()
        self.teller = self.town.add(1)
        self.town.add(2)
        self.teller.heard.clear()
        self.hear(b"")
        self.usual = self.hear(b"")

    def hear(self, *payloads: bytes) -> set[str]:
        now, server, endpoint = self.town.clock.now, self.town.server, self.teller.endpoint
        frames = [seal(self, payload) for payload in payloads]
        changes = changes_of(server, lambda: server.receive_datagrams(frames, endpoint, now), DROPS)
        return set(changes)

    def drop(self, payloads: Iterable[bytes]) -> None:
        server, dropped = self.town.server, list(payloads)
        before = sum(server.drops.values())
        assert self.hear(*dropped) <= self.usual
        assert sum(server.drops.values()) == before + len(dropped)
        assert server.datagrams_to_send(self.town.clock.now) == []


def test_messages_of_a_node_of_unknown_kinds_or_cut_short() -> None:
    heard = Heard()
    heard.drop(of_lengths(unknown_firsts(parse_from_node)))
    heard.drop(cut_short(parse_from_node))
    probe = BY_NAME["probe"].packed
    heard.drop(
        probe[:16] + bytes([answer]) + probe[17:] for answer in (max(AnswerFrom) + 1, 254, 255)
    )
    assert not heard.hear(BY_NAME["leave"].packed) <= heard.usual


def test_a_longer_registration_counts() -> None:
    heard = Heard()
    heard.teller.send_raw(seal(heard, Register(2, 0, TAG, b"news").pack() + b"and more"))
    assert heard.teller.take(Registered)[0].sequence == 2


def seal(heard: Heard, payload: bytes) -> bytes:
    frame = heard.teller.link.session.seal(payload, heard.town.clock.now)
    assert frame is not None
    return frame


def test_datagrams_to_the_server_of_unknown_kinds() -> None:
    heard = Heard()
    server, now = heard.town.server, heard.town.clock.now
    frame = seal(heard, b"")
    datagrams = [bytes([first]) + frame[1:] for first in (0, 2, 3, *range(6, 256))]
    changes = changes_of(server, lambda: server.receive_datagrams(datagrams, STRANGER, now), DROPS)
    assert changes == {}
    assert sum(server.drops.values()) == len(datagrams)
    assert server.datagrams_to_send(now) == []
    assert SERVER not in heard.town.nodes
