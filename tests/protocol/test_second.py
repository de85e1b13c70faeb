"""The second implementation against what is here: by the document's vectors, and by talking."""

from __future__ import annotations

import ast
import ipaddress
from pathlib import Path

import pytest

from tests.core.ends import (
    Clock,
    key,
    seeded,
)
from tests.protocol.document import read_vectors
from tests.protocol.meeting import HERE, NETWORK, THERE, Meeting
from tests.protocol.second.handshake import (
    Initiation,
    Keys,
    between_nodes,
    respond,
    tai64n,
    with_server,
)
from tests.protocol.second.membership import open_announcement, verify_certificate
from tests.protocol.second.node import RELAY
from tests.protocol.second.primitives import Refused, derive_key, kdf, mac_of, public_of
from tests.wire.test_packet import ipv4
from tunnel.core.handshakes import CookieDemanded, HandshakeReceiver
from tunnel.core.indices import IndexTable
from tunnel.core.session import Session
from tunnel.core.traversal import TraversalState
from tunnel.noise.handshake import PUNCHTUN
from tunnel.noise.keys import PublicKey
from tunnel.wire.transport import parse_header

SECOND = Path(__file__).parent / "second"
DIRECTLY: tuple[str, int] = HERE


def test_it_is_made_of_nothing_else() -> None:
    """Nothing of tunnel, nor of these tests' knowledge of it."""
    roots = set()
    for module in SECOND.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                roots |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                roots.add(node.module or "")
    ours = {root for root in roots if root.startswith("tests.protocol.second.")}
    allowed = (
        "__future__ base64 collections.abc dataclasses hashlib hmac ipaddress nacl nacl.exceptions"
    )
    assert roots - ours == {*allowed.split(), "nacl.exceptions", "struct", "typing", "zlib"}


# The document's vectors


def test_primitives() -> None:
    v = read_vectors()["primitives"]
    assert kdf(3, v["chaining key"], v["input"]) == [v["kdf 1"], v["kdf 2"], v["kdf 3"]]
    assert mac_of(v["mac key"], v["input"]) == v["mac"]
    assert derive_key("example", b"\1\2", b"\3") == v["derived"]


@pytest.mark.parametrize("name", ["handshake", "handshake with ChaCha20-Poly1305"])
def test_handshake_of_the_document(name: str) -> None:
    v = read_vectors()[name]
    use = between_nodes(read_vectors()["keys"]["network secret"])
    assert use.preshared == v["preshared key"]
    offer = v["offer"][0]
    initiation = Initiation(
        use,
        v["initiator private key"],
        v["responder key"],
        v["initiator ephemeral private key"],
        v["initiator index"],
        v["timestamp"],
        offer,
    )
    assert initiation.datagram == v["initiation"]
    initiator, timestamp, response, theirs = respond(
        use,
        v["responder private key"],
        v["initiation"],
        v["responder ephemeral private key"],
        v["responder index"],
        1,
    )
    assert (initiator, timestamp, response) == (v["initiator key"], v["timestamp"], v["response"])
    ours = initiation.finish(v["response"])
    assert ours.sending == theirs.receiving == v["frame key to the responder"]
    assert ours.receiving == theirs.sending == v["frame key to the initiator"]
    assert ours.seal(b"") == v["first frame, empty"]
    assert ours.open(v["first frame back, a good-bye"]) == bytes([5, 0, 0, 0])


def test_handshake_with_the_server_of_the_document() -> None:
    v = read_vectors()["handshake with the server"]
    use = with_server(v["access token"])
    initiation = Initiation(
        use,
        v["initiator private key"],
        v["responder key"],
        v["initiator ephemeral private key"],
        v["initiator index"],
        v["timestamp"],
    )
    assert initiation.datagram == v["initiation"]
    assert initiation.finish(v["response"]).seal(bytes([7, 0, 0, 0])) == v["first frame, a leave"]


def test_frames_of_the_document() -> None:
    v = read_vectors()["frames"]
    for choice, name in ((1, "aegis"), (0, "chacha")):
        keys = Keys(choice, b"", v[f"{name} key"], b"")
        assert keys.open(v[f"{name} frame"]) == v["payload"]
        with pytest.raises(Refused):
            keys.open(v[f"{name} frame"])


def test_membership_of_the_document() -> None:
    v, network_key = read_vectors()["announcement"], read_vectors()["keys"]["network key"]
    opened = open_announcement(v["sealed"], v["node key"], v["network secret"], network_key, 1.8e9)
    assert opened.instance == 0x01020304
    assert opened.issued == 1_700_000_000_000_000
    assert opened.candidates == [(1, ("2001:db8::7", 12345)), (2, ("192.0.2.1", 32853))]
    assert opened.certificate == verify_certificate(v["certificate"], network_key, 1.8e9)
    assert opened.certificate[1:] == (
        "pi",
        ["10.168.30.1/24", "fd80:8571:c834:6d24:40dd:1c10:9638:362e/64"],
        ["192.168.8.0/24"],
        1,
        1_700_000_000,
        0,
        True,
    )
    with pytest.raises(Refused):
        open_announcement(v["sealed"], bytes(32), v["network secret"], network_key, 1.8e9)
    with pytest.raises(Refused):
        verify_certificate(v["certificate"][:-1] + b"\0", network_key, 1.8e9)


