"""Plain UDP probes, for learning how a NAT of the lab behaves."""

from __future__ import annotations

import itertools
import socket
import time
from typing import Any, NamedTuple

from .conntrack import Endpoint
from .lab import Host, Lab, Router

SILENCE = 0.15
"""Seconds after which a datagram inside the lab, which takes microseconds, did not arrive."""

PATIENCE = 20.0
"""Seconds in which a datagram that must arrive does so, however busy the machine is."""

_numbers = itertools.count()


class Servers(NamedTuple):
    """Two machines; the first has two sockets. Together they tell mappings and filters apart."""

    first: socket.socket
    """203.0.113.10:3478"""
    same_host: socket.socket
    """203.0.113.10:3479"""
    other_host: socket.socket
    """203.0.113.11:3478"""


def make_servers(lab: Lab) -> Servers:
    """The two machines, with their sockets open."""
    a = lab.public_host("vps", "203.0.113.10", ipv6="2001:db8::10")
    b = lab.public_host("vps2", "203.0.113.11", ipv6="2001:db8::11")
    return Servers(
        a.udp_socket(3478, address=a.ip4),
        a.udp_socket(3479, address=a.ip4),
        b.udp_socket(3478, address=b.ip4),
    )


def where(opened: socket.socket) -> Endpoint:
    """The endpoint a socket is bound to."""
    address, port = opened.getsockname()[:2]
    return address, port


def seen(sender: socket.socket, receiver: socket.socket) -> Endpoint:
    """The source endpoint of a datagram from `sender`, as `receiver` sees it."""
    source = _exchange(sender, where(receiver), receiver, PATIENCE)
    if source is None:
        raise TimeoutError(f"nothing came from {where(sender)} to {where(receiver)}")
    return source


def arrives(sender: socket.socket, target: Endpoint, receiver: socket.socket) -> bool:
    """Whether a datagram sent to `target` comes out of `receiver`."""
    return _exchange(sender, target, receiver, PATIENCE) is not None


def is_dropped(sender: socket.socket, target: Endpoint, receiver: socket.socket) -> bool:
    """Whether a datagram sent to `target` does not come out of `receiver`."""
    return _exchange(sender, target, receiver, SILENCE) is None


def home_with_host(lab: Lab, **nat: Any) -> tuple[Router, Host]:
    """homeA, 198.51.100.7, with such a NAT, and a host in it."""
    home = lab.home_router("homeA", public="198.51.100.7", **nat)
    return home, home.host("pi")


def _exchange(
    sender: socket.socket, target: Endpoint, receiver: socket.socket, patience: float
) -> Endpoint | None:
    payload = b"probe %d" % next(_numbers)  # a late one of another probe is not taken for ours
    sender.sendto(payload, target)
    deadline = time.monotonic() + patience
    while (left := deadline - time.monotonic()) > 0:
        receiver.settimeout(left)
        try:
            data, source = receiver.recvfrom(64)
        except TimeoutError:
            return None
        if data == payload:
            return source[0], source[1]
    return None
