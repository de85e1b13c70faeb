from __future__ import annotations

import struct

import pytest

from tests.wire.messages import KEY, V4
from tunnel.errors import Malformed
from tunnel.wire.rendezvous import (
    MAX_SEALED,
    Asked,
    FromNode,
    FromServer,
    Grant,
    Granted,
    Introduction,
    Redeem,
    Register,
    parse_from_node,
    parse_from_server,
)

SEALED = bytes(MAX_SEALED)
TOO_LONG = bytes(MAX_SEALED + 1)
FROM_NODE = [Register(1, 2, bytes(16), SEALED), Redeem(1, KEY, SEALED), Grant(1, KEY, SEALED)]
FROM_SERVER = [
    Introduction(1, 2, 3, 4, KEY, V4, SEALED),
    Asked(1, 2, KEY, SEALED),
    Granted(1, 2, SEALED),
]


@pytest.mark.parametrize("message", [*FROM_NODE, *FROM_SERVER])
def test_longest_sealed_part(message: FromNode | FromServer) -> None:
    """One datagram carries it, with frame and UDP, on any IPv6 path (RFC 8200 §5)."""
    assert len(message.pack()) + 32 + 48 <= 1280
    assert message[-1] == SEALED
    with pytest.raises(ValueError, match="1025 sealed bytes, at most 1024"):
        message._replace(**{message._fields[-1]: TOO_LONG}).pack()  # type: ignore[arg-type]


@pytest.mark.parametrize("message", FROM_NODE)
def test_a_node_sends_too_much(message: FromNode) -> None:
    packed = message.pack()
    assert parse_from_node(packed) == message
    with pytest.raises(Malformed, match=r"^sealed length$"):
        parse_from_node(longer(packed))


@pytest.mark.parametrize("message", FROM_SERVER)
def test_the_server_sends_too_much(message: FromServer) -> None:
    packed = message.pack()
    assert parse_from_server(packed) == message
    with pytest.raises(Malformed, match=r"^sealed length$"):
        parse_from_server(longer(packed))


def longer(packed: bytes) -> bytes:
    """One byte more, truly there."""
    head = packed[: -MAX_SEALED - 2]
    return head + struct.pack("<H", MAX_SEALED + 1) + TOO_LONG


def test_kinds_that_one_side_does_not_send() -> None:
    for kind in [0, *range(9, 15), *range(16, 256)]:
        with pytest.raises(Malformed, match=r"^message kind$"):
            parse_from_node(bytes([kind]) * 200)
    for kind in [*range(0x81), *range(0x8A, 0x8F), *range(0x90, 256)]:
        with pytest.raises(Malformed, match=r"^message kind$"):
            parse_from_server(bytes([kind]) * 200)


def test_nothing_is_no_message() -> None:
    for parse in (parse_from_node, parse_from_server):
        with pytest.raises(Malformed, match=r"^message kind$"):
            parse(b"")


@pytest.mark.parametrize("reason", [0, 3, 255])
def test_an_unknown_refusal(reason: int) -> None:
    with pytest.raises(Malformed):
        parse_from_server(bytes([0x88, reason]) + bytes(10))
