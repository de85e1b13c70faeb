"""A node: docs/protocol/rendezvous.md and checks.md. It registers, is introduced, and talks to one
peer, by the relay and directly. Repetitions and timers are left out: nothing is lost here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from tests.protocol.second.handshake import (
    Initiation,
    Keys,
    between_nodes,
    respond,
    tai64n,
    with_server,
)
from tests.protocol.second.membership import (
    Announcement,
    Endpoint,
    open_announcement,
    pack_endpoint,
    parse_endpoint,
    seal_announcement,
)
from tests.protocol.second.primitives import Refused, derive_key, public_of

RELAY = ("", 0)


class SecondNode:
    """Sans-IO: `receive` takes a datagram, `outbox` has what is to be sent, and where."""

    def __init__(
        self, private: bytes, certificate: bytes, network_key: bytes, secret: bytes,
        server: Endpoint, server_key: bytes, token: bytes, endpoint: Endpoint, wall_time: float,
        random: Callable[[int], bytes], offer: int = 0,
    ) -> None:  # fmt: skip
        self.key = public_of(private)
        self.outbox: list[tuple[bytes, Endpoint]] = []
        self.observed: Endpoint | None = None
        self.introduction: tuple[bytes, Announcement] | None = None
        self.packets: list[bytes] = []
        self.proven: list[Endpoint] = []
        """Where our pings were answered by pongs."""
        self.confirmed: list[bytes] = []
        self.payloads: list[tuple[bytes, Endpoint]] = []
        self.peer_keys: Keys | None = None
        self._private, self._certificate, self._network_key = private, certificate, network_key
        self._secret, self._server, self._endpoint = secret, server, endpoint
        self._wall_time, self._random, self._offer = wall_time, random, offer
        self._to_server, self._to_peers = with_server(token), between_nodes(secret)
        self._server_keys: Keys | None = None
        self._channel = self._transaction = b""
        self._index, self._peer_index = random(4), random(4)
        self._initiation = Initiation(
            self._to_server, private, server_key, random(32), self._index, tai64n(wall_time)
        )
        self._peer_initiation: Initiation | None = None
        self.outbox.append((self._initiation.datagram, server))

    def receive(self, datagram: bytes, source: Endpoint) -> None:
        if datagram[0] == 5 and source == self._server:
            assert datagram[4:8] == self._channel
            datagram, source = datagram[8:], RELAY
        if datagram[0] == 2 and datagram[8:12] == self._index:
            self._server_keys = self._initiation.finish(datagram)
            self._register()
        elif datagram[0] == 2 and self._peer_initiation is not None:
            self.peer_keys = self._peer_initiation.finish(datagram)
            self.send(b"", source)
        elif datagram[0] == 1:
            peer, _, response, keys = respond(
                self._to_peers, self._private, datagram, self._random(32), self._peer_index,
                self._offer,
            )  # fmt: skip
            if self.introduction is None or peer != self.introduction[0]:
                raise Refused("a stranger")
            self.peer_keys = keys
            self._emit(response, source)
        elif datagram[0] == 4 and datagram[4:8] == self._index and self._server_keys:
            self._receive_from_server(self._server_keys.open(datagram))
        elif datagram[0] == 4 and datagram[4:8] == self._peer_index and self.peer_keys:
            self._receive_payload(self.peer_keys.open(datagram), source)

    def send(self, payload: bytes, to: Endpoint) -> None:
        """To the peer; `to`: where, or RELAY."""
        assert self.peer_keys is not None
        self._emit(self.peer_keys.seal(payload), to)

    def ping(self, to: Endpoint) -> None:
        self._transaction = self._random(8)
        self.send(bytes([1, 0, 0, 0]) + self._transaction, to)

    def _emit(self, datagram: bytes, to: Endpoint) -> None:
        if to == RELAY:
            datagram, to = bytes([5, 0, 0, 0]) + self._channel + datagram, self._server
        self.outbox.append((datagram, to))

    def _say(self, message: bytes) -> None:
        assert self._server_keys is not None
        self.outbox.append((self._server_keys.seal(message), self._server))

    def _register(self) -> None:
        sealed = seal_announcement(
            self._secret, self.key, self._random(24), 1, int(self._wall_time * 1e6),
            self._certificate, [(1, self._endpoint)],
        )  # fmt: skip
        tag = derive_key("network tag", self._secret)[:16]
        message = struct.pack("<B3xII16sH", 1, 1, 0, tag, len(sealed))
        self._say(message + sealed)

    def _receive_from_server(self, message: bytes) -> None:
        kind = message[:1]
        if kind == b"\x81":
            self.observed = parse_endpoint(message[8:26])
        elif kind == b"\x83":
            self._say(bytes([3, 0, 0, 0]) + message[4:8])
            self._channel, peer = message[12:16], message[16:48]
            (length,) = struct.unpack_from("<H", message, 66)
            sealed = message[68 : 68 + length]
            opened = open_announcement(
                sealed, peer, self._secret, self._network_key, self._wall_time
            )
            self.introduction = peer, opened
            if self.key < peer and self.peer_keys is None:
                self.initiate(peer)
        elif kind in (b"\x84", b"\x85", b"\x86", b"\x87"):
            self._say(bytes([3, 0, 0, 0]) + message[4:8])

    def initiate(self, peer: bytes) -> None:
        self._peer_initiation = Initiation(
            self._to_peers, self._private, peer, self._random(32), self._peer_index,
            tai64n(self._wall_time), self._offer,
        )  # fmt: skip
        self._emit(self._peer_initiation.datagram, RELAY)

    def _receive_payload(self, payload: bytes, source: Endpoint) -> None:
        self.payloads.append((payload, source))
        kind = payload[0] if payload else -1
        if kind == 1:
            observed = bytes(18) if source == RELAY else pack_endpoint(*source)
            self.send(bytes([2, 0, 0, 0]) + payload[4:12] + self._random(8) + observed, source)
        elif kind == 2:
            if payload[4:12] == self._transaction:
                self.proven.append(source)
            self.send(bytes([3, 0, 0, 0]) + payload[12:20], source)
        elif kind == 3:
            self.confirmed.append(payload[4:12])
        elif kind >= 0x40:
            length = int.from_bytes(payload[2:4], "big")  # One IPv4 packet, complete.
            self.packets.append(payload[:length])
