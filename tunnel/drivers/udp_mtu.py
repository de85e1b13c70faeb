"""Whether a UDP socket's datagrams may be fragmented (ip(7) IP_MTU_DISCOVER, and ipv6(7))."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

# <linux/in.h>, <linux/in6.h>: not in Python's socket module
_IPV4 = (socket.IPPROTO_IP, 10)
_IPV6 = (socket.IPPROTO_IPV6, 23)
FRAGMENT = 0
"""IP_PMTUDISC_DONT: datagrams larger than the path are fragmented."""
PROBE = 3
"""IP_PMTUDISC_PROBE: don't-fragment is set and the kernel's opinion of the path MTU ignored."""
_OMIT = 5
"""IP_PMTUDISC_OMIT: as FRAGMENT, but this machine fragments at its interface's MTU only, not at
one it was told."""


def set_mtu_discovery(udp: socket.socket, mode: int) -> None:
    """For IPv4 and, where the socket has it, IPv6."""
    udp.setsockopt(*_IPV4, mode)
    if mode == FRAGMENT:
        # With IP_PMTUDISC_DONT the kernel keeps "fragmentation needed" to itself, and that comes
        # when the one datagram sent otherwise is long gone. IPv6 makes no such difference; there
        # OMIT would leave nobody to fragment: routers do not. Since Linux 3.14, not in sandboxes.
        with contextlib.suppress(OSError):
            udp.setsockopt(*_IPV4, _OMIT)
    if udp.family == socket.AF_INET6:
        udp.setsockopt(*_IPV6, mode)


@contextlib.contextmanager
def unfragmented(udp: socket.socket, *, is_ipv6: bool) -> Iterator[None]:
    """What is sent to that family meanwhile is in mode PROBE. Raises OSError if the socket is
    closed or has no such family."""
    # IPv4 heeds its own option on a dual-stack socket too.
    option = _IPV6 if is_ipv6 else _IPV4
    usual = udp.getsockopt(*option)
    udp.setsockopt(*option, PROBE)
    try:
        yield
    finally:
        udp.setsockopt(*option, usual)
