"""Datagrams in, without a copy: a train that UDP_GRO put together is one call and one tuple."""

from __future__ import annotations

import errno
import socket
import sys

from tunnel.drivers.udp_address import Addresses
from tunnel.drivers.udp_errors import REPORTED
from tunnel.drivers.udp_failures import Failures
from tunnel.wire.endpoint import Endpoint

_BUFFER = 65_536
SLACK = 4096
AREA = bytearray(_BUFFER + SLACK)
"""Where all sockets receive. What is after a datagram, SLACK bytes at least, may be written to."""
_ALL = memoryview(AREA)
_BUFFERS = [_ALL[:_BUFFER]]

UDP_GRO = 104
"""<linux/udp.h>: not in Python's socket module."""
_CONTROL = 64
_TRIES = 16
"""Calls that bring nothing but an error, one after the other, before the others have their turn."""

Arrival = tuple[int, int, int, int, Endpoint]


class Receiver:
    def __init__(self, udp: socket.socket, addresses: Addresses, failures: Failures) -> None:
        self._socket = udp
        self._addresses = addresses
        self._failures = failures

    def receive_arrival(self) -> Arrival | None:
        """Datagrams of one source and one size, the last maybe shorter, in the order in which they
        came: `(offset, stride, size, length, source)`. They are in AREA, at `offset`, `offset +
        stride` and so on; the last ends at `offset + length`. None: nothing is left for now.

        They are there until the next call, on whatever socket. An empty datagram has size and
        length 0, and is alone.
        """
        for _ in range(_TRIES):
            try:
                length, control, flags, address = self._socket.recvmsg_into(_BUFFERS, _CONTROL)
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in REPORTED:  # of an earlier send: counted by read_errors
                    self._failures.has_queued = True
                    continue
                self._failures.count(error)
                if error.errno == errno.EBADF:
                    return None
                continue
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                self._failures.counts["MSG_TRUNC"] += 1
                continue
            size = _segment_size(control) if control else length
            return (0, size, size, length, self._addresses.source(address))
        return None


def copy_datagrams(arrival: Arrival) -> list[bytes]:
    """The datagrams of an arrival, the caller's."""
    offset, stride, size, length, _ = arrival
    if not length:
        return [b""]
    end = offset + length
    return [bytes(_ALL[at : min(at + size, end)]) for at in range(offset, end, stride)]


def _segment_size(control: list[tuple[int, int, bytes]]) -> int:
    return int.from_bytes(control[0][2][:4], sys.byteorder)
