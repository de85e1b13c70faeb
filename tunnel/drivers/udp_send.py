"""Datagrams out: a train with UDP_SEGMENT, or its datagrams with sendmmsg, and what waits while the
send buffer is full.

::

                  EAGAIN: copied                      flush: all sent
    sending  --------------------->  holding back  ------------------->  sending
                                     ^          |
                                     +----------+  transmit: copied too, or dropped if full

sendmmsg costs 0.6 of what sending a train of 45 datagrams one by one costs (loopback, by turns);
UDP_SEGMENT a twentieth.

What waits is little, and ENOBUFS, the queue of an interface is full, drops at once: losses are what
tells TCP inside the tunnel how fast the way is. Measured in the lab with 8 flows (Cubic) and a ping
beside them, median round trip in ms at the same throughput::

                                              20 Mbit/s,        50 Mbit/s,
                                              queue of 100 ms   long queue
    as here                                         119             144
    everything dropped                              119             152, and 1 ping in 10 lost
    ENOBUFS held back too                           208             138
    all held back, TUN not read meanwhile          2000             600 to 1000
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable
from functools import cache

from tunnel.core.machine import Buffer, Transmit
from tunnel.drivers.mmsg import Outgoing
from tunnel.drivers.udp_address import Addresses
from tunnel.drivers.udp_errors import REPORTED, SockAddress
from tunnel.drivers.udp_failures import Failures
from tunnel.drivers.udp_mtu import unfragmented

log = logging.getLogger(__name__)

UDP_SEGMENT = 103
"""<linux/udp.h>: not in Python's socket module."""
_HELD = 1 << 18
"""Bytes held back at most: half a turn's, and 40 ms at 50 Mbit/s."""
_ENTRY = 512
"""Bytes that each entry counts beside its data, as small ones cost more than that."""
_SIZES = 1024
"""Segment sizes for which control messages are kept."""

Control = list[tuple[int, int, bytes]]


class _HeldBack(Exception):
    """The send buffer is full."""

    def __init__(self, rest: Transmit) -> None:
        self.rest = rest
        """What is still to be sent."""


