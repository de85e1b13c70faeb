"""Datagrams that are not meant for anybody else: they explore the way.

::

    hairpin     | 6 | 0 0 0 | token (16) |       to our own external endpoint
    feeler      | 7 |                            dies on the way, by its time to live

Neither is sealed, as there is nobody to seal it for: the token is random and known to its sender
alone. Whoever else receives one drops it.
"""

from __future__ import annotations

from tunnel.errors import Malformed

HAIRPIN = 6
FEELER = 7
TOKEN_LENGTH = 16
_HEAD = bytes([HAIRPIN, 0, 0, 0])


def pack_hairpin(token: bytes) -> bytes:
    return _HEAD + token


def parse_hairpin(datagram: bytes) -> bytes:
    """The token. Raises Malformed."""
    if len(datagram) != len(_HEAD) + TOKEN_LENGTH or datagram[: len(_HEAD)] != _HEAD:
        raise Malformed("hairpin length")
    return bytes(datagram[len(_HEAD) :])


def pack_feeler() -> bytes:
    return bytes([FEELER])
