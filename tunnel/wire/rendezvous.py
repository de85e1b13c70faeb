"""What a node and the rendezvous server say to each other, inside their session.

Node → server::

    register    | 0x01 | 0 0 0 | sequence (4) | rtt (4) | network (16) | length (2) | announcement |
    echo        | 0x02 | 0 0 0 | transaction (8) | rtt (4) | padding (16) |
    acknowledge | 0x03 | 0 0 0 | serial (4) |
    introduce   | 0x04 | 0 0 0 | peer (32) |
    redeem      | 0x05 | 0 0 0 | request (8) | inviter (32) | length (2) | sealed request |
    grant       | 0x06 | 0 0 0 | request (8) | joiner (32)  | length (2) | sealed answer  |
    leave       | 0x07 | 0 0 0 |
    probe       | 0x08 | 0 0 0 | transaction (8) | delay (4) | answer from (1) | padding (15) |
    proof       | 0x0f | 0 0 0 | token (8) |

Server → node::

    registered   | 0x81 | 0 | alternate port (2) | sequence (4) | observed (18) | lifetime (2) |
                 | alternate (18), may be missing | wall time (8), may be missing |
    echoed       | 0x82 | listener | 0 0 | transaction (8) | observed (18) |
                 | wall time (8), in answers to longer probes |
    introduction | 0x83 | 0 | start (2) | serial (4) | peer rtt (4) | channel (4) | peer (32)
                 | observed (18) | length (2) | announcement |
    moved        | 0x84 | 0 0 0 | serial (4) | peer (32) | endpoint (18) |
    gone         | 0x85 | 0 0 0 | serial (4) | peer (32) |
    asked        | 0x86 | 0 0 0 | serial (4) | request (8) | joiner (32) | length (2) | sealed |
    granted      | 0x87 | 0 0 0 | serial (4) | request (8) | length (2) | sealed answer |
    refused      | 0x88 | reason | 0 0 | request (8) | until (8), may be missing |
    kept         | 0x89 | 0 0 0 | request (8) |
    challenge    | 0x8f | 0 0 0 | token (8) |

Keys are X25519 public keys. `rtt` is the node's measured round trip to the server in microseconds,
0 when unknown. `start` is in milliseconds: punch that long after this arrives, so that both sides
start at the same moment. `channel` 0: no relay. `network` is a secret tag shared by the members.
Messages with a `serial` are notices: the server repeats them until they are acknowledged.
A probe is answered with `echoed` at once and, if its delay in milliseconds is not 0, once more
after it; it does not say where the node is. `answer from` is one of ``AnswerFrom``; from another
socket the answer leaves at once only. `listener` is 0 for the server's first port and 1 for its
second, always of the address that the message came to. `challenge` is answered
with `proof`: the node receives where the server sees it. `alternate` is the first port of another
address of the server, of the same family; :: and port 0 are none. `wall time` is the server's, in
microseconds since the Unix epoch; `until` is in seconds since then.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from tunnel.errors import Malformed
from tunnel.wire.endpoint import ENDPOINT_LENGTH, Endpoint, pack_endpoint, unpack_endpoint

NETWORK_TAG_LENGTH = 16
MAX_SEALED = 1024
"""Longest announcement, request or answer, in bytes: one datagram carries it on any path."""

_REGISTER = struct.Struct("<III16s")
_ECHO = struct.Struct("<IQI16x")
_ACKNOWLEDGE = struct.Struct("<II")
_INTRODUCE = struct.Struct("<I32s")
_REDEEM = struct.Struct("<IQ32s")
_GRANT = struct.Struct("<IQ32s")
_PROBE = struct.Struct("<IQIB15x")
_REGISTERED = struct.Struct("<BxHI18sH")
_ECHOED = struct.Struct("<BBxxQ18s")
_INTRODUCTION = struct.Struct("<BxHIII32s18s")
_MOVED = struct.Struct("<II32s18s")
_GONE = struct.Struct("<II32s")
_ASKED = struct.Struct("<IIQ32s")
_GRANTED = struct.Struct("<IIQ")
_TOKEN = struct.Struct("<IQ")
_REFUSED = struct.Struct("<BBxxQ")
_KEPT = struct.Struct("<IQ")
_NONE = Endpoint("::", 0)


class RefusalReason(enum.IntEnum):
    INVITER_OFFLINE = 1
    TOO_MANY = 2
    """Too often, for the server."""
    SERVER_FULL = 16
    NETWORK_FULL = 17
    SOURCE_FULL = 18
    """Too many nodes of one source: an IPv4 address or IPv6 /64."""
    TOO_MANY_NETWORKS = 19
    """Of one source."""
    RELAY_PAIRS = 20
    """Of one network, or in all: this one has no channel."""
    RELAY_QUOTA = 21
    """Of one network; it begins anew at a time that is told."""
    RELAY_RATE = 22
    """Of one network; datagrams are dropped."""

    @property
    def words(self) -> str:
        return self.name.replace("_", " ").lower()


class AnswerFrom(enum.IntEnum):
    """Which of the server's sockets answers a probe (as CHANGE-REQUEST asks, RFC 5780 §7.2)."""

    SAME = 0
    OTHER_PORT = 1
    OTHER_ADDRESS = 2
    """And the other port of it."""
    SAME_LATER = 3
    """As SAME, but only after the delay, not at once."""


