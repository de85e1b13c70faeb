"""What the internet is made of: links, segments, and routers between two segments.

::

    host ──link── segment (LAN) ──router──link── segment (carrier) ──router──link── segment (core)

A segment delivers to the addresses it knows and hands everything else to its router, upwards. The
core has no router. A router that does not translate announces what is inside to its outside.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.sim.trace import Why
from tunnel.wire.endpoint import Endpoint


@dataclass(slots=True)
class Direction:
    """One direction of a link. Everything may be changed at any time; it holds for datagrams that
    enter from then on."""

    delay: float = 0.0
    """One way, in seconds."""
    jitter: float = 0.0
    """Up to this much is added, uniformly; the order is kept, if `in_order`."""
    in_order: bool = True
    loss: float = 0.0
    """Probability."""
    reorder: float = 0.0
    """Probability that a datagram is held back by `reorder_by` while later ones overtake it."""
    reorder_by: float = 0.01
    duplicate: float = 0.0
    """Probability that a second copy arrives."""
    mtu: int = 1500
    """Longest IP packet; a longer one vanishes."""
    reports_mtu: bool = False
    """Whether its sender hears of that by ICMP."""
    up: bool = True
    _last: float = field(default=0.0, repr=False)

    def arrivals(self, size: int, now: float, random: Random) -> tuple[float, ...] | Why:
        """When a datagram that enters now comes out: once, or twice; or why it does not."""
        if not self.up:
            return Why.LINK_DOWN
        if size > self.mtu:
            return Why.TOO_BIG
        if self.loss and random.random() < self.loss:
            return Why.LOSS
        arrival = now + self.delay
        if self.jitter:
            arrival += random.random() * self.jitter
        if self.reorder and random.random() < self.reorder:
            arrival += self.reorder_by
        elif self.in_order:
            arrival = self._last = max(arrival, self._last)
        if self.duplicate and random.random() < self.duplicate:
            return (arrival, arrival)
        return (arrival,)


class Link:
    """What a host or router hangs on: `up` leads towards the core, `down` away from it."""

    __slots__ = ("down", "up")

    def __init__(self, delay: float = 0.0, **properties: Any) -> None:
        """`delay` and the other fields of :class:`Direction`, for both directions."""
        self.up = Direction(delay, **properties)
        self.down = Direction(delay, **properties)

    def set(self, **properties: Any) -> None:
        """Changes fields of both directions."""
        for direction in (self.up, self.down):
            for name, value in properties.items():
                if name not in Direction.__dataclass_fields__:
                    raise TypeError(f"a link has no {name!r}")
                setattr(direction, name, value)


class Segment:
    """Addresses that reach each other without a router."""

    def __init__(self, prefix: str, router: Router | None = None) -> None:
        self.prefix = prefix
        """How addresses given out here begin, e.g. "192.168.1." or "2a00:1::"."""
        self.router = router
        self.members: dict[str, Any] = {}
        """An address' owner: a host's Interface or a Router."""
        self._given = 0

    @property
    def is_unused_home(self) -> bool:
        """Whether its prefix may still become a carrier's, because a router is put behind it."""
        return not self.members and self.prefix.startswith("192.168.")

    def new_address(self) -> str:
        """A free address of this segment."""
        while True:
            self._given += 1
            free_bytes = 4 - self.prefix.count(".")
            if ":" in self.prefix:
                tail = f"{self._given:x}"
            elif self._given <= 254 * 256 ** (free_bytes - 1):
                tail = ".".join(_digits(self._given, free_bytes))
            else:
                raise ValueError(f"{self.prefix} is full")
            address = canonical(self.prefix + tail)
            if address not in self.members and address != self.gateway:
                return address

    @property
    def gateway(self) -> str:
        """The address of the router here. No one else is given it."""
        if ":" in self.prefix:
            return canonical(f"{self.prefix}ffff")
        return self.prefix + "0." * (3 - self.prefix.count(".")) + "254"

    def join(self, address: str, member: Any) -> None:
        """Makes `member` the owner of `address` here, and outside wherever that is announced."""
        if self.members.get(address, member) is not member:
            raise ValueError(f"{address} is taken")
        self.members[address] = member
        if self.router is not None and not self.router.translates and self.router.outside:
            self.router.outside.join(address, self.router)

    def leave(self, address: str) -> None:
        del self.members[address]
        if self.router is not None and not self.router.translates and self.router.outside:
            self.router.outside.leave(address)


class Router:
    """A hop between an inside and an outside segment. This one forwards everything unchanged;
    subclasses translate or filter. It is no part of a network until VirtualInternet.add_router."""

    translates = False

    def __init__(self, *, answers_ttl: bool = True) -> None:
        self.name = ""
        self.answers_ttl = answers_ttl
        """Whether it tells (ICMP) the sender of a datagram whose time to live it ended."""
        self.up = True
        """A router that is down forwards nothing."""
        self.addresses: list[str] = []
        """Its own addresses outside."""
        self.link = Link()
        """The outside link."""
        self.outside: Segment | None = None
        self.inside = Segment("192.168.1.", self)
        self.random = Random(0)

    def outbound(self, source: Endpoint, destination: Endpoint, now: float) -> Endpoint | Why:
        """The source a datagram from inside shows outside."""
        return source

    def inbound(self, source: Endpoint, destination: Endpoint, now: float) -> Endpoint | Why:
        """Where inside a datagram from outside goes."""
        return destination

    def peek(self, source: Endpoint, destination: Endpoint) -> Endpoint | None:
        """Whom inside `destination` belongs to, changing nothing."""
        return destination

    def change_address(self, *addresses: str) -> None:
        """Gives the router other outside addresses."""
        if self.outside is not None:
            for old in self.addresses:
                self.outside.leave(old)
            for new in addresses:
                self.outside.join(new, self)
        self.addresses = list(addresses)


def canonical(address: str) -> str:
    """`address` in the text form endpoints use. ValueError if it is none."""
    return str(ipaddress.ip_address(address))


def _digits(number: int, count: int) -> list[str]:
    """The low `count` bytes of an IPv4 address, none of them 0 or 255 at the end."""
    high, low = divmod(number - 1, 254)
    parts = [low + 1]
    for _ in range(count - 1):
        high, low = divmod(high, 256)
        parts.append(low)
    return [str(part) for part in reversed(parts)]
