"""Older and newer messages than ours, as the parsers take them: docs/protocol.md, "Versions and
what is not known". What nodes and the server do then: test_strange_messages.py."""

from __future__ import annotations

import binascii
from collections.abc import Callable

import pytest

from tests.wire.messages import KINDS, Kind
from tunnel.errors import Malformed
from tunnel.wire import natpmp, pcp
from tunnel.wire.check import parse_check
from tunnel.wire.invitation import (
    JOIN_PREFIX,
    encode_base64,
    parse_join_string,
    parse_server_url,
)
from tunnel.wire.rendezvous import (
    parse_from_node,
    parse_from_server,
)

BY_NAME = {kind.name: kind for kind in KINDS}
INSIDE = (parse_check, parse_from_node, parse_from_server)
"""Parsers of what stands in frames: there, and only there, messages may grow."""
BORROWED = (natpmp.parse_response, pcp.parse_response)
CLOSED = {
    "initiation": "one length",
    "initiation that offers AEGIS-128L": "one length",
    "response": "one length",
    "response that chooses AEGIS-128L": "one length",
    "cookie reply": "one length",
    "hairpin": "one length",
    "call-me": "ends with a list",
    "certificate": "what is signed and not read may be a restriction; it has a version",
    "announcement": "ends with a list; it has a version",
    "join request": "ends with a blob; it has a version",
    "join answer": "ends with a blob; it has a version",
    "revocation": "one length; it has a version",
    "admission": "ends with a list",
    "sealed backup": "ends with a blob; it has a version",
    "backup": "has a version outside",
}
"""Messages that cannot be made longer, and why."""
VERSIONED = [
    "announcement",
    "certificate",
    "join request",
    "join answer",
    "sealed backup",
    "revocation",
]
"""Their first byte is a version, 1."""


def kinds_of(parse: object) -> list[Kind]:
    return [kind for kind in KINDS if kind.parse is parse]


def unknown_firsts(parse: object) -> list[int]:
    return sorted(set(range(256)) - {kind.packed[0] for kind in kinds_of(parse)})


def test_every_kind_says_how_it_may_grow() -> None:
    for kind in KINDS:
        if kind.parse in BORROWED:
            continue
        assert kind.is_open != (kind.name in CLOSED), (
            f"'{kind.name}': ignore bytes after its end (is_open in tests/wire/messages.py), or "
            "say in CLOSED why not, and in docs/protocol.md what a receiver does"
        )
        if kind.is_open:
            assert kind.parse in INSIDE


def test_every_version_is_tried() -> None:
    assert {name for name, why in CLOSED.items() if "it has a version" in why} == set(VERSIONED)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.is_open], ids=lambda k: k.name)
@pytest.mark.parametrize("tail", [b"\0", b"\xff" * 7, bytes(range(200))])
def test_a_longer_message_means_the_same(kind: Kind, tail: bytes) -> None:
    longer = kind.parse(kind.packed + tail)
    if kind.name == "ping":  # Its length is what it asks about.
        longer = longer._replace(size=kind.example.size)
    if kind.name in ("registered", "registered with two addresses", "echoed", "refused"):
        tail = tail[:7]  # More is the next field.
        longer = kind.parse(kind.packed + tail)
    assert longer == kind.example


@pytest.mark.parametrize("name", VERSIONED)
@pytest.mark.parametrize("version", [0, 2, 3, 255])
def test_another_version_is_malformed(name: str, version: int) -> None:
    kind = BY_NAME[name]
    assert kind.packed[0] == 1
    for tail in (b"", bytes(40)):
        with pytest.raises(Malformed):
            kind.parse(bytes([version]) + kind.packed[1:] + tail)


@pytest.mark.parametrize("name", CLOSED)
def test_what_ends_where_it_ends(name: str) -> None:
    """Refused, or the bytes belong to a last part that has to verify."""
    kind = BY_NAME[name]
    try:
        message = kind.parse(kind.packed + b"\0")
    except Malformed:
        assert kind.tail is None
        return
    assert kind.tail is not None
    assert message != kind.example
    assert "blob" in CLOSED[name] or "certificate" in CLOSED[name]


@pytest.mark.parametrize("parse", INSIDE)
def test_reserved_bytes_inside_frames_are_ignored(parse: Callable[[bytes], object]) -> None:
    reserved = [kind for kind in kinds_of(parse) if kind.packed[1:4] == bytes(3)]
    assert len(reserved) >= 4
    for kind in reserved:
        assert parse(kind.packed[:1] + b"\1\2\3" + kind.packed[4:]) == kind.example


@pytest.mark.parametrize("first", [0, 3, 4, 255])
def test_a_join_string_of_a_newer_version(first: int) -> None:
    body = bytes([first]) + bytes(97) + b"\x30\x39host and more"
    text = JOIN_PREFIX + encode_base64(body + binascii.crc32(body).to_bytes(4, "big"))
    with pytest.raises(Malformed, match="newer punchtun"):
        parse_join_string(text)


@pytest.mark.parametrize("option", ["quic=443", "tcp=443&quic=1", "tcp=1&tcp=2"])
def test_a_server_url_of_a_newer_version(option: str) -> None:
    with pytest.raises(Malformed, match="this version does not know"):
        parse_server_url(f"punchtun://host/{'A' * 64}?{option}")