def _with_length(sealed: bytes) -> bytes:
    if len(sealed) > MAX_SEALED:
        raise ValueError(f"{len(sealed)} sealed bytes, at most {MAX_SEALED}")
    return struct.pack("<H", len(sealed)) + sealed


def _take_sealed(data: bytes, at: int) -> bytes:
    if len(data) < at + 2:
        raise Malformed("sealed length")
    (length,) = struct.unpack_from("<H", data, at)
    if length > MAX_SEALED or len(data) < at + 2 + length:
        raise Malformed("sealed length")
    return data[at + 2 : at + 2 + length]


class Register(NamedTuple):
    sequence: int
    rtt: int
    network: bytes
    announcement: bytes

    def pack(self) -> bytes:
        head = _REGISTER.pack(0x01, self.sequence, self.rtt, self.network)
        return head + _with_length(self.announcement)


class Echo(NamedTuple):
    transaction: int
    rtt: int

    def pack(self) -> bytes:
        return _ECHO.pack(0x02, *self)


class Acknowledge(NamedTuple):
    serial: int

    def pack(self) -> bytes:
        return _ACKNOWLEDGE.pack(0x03, *self)


class Introduce(NamedTuple):
    peer: bytes

    def pack(self) -> bytes:
        return _INTRODUCE.pack(0x04, *self)


class Redeem(NamedTuple):
    request: int
    inviter: bytes
    sealed: bytes

    def pack(self) -> bytes:
        return _REDEEM.pack(0x05, self.request, self.inviter) + _with_length(self.sealed)


class Grant(NamedTuple):
    request: int
    joiner: bytes
    sealed: bytes

    def pack(self) -> bytes:
        return _GRANT.pack(0x06, self.request, self.joiner) + _with_length(self.sealed)


class Leave(NamedTuple):
    def pack(self) -> bytes:
        return bytes([0x07, 0, 0, 0])


class Probe(NamedTuple):
    transaction: int
    delay: int
    answer_from: int = AnswerFrom.SAME

    def pack(self) -> bytes:
        return _PROBE.pack(0x08, *self)


class Proof(NamedTuple):
    token: int

    def pack(self) -> bytes:
        return _TOKEN.pack(0x0F, *self)


class Registered(NamedTuple):
    sequence: int
    observed: Endpoint
    alternate_port: int
    lifetime: int
    """Seconds without a word after which the server forgets the node."""
    alternate: Endpoint | None = None
    wall_time: int | None = None
    """The server's, in microseconds since the Unix epoch."""

    def pack(self) -> bytes:
        observed = pack_endpoint(self.observed)
        tail = b"" if self.alternate is None else pack_endpoint(self.alternate)
        if self.wall_time is not None:
            tail = (tail or pack_endpoint(_NONE)) + self.wall_time.to_bytes(8, "little")
        port, sequence = self.alternate_port, self.sequence
        return _REGISTERED.pack(0x81, port, sequence, observed, self.lifetime) + tail


class Echoed(NamedTuple):
    transaction: int
    listener: int
    observed: Endpoint
    wall_time: int | None = None
    """The server's, in microseconds since the Unix epoch."""

    def pack(self) -> bytes:
        observed = pack_endpoint(self.observed)
        tail = b"" if self.wall_time is None else self.wall_time.to_bytes(8, "little")
        return _ECHOED.pack(0x82, self.listener, self.transaction, observed) + tail


class Introduction(NamedTuple):
    serial: int
    start: int
    peer_rtt: int
    channel: int
    peer: bytes
    observed: Endpoint
    announcement: bytes

    def pack(self) -> bytes:
        head = _INTRODUCTION.pack(
            0x83,
            self.start,
            self.serial,
            self.peer_rtt,
            self.channel,
            self.peer,
            pack_endpoint(self.observed),
        )
        return head + _with_length(self.announcement)


class Moved(NamedTuple):
    serial: int
    peer: bytes
    endpoint: Endpoint

    def pack(self) -> bytes:
        return _MOVED.pack(0x84, self.serial, self.peer, pack_endpoint(self.endpoint))


class Gone(NamedTuple):
    serial: int
    peer: bytes

    def pack(self) -> bytes:
        return _GONE.pack(0x85, *self)


class Asked(NamedTuple):
    serial: int
    request: int
    joiner: bytes
    sealed: bytes

    def pack(self) -> bytes:
        head = _ASKED.pack(0x86, self.serial, self.request, self.joiner)
        return head + _with_length(self.sealed)


class Granted(NamedTuple):
    serial: int
    request: int
    sealed: bytes

    def pack(self) -> bytes:
        return _GRANTED.pack(0x87, self.serial, self.request) + _with_length(self.sealed)


