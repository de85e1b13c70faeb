"""The peers of a node, the three ways of finding one (by key, by session, by relay channel), and
what all of them are told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tunnel.constants import KEEPALIVE_INTERVAL
from tunnel.core.attention import Attention
from tunnel.core.events import AddressContested, Event, PeerIntroduced, PeersChanged
from tunnel.core.hops import FALLBACK_TTL
from tunnel.core.indices import IndexTable
from tunnel.core.machine import RandomBytes, WallClock
from tunnel.core.membership import NetworkIdentity, seniority
from tunnel.core.peer import Peer
from tunnel.core.revocations import Revocations
from tunnel.core.routes import RoutingTable, host_network
from tunnel.core.session import Session
from tunnel.errors import AuthenticationFailed
from tunnel.noise.handshake import PUNCHTUN
from tunnel.noise.keys import PrivateKey, PublicKey
from tunnel.wire.candidate import Candidate
from tunnel.wire.certificate import Certificate, Network
from tunnel.wire.endpoint import Endpoint


class PeerTable:
    def __init__(
        self,
        *,
        static: PrivateKey,
        identity: NetworkIdentity,
        certificate: Certificate,
        revocations: Revocations,
        indices: IndexTable[Session],
        random_bytes: RandomBytes,
        wall_clock: WallClock,
        interface_mtu: int,
        may_use_aegis: bool,
    ) -> None:
        self.routes: RoutingTable[Peer] = RoutingTable()
        """Whose an inner address is."""
        self.attention: Attention[Peer] = Attention()
        self._static = static
        self._identity = identity
        self._certificate = certificate
        self._revocations = revocations
        self._indices = indices
        self._random_bytes = random_bytes
        self._wall_clock = wall_clock
        self._interface_mtu = interface_mtu
        self._may_use_aegis = may_use_aegis
        self._by_key: dict[bytes, Peer] = {}
        self._by_session: dict[Session, Peer] = {}
        self._by_channel: dict[int, Peer] = {}
        self.channel_changes = 0
        """How often the server gave a pair another channel, or none."""
        self._local_candidates: Sequence[Candidate] = ()
        self._keepalive_interval = KEEPALIVE_INTERVAL
        self._opener_ttl = FALLBACK_TTL
        self._events: list[Event] = []
        self._told: set[AddressContested] = set()

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._by_key.values())

    def __len__(self) -> int:
        return len(self._by_key)

    def __contains__(self, peer: Peer) -> bool:
        return self._by_session.get(peer.session) is peer

    def touch_all(self) -> list[Peer]:
        """Every peer, all of them touched: for what is done to all, which is rare."""
        peers = list(self)
        for peer in peers:
            peer.touch()
        return peers

    def get(self, key: bytes) -> Peer | None:
        """It is touched: who asks means to do something to it."""
        peer = self._by_key.get(key)
        if peer is not None:
            peer.touch()
        return peer

    def of_session(self, session: Session) -> Peer:
        """It is not touched: most frames change nothing but counts."""
        return self._by_session[session]

    def find_session(self, session: Session) -> Peer | None:
        """None: it is the one with the server."""
        return self._by_session.get(session)

    def has_channel(self, channel: int) -> bool:
        return channel in self._by_channel

    @property
    def channels(self) -> Iterable[int]:
        """By which the server relays to us."""
        return self._by_channel.keys()

    def find(self, name: str) -> Peer | None:
        """By name, or by tunnel address. Of several, the one with the oldest certificate."""
        found = [
            peer
            for peer in self
            if peer.name == name or name in (str(i.ip) for i in peer.certificate.addresses)
        ]
        return min(found, key=lambda peer: seniority(peer.certificate), default=None)

    def set_channel(self, peer: Peer, channel: int) -> None:
        """The server's number for the pair; 0: it does not relay."""
        self.channel_changes += peer.channel != channel
        self._by_channel.pop(peer.channel, None)
        peer.channel = channel
        if channel:
            self._by_channel[channel] = peer

    def set_local_candidates(self, candidates: Sequence[Candidate]) -> None:
        """Ours, for those that are and those that will be."""
        self._local_candidates = candidates
        for peer in self:
            peer.traversal.set_local_candidates(candidates)

    def set_keepalive_interval(self, seconds: float) -> None:
        """For those that are and those that will be."""
        self._keepalive_interval = seconds
        for peer in self.touch_all():
            peer.traversal.echoes.keepalive_interval = seconds

    def set_opener_ttl(self, ttl: int) -> None:
        """For those that are and those that will be."""
        if ttl != self._opener_ttl:
            self._opener_ttl = ttl
            for peer in self:
                peer.traversal.opener_ttl = ttl

    def take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def remember(self, packed: bytes, endpoints: Sequence[Endpoint]) -> Peer:
        """The peer of this certificate. It is touched.

        Raises Malformed, or AuthenticationFailed: not of this network, expired, revoked, or our
        own.
        """
        certificate = self._identity.verify(packed, self._wall_clock())
        if certificate.key in self._revocations:
            raise AuthenticationFailed("certificate of a revoked member")
        if certificate.key == self._static.public_key.data:
            raise AuthenticationFailed("our own certificate")
        peer = self.get(certificate.key)
        if peer is not None and certificate.serial <= peer.certificate.serial:
            return peer
        if peer is None:
            session = Session(
                construction=PUNCHTUN,
                static=self._static,
                remote_static=PublicKey(certificate.key),
                preshared=self._identity.preshared,
                indices=self._indices,
                random_bytes=self._random_bytes,
                wall_clock=self._wall_clock,
                may_use_aegis=self._may_use_aegis,
            )
            peer = Peer(
                certificate,
                packed,
                session,
                self._random_bytes,
                self._interface_mtu,
                self.attention,
            )
            peer.touch()
            self._by_key[certificate.key] = peer
            self._by_session[session] = peer
            peer.traversal.set_local_candidates(self._local_candidates)
            peer.traversal.echoes.keepalive_interval = self._keepalive_interval
            peer.traversal.opener_ttl = self._opener_ttl
            self._events.append(PeerIntroduced(peer.name))
        else:
            self.routes.remove_target(peer)
            peer.certificate, peer.packed_certificate = certificate, packed
            for other in self:
                self._route(other)
        if endpoints:
            peer.known_endpoints = tuple(endpoints)
        self._route(peer)
        self._events.append(PeersChanged())
        return peer

    def remove(self, peer: Peer) -> None:
        """It is a member no more: nobody finds it, nothing is begun with it, and what others
        contested with it is theirs."""
        peer.retire()
        self.set_channel(peer, 0)
        self.routes.remove_target(peer)
        del self._by_key[peer.key.data]
        del self._by_session[peer.session]
        self.attention.forget(peer)
        self._told = {c for c in self._told if peer.name not in (c.holder, c.other)}
        for other in self:
            self._route(other)
        self._events.append(PeersChanged())

    def _route(self, peer: Peer) -> None:
        """What its certificate says, but for what an older certificate gives to another."""
        own = _networks(self._certificate)
        for network in _networks(peer.certificate):
            holder = self.routes.get(network)
            if network in own:
                other = self._certificate
            elif holder is None or holder is peer:
                self.routes.add(network, peer)
                continue
            else:
                other = holder.certificate
            senior, junior = sorted((peer.certificate, other), key=seniority)
            if senior is peer.certificate:
                self.routes.add(network, peer)
            if (senior.name, senior.issued) == (junior.name, junior.issued):
                continue  # One member that has just rotated its key: the old one is revoked soon.
            contest = AddressContested(str(network), senior.name, junior.name)
            if contest not in self._told:
                self._told.add(contest)
                self._events.append(contest)


def _networks(certificate: Certificate) -> list[Network]:
    return [*(host_network(i.ip) for i in certificate.addresses), *certificate.routes]
