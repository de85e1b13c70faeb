"""What somebody without keys gets out of a server and a node, whatever he sends from wherever:
never more bytes than he sent, and nothing that is not bounded is kept of it. STUN is the one
exception, and is limited (docs/security.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product

import pytest

from tests.core.ends import key, seeded
from tests.core.state import changes_of, measure_tables
from tests.sim.world import World
from tests.wire.test_stun import request as stun_request
from tunnel.core.indices import IndexTable
from tunnel.core.machine import Transmit
from tunnel.core.node import Node
from tunnel.core.rendezvous import UNREGISTERED_LIFETIME, RendezvousServer
from tunnel.core.server_session import ServerSession, server_construction
from tunnel.core.session import Session
from tunnel.noise.cookie import CookieGenerator
from tunnel.noise.handshake import PUNCHTUN, PUNCHTUN_SERVER, Construction
from tunnel.noise.keys import PublicKey
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.feeler import HAIRPIN
from tunnel.wire.handshake import (
    COOKIE_REPLY,
    COOKIE_REPLY_LENGTH,
    INITIATION,
    INITIATION_LENGTH,
    RESPONSE,
    RESPONSE_LENGTH,
)
from tunnel.wire.relay import RELAY
from tunnel.wire.transport import TRANSPORT

LENGTHS = range(1501)
COARSE = (*range(200), *range(200, 1501, 13), 1500)
STRANGERS = (Endpoint("192.0.2.66", 666), Endpoint("2001:db8::66", 666))
KINDS = (INITIATION, RESPONSE, COOKIE_REPLY, TRANSPORT, RELAY, HAIRPIN)
MAY_GROW = {
    ".drops": 64,
    ".stun._limit._buckets": 4096,
    "._handshakes._per_source._buckets": 4096,
    "._inbound._handshakes._per_source._buckets": 4096,
    "._collector.events": 1,
}
"""What a stranger can make longer, and how long at most: the reasons counted, the sources whose
rates are limited, and what is reported: that a flood has begun."""


COUNTED = ("drops", "_drops", "sieve", "events")


class Target:
    """A machine among others, with all that has arrived of what they sent each other."""

    def __init__(self, name: str) -> None:
        self.world = World(seed=3)
        self.passed: list[bytes] = []
        trace, delivered = self.world.net.trace, self.world.net.trace.delivered

        def note(
            time: float, number: int, host: str, source: Endpoint, to: Endpoint, data: bytes
        ) -> None:
            self.passed.append(bytes(data))
            delivered(time, number, host, source, to, data)

        trace.delivered = note  # type: ignore[method-assign]
        for each in ("a", "b"):
            self.world.add_node(each)
        assert self.world.wait_until_direct()
        self.name = name
        host = self.world.server_host if name == "server" else self.world.hosts[name]
        self.machine: Node | RendezvousServer
        self.machine = self.world.server if name == "server" else self.world.node(name)
        self.now = host.now
        others = (self.world.server_host, *self.world.hosts.values())
        self.sources = (*STRANGERS, *(each.endpoint() for each in others if each is not host))
        """Also those that he can only pretend to be at."""
        url = self.world.node("a").config.server
        own = self.world.node("a").config.static.public_key
        self.keys: list[tuple[Construction, PublicKey]] = [
            (PUNCHTUN, own),
            (PUNCHTUN_SERVER, PublicKey(url.public_key)),
            (server_construction(url.access_token), PublicKey(url.public_key)),
        ]
        """With which he may compute mac1: knowing a node's key; the server's; and its token."""
        self.indices = sorted({datagram[4:8] for datagram in self.passed})
        """Of sessions and channels, and the beginnings of what has neither."""

    def send(self, datagrams: list[bytes], source: Endpoint, local: int = 0) -> list[Transmit]:
        """What comes of them."""
        assert self.machine.receive_datagrams(datagrams, source, self.now, local) == []
        return list(self.machine.datagrams_to_send(self.now))

    @property
    def dropped(self) -> int:
        return self.machine.drops.total()

    def initiate(self, number: int) -> bytes:
        """By somebody with keys of his own, to the server with the URL, or to the node."""
        static, url = key(number), self.world.node("a").config.server
        indices: IndexTable[Session] = IndexTable(seeded(number))
        if self.name == "server":
            link = ServerSession(
                static=static,
                server_key=PublicKey(url.public_key),
                access_token=url.access_token,
                indices=indices,
                random_bytes=seeded(number),
                wall_clock=self.world.hosts["a"].wall_clock,
            )
            session = link.session
        else:
            session = Session(
                construction=PUNCHTUN,
                static=static,
                remote_static=self.world.node("a").config.static.public_key,
                preshared=self.world.node("a").config.identity.preshared,
                indices=indices,
                random_bytes=seeded(number),
                wall_clock=self.world.hosts["a"].wall_clock,
            )
        session.initiate(self.now)
        (datagram,) = session.take_datagrams()
        return datagram


@pytest.fixture(params=["server", "a"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Checks in the end that no table has grown but those that may."""
    target = Target(request.param)
    before = measure_tables(target.machine)
    yield target
    after = measure_tables(target.machine)
    grown = {way: count for way, count in after.items() if count > before.get(way, 0)}
    grown = {way: count for way, count in grown.items() if "._buckets[" not in way}
    assert grown.keys() <= MAY_GROW.keys()
    assert all(count <= MAY_GROW[way] for way, count in grown.items())