class Refused(NamedTuple):
    reason: RefusalReason
    request: int
    """0: not one of `redeem`."""
    until: int | None = None
    """Until when it is refused, in seconds since the Unix epoch; None: not foreseeable."""

    def pack(self) -> bytes:
        tail = b"" if self.until is None else self.until.to_bytes(8, "little")
        return _REFUSED.pack(0x88, self.reason, self.request) + tail


class Kept(NamedTuple):
    """The inviter is away; the request waits for it, and the answer will for the joiner."""

    request: int

    def pack(self) -> bytes:
        return _KEPT.pack(0x89, self.request)


class Challenge(NamedTuple):
    token: int

    def pack(self) -> bytes:
        return _TOKEN.pack(0x8F, *self)


FromNode = Register | Echo | Acknowledge | Introduce | Redeem | Grant | Leave | Probe | Proof
Notice = Introduction | Moved | Gone | Asked | Granted
FromServer = Registered | Echoed | Refused | Kept | Challenge | Notice


def parse_from_node(payload: bytes) -> FromNode:
    """A message of a node. Raises Malformed."""
    try:
        match payload[0] if payload else 0:
            case 0x01:
                _, sequence, rtt, network = _REGISTER.unpack_from(payload)
                sealed = _take_sealed(payload, _REGISTER.size)
                return Register(sequence, rtt, network, sealed)
            case 0x02:
                return Echo(*_ECHO.unpack_from(payload)[1:])
            case 0x03:
                return Acknowledge(*_ACKNOWLEDGE.unpack_from(payload)[1:])
            case 0x04:
                return Introduce(*_INTRODUCE.unpack_from(payload)[1:])
            case 0x05:
                _, request, inviter = _REDEEM.unpack_from(payload)
                return Redeem(request, inviter, _take_sealed(payload, _REDEEM.size))
            case 0x06:
                _, request, joiner = _GRANT.unpack_from(payload)
                return Grant(request, joiner, _take_sealed(payload, _GRANT.size))
            case 0x07:
                return Leave()
            case 0x08:
                return Probe(*_PROBE.unpack_from(payload)[1:])
            case 0x0F:
                return Proof(*_TOKEN.unpack_from(payload)[1:])
    except struct.error as error:
        raise Malformed("message length") from error
    raise Malformed("message kind")


def _parse_registered_tail(tail: bytes) -> tuple[Endpoint | None, int | None]:
    """Alternate and wall time. Servers with one address left the first out, older ones both."""
    if len(tail) < ENDPOINT_LENGTH:
        return None, None
    alternate = unpack_endpoint(tail[:ENDPOINT_LENGTH])
    time = _parse_time(tail[ENDPOINT_LENGTH:])
    return None if alternate == _NONE else alternate, time


def _parse_time(tail: bytes) -> int | None:
    return int.from_bytes(tail[:8], "little") if len(tail) >= 8 else None


def parse_from_server(payload: bytes) -> FromServer:
    """A message of the server. Raises Malformed."""
    try:
        match payload[0] if payload else 0:
            case 0x81:
                _, port, sequence, observed, lifetime = _REGISTERED.unpack_from(payload)
                tail = _parse_registered_tail(payload[_REGISTERED.size :])
                return Registered(sequence, unpack_endpoint(observed), port, lifetime, *tail)
            case 0x82:
                _, listener, transaction, observed = _ECHOED.unpack_from(payload)
                time = _parse_time(payload[_ECHOED.size :])
                return Echoed(transaction, listener, unpack_endpoint(observed), time)
            case 0x83:
                _, start, serial, rtt, channel, peer, seen = _INTRODUCTION.unpack_from(payload)
                sealed = _take_sealed(payload, _INTRODUCTION.size)
                observed = unpack_endpoint(seen)
                return Introduction(serial, start, rtt, channel, peer, observed, sealed)
            case 0x84:
                _, serial, peer, endpoint = _MOVED.unpack_from(payload)
                return Moved(serial, peer, unpack_endpoint(endpoint))
            case 0x85:
                return Gone(*_GONE.unpack_from(payload)[1:])
            case 0x86:
                _, serial, request, joiner = _ASKED.unpack_from(payload)
                sealed = _take_sealed(payload, _ASKED.size)
                return Asked(serial, request, joiner, sealed)
            case 0x87:
                _, serial, request = _GRANTED.unpack_from(payload)
                return Granted(serial, request, _take_sealed(payload, _GRANTED.size))
            case 0x88:
                _, reason, request = _REFUSED.unpack_from(payload)
                if reason in RefusalReason._value2member_map_:
                    until = _parse_time(payload[_REFUSED.size :])
                    return Refused(RefusalReason(reason), request, until)
            case 0x89:
                return Kept(*_KEPT.unpack_from(payload)[1:])
            case 0x8F:
                return Challenge(*_TOKEN.unpack_from(payload)[1:])
    except struct.error as error:
        raise Malformed("message length") from error
    raise Malformed("message kind")
