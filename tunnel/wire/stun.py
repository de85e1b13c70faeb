"""STUN Binding, as much of RFC 8489 as a server needs to be useful to any STUN tool.

::

    0                   2           4                8                    20
    +-------------------+-----------+----------------+--------------------+---------------
    | type (2)          | length(2) | magic cookie   | transaction (12)   | attributes ...
    +-------------------+-----------+----------------+--------------------+---------------

    XOR-MAPPED-ADDRESS: | 0x0020 | 8 or 20 | 0 | family | port ^ cookie | address ^ cookie.. |

Big-endian throughout (§5, §14.2). Requests with a comprehension-required attribute we do not know
are dropped in silence rather than answered with an error longer than they are.
"""

from __future__ import annotations

import ipaddress
import struct

from tunnel.errors import Malformed
from tunnel.wire.endpoint import Endpoint

MAGIC_COOKIE = 0x2112A442
BINDING_REQUEST = 0x0001
BINDING_SUCCESS = 0x0101
XOR_MAPPED_ADDRESS = 0x0020

_HEADER = struct.Struct(">HHI12s")
_ATTRIBUTE = struct.Struct(">HH")
_FIRST_OPTIONAL = 0x8000
_CHANGE_REQUEST = 0x0003


def is_stun(datagram: bytes) -> bool:
    """Whether it is worth parsing: requests start with a zero byte, which no message of ours does,
    and have the magic cookie."""
    return len(datagram) >= 20 and datagram[0] == 0 and datagram[4:8] == b"\x21\x12\xa4\x42"


def parse_binding_request(datagram: bytes) -> bytes:
    """The transaction id (12 bytes) of a Binding request."""
    if len(datagram) < _HEADER.size:
        raise Malformed("stun length")
    kind, length, cookie, transaction = _HEADER.unpack_from(datagram)
    if cookie != MAGIC_COOKIE or kind != BINDING_REQUEST:
        raise Malformed("stun type")
    if length % 4 or length != len(datagram) - _HEADER.size:
        raise Malformed("stun length")
    at = _HEADER.size
    while at < len(datagram):
        attribute, size = _ATTRIBUTE.unpack_from(datagram, at)
        at += _ATTRIBUTE.size + (size + 3) // 4 * 4
        if at > len(datagram):
            raise Malformed("stun attribute length")
        # A CHANGE-REQUEST of all zeros asks for nothing (RFC 5780 §7.2); other tools send it.
        asks_nothing = attribute == _CHANGE_REQUEST and size == 4 and not any(datagram[at - 4 : at])
        if attribute < _FIRST_OPTIONAL and not asks_nothing:
            raise Malformed("stun attribute unknown")
    return bytes(transaction)


def pack_binding_success(transaction: bytes, mapped: Endpoint) -> bytes:
    """The answer: 32 bytes for an IPv4 source, 44 for IPv6."""
    address = ipaddress.ip_address(mapped.host).packed
    key = MAGIC_COOKIE.to_bytes(4, "big") + transaction
    scrambled = bytes(a ^ k for a, k in zip(address, key, strict=False))
    value = struct.pack(
        ">BBH", 0, 1 if len(address) == 4 else 2, mapped.port ^ (MAGIC_COOKIE >> 16)
    )
    attribute = _ATTRIBUTE.pack(XOR_MAPPED_ADDRESS, len(value) + len(address)) + value + scrambled
    return _HEADER.pack(BINDING_SUCCESS, len(attribute), MAGIC_COOKIE, transaction) + attribute