# Talking


class Responder:
    """A session of the core's, which answers handshakes."""

    def __init__(self, initiator: bytes, calm_rate: float = 200.0, *, aegis: bool = True) -> None:
        self.clock = Clock()
        self.receiver = HandshakeReceiver(PUNCHTUN, key(2), seeded(3), calm_rate)
        self.session = Session(
            construction=PUNCHTUN,
            static=key(2),
            remote_static=PublicKey(initiator),
            preshared=NETWORK.identity.preshared,
            indices=IndexTable(seeded(4)),
            random_bytes=seeded(5),
            wall_clock=self.clock.wall,
            may_use_aegis=aegis,
        )

    def answer(self, initiation: bytes) -> bytes:
        received = self.receiver.receive(initiation, HERE, self.clock.now)
        response = self.session.receive_initiation(received, self.clock.now)
        assert response is not None
        return response


def initiation(cookie: bytes = b"", offer: int = 1) -> Initiation:
    return Initiation(
        between_nodes(NETWORK.identity.secret),
        b"\1" * 32,
        key(2).public_key.data,
        b"e" * 32,
        b"indx",
        tai64n(1.8e9),
        offer,
        cookie,
    )


@pytest.mark.parametrize(("offer", "aegis"), [(1, True), (1, False), (0, True), (0xFF, True)])
def test_it_agrees_with_a_session(offer: int, aegis: bool) -> None:
    responder = Responder(public_of(b"\1" * 32), aegis=aegis)
    begun = initiation(offer=offer)
    keys = begun.finish(responder.answer(begun.datagram))
    assert keys.choice == (offer & 1 if aegis else 0)
    session, now = responder.session, responder.clock.now
    assert session.seal(b"too early", now) is None
    for payload in (b"", b"first", b"second" * 200):
        frame = keys.seal(payload)
        assert session.open(*parse_header(frame), frame, now) == payload
        answer = session.seal(payload[::-1], now)
        assert answer is not None
        assert keys.open(answer) == payload[::-1]


def test_it_takes_a_cookie() -> None:
    responder = Responder(public_of(b"\1" * 32), calm_rate=0.0)
    first = initiation()
    with pytest.raises(CookieDemanded) as demanded:
        responder.answer(first.datagram)
    second = initiation(first.open_cookie(demanded.value.datagram))
    assert second.finish(responder.answer(second.datagram)).seal(b"")


SMALLER, GREATER = sorted((2, 3, 4, 5, 6, 7, 8, 9), key=lambda number: key(number).public_key.data)[
    :: len(range(2, 9))
]


@pytest.mark.parametrize("second", [SMALLER, GREATER], ids=["it initiates", "it responds"])
@pytest.mark.parametrize("offer", [0, 1])
def test_it_is_a_member_like_others(second: int, offer: int) -> None:
    own, founder = key(second).public_key.data, NETWORK.founder.public_key.data
    assert (own < founder) == (second == SMALLER)
    meeting = Meeting(second, offer)
    meeting.begin()
    meeting.run(3.0)
    other = meeting.second
    assert other.observed == THERE
    assert other.introduction is not None
    peer, announcement = other.introduction
    assert peer == founder
    assert announcement.certificate.name == "founder"
    assert other.peer_keys is not None
    assert other.peer_keys.choice == offer
    assert (1, DIRECTLY) in announcement.candidates

    # It has answered pings, so that the node's path is proven and direct.
    here = meeting.node.find_peer("second")
    assert here is not None
    assert here.traversal.state is TraversalState.DIRECT
    assert here.traversal.best is not None
    assert here.traversal.best.endpoint == THERE
    assert {source for payload, source in other.payloads if payload[:1] == b"\1"} == {HERE, RELAY}

    # Its own are answered, directly and by the relay.
    for way in (DIRECTLY, RELAY):
        other.ping(way)
        meeting.settle()
        assert other.proven.pop() == way
    assert other.confirmed

    # Packets, both ways.
    inside = ipaddress.ip_address("10.9.0.1").packed, ipaddress.ip_address("10.9.0.2").packed
    there, back = (ipv4(b"hello")[:12] + a + b + b"hello" for a, b in (inside, inside[::-1]))
    assert meeting.node.send_packets([there], meeting.clock.now) == []
    meeting.settle()
    assert other.packets == [there]
    other.send(back, DIRECTLY)
    meeting.settle()
    assert meeting.packets == [back]
    assert not meeting.node.drops
    assert not meeting.server.drops

    # It leaves.
    other.send(bytes([5, 0, 0, 0]), DIRECTLY)
    meeting.settle()
    assert here.has_left
