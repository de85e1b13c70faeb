"""Ends to talk to: keys and clocks, a network, and a node and a server that are scripted by hand.

The scripted ends speak the true protocol with :class:`tunnel.core.session.Session`, but say only
what the test tells them to.
"""

from __future__ import annotations

import ipaddress
from random import Random
from typing import TypeVar

from tunnel.core.configuration import ServerConfig
from tunnel.core.handshakes import HandshakeReceiver
from tunnel.core.indices import IndexTable
from tunnel.core.ledger import InvitationLedger
from tunnel.core.machine import RandomBytes, Transmit
from tunnel.core.membership import derive_ula, found_network, sign_certificate
from tunnel.core.rendezvous import RendezvousServer
from tunnel.core.server_session import (
    SERVER_TIMES,
    ServerSession,
    server_construction,
    server_preshared_key,
)
from tunnel.core.session import Session
from tunnel.noise.keys import PrivateKey, PublicKey, SigningKey
from tunnel.wire.certificate import Certificate
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.handshake import (
    COOKIE_REPLY,
    INITIATION,
    RESPONSE,
    parse_cookie_reply,
    parse_response,
)
from tunnel.wire.invitation import ServerUrl
from tunnel.wire.rendezvous import (
    Challenge,
    FromNode,
    FromServer,
    Proof,
    Register,
    Registered,
    parse_from_node,
)
from tunnel.wire.transport import TRANSPORT, parse_header

WALL = 1_800_000_000.0
SERVER = Endpoint("198.51.100.1", 12345)
ALTERNATE = Endpoint("198.51.100.1", 12346)
SERVER_KEY = PrivateKey(b"S" * 32)
ACCESS = b"an access token."
URL = ServerUrl(SERVER.host, SERVER.port, SERVER_KEY.public_key.data, ACCESS)
TAG = b"the network's tg"

M = TypeVar("M")


def key(number: int) -> PrivateKey:
    return PrivateKey(bytes([number]) * 32)


def seeded(seed: int) -> RandomBytes:
    return Random(seed).randbytes


class Clock:
    """Virtual time, and the wall clock that goes with it."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def wall(self) -> float:
        return WALL + self.now


class Network:
    """A network of its own: founder, ledger, and members certified without an invitation."""

    def __init__(self, seed: int = 7, prefix: str = "10.9.0.1/24") -> None:
        random_bytes = seeded(seed)
        self.signing_key = SigningKey.generate(random_bytes)
        self.founder = PrivateKey.generate(random_bytes)
        self.identity, self.certificate = found_network(
            signing_key=self.signing_key,
            secret=random_bytes(32),
            static=self.founder,
            name="founder",
            address=ipaddress.IPv4Interface(prefix),
            wall_time=WALL,
        )

    def ledger(self) -> InvitationLedger:
        return InvitationLedger(self.identity, self.signing_key, self.founder, [self.certificate])

    def certify(
        self, static: PrivateKey, name: str, last: int, *, expires: int = 0, serial: int = 2
    ) -> Certificate:
        certificate = Certificate(
            key=static.public_key.data,
            name=name,
            addresses=(
                ipaddress.IPv4Interface(f"10.9.0.{last}/24"),
                derive_ula(self.identity.key, static.public_key),
            ),
            serial=serial,
            issued=int(WALL),
            expires=expires,
        )
        return sign_certificate(certificate, self.signing_key)


def make_server(
    clock: Clock, *, seed: int = 1, relay: bool = True, **limits: float
) -> RendezvousServer:
    return RendezvousServer(
        ServerConfig(SERVER_KEY, ACCESS, relay, ALTERNATE.port, **limits),  # type: ignore[arg-type]
        now=clock.now,
        random_bytes=seeded(seed),
        wall_clock=clock.wall,
    )


class ScriptedNode:
    """A node as the server sees it: sends what it is told, notes what it is told."""

    def __init__(
        self,
        town: Town,
        number: int,
        endpoint: Endpoint | None = None,
        *,
        access: bytes = ACCESS,
        server_key: PublicKey = SERVER_KEY.public_key,
    ) -> None:
        self.key = key(number).public_key
        self.endpoint = endpoint or Endpoint(f"203.0.113.{number}", 40000 + number)
        self.heard: list[FromServer] = []
        self.is_honest = True
        """Whether it answers challenges by itself."""
        self.channels: list[bytes] = []
        """Datagrams of any other kind, as they came."""
        self._town = town
        self.link = ServerSession(
            static=key(number),
            server_key=server_key,
            access_token=access,
            indices=IndexTable(seeded(number)),
            random_bytes=seeded(1000 + number),
            wall_clock=town.clock.wall,
        )
        self.link.set_endpoints([SERVER])
        town.nodes[self.endpoint] = self

    @property
    def is_connected(self) -> bool:
        return self.link.session.is_established(self._town.clock.now)

    def connect(self) -> None:
        self.link.session.restart_handshake(self._town.clock.now)
        self.flush()

    def move(self, endpoint: Endpoint) -> None:
        """Another endpoint from now on; the server does not know yet."""
        del self._town.nodes[self.endpoint]
        self.endpoint = endpoint
        self._town.nodes[endpoint] = self

    def send(self, message: FromNode, local: int = 0) -> None:
        assert self.link.send(message, self._town.clock.now)
        self.flush(local)

    def keep_alive(self) -> None:
        frame = self.link.session.seal(b"", self._town.clock.now)
        assert frame is not None
        self.send_raw(frame)

    def send_raw(self, datagram: bytes, local: int = 0, source: Endpoint | None = None) -> None:
        self._town.receive(datagram, source or self.endpoint, local)

    def flush(self, local: int = 0) -> None:
        for transmit in self.link.datagrams_to_send():
            self.send_raw(bytes(transmit.data), local)

    def register(self, sequence: int = 1, *, rtt: float = 0.0, tag: bytes = TAG) -> None:
        announcement = b"announcement %d of " % sequence + self.key.data
        self.send(Register(sequence, round(rtt * 1e6), tag, announcement))

    def receive(self, datagram: bytes) -> None:
        now = self._town.clock.now
        if datagram[0] == RESPONSE:
            self.link.receive_response(parse_response(datagram), SERVER, now)
        elif datagram[0] == COOKIE_REPLY:
            self.link.receive_cookie(parse_cookie_reply(datagram), now)
        elif datagram[0] == TRANSPORT:
            message = self.link.open(datagram, now)
            if isinstance(message, Challenge) and self.is_honest:
                self.send(Proof(message.token))
            elif message is not None:
                self.heard.append(message)
        else:
            self.channels.append(datagram)

    def take(self, kind: type[M]) -> list[M]:
        """What it heard of this kind since it was last asked."""
        found = [message for message in self.heard if isinstance(message, kind)]
        self.heard = [message for message in self.heard if not isinstance(message, kind)]
        return found


class Town:
    """A server and scripted nodes, without distance between them."""

    def __init__(self, **limits: float) -> None:
        self.clock = Clock()
        self.server = make_server(self.clock, **limits)
        self.nodes: dict[Endpoint, ScriptedNode] = {}
        self.lost: list[Transmit] = []
        """What the server sent to where nobody is."""

    def add(self, number: int, *, rtt: float = 0.0, tag: bytes = TAG) -> ScriptedNode:
        """A registered node that has heard nothing but its introductions."""
        node = ScriptedNode(self, number)
        node.connect()
        node.register(rtt=rtt, tag=tag)
        assert node.take(Registered)
        return node

    def receive(self, datagram: bytes, source: Endpoint, local: int = 0) -> None:
        assert self.server.receive_datagrams([datagram], source, self.clock.now, local) == []
        self.settle()

    def settle(self) -> None:
        for transmit in self.server.datagrams_to_send(self.clock.now):
            node = self.nodes.get(transmit.endpoint)
            if node is None:
                self.lost.append(transmit)
            else:
                node.receive(bytes(transmit.data))

    def advance(self, seconds: float) -> None:
        """Time passes; the server's timers fire when they are due."""
        end = self.clock.now + seconds
        while (at := self.server.get_timer()) is not None and at <= end:
            self.clock.now = max(at, self.clock.now)
            self.server.handle_timer(self.clock.now)
            self.settle()
        self.clock.now = end


