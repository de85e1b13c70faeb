"""What people copy from one machine to another, and what an invitation is redeemed with.

::

    server URL    punchtun://HOST[:PORT]/base64url( server key (32) | access token (16) )[?OPTIONS]
    options       tcp=PORT & ws=URL, each at most once; percent-encoded

    join string   punchtun-join:base64url( 1 | inviter (32) | token (16) | server key (32)
                                           | access token (16) | port (2) | host | check (4) )
                  the same with 2 for 1 and host "?" options for host, where the URL has options

    request       | 1 | invitation id (8) | sealed: name, may be empty |
    answer        | 1 | status | sealed: network key (32) | network secret (32) | length (2)
                                         | inviter's certificate (length) | length (2)
                                         | certificate (length) | count (1)
                                         | beginnings of revoked keys (8 each) ... |

The options say where the server can be reached where UDP cannot pass: ``tcp`` is its TCP port where
that is not the UDP port, ``ws`` the address of its WebSocket.

`check` is a CRC-32 that catches a string cut short or mistyped. `name` is what the joiner asks to
be called; empty: what the invitation says. Request and answer are sealed under keys that only the
inviter and the holder of the token can derive; a refusal carries no token's authority, so it is
sealed under a key of the two nodes alone.
"""

from __future__ import annotations

import base64
import binascii
import enum
import ipaddress
import re
import struct
import urllib.parse
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from tunnel.errors import Malformed
from tunnel.wire.certificate import is_valid_name
from tunnel.wire.confidential import Confidential, refuse_pickling

URL_SCHEME = "punchtun"
JOIN_PREFIX = "punchtun-join:"
DEFAULT_PORT = 12345
ACCESS_TOKEN_LENGTH = 16
TOKEN_LENGTH = 16
INVITATION_ID_LENGTH = 8

_REQUEST_HEAD = 1 + INVITATION_ID_LENGTH
MAX_WEBSOCKET_URL = 255
JOIN_ANSWER_HEAD = 2
REVOKED_LENGTH = 8
_VISIBLE = re.compile("[!-~]+")
_JOIN = struct.Struct(">B32s16s32s16sH")
_LENGTH = struct.Struct("<H")
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})")
"""Looser than RFC 1123: the resolver knows best. It keeps out what is no part of a URL's host."""


