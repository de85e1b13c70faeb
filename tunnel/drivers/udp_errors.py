"""What the network says about datagrams sent: the error queue of a UDP socket.

An entry quotes the datagram it is about and comes with a ``struct sock_extended_err`` (ip(7),
IP_RECVERR; <linux/errqueue.h>), in host byte order::

    0         4        5      6      7     8      12     16
    +---------+--------+------+------+-----+------+------+
    | errno   | origin | type | code | pad | info | data |     info: the MTU, where one was exceeded
    +---------+--------+------+------+-----+------+------+

followed by the ``sockaddr`` of who says so, the router (SO_EE_OFFENDER).
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import sys
from typing import NamedTuple

SockAddress = tuple[str, int] | tuple[str, int, int, int]

REPORTED = frozenset(
    {
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EMSGSIZE,
        errno.EACCES,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPROTO,
    }
)
"""What ICMP messages become (Linux: icmp_err_convert, icmpv6_err_convert). The kernel also fails
the next call on the socket with it, whatever that call is about."""

# <linux/in.h>, <linux/in6.h>, <linux/errqueue.h>: not in Python's socket module
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_LOCAL, _ICMP, _ICMPV6 = 1, 2, 3
_SOCK_EXTENDED_ERR = struct.Struct("=IBBBxII")
_CONTROL = 128
"""Bytes: two such messages with a sockaddr_in6 each."""

# RFC 792, RFC 1191 section 4, RFC 4443 sections 3.1 and 3.2
_ICMP_UNREACHABLE, _ICMP_TOO_LARGE = 3, 4
_ICMPV6_UNREACHABLE, _ICMPV6_TOO_LARGE = 1, 2
_ICMP_TIME_EXCEEDED, _ICMPV6_TIME_EXCEEDED = 11, 3
_IN_TRANSIT = 0
"""Code of a time to live that ran out; the other one is about fragments (RFC 792, RFC 4443 3.3)."""


class SendError(NamedTuple):
    """Why a datagram did not arrive."""

    address: SockAddress
    """Where it was sent. The kernel leaves out the port if `is_local` and IPv4."""
    number: int
    """The errno."""
    mtu: int | None
    """Bytes, IP header included: what it was too large for. None: there is no way there."""
    is_local: bool
    """Whether this machine's own interface refused it, so that sending it failed as well."""
    router: str | None = None
    """Where its time to live ran out, if that is the reason."""


def enable_error_queue(udp: socket.socket) -> None:
    """Have errors queued from now on. Somebody has to read them: they fill the receive buffer.

    Sending fails with ENOBUFS from now on where the interface's queue drops, which the kernel
    otherwise keeps to itself.
    """
    with contextlib.suppress(OSError):  # a sandbox without it sends and receives all the same
        udp.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        if udp.family == socket.AF_INET6:
            udp.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)


def read_error_queue(udp: socket.socket, budget: int) -> tuple[list[SendError], bool]:
    """The entries that tell of a destination, an MTU or where a time to live ran out, `budget`
    system calls at most, and whether that was all."""
    errors: list[SendError] = []
    for _ in range(budget):
        try:
            _, control, _, address = udp.recvmsg(0, _CONTROL, socket.MSG_ERRQUEUE)
        except OSError:  # EAGAIN; or the socket is closed
            return errors, True
        error = _parse(control, address)
        if error is not None:
            errors.append(error)
    return errors, False


def _parse(control: list[tuple[int, int, bytes]], address: SockAddress) -> SendError | None:
    for level, kind, data in control:
        is_error = (level, kind) in (
            (socket.IPPROTO_IP, _IP_RECVERR),
            (socket.IPPROTO_IPV6, _IPV6_RECVERR),
        )
        if not is_error or len(data) < _SOCK_EXTENDED_ERR.size:
            continue
        number, origin, type_, code, info, _ = _SOCK_EXTENDED_ERR.unpack_from(data)
        if origin == _LOCAL:
            is_too_large, is_unreachable = number == errno.EMSGSIZE, False
        elif origin == _ICMP:
            is_too_large = (type_, code) == (_ICMP_UNREACHABLE, _ICMP_TOO_LARGE)
            is_unreachable = type_ == _ICMP_UNREACHABLE and not is_too_large
        else:
            is_too_large = origin == _ICMPV6 and type_ == _ICMPV6_TOO_LARGE
            is_unreachable = origin == _ICMPV6 and type_ == _ICMPV6_UNREACHABLE
        is_expired = (origin, type_, code) in (
            (_ICMP, _ICMP_TIME_EXCEEDED, _IN_TRANSIT),
            (_ICMPV6, _ICMPV6_TIME_EXCEEDED, _IN_TRANSIT),
        )
        router = _offender(data[_SOCK_EXTENDED_ERR.size :]) if is_expired else None
        if router is not None:
            return SendError(address, number, None, False, router)
        # Routers older than RFC 1191 leave the MTU 0, which tells nothing.
        if is_unreachable or (is_too_large and info > 0):
            return SendError(address, number, info if is_too_large else None, origin == _LOCAL)
    return None


def _offender(data: bytes) -> str | None:
    """The address in a ``sockaddr_in`` (at 4) or ``sockaddr_in6`` (at 8)."""
    family = int.from_bytes(data[:2], sys.byteorder)
    if family == socket.AF_INET and len(data) >= 8:
        return socket.inet_ntop(socket.AF_INET, data[4:8])
    if family == socket.AF_INET6 and len(data) >= 24:
        return socket.inet_ntop(socket.AF_INET6, data[8:24]).removeprefix("::ffff:")
    return None
