"""How many routers lie before the first public address, as traceroute finds out.

Tiny datagrams with a time to live of 1, 2, 3, … go towards the server; the router at which one dies
says so (ICMP time exceeded, RFC 792). From that follow the time to live of an *opener*, a datagram
that shall open our own NATs and reach nobody, and whether a second NAT stands before us.

    =========  ====================================  ==========================================
    state      meaning                               left by
    =========  ====================================  ==========================================
    idle       nothing asked, or all is known        ``restart`` → asking
    asking     a datagram is on its way to hop n     a router answers, or ``TRIES`` in vain →
                                                     hop n + 1; a public router, or hop
                                                     ``MAX_HOPS`` → idle
    =========  ====================================  ==========================================

Anybody can forge an ICMP message. It costs a wrong time to live, between 2 and 8.
"""

from __future__ import annotations

import ipaddress

from tunnel.core.candidates import is_public
from tunnel.core.machine import Transmit
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.feeler import Feeler

MAX_HOPS = 8
"""Nobody is known to have more routers before the first public one: LAN, carrier's access network
and its NAT take two to five."""
MIN_OPENER_TTL = 2
FALLBACK_TTL = 4
"""Where no router answers: across the router at home and two of the carrier's. Others take 5
(Hyperswarm, EasyTier), which now and then reaches the NAT of a near peer."""
PATIENCE = 0.5
"""Seconds for a router to answer; those that matter are the nearest ones."""
TRIES = 2

CARRIER_NAT = ipaddress.IPv4Network("100.64.0.0/10")
"""RFC 6598: for the network between a carrier's NAT and its subscribers, and nothing else."""


class HopDiscovery:
    def __init__(self, local: int) -> None:
        """`local`: the socket to use, one that carries nothing else."""
        self.routers: tuple[str, ...] = ()
        """Addresses of the routers heard from, the nearest first; "" for a silent one."""
        self.is_complete = False
        """Whether as much is known as there is to know."""
        self._local = local
        self._target: Endpoint | None = None
        self._tries = 0
        self._at: float | None = None
        self._transmits: list[Transmit] = []

    # What the owner asks

    @property
    def opener_ttl(self) -> int:
        """The time to live with which a datagram crosses all our own NATs and dies right after."""
        return _reckon_opener_ttl(self.routers)

    def evidence(self) -> list[str]:
        """Sentences about NATs beyond our own router."""
        found = []
        for number, router in enumerate(self.routers, 1):
            if router in ("", *self.routers[: number - 1]) or _is_public(router):
                continue
            if _is_carriers(router):
                found.append(f"router {number} is {router}: a carrier-grade NAT stands before us")
            elif number > 1:
                found.append(f"router {number} is {router}: a second NAT, or a second private LAN")
        return found

    @property
    def has_carrier_nat(self) -> bool:
        """Whether a router beyond the first still has a private address, or one of RFC 6598's."""
        return bool(self.evidence())

    @property
    def is_behind_carrier(self) -> bool:
        """Whether a router has an address that only carriers use between their NAT and us."""
        return any(router and _is_carriers(router) for router in self.routers)

    # Commands

    def restart(self, target: Endpoint, now: float) -> None:
        """Find out anew, at start and when the network has changed. IPv4 only."""
        self.stop()
        if not target.is_ipv6:
            self._target = target
            self.is_complete = False
            self._ask(now)

    def stop(self) -> None:
        """Forget what is known."""
        self.routers = ()
        self.is_complete = True
        self._target, self._at, self._tries = None, None, 0
        self._transmits.clear()

    def take_transmits(self) -> list[Transmit]:
        transmits, self._transmits = self._transmits, []
        return transmits

    # From the network

    def receive(self, endpoint: Endpoint, router: str, now: float, local: int) -> None:
        """A datagram of ours to `endpoint` died at `router`, somebody says."""
        if endpoint != self._target or local != self._local:
            return
        try:
            ipaddress.ip_address(router)
        except ValueError:
            return
        self._note(router, now)

    # The clock

    def get_timer(self) -> float | None:
        return self._at

    def handle_timer(self, now: float) -> None:
        if self._at is None or now < self._at:
            return
        if self._tries < TRIES:
            self._ask(now)
        else:
            self._note("", now)

    def _ask(self, now: float) -> None:
        assert self._target is not None
        hop = len(self.routers) + 1
        self._transmits.append(Transmit(Feeler().pack(), self._target, local=self._local, ttl=hop))
        self._tries += 1
        self._at = now + PATIENCE

    def _note(self, router: str, now: float) -> None:
        self.routers += (router,)
        self._tries = 0
        if (router and _is_public(router)) or len(self.routers) >= MAX_HOPS:
            while self.routers and not self.routers[-1]:
                self.routers = self.routers[:-1]
            self._target, self._at = None, None
            self.is_complete = True
        else:
            self._ask(now)


def _reckon_opener_ttl(routers: tuple[str, ...]) -> int:
    for number, router in enumerate(routers, 1):
        if router and _is_public(router):
            return min(max(number, MIN_OPENER_TTL), MAX_HOPS)
    last = max((n for n, router in enumerate(routers, 1) if router), default=0)
    return min(max(last + 1, FALLBACK_TTL), MAX_HOPS)


def _is_public(router: str) -> bool:
    return is_public(ipaddress.ip_address(router))


def _is_carriers(router: str) -> bool:
    return ipaddress.ip_address(router) in CARRIER_NAT