def encode_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64(text: str) -> bytes:
    """Raises Malformed for anything but unpadded base64url: what `encode_base64` gives."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("base64") from error
    # The decoder also takes padding, the other alphabet, and anything in the last unused bits.
    if encode_base64(data) != text:
        raise Malformed("base64")
    return data


@dataclass(frozen=True)
class ServerUrl(Confidential):
    """Where the rendezvous server is, its public key, and the token without which it is silent."""

    host: str
    """A name or an address."""
    port: int
    public_key: bytes
    access_token: bytes
    tcp_port: int | None = None
    """Where that is not the UDP port."""
    websocket: str | None = None
    """ws://… or wss://…, where that is not at the usual place."""

    @property
    def text(self) -> str:
        """The whole URL, access token included: for the people it is meant for."""
        options = f"?{self.options}" if self.options else ""
        return f"{self.location}/{encode_base64(self.public_key + self.access_token)}{options}"

    @property
    def options(self) -> str:
        """What follows the key; empty when all is at its usual place."""
        tcp, websocket = self.tcp_port, self.websocket
        parts = [] if tcp is None else [f"tcp={tcp}"]
        parts += [] if websocket is None else [f"ws={urllib.parse.quote(websocket, safe='')}"]
        return "&".join(parts)

    def __repr__(self) -> str:
        return f"ServerUrl({self.location})"

    @property
    def location(self) -> str:
        """The URL without key and token, fit for logs and status."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{URL_SCHEME}://{host}:{self.port}"


def parse_server_url(text: str) -> ServerUrl:
    """Raises Malformed; its text says which part is wrong."""
    try:
        parts = urllib.parse.urlsplit(text.strip())
        if parts.scheme != URL_SCHEME or "@" in parts.netloc:
            raise ValueError(parts.scheme)
        host = _ascii_host(parts.hostname or "")
        if ("[" in parts.netloc) != (":" in host):
            raise ValueError(host)
    except ValueError as error:
        raise Malformed("it does not start with punchtun://HOST") from error
    try:
        port = DEFAULT_PORT if parts.port is None else parts.port
        if port == 0:
            raise ValueError(port)
    except ValueError as error:
        raise Malformed("its port is not a number from 1 to 65535") from error
    if parts.fragment:
        raise Malformed("something follows its key")
    tcp_port, websocket = _parse_options(parts.query)
    try:
        secret = decode_base64(parts.path.strip("/"))
    except Malformed as error:
        raise Malformed("its key is damaged") from error
    if len(secret) != 32 + ACCESS_TOKEN_LENGTH:
        raise Malformed("its key is cut short or too long")
    return ServerUrl(host, port, secret[:32], secret[32:], tcp_port, websocket)


def _parse_options(text: str) -> tuple[int | None, str | None]:
    """TCP port and WebSocket URL. Raises Malformed."""
    if not text:
        return None, None
    found: dict[str, str] = {}
    for part in text.split("&"):
        name, _, value = part.partition("=")
        if name not in ("tcp", "ws") or name in found:
            raise Malformed("something follows its key that this version does not know")
        found[name] = urllib.parse.unquote(value)
    tcp = found.get("tcp")
    if tcp is not None and not (re.fullmatch("[1-9][0-9]{0,4}", tcp) and int(tcp) < 65536):
        raise Malformed("its TCP port is not a number from 1 to 65535")
    websocket = found.get("ws")
    if websocket is not None:
        websocket = parse_websocket_url(websocket).text
    return None if tcp is None else int(tcp), websocket


class WebSocketUrl(NamedTuple):
    is_secure: bool
    host: str
    port: int
    target: str
    """Path, and query if there is one: what the request asks for."""

    @property
    def text(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_usual = self.port == (443 if self.is_secure else 80)
        port = "" if is_usual else f":{self.port}"
        return f"{'wss' if self.is_secure else 'ws'}://{host}{port}{self.target}"


def parse_websocket_url(text: str) -> WebSocketUrl:
    """Raises Malformed."""
    if len(text) > MAX_WEBSOCKET_URL or not _VISIBLE.fullmatch(text):
        raise Malformed("its WebSocket URL is too long, or has a character that no URL has")
    try:
        parts = urllib.parse.urlsplit(text)
        if parts.scheme not in ("ws", "wss") or "@" in parts.netloc or "#" in text:
            raise ValueError(parts.scheme)
        host = _ascii_host(parts.hostname or "")
        is_secure = parts.scheme == "wss"
        port = parts.port if parts.port is not None else (443 if is_secure else 80)
        if port == 0 or ("[" in parts.netloc) != (":" in host):
            raise ValueError(port)
    except ValueError as error:
        raise Malformed("its WebSocket URL does not start with wss://HOST or ws://HOST") from error
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return WebSocketUrl(is_secure, host, port, target)


def _ascii_host(host: str) -> str:
    """The host as it is looked up: an address, or a name in its ASCII form. Raises ValueError."""
    if not _is_address(host):
        host = host.encode("idna").decode("ascii")
        if not _NAME.fullmatch(host):
            raise ValueError(f"no host name: {host}")
    return host


@dataclass(frozen=True)
class JoinString(Confidential):
    inviter: bytes
    """The inviter's X25519 public key."""
    token: bytes
    server: ServerUrl

    @property
    def text(self) -> str:
        """What `parse_join_string` reads, token included: for the people it is meant for."""
        server = self.server
        version = 2 if server.options else 1
        head = _JOIN.pack(
            version, self.inviter, self.token, server.public_key, server.access_token, server.port
        )
        options = f"?{server.options}" if server.options else ""
        body = head + (_ascii_host(server.host) + options).encode("ascii")
        return JOIN_PREFIX + encode_base64(body + binascii.crc32(body).to_bytes(4, "big"))

    def __repr__(self) -> str:
        return f"JoinString({self.server.location})"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def parse_join_string(text: str) -> JoinString:
    """Raises Malformed; its text says what is wrong."""
    text = "".join(text.split())
    if not text.startswith(JOIN_PREFIX):
        raise Malformed(f"it does not start with {JOIN_PREFIX}")
    try:
        data = decode_base64(text[len(JOIN_PREFIX) :])
    except Malformed as error:
        raise Malformed("it is cut short or mistyped") from error
    if len(data) < 5 or binascii.crc32(data[:-4]).to_bytes(4, "big") != data[-4:]:
        raise Malformed("it is cut short or mistyped")
    if data[0] not in (1, 2):
        raise Malformed("it was made by a newer punchtun")
    if len(data) <= _JOIN.size + 4:
        raise Malformed("it is cut short")
    _, inviter, token, key, access, port = _JOIN.unpack_from(data)
    if port == 0:
        raise Malformed("its port is 0")
    options = ""
    try:
        host = data[_JOIN.size : -4].decode("ascii")
        if data[0] == 2:
            host, _, options = host.partition("?")
        host = _ascii_host(host)
    except ValueError as error:
        raise Malformed("its host is damaged") from error
    return JoinString(inviter, token, ServerUrl(host, port, key, access, *_parse_options(options)))


