"""NATs and firewalls by the behaviours of RFC 4787, and as measured on Linux (the numbers are those
of "NATs as measured" in docs/nat-traversal.md).

A *mapping* ties an inside endpoint to an external one; which destinations share it is the mapping
behaviour. A *session* is one mapping and one remote: it is what Linux calls a conntrack entry, what
filtering looks at, and what times out. A mapping lives as long as one of its sessions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import IntEnum
from random import Random
from typing import NamedTuple

from tests.sim.ports import Allocation, PortAllocator
from tests.sim.topology import Router
from tests.sim.trace import Why
from tunnel.wire.endpoint import Endpoint


class Mapping(IntEnum):
    """Which destinations share an external endpoint (RFC 4787 section 4.1)."""

    ENDPOINT_INDEPENDENT = 0
    ADDRESS_DEPENDENT = 1
    ADDRESS_AND_PORT_DEPENDENT = 2


class Filtering(IntEnum):
    """Whose datagrams come in at a mapping (RFC 4787 section 5)."""

    ENDPOINT_INDEPENDENT = 0
    ADDRESS_DEPENDENT = 1
    ADDRESS_AND_PORT_DEPENDENT = 2


class Pooling(IntEnum):
    """Which of several external addresses a mapping gets (RFC 4787 section 4.1)."""

    PAIRED = 0
    """The same for all mappings of an inside host."""
    ARBITRARY = 1


class SessionView(NamedTuple):
    """A session, for whoever looks at the table."""

    inside: Endpoint
    external: Endpoint
    remote: Endpoint
    expires: float
    """Seconds left."""
    replied: bool
    stream: bool
    """`stream_timeout` applies."""


class _Session:
    __slots__ = ("created", "replied", "seen", "stream")

    def __init__(self, now: float) -> None:
        self.created = self.seen = now
        self.replied = self.stream = False


class _PortMapping:
    __slots__ = ("external", "forwarded", "hosts", "inside", "key", "sessions")

    def __init__(self, inside: Endpoint, external: Endpoint, key: object) -> None:
        self.inside = inside
        self.external = external
        self.key = key
        self.forwarded = False
        self.sessions: dict[Endpoint, _Session] = {}
        self.hosts: Counter[str] = Counter()


class Nat(Router):
    """Translates and filters. Usable alone (for tests of its own) or in a VirtualInternet."""

    translates = True

    def __init__(
        self,
        mapping: Mapping = Mapping.ENDPOINT_INDEPENDENT,
        filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT,
        allocation: Allocation = Allocation.RANDOM,
        *,
        block_size: int = 512,
        mapping_timeout: float = 30.0,
        stream_timeout: float = 120.0,
        stream_after: float = 2.0,
        inbound_refresh: bool = False,
        hairpin: bool = False,
        tracks_unsolicited: bool = False,
        shares_ports: bool = False,
        max_mappings: int = 65536,
        answers_ttl: bool = True,
        pooling: Pooling = Pooling.PAIRED,
        addresses: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        """`mapping_timeout` holds for a session until traffic was seen both ways and still flows
        out `stream_after` seconds after its start; from then on, `stream_timeout`. Inbound traffic
        refreshes only with `inbound_refresh`. With `tracks_unsolicited` a datagram that is let in
        to nobody occupies its external port towards its source, so that a later outbound session
        gets another port (measured, 2). With `shares_ports` an external port is unique per remote
        only, as on Linux (NATs as measured, 6). `max_mappings` limits the entries of the table."""
        super().__init__(answers_ttl=answers_ttl)
        self.mapping = mapping
        self.filtering = filtering
        self.allocation = allocation
        self.mapping_timeout = mapping_timeout
        self.stream_timeout = stream_timeout
        self.stream_after = stream_after
        self.inbound_refresh = inbound_refresh
        self.hairpin = hairpin
        self.tracks_unsolicited = tracks_unsolicited
        self.shares_ports = shares_ports
        self.max_mappings = max_mappings
        self.pooling = pooling
        self.addresses = list(addresses)
        self.peak_entries = 0
        self.random = Random(seed)
        self.ports = PortAllocator(allocation, block_size, self.random)
        self._paired: dict[str, int] = {}
        self._sessions = 0
        self._next_purge = float("inf")
        self._mappings: dict[object, _PortMapping] = {}
        self._by_external: dict[Endpoint, list[_PortMapping]] = {}
        self._owners: dict[tuple[Endpoint, Endpoint], _PortMapping] = {}
        self._unsolicited: dict[tuple[Endpoint, Endpoint], float] = {}

    @classmethod
    def linux(
        cls, filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT, *, drops: bool = True
    ) -> Nat:
        """nftables masquerade as measured; `drops`: whether INPUT drops what nobody asked for."""
        return cls(
            Mapping.ENDPOINT_INDEPENDENT,
            filtering,
            Allocation.PRESERVING,
            inbound_refresh=True,
            tracks_unsolicited=not drops,
            shares_ports=True,
        )

    # What the network calls.

    def outbound(self, source: Endpoint, destination: Endpoint, now: float) -> Endpoint | Why:
        self._purge(now)
        static = self._mappings.get((source, None))
        if static is not None and static.forwarded and destination in static.sessions:
            # Who came in by the forwarded port is answered from it.
            self._refresh(static.sessions[destination], now)
            return static.external
        key = self._key(source, destination)
        exact = (source, destination)
        mapping = self._mappings.get(exact) or self._mappings.get(key)
        if mapping is not None and (session := mapping.sessions.get(destination)) is not None:
            self._refresh(session, now)
            return mapping.external
        if self.entries >= self.max_mappings:
            return Why.TABLE_FULL
        if mapping is not None and self._is_taken(mapping.external, destination):
            mapping, key = None, exact
        if mapping is None:
            external = self._allocate(source, destination)
            if external is None:
                return Why.PORTS_EXHAUSTED
            mapping = self._add_mapping(source, external, key)
        self._open(mapping, destination, now)
        return mapping.external

    def inbound(self, source: Endpoint, destination: Endpoint, now: float) -> Endpoint | Why:
        self._purge(now)
        owner = self._owners.get((destination, source))
        if owner is not None:
            session = owner.sessions[source]
            session.replied = True
            if self.inbound_refresh:
                self._refresh(session, now)
            return owner.inside
        if (destination, source) not in self._unsolicited:
            for mapping in self._by_external.get(destination, ()):
                if self._admits(mapping, source):
                    may_open = self.inbound_refresh or mapping.forwarded
                    if may_open and self.entries < self.max_mappings:
                        self._open(mapping, source, now)
                    return mapping.inside
        if self.tracks_unsolicited and self.entries < self.max_mappings:
            self._unsolicited[destination, source] = now
            self._counted(now + self.mapping_timeout)
        return Why.FILTERED if destination in self._by_external else Why.NO_MAPPING

    def peek(self, source: Endpoint, destination: Endpoint) -> Endpoint | None:
        owner = self._owners.get((destination, source))
        mappings = [owner] if owner is not None else self._by_external.get(destination, [])
        return mappings[0].inside if mappings else None

    def find_external(self, inside: Endpoint, remote: Endpoint) -> Endpoint | None:
        """What `remote` knows `inside` as, changing nothing; None if there is no mapping."""
        exact = (inside, remote)
        mapping = self._mappings.get(exact) or self._mappings.get(self._key(inside, remote))
        return None if mapping is None else mapping.external

    # What a test does to it.

    def flush(self) -> None:
        """All mappings are lost. A port-preserving NAT gives the same ports again."""
        self._sessions = 0
        self._next_purge = float("inf")
        self._owners.clear()
        self._unsolicited.clear()
        forwarded = [mapping for mapping in self._mappings.values() if mapping.forwarded]
        self._mappings.clear()
        self._by_external.clear()
        for mapping in forwarded:
            self.forward(mapping.external.port, mapping.inside)

    def reboot(self, *addresses: str) -> None:
        """All mappings are lost and the same sources get other ports from then on; with
        `addresses`, other external addresses too."""
        self.flush()
        self.ports.restart()
        if addresses:
            self.change_address(*addresses)

    def change_address(self, *addresses: str) -> None:
        """Other external addresses, the same ports where the allocation preserves them."""
        super().change_address(*addresses)
        self.flush()

    def forward(self, port: int, inside: Endpoint) -> Endpoint:
        """A static mapping that lets everybody in (UPnP-IGD, NAT-PMP, a manual port forward)."""
        external = Endpoint(self.addresses[0], port)
        mapping = self._add_mapping(inside, external, (inside, None))
        mapping.forwarded = True
        return external

    def remove_forward(self, port: int) -> None:
        for mapping in [m for m in self._mappings.values() if m.external.port == port]:
            self._remove(mapping)

    def external_endpoints(self, inside: Endpoint, now: float) -> set[Endpoint]:
        """What `inside` is mapped to at this moment."""
        self._purge(now)
        return {m.external for m in self._mappings.values() if m.inside == inside}

    def sessions(self, now: float) -> list[tuple[Endpoint, Endpoint, Endpoint]]:
        """(inside, external, remote) of every live session."""
        self._purge(now)
        return [(m.inside, m.external, r) for m in self._mappings.values() for r in m.sessions]

    def describe_sessions(self, now: float) -> list[SessionView]:
        """Every live session."""
        self._purge(now)
        return [
            SessionView(
                mapping.inside,
                mapping.external,
                remote,
                self._expiry(session) - now,
                session.replied,
                session.stream,
            )
            for mapping in self._mappings.values()
            for remote, session in mapping.sessions.items()
        ]

    @property
    def entries(self) -> int:
        """Entries of the table: sessions, and unsolicited datagrams that are tracked."""
        return self._sessions + len(self._unsolicited)

    @property
    def varies(self) -> bool:
        """Whether the external endpoint depends on the destination."""
        keeps = self.allocation is Allocation.PRESERVING and self.shares_ports
        return self.mapping is not Mapping.ENDPOINT_INDEPENDENT and not keeps

    def _key(self, source: Endpoint, destination: Endpoint) -> object:
        if self.mapping is Mapping.ENDPOINT_INDEPENDENT:
            return (source, None)
        if self.mapping is Mapping.ADDRESS_DEPENDENT:
            return (source, destination.host)
        return (source, destination)

    def _admits(self, mapping: _PortMapping, source: Endpoint) -> bool:
        if mapping.forwarded or self.filtering is Filtering.ENDPOINT_INDEPENDENT:
            return True
        if self.filtering is Filtering.ADDRESS_DEPENDENT:
            return mapping.hosts[source.host] > 0
        return source in mapping.sessions

    def _is_taken(self, external: Endpoint, remote: Endpoint) -> bool:
        return (external, remote) in self._owners or (external, remote) in self._unsolicited

    def _allocate(self, source: Endpoint, destination: Endpoint) -> Endpoint | None:
        if self.pooling is Pooling.ARBITRARY:
            address = self.random.choice(self.addresses)
        else:
            turn = self._paired.setdefault(source.host, len(self._paired))
            address = self.addresses[turn % len(self.addresses)]
        for port in self.ports.candidates(source):
            external = Endpoint(address, port)
            if self._is_taken(external, destination):
                continue
            if self.shares_ports or external not in self._by_external:
                return external
        return None

    def _add_mapping(self, inside: Endpoint, external: Endpoint, key: object) -> _PortMapping:
        mapping = self._mappings[key] = _PortMapping(inside, external, key)
        self._by_external.setdefault(external, []).append(mapping)
        return mapping

    def _open(self, mapping: _PortMapping, remote: Endpoint, now: float) -> None:
        mapping.sessions[remote] = _Session(now)
        mapping.hosts[remote.host] += 1
        self._owners[mapping.external, remote] = mapping
        self._sessions += 1
        self._counted(now + self.mapping_timeout)

    def _refresh(self, session: _Session, now: float) -> None:
        session.seen = now
        if session.replied and not session.stream and now - session.created > self.stream_after:
            session.stream = True
            # It may be the shorter of the two: an LTE network for things has 30 s and 12 s.
            self._next_purge = min(self._next_purge, now + self.stream_timeout)

    def _counted(self, expiry: float) -> None:
        self.peak_entries = max(self.peak_entries, self.entries)
        self._next_purge = min(self._next_purge, expiry)

    def _expiry(self, session: _Session) -> float:
        return session.seen + (self.stream_timeout if session.stream else self.mapping_timeout)

    def _purge(self, now: float) -> None:
        """Forgets what has expired. `_next_purge` is never later than the earliest expiry."""
        if now < self._next_purge:
            return
        upcoming = float("inf")
        for mapping in list(self._mappings.values()):
            for remote, session in list(mapping.sessions.items()):
                if self._expiry(session) <= now:
                    self._close(mapping, remote)
                else:
                    upcoming = min(upcoming, self._expiry(session))
            if not mapping.sessions and not mapping.forwarded:
                self._remove(mapping)
        for pair, seen in list(self._unsolicited.items()):
            if seen + self.mapping_timeout <= now:
                del self._unsolicited[pair]
            else:
                upcoming = min(upcoming, seen + self.mapping_timeout)
        self._next_purge = upcoming

    def _close(self, mapping: _PortMapping, remote: Endpoint) -> None:
        del mapping.sessions[remote]
        mapping.hosts[remote.host] -= 1
        del self._owners[mapping.external, remote]
        self._sessions -= 1

    def _remove(self, mapping: _PortMapping) -> None:
        for remote in list(mapping.sessions):
            self._close(mapping, remote)
        del self._mappings[mapping.key]
        sharing = self._by_external[mapping.external]
        sharing.remove(mapping)
        if not sharing:
            del self._by_external[mapping.external]


class Firewall(Nat):
    """Filters without translating: IPv6 (RFC 6092), or public IPv4. Whoever is inside keeps its
    address; nobody comes in at a port that has not sent anything."""

    translates = False

    def __init__(
        self,
        filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT,
        *,
        mapping_timeout: float = 30.0,
        stream_timeout: float = 120.0,
        stream_after: float = 2.0,
        inbound_refresh: bool = False,
        max_mappings: int = 65536,
    ) -> None:
        super().__init__(
            Mapping.ENDPOINT_INDEPENDENT,
            filtering,
            Allocation.PRESERVING,
            mapping_timeout=mapping_timeout,
            stream_timeout=stream_timeout,
            stream_after=stream_after,
            inbound_refresh=inbound_refresh,
            max_mappings=max_mappings,
        )

    def forward(self, port: int, inside: Endpoint) -> Endpoint:
        """A pinhole: everybody comes in to `inside`."""
        mapping = self._add_mapping(inside, inside, (inside, None))
        mapping.forwarded = True
        return inside

    def _allocate(self, source: Endpoint, destination: Endpoint) -> Endpoint | None:
        return source