Filling = Callable[[int, int], bytes]
FILLINGS: dict[str, Filling] = {
    "zeros": lambda kind, length: (bytes([kind]) + bytes(length))[:length],
    "ones": lambda kind, length: bytes([kind]) + b"\xff" * (length - 1) if length else b"",
    "like a message": lambda kind, length: (bytes([kind, 0, 0, 0]) + b"\xa5" * length)[:length],
    "like STUN": lambda kind, length: (
        bytes([kind, 1]) + max(0, length - 20).to_bytes(2, "big") + b"\x21\x12\xa4\x42" * 400
    )[:length],
}


@pytest.mark.parametrize("filling", FILLINGS)
def test_every_first_byte_and_length(target: Target, filling: str) -> None:
    fill, sent, before = FILLINGS[filling], 0, target.dropped
    for kind in range(256):
        datagrams = [fill(kind, length) for length in LENGTHS]
        is_stun = filling == "like STUN" and kind == 0 and target.name == "server"
        if is_stun:  # A request without attributes; the rest has one that is not known.
            (answer,) = target.send([datagrams.pop(20)], STRANGERS[0])
            assert len(answer.data) == 32
        for source in STRANGERS if kind < 8 else STRANGERS[:1]:
            assert target.send(datagrams, source) == []
            sent += len(datagrams)
    assert target.dropped - before == sent


def test_every_length_of_what_names_a_session(target: Target) -> None:
    """He has seen frames and envelopes pass, and names whom they named, from where they came from
    too."""
    before, sent = target.dropped, 0
    for source, index, kind in product(target.sources, target.indices, KINDS):
        if kind == RELAY and target.name == "server" and source in target.sources[2:]:
            continue  # See below.
        head = bytes([kind, 0, 0, 0]) + index + bytes(8)
        datagrams = [(head + b"\xa5" * length)[:length] for length in COARSE[::5]]
        assert target.send(datagrams, source) == []
        sent += len(datagrams)
    assert target.dropped - before == sent


def test_every_length_with_a_valid_mac1(target: Target) -> None:
    """In the calm and under load. Only to what has the length of an initiation, and mac1 by who
    holds the server's URL or knows the node's key, there is an answer: a cookie, and a shorter
    one."""
    knows = {"server": [False, False, True], "a": [True, False, False]}[target.name]
    answers: Counter[bool] = Counter()
    for is_known, (construction, public_key) in zip(knows, target.keys, strict=True):
        generator = CookieGenerator(construction, public_key)
        for kind in (INITIATION, RESPONSE):
            datagrams = [
                generator.stamp(bytes([kind, 0, 0, 0]) + bytes(length - 4), target.now)
                for length in range(36, 1501)
            ]
            again = [datagrams[INITIATION_LENGTH - 36]] * 400
            for number, datagram in enumerate([*datagrams, *again]):
                if number in (400, 800, 1200, len(datagrams)):
                    target.now += 1.0  # So that it is no flood, which would not be looked at.
                transmits = target.send([datagram], STRANGERS[0])
                assert sum(len(transmit.data) for transmit in transmits) < len(datagram)
                for transmit in transmits:
                    assert kind == INITIATION
                    assert len(datagram) == INITIATION_LENGTH
                    assert (transmit.data[0], len(transmit.data)) == (
                        COOKIE_REPLY,
                        COOKIE_REPLY_LENGTH,
                    )
                    answers[is_known] += 1
    assert answers == {True: 400 - 200}


