"""Datagrams in, without a copy, many with one system call: recvmmsg with UDP_GRO, or either alone.

What `arrivals` costs of what ``recvmsg_into`` until EAGAIN costs, processor time, measured on
loopback by turns (Linux 6.18, medians of 7)::

    with UDP_GRO   16 trains of 64 KiB wait    0.92      without   64 of 1452 bytes wait   0.63
                   one train                   0.84                one small datagram      0.92
                   64 small datagrams          0.74
                   one                         0.87

Of 64 KiB the copy is the most. Something is saved even alone, since a call that brings less than it
could has emptied the socket.
"""

from __future__ import annotations

import errno
import logging
import socket
import sys
from collections.abc import Iterator
from functools import cache
from mmap import mmap
from typing import ClassVar

from tunnel.drivers.mmsg import Incoming
from tunnel.drivers.udp_address import Addresses
from tunnel.drivers.udp_errors import REPORTED
from tunnel.drivers.udp_failures import Failures
from tunnel.wire.endpoint import Endpoint

log = logging.getLogger(__name__)

SLACK = 4096
_TRAIN, _SINGLE = 65_536, 9_216
"""Bytes for what UDP_GRO put together; for a datagram where there is no UDP_GRO, the largest MTU of
usual networks, and some."""
_TRAINS, _SINGLES = 8, 128
"""How many at a time. More trains would leave the processor's second-level cache before they are
read: 16 were slower than 1. Of datagrams by themselves two trains of the longest."""
AREA = mmap(-1, _SINGLES * (_TRAIN + SLACK))
"""Where all sockets receive. The SLACK bytes after an arrival may be written to. 8.5 MiB, of which
only those pages are ever in memory that something was received to: a bytearray would take all."""
_ALL = memoryview(AREA)
_WHOLE = [_ALL[:_TRAIN]]

UDP_GRO = 104
"""<linux/udp.h>: not in Python's socket module."""
_CONTROL = 64
_CUT = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
"""A number, for the operators of enum.IntFlag take 0.4 µs each."""
_TRIES = 16
"""Calls that bring nothing but an error, one after the other, before the others have their turn."""

Arrival = tuple[int, int, int, int, Endpoint]