class Sender:
    """Sends for one socket. With `on_blocked` set, what does not fit into the send buffer is held
    back, and `on_blocked` is called when that begins; `flush` is then to be called when the socket
    is writable. Without, it is dropped."""

    def __init__(
        self, udp: socket.socket, addresses: Addresses, failures: Failures, *, has_gso: bool
    ) -> None:
        self.sends_trains = has_gso
        self.on_blocked: Callable[[], None] | None = None
        self._socket = udp
        self._addresses = addresses
        self._failures = failures
        self._outgoing = _make_outgoing()
        self._train_controls: dict[int, Control] = {}
        self._held: deque[Transmit] = deque()
        self._held_length = 0

    @property
    def is_blocked(self) -> bool:
        """Whether anything is held back."""
        return bool(self._held)

    def transmit(self, transmit: Transmit) -> bool:
        """Sends it, or holds it back; False if (a part of) it was dropped, which is counted. `data`
        is free again when this returns. A train the kernel does not take as one goes datagram by
        datagram."""
        if self._held:
            return self._hold_back(transmit)
        try:
            return self._send(transmit)
        except _HeldBack as blocked:
            return self._hold_back(blocked.rest)

    def flush(self) -> None:
        """Sends what is held back, as far as it gets, in order."""
        while self._held:
            transmit = self._held[0]
            try:
                self._send(transmit)
            except _HeldBack as blocked:
                self._held[0] = blocked.rest
                self._held_length -= len(transmit.data) - len(blocked.rest.data)
                return
            self._held.popleft()
            self._held_length -= len(transmit.data) + _ENTRY

    def _hold_back(self, transmit: Transmit) -> bool:
        if self.on_blocked is None:
            self._failures.counts["EAGAIN"] += _count_datagrams(transmit)
            return False
        length = len(transmit.data) + _ENTRY
        if self._held_length + length > _HELD:
            self._failures.counts["send queue full"] += _count_datagrams(transmit)
            return False
        is_first = not self._held
        self._held.append(transmit._replace(data=bytes(transmit.data)))
        self._held_length += length
        if is_first:
            self.on_blocked()
        return True

    def _send(self, transmit: Transmit) -> bool:
        """False if (a part of) it was dropped and counted. Raises _HeldBack."""
        if transmit.dont_fragment:
            return self._send_unfragmented(transmit)
        data, endpoint, size = transmit.data, transmit.endpoint, transmit.segment_size or 0
        address = self._addresses.destination(endpoint)
        if address is None:
            self._failures.counts["EAFNOSUPPORT"] += 1
            return False
        control = [] if transmit.ttl is None else [_ttl(endpoint.is_ipv6, transmit.ttl)]
        is_train = 0 < size < len(data)
        try:
            if not is_train:
                self._call(data, control, address)
                return True
            if self.sends_trains and size <= 0xFFFF:
                self._call(data, control + self._train_control(size), address)
                return True
        except OSError as error:
            if error.errno == errno.EAGAIN:
                raise _HeldBack(transmit) from error
            if not (is_train and self._should_send_singly(error)):
                self._failures.count(error)
                return False
        return self._send_singly(transmit, control, address)

    def _send_unfragmented(self, transmit: Transmit) -> bool:
        is_ipv6 = transmit.endpoint.is_ipv6
        try:
            with unfragmented(self._socket, is_ipv6=is_ipv6):
                is_sent = self._send(transmit._replace(dont_fragment=False))
        except _HeldBack as blocked:
            raise _HeldBack(blocked.rest._replace(dont_fragment=True)) from blocked
        except OSError as error:
            self._failures.count(error)
            return False
        if not is_sent:
            self._failures.refused.add(transmit.endpoint)
        return is_sent

    def _send_singly(self, transmit: Transmit, control: Control, address: SockAddress) -> bool:
        data, size = memoryview(transmit.data), transmit.segment_size
        assert size is not None
        at, is_all, is_repeated = 0, True, False
        while at < len(data):
            try:
                at += self._send_some(data[at:], size, control, address) * size
                is_repeated = False
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    raise _HeldBack(transmit._replace(data=data[at:])) from error
                if error.errno in REPORTED and not is_repeated:
                    # Most likely about an earlier datagram, and this one has not been tried.
                    self._failures.has_queued = is_repeated = True
                    continue
                self._failures.count(error)
                at += size
                is_all = is_repeated = False
        return is_all

    def _send_some(
        self, data: memoryview, size: int, control: Control, address: SockAddress
    ) -> int:
        """How many datagrams have been sent, one or more."""
        if self._outgoing is None or control:
            self._socket.sendmsg([data[:size]], control, 0, address)
            return 1
        name = self._addresses.raw_destination(address)
        return self._outgoing.send(self._socket.fileno(), data, size, name)

    def _call(self, data: Buffer, control: Control, address: SockAddress) -> None:
        for is_repeated in (False, True):
            try:
                if control:
                    self._socket.sendmsg([data], control, 0, address)
                else:
                    self._socket.sendto(data, address)
                return
            except OSError as error:
                if is_repeated or error.errno not in REPORTED:
                    raise
                # Most likely about an earlier datagram, and this one has not been tried.
                self._failures.has_queued = True

    def _train_control(self, size: int) -> Control:
        control = self._train_controls.get(size)
        if control is None:
            if len(self._train_controls) >= _SIZES:
                self._train_controls.clear()
            control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size))]
            self._train_controls[size] = control
        return control

    def _should_send_singly(self, error: OSError) -> bool:
        if error.errno in (errno.EINVAL, errno.EMSGSIZE):
            # A segment larger than the route's MTU: one by one they may be fragmented. Or more
            # segments than this kernel takes.
            self._failures.counts["train refused"] += 1
            return True
        if error.errno == errno.EIO:
            # A card without checksum offload (udp(7)), up to Linux 6.x. Nothing that is also in
            # REPORTED: whoever forges ICMP messages must not end trains for good.
            self.sends_trains = False
            port = self._socket.getsockname()[1]
            log.info("UDP port %d does without UDP_SEGMENT: %s", port, error)
            return True
        return False


def _count_datagrams(transmit: Transmit) -> int:
    size = transmit.segment_size or len(transmit.data)
    return max(1, -(-len(transmit.data) // max(1, size)))


def _ttl(is_ipv6: bool, ttl: int) -> tuple[int, int, bytes]:
    # On a dual-stack socket each family heeds its own message and ignores the other's.
    if is_ipv6:
        return (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("=i", ttl))
    return (socket.IPPROTO_IP, socket.IP_TTL, struct.pack("=i", ttl))


@cache
def _make_outgoing() -> Outgoing | None:
    """For all sockets. None: the system has no sendmmsg."""
    try:
        outgoing = Outgoing()
        outgoing.send(-1, memoryview(b"x"), 1, bytes(16))
    except OSError as error:
        if error.errno == errno.ENOSYS:
            log.info("sending datagrams one by one: %s", error)
            return None
    return outgoing