class JoinStatus(enum.IntEnum):
    GRANTED = 0
    UNKNOWN = 1
    """No such invitation: another network, or it was revoked."""
    EXPIRED = 2
    USED = 3
    """By as many machines as it admits."""
    NAME = 4
    """The name asked for is another machine's, or the invitation is for another name."""


class JoinRequest(NamedTuple):
    invitation: bytes
    sealed: bytes

    def pack(self) -> bytes:
        return b"\x01" + self.invitation + self.sealed


def parse_join_request(data: bytes) -> JoinRequest:
    if len(data) <= _REQUEST_HEAD or data[0] != 1:
        raise Malformed("join request")
    return JoinRequest(data[1:_REQUEST_HEAD], data[_REQUEST_HEAD:])


def parse_wish(data: bytes) -> str:
    """The name that a joiner asks for; empty for none. Raises Malformed."""
    name = data.decode("ascii", "replace")
    if name and not is_valid_name(name):
        raise Malformed("join request: name")
    return name


class JoinAnswer(NamedTuple):
    status: JoinStatus
    sealed: bytes

    def pack(self) -> bytes:
        return bytes([1, self.status]) + self.sealed


def parse_join_answer(data: bytes) -> JoinAnswer:
    if len(data) < 3 or data[0] != 1 or data[1] not in JoinStatus._value2member_map_:
        raise Malformed("join answer")
    return JoinAnswer(JoinStatus(data[1]), data[2:])


class Admission(NamedTuple):
    """What a joiner is given: enough to be a member."""

    network_key: bytes
    network_secret: bytes
    certificate: bytes
    inviter_certificate: bytes
    revoked: tuple[bytes, ...] = ()
    """The first REVOKED_LENGTH bytes of keys that are revoked, as many as there is room for: the
    signed statements follow in sessions, and there has to be none with these before."""

    def __repr__(self) -> str:
        return f"Admission(to the network {encode_base64(self.network_key)})"

    def __reduce__(self) -> NoReturn:  # A NamedTuple has no other bases.
        refuse_pickling(self)

    def pack(self) -> bytes:
        parts = [self.network_key, self.network_secret]
        for certificate in (self.inviter_certificate, self.certificate):
            parts += [_LENGTH.pack(len(certificate)), certificate]
        return b"".join([*parts, bytes([len(self.revoked)]), *self.revoked])


def parse_admission(data: bytes) -> Admission:
    certificates, at = [], 64
    for _ in range(2):
        if len(data) < at + _LENGTH.size:
            raise Malformed("admission length")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size + length
        certificates.append(data[at - length : at])
    if len(data) <= at or len(data) != at + 1 + data[at] * REVOKED_LENGTH:
        raise Malformed("admission length")
    starts = range(at + 1, len(data), REVOKED_LENGTH)
    revoked = tuple(data[start : start + REVOKED_LENGTH] for start in starts)
    return Admission(data[:32], data[32:64], certificates[1], certificates[0], revoked)
