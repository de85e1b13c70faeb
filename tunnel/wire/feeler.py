"""Datagrams that are not meant for anybody else: they explore the way.

::

    hairpin     | 6 | 0 0 0 | token (16) |       to our own external endpoint
    feeler      | 7 |                            dies on the way, by its time to live

Neither is sealed, as there is nobody to seal it for: the token is random and known to its sender
alone. Whoever else receives one drops it.
"""

from __future__ import annotations

from typing import NamedTuple

from tunnel.errors import Malformed

HAIRPIN = 6
FEELER = 7
TOKEN_LENGTH = 16
_HEAD = bytes([HAIRPIN, 0, 0, 0])


class Hairpin(NamedTuple):
    token: bytes

    def pack(self) -> bytes:
        return _HEAD + self.token


class Feeler(NamedTuple):
    def pack(self) -> bytes:
        return bytes([FEELER])


def parse_hairpin(datagram: bytes) -> Hairpin:
    """Raises Malformed."""
    if len(datagram) != len(_HEAD) + TOKEN_LENGTH or datagram[: len(_HEAD)] != _HEAD:
        raise Malformed("hairpin")
    return Hairpin(bytes(datagram[len(_HEAD) :]))
