"""The UDP socket: trains out with UDP_SEGMENT, trains in with UDP_GRO, both where the kernel can.

Nothing a remote or the network does raises here. What could not be sent or received, or did not
arrive as far as ICMP told, is counted in :attr:`UdpSocket.errors` under its errno name.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import struct

from tunnel.core.machine import Buffer, Transmit
from tunnel.dataplane.train import split
from tunnel.drivers.bind_errors import explain
from tunnel.drivers.udp_address import Addresses
from tunnel.drivers.udp_errors import (
    REPORTED,
    SockAddress,
    enable_error_queue,
    read_error_queue,
)
from tunnel.drivers.udp_failures import Failures
from tunnel.drivers.udp_mtu import FRAGMENT, set_mtu_discovery, unfragmented
from tunnel.drivers.udp_receive import UDP_GRO, Receiver, copy_datagrams
from tunnel.errors import UsageError
from tunnel.wire.endpoint import Endpoint

log = logging.getLogger(__name__)

# <linux/udp.h>, <asm/socket.h>: not in Python's socket module
_UDP_SEGMENT = 103
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33

_BUFFER = 4 << 20
"""Bytes. A burst of 2 Gbit/s for 16 ms: a turn of the event loop and then some."""
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
        self._socket = _open(host, port)
        self._socket.setblocking(False)
        self.is_ipv6 = self._socket.family == socket.AF_INET6
        """Whether it reaches IPv6 endpoints as well."""
        self.port: int = self._socket.getsockname()[1]
        self._enlarge(_SO_RCVBUFFORCE, socket.SO_RCVBUF)
        self._enlarge(_SO_SNDBUFFORCE, socket.SO_SNDBUF)
        set_mtu_discovery(self._socket, mtu_discover)
        enable_error_queue(self._socket)
        self.sends_trains = gso and self._accepts("UDP_SEGMENT", _UDP_SEGMENT, 0)
        self.receives_trains = gro and self._accepts("UDP_GRO", UDP_GRO, 1)
        self._addresses = Addresses(is_ipv6=self.is_ipv6)
        self._receiver = Receiver(self._socket, self._addresses, self._failures)
        self.receive_arrival = self._receiver.receive_arrival
        self._refused: set[Endpoint] = set()
        """Where an unfragmented datagram could not even leave for since the error queue was
        empty."""
        self._expired: list[tuple[Endpoint, str]] = []

    @property
    def has_errors(self) -> bool:
        """Whether `read_errors` has something to read, as far as sending and receiving noticed."""
        return self._failures.has_queued

    def receive(self, budget: int) -> list[tuple[list[bytes], Endpoint]]:
        """What has arrived, in order: datagrams that arrived together and where they came from.

        At most `budget` entries, each up to 64 datagrams; fewer than `budget` entries do not
        mean that nothing is left. The datagrams are the caller's. An IPv6 link-local source loses
        its interface, so it cannot be answered.
        """
        arrivals: list[tuple[list[bytes], Endpoint]] = []
        while len(arrivals) < budget and (arrival := self.receive_arrival()) is not None:
            arrivals.append((copy_datagrams(arrival), arrival[4]))
        return arrivals

    def transmit(self, transmit: Transmit) -> bool:
        """Sends it; False if (a part of) it was dropped, which is counted. `data` is free again
        when this returns. A train the kernel does not take as one goes datagram by datagram."""
        if transmit.dont_fragment:
            return self._transmit_unfragmented(transmit)
        data, endpoint, size = transmit.data, transmit.endpoint, transmit.segment_size
        address = self._addresses.destination(endpoint)
        if address is None:
            self.errors["EAFNOSUPPORT"] += 1
            return False
        control = [] if transmit.ttl is None else [_ttl(endpoint, transmit.ttl)]
        if not size or len(data) <= size:
            return self._send(data, control, address)
        if self.sends_trains and size <= 0xFFFF:
            try:
                train = (socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("=H", size))
                self._call(data, [*control, train], address)
                return True
            except OSError as error:
                if not self._should_send_singly(error):
                    self._failures.count(error)
                    return False
        sent = [self._send(one, control, address) for one in split(memoryview(data), size)]
        return all(sent)

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
                refused = {other for other in self._refused if other.host == endpoint.host}
                self._refused -= refused
                told.update(dict.fromkeys((other, error.mtu) for other in sorted(refused)))
            else:
                self.errors[errno.errorcode.get(error.number, "EOTHER")] += 1
                told[endpoint, error.mtu] = None
        self._failures.has_queued = not is_all
        if is_all:
            self._refused.clear()
        return list(told)

    def take_time_exceeded(self) -> list[tuple[Endpoint, str]]:
        """What `read_errors` came across since the last call: where a datagram was going, and the
        address of the router at which its time to live ran out."""
        expired, self._expired = self._expired, []
        return expired

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def _send(
        self, data: Buffer, control: list[tuple[int, int, bytes]], address: SockAddress
    ) -> bool:
        try:
            self._call(data, control, address)
        except OSError as error:
            self._failures.count(error)
            return False
        return True

    def _call(
        self,
        data: Buffer,
        control: list[tuple[int, int, bytes]],
        address: SockAddress,
        *,
        is_repeated: bool = False,
    ) -> None:
        try:
            if control:
                self._socket.sendmsg([data], control, 0, address)
            else:
                self._socket.sendto(data, address)
        except OSError as error:
            if is_repeated or error.errno not in REPORTED:
                raise
            # Most likely about an earlier datagram, and this one has not been tried.
            self._failures.has_queued = True
            self._call(data, control, address, is_repeated=True)

    def _transmit_unfragmented(self, transmit: Transmit) -> bool:
        try:
            with unfragmented(self._socket, is_ipv6=transmit.endpoint.is_ipv6):
                is_sent = self.transmit(transmit._replace(dont_fragment=False))
        except OSError as error:
            self._failures.count(error)
            return False
        if not is_sent:
            self._refused.add(transmit.endpoint)
        return is_sent

    def _should_send_singly(self, error: OSError) -> bool:
        if error.errno in (errno.EINVAL, errno.EMSGSIZE):
            # A segment larger than the route's MTU: one by one they may be fragmented. Or more
            # segments than this kernel takes.
            self.errors["train refused"] += 1
            return True
        if error.errno == errno.EIO:
            # A card without checksum offload (udp(7)), up to Linux 6.x. Nothing that is also in
            # REPORTED: whoever forges ICMP messages must not end trains for good.
            self.sends_trains = False
            log.info("UDP port %d sends datagrams one by one: UDP_SEGMENT: %s", self.port, error)
            return True
        return False

    def _enlarge(self, force: int, option: int) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, force, _BUFFER)
        except OSError:  # not root: as much as net.core.[rw]mem_max allows
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER)

    def _accepts(self, name: str, option: int, value: int) -> bool:
        try:
            self._socket.setsockopt(socket.IPPROTO_UDP, option, value)
        except OSError as error:
            log.info("UDP port %d does without %s: %s", self.port, name, error)
            return False
        return True


def _open(host: str | None, port: int) -> socket.socket:
    """A bound socket. No SO_REUSEADDR: on UDP it lets two processes share, and steal from, a
    port."""
    is_any = host in (None, "", "::")
    families = [socket.AF_INET6, socket.AF_INET] if is_any else [_family(str(host))]
    for family in families:
        any_address = "::" if family == socket.AF_INET6 else "0.0.0.0"
        bound = None
        try:
            bound = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            bound.bind((any_address if is_any else host, port))
            return bound
        except OSError as error:
            if bound is not None:
                bound.close()
            missing = error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
            if missing and family != families[-1]:
                continue
            raise explain(error, "UDP", host, port, "--listen or --listen-port") from error
    raise AssertionError("families is not empty")


def _family(host: str) -> int:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            return family
    raise UsageError(f"cannot listen on {host!r}: it is no IP address")


def _ttl(endpoint: Endpoint, ttl: int) -> tuple[int, int, bytes]:
    # On a dual-stack socket each family heeds its own message and ignores the other's.
    if endpoint.is_ipv6:
        return (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("=i", ttl))
    return (socket.IPPROTO_IP, socket.IP_TTL, struct.pack("=i", ttl))
