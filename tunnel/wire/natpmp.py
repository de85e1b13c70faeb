"""NAT-PMP (RFC 6886): asking the home router for an external UDP port, on its port 5351.

::

    request
    address  | 0 | 0 |
    map      | 0 | 1 | 0 0 | internal port (2) | external port (2) | lifetime (4) |

    response                                   0   1     2            4           8
    address  | 0 | 128 | result (2) | epoch (4) | external IPv4 address (4) |
    map      | 0 | 129 | result (2) | epoch (4) | internal port (2) | external port (2)
             | lifetime (4) |

Big-endian throughout (§3.2, §3.3). Lifetimes are seconds; 0 in a request gives the mapping up.
`epoch` is seconds since the router's table was empty (§3.6). A response whose result is not 0 may
end after the epoch (§3.5), and is sent in that form by a router that does not know the version of
the request: so it answers PCP. The address response is also sent unasked, to 224.0.0.1 port 5350,
when the router has started or its address has changed (§3.2.1).
"""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

from tunnel.errors import Malformed

NATPMP_VERSION = 0
SUCCESS = 0
UNSUPPORTED_VERSION = 1
RESULTS = {
    1: "unsupported version",
    2: "not authorized",
    3: "network failure",
    4: "out of resources",
    5: "unsupported operation",
}
"""§3.5."""

_ADDRESS, _MAP_UDP, _RESPONSE = 0, 1, 128
_MAP = struct.Struct(">BBHHHI")
_HEAD = struct.Struct(">BBHI")
_ADDRESS_RESPONSE = struct.Struct(">BBHI4s")
_MAP_RESPONSE = struct.Struct(">BBHIHHI")


class AddressRequest(NamedTuple):
    def pack(self) -> bytes:
        return bytes([NATPMP_VERSION, _ADDRESS])


class MapRequest(NamedTuple):
    internal_port: int
    external_port: int
    """A wish; 0 for any."""
    lifetime: int

    def pack(self) -> bytes:
        return _MAP.pack(NATPMP_VERSION, _MAP_UDP, 0, *self)


class AddressResponse(NamedTuple):
    epoch: int
    address: str

    def pack(self) -> bytes:
        address = ipaddress.IPv4Address(self.address).packed
        kind = _RESPONSE + _ADDRESS
        return _ADDRESS_RESPONSE.pack(NATPMP_VERSION, kind, SUCCESS, self.epoch, address)


class MapResponse(NamedTuple):
    epoch: int
    internal_port: int
    external_port: int
    lifetime: int

    def pack(self) -> bytes:
        return _MAP_RESPONSE.pack(NATPMP_VERSION, _RESPONSE + _MAP_UDP, SUCCESS, *self)


class ErrorResponse(NamedTuple):
    operation: int
    """Of the request: 0 address, 1 map UDP; anything where the version was not known."""
    result: int
    epoch: int

    @property
    def reason(self) -> str:
        return RESULTS.get(self.result, f"result {self.result}")

    def pack(self) -> bytes:
        return _HEAD.pack(NATPMP_VERSION, _RESPONSE + self.operation, self.result, self.epoch)


Response = AddressResponse | MapResponse | ErrorResponse


def parse_response(data: bytes) -> Response:
    """A router's answer, or an announcement of its own. Raises Malformed."""
    if len(data) < _HEAD.size:
        raise Malformed("nat-pmp length")
    version, kind, result, epoch = _HEAD.unpack_from(data)
    if version != NATPMP_VERSION:
        raise Malformed("nat-pmp version")
    if kind < _RESPONSE:
        raise Malformed("nat-pmp request")
    operation = kind - _RESPONSE
    if result != SUCCESS:
        # The fields after it mean nothing, and not every router sends them.
        if len(data) not in (_HEAD.size, _ADDRESS_RESPONSE.size, _MAP_RESPONSE.size):
            raise Malformed("nat-pmp length")
        return ErrorResponse(operation, result, epoch)
    if operation == _ADDRESS:
        if len(data) != _ADDRESS_RESPONSE.size:
            raise Malformed("nat-pmp length")
        return AddressResponse(epoch, str(ipaddress.IPv4Address(data[_HEAD.size :])))
    if operation == _MAP_UDP:
        if len(data) != _MAP_RESPONSE.size:
            raise Malformed("nat-pmp length")
        return MapResponse(epoch, *_MAP_RESPONSE.unpack(data)[4:])
    raise Malformed("nat-pmp operation")
