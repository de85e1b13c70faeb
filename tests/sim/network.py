"""The virtual internet: a clock, a queue of events, and the way of every datagram.

::

    internet = VirtualInternet(seed=1)
    server = internet.add_host("server", ports=(12345, 12346), machine=...)
    home = internet.add_router(Nat(Mapping.ENDPOINT_INDEPENDENT))
    a = internet.add_host("a", behind=home)
    a.start(machine)
    internet.run_for(60)

Time moves from event to event. The same seed and calls give the same run, datagram by datagram.
A link without delay is crossed at once; only the arrival at a host is always an event of its own,
so that a machine is never entered while it is being called.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

from tests.sim.host import Host, HostMachine, IcmpError, Interface
from tests.sim.topology import Direction, Link, Router, Segment, canonical
from tests.sim.trace import Describe, Trace, Why, wire_size
from tunnel.wire.endpoint import Endpoint

DEFAULT_TTL = 64
RouterT = TypeVar("RouterT", bound=Router)
End = Host | Endpoint | str | None
"""One end of a block: a host, an endpoint, an address, or everybody."""


class RunawayError(Exception):
    """More events than any sensible run has, or time does not move on."""


class _Datagram:
    __slots__ = (
        "aim",
        "data",
        "destination",
        "number",
        "port",
        "sender",
        "sent",
        "size",
        "source",
        "ttl",
    )

    def __init__(
        self,
        number: int,
        sender: Host,
        source: Endpoint,
        destination: Endpoint,
        data: bytes,
        ttl: int,
        sent: float,
    ) -> None:
        self.number = number
        self.sender = sender
        self.sent = sent
        self.source = source
        self.port = source.port
        self.destination = self.aim = destination
        self.data = data
        self.size = wire_size(data, destination)
        self.ttl = ttl

    def copy(self) -> _Datagram:
        twin = _Datagram(
            self.number, self.sender, self.source, self.destination, self.data, self.ttl, self.sent
        )
        twin.aim, twin.port = self.aim, self.port
        return twin


_Step = Callable[[_Datagram, Any], None]


class VirtualInternet:
    """Hosts, routers and links in virtual time."""

    def __init__(
        self,
        seed: int = 0,
        *,
        delay: float = 0.01,
        core_hops: int = 3,
        describe: Describe | None = None,
        max_events: int = 5_000_000,
    ) -> None:
        """`delay` is that of every link to the core or a carrier, one way, unless given; LAN links
        have none. A datagram that crosses the core has its TTL lowered by `core_hops`. A run of
        more than `max_events` raises RunawayError."""
        self.now = 0.0
        self.random = Random(seed)
        self.trace = Trace(describe)
        self.core = Segment("5.")
        self.hosts: dict[str, Host] = {}
        self.routers: dict[str, Router] = {}
        self.core_hops = core_hops
        self.max_events = max_events
        self._delay = delay
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._counter = 0
        self._datagrams = 0
        self._blocks: list[tuple[End, End]] = []
        # One object, to be recognised by identity in the queue.
        self._arrival: _Step = self._arrive

    # Building.

    def add_router(
        self,
        router: RouterT,
        name: str | None = None,
        *,
        behind: Router | None = None,
        address: str | None = None,
        prefix: str | None = None,
        link: Link | None = None,
    ) -> RouterT:
        """Puts a Nat, Firewall or plain Router between `behind` (None: the core) and a new LAN.
        `prefix` is how the LAN's addresses begin. A Nat without address gets one."""
        number = len(self.routers) + 1
        router.name = name or f"router{number}"
        if router.name in self.routers or router.name in self.hosts:
            raise ValueError(f"there is a {router.name} already")
        router.outside = self.core if behind is None else behind.inside
        router.link = link or Link(self._delay)
        router.random.seed(self.random.random())
        if prefix is None:
            prefix = f"192.168.{number}." if router.translates else f"2a00:{number:x}::"
        router.inside.prefix = prefix
        if behind is not None and behind.inside.is_unused_home:
            behind.inside.prefix = f"100.64.{number}."
        addresses = [address] if address is not None else router.addresses
        if router.translates and not addresses:
            addresses = [router.outside.new_address()]
        router.addresses = []
        router.change_address(*map(canonical, addresses))
        self.routers[router.name] = router
        return router

    def add_host(
        self,
        name: str,
        address: str | None = None,
        *,
        behind: Router | None = None,
        ports: Sequence[int] | None = None,
        link: Link | None = None,
        machine: HostMachine | None = None,
    ) -> Host:
        """A host on the core or on the LAN of a router; Host.attach gives it more addresses.
        Without `ports` it has one socket, on a random port."""
        if name in self.hosts or name in self.routers:
            raise ValueError(f"there is a {name} already")
        host = self.hosts[name] = Host(self, name, ports)
        self.attach(host, address, behind, link)
        if machine is not None:
            host.start(machine)
        return host

    def attach(
        self, host: Host, address: str | None, behind: Router | None, link: Link | None
    ) -> Interface:
        """See Host.attach."""
        segment = self.core if behind is None else behind.inside
        address = segment.new_address() if address is None else canonical(address)
        if link is None:
            link = Link(self._delay if behind is None else 0.0)
        interface = Interface(host, address, segment, link)
        segment.join(address, interface)
        host.interfaces.append(interface)
        return interface

    # Trouble.

    def block(self, source: End = None, destination: End = None) -> None:
        """From now on nothing gets from `source` to `destination` (one way): hosts, endpoints or
        addresses as seen on any segment on the way."""
        self._blocks.append((source, destination))

    def unblock(self, source: End = None, destination: End = None) -> None:
        """Takes back a block made with the same arguments."""
        self._blocks.remove((source, destination))

    def block_udp(self, host: Host) -> None:
        """The host's network lets no UDP through."""
        host.udp_blocked = True

    def unblock_udp(self, host: Host) -> None:
        host.udp_blocked = False

    # Running.

    def call_at(self, time: float, function: Callable[..., None], *arguments: Any) -> None:
        """Calls `function` at that virtual time."""
        self._counter += 1
        heapq.heappush(self._queue, (max(time, self.now), self._counter, function, arguments))

    def call_later(self, delay: float, function: Callable[..., None], *arguments: Any) -> None:
        self.call_at(self.now + delay, function, *arguments)

    def run_until(self, time: float) -> None:
        """Runs all events up to and including `time`."""
        self._run(time, None)

    def run_for(self, seconds: float) -> None:
        self._run(self.now + seconds, None)

    def run_until_true(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Runs until `condition()` holds; False if it does not within `timeout` seconds. It is
        tested first, and after every event."""
        return condition() or self._run(self.now + timeout, condition)

    def run_while(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Runs while `condition()` holds; False if it still does after `timeout` seconds."""
        return self.run_until_true(lambda: not condition(), timeout)

    def _run(self, end: float, condition: Callable[[], bool] | None) -> bool:
        queue = self._queue
        budget = self.max_events
        at_once = 0
        while queue and queue[0][0] <= end:
            time, _, function, arguments = heapq.heappop(queue)
            at_once = at_once + 1 if time == self.now else 0
            self.now = time
            budget -= 1
            if budget < 0 or at_once > self.max_events // 20:
                raise RunawayError(
                    f"at {time}: {getattr(function, '__self__', function)} {arguments}"
                )
            function(*arguments)
            if condition is not None and condition():
                return True
        self.now = max(self.now, end)
        return False

    # The way of a datagram.

    def send(
        self,
        host: Host,
        port: int,
        to: Endpoint,
        data: bytes,
        ttl: int | None,
        address: str | None = None,
    ) -> None:
        """A datagram leaves a host's socket, which may be bound to an address."""
        self._datagrams += 1
        bound = (i for i in host.interfaces if i.up and i.address == address)
        interface = next(bound, None) or _interface_towards(host, to.host)
        source = Endpoint(interface.address if interface else "", port)
        number = self._datagrams
        datagram = _Datagram(number, host, source, to, data, ttl or DEFAULT_TTL, self.now)
        self.trace.sent(self.now, self._datagrams, host.name, source, to, data)
        if interface is None:
            self._drop(datagram, host.name, Why.NO_ADDRESS)
        elif host.udp_blocked:
            self._drop(datagram, host.name, Why.UDP_BLOCKED)
        else:
            self._carry(datagram, interface.link.up, host.name, self._route, interface.segment)

    def _carry(
        self, datagram: _Datagram, direction: Direction, where: str, step: _Step, to: Any
    ) -> None:
        """Over one direction of a link, then `step`."""
        arrivals = direction.arrivals(datagram.size, self.now, self.random)
        if isinstance(arrivals, Why):
            self._drop(datagram, where, arrivals)
            if arrivals is Why.TOO_BIG and direction.reports_mtu:
                error = IcmpError(datagram.aim, direction.mtu, port=datagram.port)
                self.call_later(2 * self._delay, datagram.sender.receive_icmp, error)
            return
        twin = datagram.copy() if len(arrivals) > 1 else None
        for copy in (datagram,) if twin is None else (datagram, twin):
            if arrivals[0] > self.now or step is self._arrival:
                self.call_at(arrivals[0], step, copy, to)
            else:
                step(copy, to)

    def _route(self, datagram: _Datagram, segment: Segment) -> None:
        """A datagram is on a segment."""
        router = segment.router
        if router is None:
            if datagram.ttl <= self.core_hops:
                # Each hop has an address of its own: the first is 5.255.255.1.
                is_ipv6 = ":" in datagram.destination.host
                hop = f"2a00::{datagram.ttl}" if is_ipv6 else f"5.255.255.{datagram.ttl}"
                self._expire(datagram, "core", hop)
                return
            datagram.ttl -= self.core_hops
        member = segment.members.get(datagram.destination.host)
        if self._blocks and self._is_blocked(datagram, member):
            self._drop(datagram, router.name if router else "core", Why.BLOCKED)
        elif isinstance(member, Interface):
            self._carry(datagram, member.link.down, member.host.name, self._arrival, member)
        elif member is not None:
            self._carry(datagram, member.link.down, member.name, self._enter, member)
        elif router is not None and router.outside is not None:
            self._leave(datagram, router)
        else:
            self._drop(datagram, "core", Why.NO_ROUTE)

    def _leave(self, datagram: _Datagram, router: Router) -> None:
        """From inside to a router."""
        if not router.up:
            self._drop(datagram, router.name, Why.ROUTER_DOWN)
            return
        datagram.ttl -= 1
        if datagram.ttl < 1:
            self._expire(datagram, router.name, router.inside.gateway, router.answers_ttl)
            return
        turns_back = datagram.destination.host in router.addresses
        if turns_back and not getattr(router, "hairpin", False):
            self._drop(datagram, router.name, Why.NO_HAIRPIN)
            return
        external = router.outbound(datagram.source, datagram.destination, self.now)
        if isinstance(external, Why):
            self._drop(datagram, router.name, external)
            return
        datagram.source = external
        if turns_back:
            datagram.ttl += 1  # It is one hop all the same.
            self._enter(datagram, router)
        else:
            self._carry(datagram, router.link.up, router.name, self._route, router.outside)

    def _enter(self, datagram: _Datagram, router: Router) -> None:
        """From outside to a router. What it tracks, it tracks before it looks at the TTL."""
        if not router.up:
            self._drop(datagram, router.name, Why.ROUTER_DOWN)
            return
        inside = router.inbound(datagram.source, datagram.destination, self.now)
        if isinstance(inside, Why):
            self._drop(datagram, router.name, inside)
            return
        datagram.ttl -= 1
        if datagram.ttl < 1:
            answering = datagram.destination.host if router.translates else router.inside.gateway
            self._expire(datagram, router.name, answering, router.answers_ttl)
            return
        datagram.destination = inside
        if inside.host in router.inside.members:
            self._route(datagram, router.inside)
        else:
            self._drop(datagram, router.name, Why.NO_ROUTE)

    def _arrive(self, datagram: _Datagram, interface: Interface) -> None:
        """At a host. What arrives at the same moment from the same source is read together."""
        batch: list[bytes] = []
        local = self._deliver(datagram, interface)
        if local is None:
            return
        batch.append(datagram.data)
        queue = self._queue
        while queue and queue[0][0] == self.now and queue[0][2] is self._arrival:
            other, elsewhere = queue[0][3]
            if elsewhere is not interface or other.source != datagram.source:
                break
            if other.destination != datagram.destination:
                break
            heapq.heappop(queue)
            if self._deliver(other, interface) is not None:
                batch.append(other.data)
        interface.host.receive(batch, datagram.source, local)

    def _deliver(self, datagram: _Datagram, interface: Interface) -> int | None:
        """The number of the socket a datagram is for; None if it does not get there."""
        host, port = interface.host, datagram.destination.port
        why = None
        if host.udp_blocked:
            why = Why.UDP_BLOCKED
        elif host.is_suspended:
            why = Why.SUSPENDED
        elif interface not in host.interfaces or not interface.up:
            why = Why.NO_ROUTE
        else:
            for local, bound in host.sockets.items():
                address = host.bound.get(local, interface.address)
                if bound == port and address == interface.address:
                    self.trace.delivered(
                        self.now,
                        datagram.number,
                        host.name,
                        datagram.source,
                        datagram.destination,
                        datagram.data,
                    )
                    return local
        self._drop(datagram, host.name, why or Why.NO_SOCKET)
        return None

    def _is_blocked(self, datagram: _Datagram, member: Any) -> bool:
        for source, destination in self._blocks:
            if isinstance(source, Host):
                if datagram.sender is not source:
                    continue
            elif source not in (None, datagram.source, datagram.source.host):
                continue
            if isinstance(destination, Host):
                if self._reaches(datagram, member, destination):
                    return True
            elif destination in (None, datagram.destination, datagram.destination.host):
                return True
        return False

    def _reaches(self, datagram: _Datagram, member: Any, host: Host) -> bool:
        """Whether `member` is `host`, or a router that would hand the datagram to it."""
        to: Endpoint | None = datagram.destination
        while isinstance(member, Router) and to is not None:
            to = member.peek(datagram.source, to)
            member = member.inside.members.get(to.host) if to else None
        return isinstance(member, Interface) and member.host is host

    def _expire(self, datagram: _Datagram, where: str, router: str, answers: bool = True) -> None:
        """Its time to live is over at `router`, whose answer takes as long as the way there did."""
        self._drop(datagram, where, Why.TTL)
        if answers:
            error = IcmpError(datagram.aim, kind="time exceeded", router=router, port=datagram.port)
            self.call_later(self.now - datagram.sent, datagram.sender.receive_icmp, error)

    def _drop(self, datagram: _Datagram, where: str, why: Why) -> None:
        self.trace.dropped(
            self.now, datagram.number, where, datagram.source, datagram.destination, why
        )


def _interface_towards(host: Host, destination: str) -> Interface | None:
    """The interface on whose segment the destination is, else the first that is up."""
    is_ipv6 = ":" in destination
    usable = [i for i in host.interfaces if i.up and (":" in i.address) == is_ipv6]
    # RFC 6724 rules 3 and 7.
    usable.sort(key=lambda interface: (interface.is_deprecated, not interface.is_temporary))
    for interface in usable:
        if destination in interface.segment.members and interface.segment.router is not None:
            return interface
    return usable[0] if usable else None
