"""What a node knows of its own place in the network, told to a peer inside their session: so that
both ends can say why they are not direct.

::

    nature | 10 | version | mapping | filtering | hairpin | NAT | port mapping | routers
           | flags (2) | 0 0 |

`mapping` and `filtering`: a ``Behaviour``. `hairpin` and `NAT`: 0 not known, 1 no, 2 yes.
`port mapping`: a ``MappingState``. `routers`: how many with private addresses lie before the first
public one. `flags`: 1 UDP does not reach the server, 2 guesses no ports, 4 its UDP port is fixed,
8 has a public IPv6 address, 16 a carrier-grade NAT is before it, 32 the receiver has not said this
of itself yet, and is asked to. Versions above 1 only add: values
that are not known count as 0.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from tunnel.errors import Malformed

NATURE = 10
VERSION = 1

_NATURE = struct.Struct("<BBBBBBBBHxx")
_UDP_BLOCKED, _GUESSES_NOT, _FIXED_PORT, _HAS_IPV6, _CARRIER_NAT = 1, 2, 4, 8, 16
_WANTS_ANSWER = 32
_ANSWERS = (None, False, True)


class Behaviour(enum.IntEnum):
    """Of mapping or filtering (RFC 4787 §4.1, §5)."""

    UNKNOWN = 0
    ENDPOINT_INDEPENDENT = 1
    ADDRESS_DEPENDENT = 2
    ADDRESS_AND_PORT_DEPENDENT = 3

    @property
    def text(self) -> str:
        return self.name.lower().replace("_", "-")

    @property
    def varies(self) -> bool:
        """Of a mapping: whether a peer meets another port than the server sees."""
        return self in (Behaviour.ADDRESS_DEPENDENT, Behaviour.ADDRESS_AND_PORT_DEPENDENT)


class MappingState(enum.IntEnum):
    """What asking the router for a port has come to."""

    UNKNOWN = 0
    OFF = 1
    SEARCHING = 2
    MAPPED = 3
    DOUBLE_NAT = 4
    REFUSED = 5
    UNAVAILABLE = 6
    IDLE = 7

    @property
    def text(self) -> str:
        return self.name.lower().replace("_", "-")


class Nature(NamedTuple):
    mapping: Behaviour = Behaviour.UNKNOWN
    filtering: Behaviour = Behaviour.UNKNOWN
    hairpin: bool | None = None
    has_nat: bool | None = None
    port_mapping: MappingState = MappingState.UNKNOWN
    routers: int = 0
    """With private addresses, before the first public one; 0: none, or none answered."""
    is_udp_blocked: bool = False
    guesses_not: bool = False
    has_fixed_port: bool = False
    has_ipv6: bool = False
    has_carrier_nat: bool = False
    wants_answer: bool = False
    """Whether the receiver is asked for the same."""

    def pack(self) -> bytes:
        flags = _UDP_BLOCKED * self.is_udp_blocked | _GUESSES_NOT * self.guesses_not
        flags |= _FIXED_PORT * self.has_fixed_port | _HAS_IPV6 * self.has_ipv6
        flags |= _CARRIER_NAT * self.has_carrier_nat | _WANTS_ANSWER * self.wants_answer
        return _NATURE.pack(
            NATURE,
            VERSION,
            self.mapping,
            self.filtering,
            _ANSWERS.index(self.hairpin),
            _ANSWERS.index(self.has_nat),
            self.port_mapping,
            min(self.routers, 255),
            flags,
        )


def parse_nature(payload: bytes) -> Nature:
    """Longer than known is accepted. Raises Malformed."""
    if len(payload) < _NATURE.size or payload[0] != NATURE:
        raise Malformed("nature length")
    _, version, mapping, filtering, hairpin, nat, mapper, routers, flags = _NATURE.unpack_from(
        payload
    )
    if version < VERSION:
        raise Malformed("nature version")
    return Nature(
        _behaviour(mapping),
        _behaviour(filtering),
        _ANSWERS[hairpin] if hairpin < len(_ANSWERS) else None,
        _ANSWERS[nat] if nat < len(_ANSWERS) else None,
        MappingState(mapper if mapper in MappingState._value2member_map_ else 0),
        routers,
        bool(flags & _UDP_BLOCKED),
        bool(flags & _GUESSES_NOT),
        bool(flags & _FIXED_PORT),
        bool(flags & _HAS_IPV6),
        bool(flags & _CARRIER_NAT),
        bool(flags & _WANTS_ANSWER),
    )


def _behaviour(value: int) -> Behaviour:
    return Behaviour(value if value in Behaviour._value2member_map_ else 0)
