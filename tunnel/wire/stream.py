"""Datagrams over a byte stream: the same as over UDP, each behind its length.

::

    0            2
    +------------+------------------------+------------+------------------------+--
    | length (2) | datagram (length)      | length (2) | datagram (length)      | ...
    +------------+------------------------+------------+------------------------+--

`length` is big-endian, 1 to 65535, as in DNS over TCP (RFC 1035 §4.2.2). Length 0 is malformed and
ends the stream: after it nothing can be trusted to be where it seems. Over a WebSocket there is no
length; each datagram is one binary message (RFC 6455 §5.6).
"""

from __future__ import annotations

from tunnel.errors import Malformed

MAX_DATAGRAM = 0xFFFF
LENGTH_SIZE = 2


def pack_stream(datagram: bytes) -> bytes:
    """The datagram behind its length. ValueError for one that is empty or too long."""
    if not 0 < len(datagram) <= MAX_DATAGRAM:
        raise ValueError(f"a datagram of {len(datagram)} bytes")
    return len(datagram).to_bytes(LENGTH_SIZE, "big") + datagram


class StreamParser:
    """Cuts a stream into datagrams, however it arrives. Holds less than one datagram."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The datagrams that are whole now. Raises Malformed; the stream is then of no use."""
        data = self._rest + data
        datagrams = []
        at, end = 0, len(data)
        while end - at >= LENGTH_SIZE:
            length = int.from_bytes(data[at : at + LENGTH_SIZE], "big")
            if length == 0:
                raise Malformed("stream: length 0")
            if end - at - LENGTH_SIZE < length:
                break
            at += LENGTH_SIZE + length
            datagrams.append(data[at - length : at])
        self._rest = data[at:]
        return datagrams
