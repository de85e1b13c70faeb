"""PCP (RFC 6887), as much as maps one UDP port: the MAP opcode, and ANNOUNCE as it is received.

::

    request (§7.1, §11.1)
    0   1       2      4              8                     24
    | 2 | 1     | 0 0  | lifetime (4) | client address (16) | body |

    response (§7.2, §11.1)
    0   1       2   3        4              8           12          24
    | 2 | 129   | 0 | result | lifetime (4) | epoch (4) | 0 .. (12) | body | options ... |

    announcement (§14.1), and an error that says nothing of the request
    | 2 | 128   | 0 | result | lifetime (4) | epoch (4) | 0 .. (12) | options ... |

    body of MAP, 36 bytes
    0            12         13      16                  18
    | nonce (12) | protocol | 0 0 0 | internal port (2) | external port (2)
    | external address (16) |

    option (§7.3)
    0      1   2            4
    | code | 0 | length (2) | data, padded to a multiple of 4 .. |

Big-endian throughout. Addresses are IPv6, IPv4 as ::ffff:a.b.c.d. `protocol` is 17 for UDP.
Lifetimes are seconds; 0 in a request gives the mapping up. In an error the lifetime says how long
it will last, and the body is as it was asked for, if there is one: whoever does not know the
version or the opcode cannot make it. `epoch` is seconds since the router's table was empty (§8.5).
`nonce` binds a mapping to who made it. Options of a response are skipped: we ask for none.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from tunnel.errors import Malformed
from tunnel.wire.endpoint import Endpoint, pack_endpoint, unpack_endpoint

PCP_VERSION = 2
NONCE_LENGTH = 12
SUCCESS = 0
UNSUPPORTED_VERSION = 1
UDP = 17
RESULTS = {
    1: "unsupported version",
    2: "not authorized",
    3: "malformed request",
    4: "unsupported opcode",
    5: "unsupported option",
    6: "malformed option",
    7: "network failure",
    8: "no resources",
    9: "unsupported protocol",
    10: "user's quota exceeded",
    11: "cannot provide that external port",
    12: "address mismatch: there is another NAT before the router that answers",
    13: "excessive remote peers",
}
"""§7.4."""

_ANNOUNCE, _MAP, _RESPONSE = 0, 1, 128
_LONGEST = 1100
_REQUEST_HEAD = struct.Struct(">BBHI16s")
_RESPONSE_HEAD = struct.Struct(">BBBBII12x")
_BODY = struct.Struct(">12sB3xH18s")
_OPTION = struct.Struct(">BxH")
_NOWHERE = Endpoint("0.0.0.0", 0)


class MapRequest(NamedTuple):
    client: str
    """Our IPv4 address, as the router sees it: no NAT may be between."""
    nonce: bytes
    internal_port: int
    external: Endpoint
    """A wish; 0.0.0.0:0 for any."""
    lifetime: int

    def pack(self) -> bytes:
        client = pack_endpoint(Endpoint(self.client, 0))[:16]
        head = _REQUEST_HEAD.pack(PCP_VERSION, _MAP, 0, self.lifetime, client)
        return head + _pack_body(self.nonce, UDP, self.internal_port, self.external)


class MapResponse(NamedTuple):
    result: int
    lifetime: int
    epoch: int
    nonce: bytes = bytes(NONCE_LENGTH)
    protocol: int = 0
    internal_port: int = 0
    external: Endpoint = _NOWHERE

    @property
    def reason(self) -> str:
        return RESULTS.get(self.result, f"result {self.result}")

    def pack(self) -> bytes:
        head = _pack_response_head(_MAP, self.result, self.lifetime, self.epoch)
        return head + _pack_body(self.nonce, self.protocol, self.internal_port, self.external)


class Announcement(NamedTuple):
    epoch: int

    def pack(self) -> bytes:
        return _pack_response_head(_ANNOUNCE, SUCCESS, 0, self.epoch)


class BareError(NamedTuple):
    """An error that says nothing of the request: a header alone."""

    result: int
    epoch: int

    @property
    def reason(self) -> str:
        return RESULTS.get(self.result, f"result {self.result}")

    def pack(self) -> bytes:
        return _pack_response_head(_MAP, self.result, 0, self.epoch)


Response = MapResponse | Announcement | BareError


def parse_response(data: bytes) -> Response:
    """A router's answer, or an announcement of its own. Raises Malformed."""
    if not _RESPONSE_HEAD.size <= len(data) <= _LONGEST or len(data) % 4:
        raise Malformed("pcp length")
    version, kind, _, result, lifetime, epoch = _RESPONSE_HEAD.unpack_from(data)
    if version != PCP_VERSION:
        raise Malformed("pcp version")
    if kind < _RESPONSE:
        raise Malformed("pcp request")
    body = data[_RESPONSE_HEAD.size :]
    if kind == _RESPONSE + _ANNOUNCE:
        if result != SUCCESS:
            raise Malformed("pcp announcement of an error")
        _skip_options(body)
        return Announcement(epoch)
    if kind != _RESPONSE + _MAP:
        raise Malformed("pcp opcode")
    if not body and result != SUCCESS:
        return BareError(result, epoch)
    if len(body) < _BODY.size:
        raise Malformed("pcp length")
    nonce, protocol, internal_port, external = _BODY.unpack_from(body)
    _skip_options(body[_BODY.size :])
    endpoint = unpack_endpoint(external[2:] + external[:2])
    return MapResponse(result, lifetime, epoch, nonce, protocol, internal_port, endpoint)


def _pack_response_head(opcode: int, result: int, lifetime: int, epoch: int) -> bytes:
    return _RESPONSE_HEAD.pack(PCP_VERSION, _RESPONSE + opcode, 0, result, lifetime, epoch)


def _pack_body(nonce: bytes, protocol: int, internal_port: int, external: Endpoint) -> bytes:
    if len(nonce) != NONCE_LENGTH:
        raise ValueError(f"a nonce has {NONCE_LENGTH} bytes, not {len(nonce)}")
    packed = pack_endpoint(external)
    return _BODY.pack(nonce, protocol, internal_port, packed[16:] + packed[:16])


def _skip_options(data: bytes) -> None:
    at = 0
    while at < len(data):
        _, length = _OPTION.unpack_from(data, at)  # What is left is a multiple of 4.
        at += _OPTION.size + (length + 3) // 4 * 4
    if at > len(data):
        raise Malformed("pcp option length")
