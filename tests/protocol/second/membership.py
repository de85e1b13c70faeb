"""docs/protocol/membership.md, "Certificates" and "Announcements"."""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

from tests.protocol.second.primitives import Refused, derive_key, open_blob, seal_blob, verify

Endpoint = tuple[str, int]


class Certificate(NamedTuple):
    key: bytes
    name: str
    addresses: list[str]
    routes: list[str]
    serial: int
    issued: int
    expires: int
    may_invite: bool


class Announcement(NamedTuple):
    instance: int
    issued: int
    certificate: Certificate
    candidates: list[tuple[int, Endpoint]]


def pack_endpoint(host: str, port: int) -> bytes:
    address = ipaddress.ip_address(host).packed
    return (address if len(address) == 16 else bytes(10) + b"\xff\xff" + address) + struct.pack(
        ">H", port
    )


def parse_endpoint(data: bytes) -> Endpoint:
    address = ipaddress.IPv6Address(data[:16])
    return str(address.ipv4_mapped or address), int.from_bytes(data[16:18], "big")


def verify_certificate(data: bytes, network_key: bytes, unix_seconds: float) -> Certificate:
    verify(network_key, b"punchtun certificate" + data[:-64], data[-64:])
    try:
        version, flags, serial, issued, expires, key = struct.unpack_from("<BBQQQ32s", data)
        at, lists = 58, []
        for _ in ("addresses", "routes"):
            found, count, at = [], data[at], at + 1
            for _ in range(count):
                size = {4: 4, 6: 16}[data[at + 1]]
                address = ipaddress.ip_address(data[at + 2 : at + 2 + size])
                found.append(f"{address}/{data[at]}")
                at += 2 + size
            lists.append(found)
        name = data[at + 1 : at + 1 + data[at]].decode("ascii")
    except (struct.error, IndexError, KeyError, ValueError) as error:
        raise Refused("certificate") from error
    if version != 1 or flags & ~1 or at + 1 + len(name) + 64 != len(data):
        raise Refused("certificate")
    if expires and unix_seconds >= expires:
        raise Refused("expired")
    return Certificate(key, name, lists[0], lists[1], serial, issued, expires, bool(flags & 1))


def open_announcement(
    blob: bytes, peer: bytes, secret: bytes, network_key: bytes, unix_seconds: float
) -> Announcement:
    tag = derive_key("network tag", secret)[:16]
    data = open_blob(derive_key("announcement", secret), blob, peer + tag)
    version, instance, issued, length = struct.unpack_from("<BIQH", data)
    certificate = verify_certificate(data[15 : 15 + length], network_key, unix_seconds)
    rest = data[15 + length :]
    if version != 1 or certificate.key != peer or len(rest) != 1 + 19 * rest[0]:
        raise Refused("announcement")
    parts = [rest[at : at + 19] for at in range(1, len(rest), 19)]
    known = [(part[0], parse_endpoint(part[1:])) for part in parts if 1 <= part[0] <= 7]
    return Announcement(instance, issued, certificate, known)


def seal_announcement(
    secret: bytes, key: bytes, nonce: bytes, instance: int, issued: int, certificate: bytes,
    candidates: list[tuple[int, Endpoint]],
) -> bytes:  # fmt: skip
    packed = b"".join(bytes([kind]) + pack_endpoint(*endpoint) for kind, endpoint in candidates)
    data = struct.pack("<BIQH", 1, instance, issued, len(certificate)) + certificate
    data += bytes([len(candidates)]) + packed
    tag = derive_key("network tag", secret)[:16]
    return seal_blob(derive_key("announcement", secret), nonce, data, key + tag)