class ScriptedServer:
    """A server as a node sees it."""

    def __init__(self, clock: Clock, seed: int = 5) -> None:
        self.heard: list[FromNode] = []
        self._clock = clock
        self._seed = seed
        self.restart()

    def restart(self) -> None:
        """Nothing is remembered but the key."""
        self._seed += 1
        random_bytes = seeded(self._seed)
        self._handshakes = HandshakeReceiver(server_construction(ACCESS), SERVER_KEY, random_bytes)
        self._indices: IndexTable[Session] = IndexTable(random_bytes)
        self._random_bytes = random_bytes
        self.session: Session | None = None

    def receive(self, datagram: bytes, source: Endpoint) -> list[bytes]:
        """The answer to a handshake message; messages go to `heard`."""
        now = self._clock.now
        if datagram[0] == INITIATION:
            received = self._handshakes.receive(datagram, source, now)
            if self.session is None:
                self.session = Session(
                    construction=server_construction(ACCESS),
                    static=SERVER_KEY,
                    remote_static=received.remote_static,
                    preshared=server_preshared_key(ACCESS),
                    indices=self._indices,
                    random_bytes=self._random_bytes,
                    wall_clock=self._clock.wall,
                    times=SERVER_TIMES,
                    may_initiate=False,
                )
            response = self.session.receive_initiation(received, now)
            return [] if response is None else [response]
        if datagram[0] == TRANSPORT:
            receiver, counter = parse_header(datagram)
            session = self._indices.get(receiver)
            if session is not None:
                payload = session.open(receiver, counter, datagram, now)
                if payload:
                    self.heard.append(parse_from_node(payload))
        return []

    def seal(self, message: FromServer | bytes) -> bytes:
        assert self.session is not None
        payload = message if isinstance(message, bytes) else message.pack()
        frame = self.session.seal(payload, self._clock.now)
        assert frame is not None
        return frame

    def take(self, kind: type[M]) -> list[M]:
        found = [message for message in self.heard if isinstance(message, kind)]
        self.heard = [message for message in self.heard if not isinstance(message, kind)]
        return found