def test_initiations_of_those_with_keys_of_their_own(target: Target) -> None:
    """To a node they are strangers all the same. At the server they hold its URL, and the response
    is shorter, too; what is kept of them is bounded, and ends (`tests/core/test_rendezvous.py`)."""
    for number in range(10, 15):
        datagram = target.initiate(number)
        if target.name == "server":
            (transmit,) = target.send([datagram], STRANGERS[0])
            assert len(transmit.data) == RESPONSE_LENGTH < len(datagram)
            assert transmit.endpoint == STRANGERS[0]
        else:
            assert target.send([datagram], STRANGERS[0]) == []
    if target.name == "server":
        sessions = target.machine.status(target.now)["sessions"]
        assert sessions == 2 + 5
        target.machine.handle_timer(target.now + UNREGISTERED_LIFETIME)
        assert target.machine.status(target.now)["sessions"] == 2


def test_all_that_has_passed_before(target: Target) -> None:
    """Replayed, from everywhere: only the envelopes of the relay go on, as long as they are, to
    whom they went to before; and they count against their owner's rate."""
    assert {datagram[0] for datagram in target.passed} >= {INITIATION, RESPONSE, TRANSPORT, RELAY}
    relayed = 0
    for datagram, source in product(target.passed, target.sources):
        for transmit in target.send([datagram], source):
            assert target.name == "server"
            assert datagram[0] == transmit.data[0] == RELAY
            assert len(transmit.data) == len(datagram)
            assert transmit.endpoint in target.sources[2:]
            relayed += 1
    assert (relayed > 0) is (target.name == "server")


def test_what_is_dropped_changes_nothing(target: Target) -> None:
    """But the count of drops, and that they are a flood."""
    datagrams = [
        (bytes([kind, 0, 0, 0]) + index + bytes(300))[:length]
        for kind in range(8)
        for index in target.indices
        for length in (0, 1, 20, 32, 48, 64, 92, 148, 300)
    ]
    datagrams += [datagram for datagram in target.passed if datagram[0] != RELAY]

    def send() -> None:
        assert target.send(datagrams, STRANGERS[0]) == []

    # An initiation that passed before is opened once more, and takes its share of the calm rate.
    changes = changes_of(target.machine, send, without=[*COUNTED, "_calm"])
    assert {way.rpartition(".")[2] for way in changes} <= {"duplicates_dropped"}


# STUN, the exception


@pytest.mark.parametrize(("source", "length"), [(STRANGERS[0], 32), (STRANGERS[1], 44)])
def test_stun_of_every_length(source: Endpoint, length: int) -> None:
    """An answer has one length, whatever the request has: at most 12 or 24 bytes more."""
    target = Target("server")
    for size in range(0, 1481, 4):
        attributes = ((0x8022, bytes(size - 4)),) if size else ()
        request = stun_request(*attributes)
        assert len(request) == 20 + size
        target.now += 0.1
        (answer,) = target.send([request], source)
        assert len(answer.data) == length
        assert answer.endpoint == source


def test_the_rate_of_stun_to_one_source_whatever_others_send() -> None:
    """10 a second and 30 at once, also where more sources are named meanwhile than are kept; and
    1000 a second and 500 at once to all."""
    target = Target("server")
    victim, request = STRANGERS[0], stun_request()
    start, answers, others = target.now, 0, 0
    for second in range(8):
        for number in range(5000):
            host = f"198.18.{number >> 8}.{number & 255}"
            others += len(target.send([request], Endpoint(host, second)))
            if number % 100 == 0:
                answers += len(target.send([request] * 10, victim))
            elapsed = target.now - start
            assert answers <= 30 + 10 * elapsed + 1e-6
            assert answers + others <= 500 + 1000 * elapsed + 1e-6
            target.now += 1 / 5000
    assert answers > 0
    assert others > 7000


def test_the_sources_whose_rates_are_kept_are_bounded() -> None:
    target = Target("server")
    for number in range(5000):
        target.send([stun_request()], Endpoint(f"198.18.{number >> 8}.{number & 255}", 1))
        target.now += 0.001
    kept = measure_tables(target.machine)[".stun._limit._buckets"]
    assert kept == MAY_GROW[".stun._limit._buckets"]
