"""A UDP port of one's own."""

from __future__ import annotations

import contextlib
import errno
import socket

from tunnel.drivers.bind_errors import explain
from tunnel.errors import UsageError


def open_port(host: str | None, port: int) -> socket.socket:
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
