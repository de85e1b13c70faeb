"""The UDP socket: trains out with UDP_SEGMENT, trains in with UDP_GRO, both where the kernel can.

Nothing a remote or the network does raises here. What could not be sent or received, or did not
arrive as far as ICMP told, is counted in :attr:`UdpSocket.errors` under its errno name.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import socket
import struct
from collections.abc import Callable

from tunnel.drivers.udp_address import Addresses
from tunnel.drivers.udp_errors import (
    enable_error_queue,
    read_error_queue,
)
from tunnel.drivers.udp_failures import Failures
from tunnel.drivers.udp_mtu import FRAGMENT, set_mtu_discovery
from tunnel.drivers.udp_open import open_port
from tunnel.drivers.udp_receive import UDP_GRO, Receiver, copy_datagrams
from tunnel.drivers.udp_send import UDP_SEGMENT, Sender
from tunnel.wire.endpoint import Endpoint

log = logging.getLogger(__name__)

# <asm/socket.h>: not in Python's socket module
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27

_RECEIVE_BUFFER = 4 << 20
"""Bytes. A burst of 2 Gbit/s for 16 ms: a turn of the event loop and then some."""
_SEND_BUFFER = 1 << 19
"""Bytes. What the interface does not take at once waits here, and whoever sends next with it: 80 ms
at 50 Mbit/s, where 4 MiB were a second. What does not fit is held back and not lost."""
_FPROG = struct.Struct("@HP")
"""``struct sock_fprog``: how many instructions, and where they are."""
_ERRORS = 64
"""Entries of the error queue read at a time."""


class UdpSocket:
    """One UDP port. Non-blocking, never connected, watched by its `fileno()`."""

    def __init__(
        self,
        host: str | None,
        port: int,
        *,
        mtu_discover: int = FRAGMENT,
        gso: bool = True,
        gro: bool = True,
    ) -> None:
        """`host` None or "::" takes IPv4 and IPv6, IPv4 alone where the machine has no IPv6.
        `port` 0 takes a free one. `gso` False does without UDP_SEGMENT, `gro` False without
        UDP_GRO. Raises OperatorError if the port is not to be had."""
        self._failures = Failures()
        self.errors = self._failures.counts
        """How often what went wrong, by errno name."""
        self._socket = open_port(host, port)
        self._socket.setblocking(False)
        self.is_ipv6 = self._socket.family == socket.AF_INET6
        """Whether it reaches IPv6 endpoints as well."""
        self.port: int = self._socket.getsockname()[1]
        self._set_buffer(_SO_RCVBUFFORCE, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._set_buffer(_SO_SNDBUFFORCE, socket.SO_SNDBUF, _SEND_BUFFER)
        set_mtu_discovery(self._socket, mtu_discover)
        enable_error_queue(self._socket)
        has_gso = gso and self._accepts("UDP_SEGMENT", UDP_SEGMENT, 0)
        self.receives_trains = gro and self._accepts("UDP_GRO", UDP_GRO, 1)
        self._addresses = Addresses(is_ipv6=self.is_ipv6)
        self._receiver = Receiver(
            self._socket, self._addresses, self._failures, has_gro=self.receives_trains
        )
        self._sender = Sender(self._socket, self._addresses, self._failures, has_gso=has_gso)
        self.transmit, self.flush = self._sender.transmit, self._sender.flush
        self.receive_arrival = self._receiver.receive_arrival
        self.arrivals = self._receiver.arrivals
        self._expired: list[tuple[Endpoint, str]] = []

    @property
    def has_errors(self) -> bool:
        """Whether `read_errors` has something to read, as far as sending and receiving noticed."""
        return self._failures.has_queued

    def receive(self, budget: int) -> list[tuple[list[bytes], Endpoint]]:
        """What has arrived, in order: datagrams that arrived together and where they came from.

        `budget` entries and what came with the last one; fewer do not mean that nothing is left.
        The datagrams are the caller's. An IPv6 link-local source loses its interface, so it cannot
        be answered.
        """
        return [(copy_datagrams(arrival), arrival[4]) for arrival in self.arrivals(budget)]

    @property
    def has_arrivals(self) -> bool:
        """See :attr:`Receiver.has_arrivals`."""
        return self._receiver.has_arrivals

    @property
    def sends_trains(self) -> bool:
        """Whether a train is one system call."""
        return self._sender.sends_trains

    @property
    def is_blocked(self) -> bool:
        """Whether datagrams wait for room in the send buffer, see `call_when_blocked`."""
        return self._sender.is_blocked

    def call_when_blocked(self, callback: Callable[[], None]) -> None:
        """From now on hold back what does not fit into the send buffer, 256 KiB of it, in order,
        and call `callback` when that begins. `flush` is then to be called when the socket is
        writable, until it is not `is_blocked` any more. (Otherwise what does not fit is
        dropped.)"""
        self._sender.on_blocked = callback

    def read_errors(self) -> list[tuple[Endpoint, int | None]]:
        """What the network has told of datagrams sent: where one was sent that did not arrive,
        and the MTU in bytes, IP header included, that it was too large for (of the next hop, or
        of the interface it should have left by). None: that endpoint is unreachable.

        Each once, from at most 64 messages; `fileno()` is readable as long as there are more.
        Anybody can forge them. A time to live that ran out is not among them, see
        `take_time_exceeded`.
        """
        told: dict[tuple[Endpoint, int | None], None] = {}
        errors, is_all = read_error_queue(self._socket, _ERRORS)
        for error in errors:
            endpoint = self._addresses.source(error.address)
            if error.router is not None:
                self._expired.append((endpoint, error.router))
            elif error.is_local:  # counted when it could not be sent
                refused = {other for other in self._failures.refused if other.host == endpoint.host}
                self._failures.refused -= refused
                told.update(dict.fromkeys((other, error.mtu) for other in sorted(refused)))
            else:
                self.errors[errno.errorcode.get(error.number, "EOTHER")] += 1
                told[endpoint, error.mtu] = None
        self._failures.has_queued = not is_all
        if is_all:
            self._failures.refused.clear()
        return list(told)

    def take_time_exceeded(self) -> list[tuple[Endpoint, str]]:
        """What `read_errors` came across since the last call: where a datagram was going, and the
        address of the router at which its time to live ran out."""
        expired, self._expired = self._expired, []
        return expired

    def set_sieve(self, program: bytes | None) -> None:
        """From now on the kernel drops what the program (`wire.sieve.pack_program`) does not let
        through, before it takes up room in the receive buffer. None: nothing. If the kernel refuses
        it, everything is read."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        if program is None:
            return
        held = ctypes.create_string_buffer(program, len(program))
        described = _FPROG.pack(len(program) // 8, ctypes.addressof(held))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
        except OSError as error:
            self._failures.count(error)
            log.warning("UDP port %d reads everything: %s", self.port, error)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def _set_buffer(self, force: int, option: int, size: int) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, force, size)
        except OSError:  # not root: as much as net.core.[rw]mem_max allows
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, option, size)

    def _accepts(self, name: str, option: int, value: int) -> bool:
        try:
            self._socket.setsockopt(socket.IPPROTO_UDP, option, value)
        except OSError as error:
            log.info("UDP port %d does without %s: %s", self.port, name, error)
            return False
        return True
