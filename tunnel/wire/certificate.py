"""Membership certificates: what the network's signing key says of one node.

::

    +---+-------+------------+------------+-------------+----------+------------------------------
    | 1 | flags | serial (8) | issued (8) | expires (8) | key (32) | address count, addresses ...
    +---+-------+------------+------------+-------------+----------+------------------------------
    ------------------------+-----------------+------+----------------+
      route count, routes ..| name length (1) | name | signature (64) |
    ------------------------+-----------------+------+----------------+

    address or route: | prefix length (1) | 4 or 6 | address (4 or 16) |

Times are Unix seconds; `expires` 0 means never. Flag 1: this node may invite. `key` is the node's
X25519 key. The signature (Ed25519) covers ``"punchtun certificate"`` and everything before it.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from dataclasses import dataclass

from tunnel.errors import Malformed

SIGNATURE_LENGTH = 64
SIGNED_PREFIX = b"punchtun certificate"
MAY_INVITE = 1

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HEAD = struct.Struct("<BBQQQ32s")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def is_valid_name(name: str) -> bool:
    """Whether `name` is a DNS label in lower case (RFC 1123 §2.1)."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Certificate:
    key: bytes
    """The node's X25519 public key."""
    name: str
    addresses: tuple[Interface, ...]
    """Tunnel addresses with the prefix of the network."""
    serial: int
    issued: int
    expires: int = 0
    may_invite: bool = False
    routes: tuple[Network, ...] = ()
    """Prefixes reached through this node, beside its own addresses."""
    signature: bytes = b""

    def signed_part(self) -> bytes:
        """The bytes the signature covers, without SIGNED_PREFIX."""
        flags = MAY_INVITE if self.may_invite else 0
        parts = [_HEAD.pack(1, flags, self.serial, self.issued, self.expires, self.key)]
        parts.append(bytes([len(self.addresses)]))
        for interface in self.addresses:
            packed = interface.ip.packed
            parts.append(bytes([interface.network.prefixlen, interface.version]) + packed)
        parts.append(bytes([len(self.routes)]))
        for route in self.routes:
            parts.append(bytes([route.prefixlen, route.version]) + route.network_address.packed)
        name = self.name.encode()
        parts.append(bytes([len(name)]) + name)
        return b"".join(parts)

    def pack(self) -> bytes:
        return self.signed_part() + self.signature


def parse_certificate(data: bytes) -> Certificate:
    """The certificate in `data`, whose signature the caller has yet to verify."""
    try:
        _, flags, serial, issued, expires, key = _HEAD.unpack_from(data)
        if data[0] != 1:
            raise Malformed("certificate version")
        if flags & ~MAY_INVITE:
            # They would be signed for and not be read: a restriction unknown is not none.
            raise Malformed("certificate flags")
        at = _HEAD.size
        prefixes: list[list[tuple[int, bytes]]] = []
        for _ in range(2):
            count, at = data[at], at + 1
            found = []
            for _ in range(count):
                prefix, size = data[at], {4: 4, 6: 16}[data[at + 1]]
                found.append((prefix, data[at + 2 : at + 2 + size]))
                at += 2 + size
            prefixes.append(found)
        length, at = data[at], at + 1
        name = data[at : at + length].decode("ascii")
        signature = data[at + length :]
        if not is_valid_name(name) or len(signature) != SIGNATURE_LENGTH:
            raise Malformed("certificate name or signature length")
        return Certificate(
            key=key,
            name=name,
            addresses=tuple(ipaddress.ip_interface((a, p)) for p, a in prefixes[0]),
            serial=serial,
            issued=issued,
            expires=expires,
            may_invite=bool(flags & MAY_INVITE),
            routes=tuple(ipaddress.ip_network((a, p)) for p, a in prefixes[1]),
            signature=signature,
        )
    except (struct.error, IndexError, KeyError, ValueError) as error:
        raise Malformed("certificate") from error