class Receiver:
    """Receives for one socket, which has UDP_GRO or not."""

    _last: ClassVar[Receiver | None] = None
    """Whose is what AREA holds."""

    def __init__(
        self, udp: socket.socket, addresses: Addresses, failures: Failures, *, has_gro: bool
    ) -> None:
        self._socket = udp
        self._addresses = addresses
        self._failures = failures
        self._slots = _make_slots(has_gro, addresses.raw_length)
        self._has_gro = has_gro
        self._most = _TRAINS if has_gro else _SINGLES
        """Asked for by the next system call."""
        self._arrivals: list[Arrival] = []
        """Received and not taken yet, the next one last."""
        self._is_drained = False
        """Whether the last system call could have brought more than it did."""

    @property
    def has_arrivals(self) -> bool:
        """Whether the last system call brought more than has been taken. That wakes nobody, and is
        lost when another socket receives."""
        return bool(self._arrivals)

    def receive_arrival(self) -> Arrival | None:
        """Datagrams of one source and one size, the last maybe shorter, in the order in which they
        came: `(offset, stride, size, length, source)`. They are in AREA, at `offset`, `offset +
        stride` and so on; the last ends at `offset + length`. None: nothing is left for now.

        They are there until the next call, on whatever socket. An empty datagram has size and
        length 0, and is alone.
        """
        if self._arrivals or self._fill():
            return self._arrivals.pop()
        return None

    def arrivals(self, budget: int) -> Iterator[Arrival]:
        """What `receive_arrival` would return, at least `budget` of them unless less has come, and
        all that a system call brought; none is left for `has_arrivals`. Each is there until the
        next one is asked for."""
        while self._arrivals or self._fill():
            yield self._arrivals.pop()
            budget -= 1
            if not self._arrivals and (self._is_drained or budget <= 0):
                return

    def _fill(self) -> bool:
        """Whether anything has been received."""
        last = Receiver._last
        if last is not self:
            if last is not None and last._arrivals:
                last._failures.counts["overwritten"] += len(last._arrivals)
                last._arrivals.clear()
            Receiver._last = self
        for _ in range(_TRIES):
            try:
                if not self._receive():
                    return False
            except OSError as error:
                if error.errno in REPORTED:  # of an earlier send: counted by read_errors
                    self._failures.has_queued = True
                    continue
                self._failures.count(error)
                if error.errno == errno.EBADF:
                    return False
                continue
            if self._arrivals:
                return True
        return False

    def _receive(self) -> bool:
        """False: nothing is there. What is cut is counted only. Raises OSError."""
        slots = self._slots
        if slots is None:
            return self._receive_one()
        count = slots.receive(self._socket.fileno(), self._most)
        self._is_drained = count < self._most
        if not count:
            return False
        if self._has_gro:
            self._note_trains(slots, count)
        else:
            self._note_singles(slots, count)
        return True

    def _note_trains(self, slots: Incoming, count: int) -> None:
        if not any(slots.control_lengths[:count]):
            # UDP_GRO found nothing to put together: no interface on the way does it. As one arrival
            # the frames of a train are opened together: 2.8 Gbit/s there, 1.1 with eight at a time.
            if count == self._most:
                self._most = min(2 * count, _SINGLES)
            self._note_singles(slots, count)
            return
        self._most = _TRAINS
        for i in range(count - 1, -1, -1):
            if slots.flags[i] & _CUT:
                self._failures.counts["MSG_TRUNC"] += 1
                continue
            length = slots.lengths[i]
            size = slots.control_numbers[i] if slots.control_lengths[i] else length
            source = self._addresses.raw_source(slots.name(i))
            self._arrivals.append((i * slots.stride, size, size, length, source))

    def _note_singles(self, slots: Incoming, count: int) -> None:
        if count == 1 and not slots.flags[0] & _CUT:
            length, source = slots.lengths[0], self._addresses.raw_source(slots.name(0))
            self._arrivals.append((0, slots.stride, length, length, source))
            return
        lengths = slots.lengths[:count].tolist()
        all_flags = slots.flags[:count].tolist()
        if any(all_flags):
            for i, flags in enumerate(all_flags):
                if flags & _CUT:
                    self._failures.counts["MSG_TRUNC"] += 1
                    lengths[i] = -1  # belongs to none of its neighbours
        names = slots.names(count)
        stride, i = slots.stride, 0
        while i < count:
            first, size, name = i, lengths[i], names[i]
            i += 1
            while i < count and lengths[i] == size and names[i] == name and size:
                i += 1
            if i < count and 0 < lengths[i] < size and names[i] == name:
                i += 1
            if size >= 0:
                length = (i - 1 - first) * stride + lengths[i - 1]
                source = self._addresses.raw_source(name)
                self._arrivals.append((first * stride, stride, size, length, source))
        self._arrivals.reverse()

    def _receive_one(self) -> bool:
        try:
            length, control, flags, address = self._socket.recvmsg_into(_WHOLE, _CONTROL)
        except BlockingIOError:
            return False
        if flags & _CUT:
            self._failures.counts["MSG_TRUNC"] += 1
            return True
        size = int.from_bytes(control[0][2][:4], sys.byteorder) if control else length
        self._arrivals.append((0, size, size, length, self._addresses.source(address)))
        return True


def copy_datagrams(arrival: Arrival) -> list[bytes]:
    """The datagrams of an arrival, the caller's."""
    offset, stride, size, length, _ = arrival
    if not length:
        return [b""]
    end = offset + length
    return [AREA[at : min(at + size, end)] for at in range(offset, end, stride)]


@cache
def _make_slots(has_gro: bool, name_length: int) -> Incoming | None:
    """For all sockets of a kind. None: the system has no recvmmsg."""
    width = _TRAIN if has_gro else _SINGLE
    try:
        slots = Incoming(AREA, _SINGLES, width, width + SLACK, name_length, has_control=has_gro)
        slots.receive(-1, 1)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            log.info("receiving datagrams one by one: %s", error)
            return None
    return slots
