"""A node: demultiplexes what arrives, routes what leaves, and owns registration and peers.

It routes; it contains neither sessions nor punching. What arrives goes through ``Inbound``; what
leaves: IP packet → longest prefix → peer → session seals → the traversal's routes, one or two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tunnel.core.announcer import Announcer
from tunnel.core.arrivals import Arrivals
from tunnel.core.attention import Timed
from tunnel.core.candidates import HostAddress
from tunnel.core.collector import Collector
from tunnel.core.configuration import NodeConfig
from tunnel.core.departures import Departures
from tunnel.core.diagnosis import Diagnosis, diagnose
from tunnel.core.disclosure import Disclosure
from tunnel.core.events import Event, RebindWanted
from tunnel.core.expulsion import Expulsion
from tunnel.core.handshakes import CookieDemanded, HandshakeReceiver
from tunnel.core.inbound import Inbound
from tunnel.core.indices import IndexTable
from tunnel.core.introductions import IntroductionReceiver
from tunnel.core.inviter import Inviter
from tunnel.core.ledger import InvitationLedger
from tunnel.core.lifetime import LifetimeProbe
from tunnel.core.machine import RandomBytes, Transmit, WallClock, earliest, is_stream
from tunnel.core.nat import NatDiscovery
from tunnel.core.outbound import Outbound
from tunnel.core.pair_facts import gather_pair
from tunnel.core.peer import Peer
from tunnel.core.peer_table import PeerTable
from tunnel.core.port_guessing import PortGuessing
from tunnel.core.rebind import RebindPolicy
from tunnel.core.registration import Registration
from tunnel.core.revocations import Revocations
from tunnel.core.rotation import Rotation
from tunnel.core.server_session import ServerSession
from tunnel.core.session import Session
from tunnel.core.sieve import Sieve
from tunnel.core.status import describe_node
from tunnel.core.transport import Opening, Transport, stream_routes
from tunnel.core.witness import Witness
from tunnel.errors import AuthenticationFailed, Malformed
from tunnel.noise.handshake import PUNCHTUN
from tunnel.noise.keys import PrivateKey, PublicKey
from tunnel.wire.certificate import Network
from tunnel.wire.check import GoodBye
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.packet import parse_ip_header
from tunnel.wire.revocation import Revocation, parse_revocation


class Node:
    def __init__(
        self,
        config: NodeConfig,
        *,
        now: float,
        random_bytes: RandomBytes,
        wall_clock: WallClock,
        ledger: InvitationLedger | None = None,
    ) -> None:
        self.config = config
        self.revocations = Revocations(config.identity.key)
        self.revocations.announced.update(config.announced)
        self.drops: Counter[str] = Counter()
        """Reason → datagrams and packets dropped for it."""
        indices: IndexTable[Session] = IndexTable(random_bytes)
        link = ServerSession(
            static=config.static,
            server_key=PublicKey(config.server.public_key),
            access_token=config.server.access_token,
            indices=indices,
            random_bytes=random_bytes,
            wall_clock=wall_clock,
        )
        transport = Transport(link, stream_routes(config.server), random_bytes)
        self.registration = Registration(link, config.identity.tag, random_bytes, transport)
        self.peers = PeerTable(
            static=config.static,
            identity=config.identity,
            certificate=config.certificate,
            revocations=self.revocations,
            indices=indices,
            random_bytes=random_bytes,
            wall_clock=wall_clock,
            interface_mtu=config.mtu,
            may_use_aegis=config.may_use_aegis,
        )
        self.inviter = Inviter(
            config, ledger, self.peers, self.revocations, random_bytes, wall_clock
        )
        self._announcer = Announcer(config, random_bytes, wall_clock)
        own_key = config.certificate.key
        introductions = IntroductionReceiver(
            own_key, self.registration, self._announcer, self.peers, self.inviter
        )
        self.lifetime = LifetimeProbe(random_bytes)
        self.nat = NatDiscovery(self.registration, self.peers, self._announcer, random_bytes)
        self.hops = self.nat.hops
        self.guessing = PortGuessing(
            own_key, self.registration, self.nat, random_bytes, may_guess=config.may_guess
        )
        self.disclosure = Disclosure(config, self.registration, self.nat, self._announcer)
        self._rebind_policy = RebindPolicy()
        self._outbound = Outbound(self.registration, self._announcer)
        self._witness = Witness(self.peers, self._announcer)
        self._expulsion = Expulsion(
            config.certificate,
            self.revocations,
            self.peers,
            self.registration,
            self.guessing,
            self._outbound,
        )
        self.rotation = Rotation(
            config.certificate,
            config.identity,
            self.peers,
            self.inviter,
            self._outbound,
            wall_clock,
        )
        self._followed = b""
        """Digests of the revocations whose consequences have been drawn."""
        self._inbound = Inbound(
            indices=indices,
            handshakes=HandshakeReceiver(PUNCHTUN, config.static, random_bytes),
            registration=self.registration,
            peers=self.peers,
            announcer=self._announcer,
            introductions=introductions,
            lifetime=self.lifetime,
            guessing=self.guessing,
            disclosure=self.disclosure,
            nat=self.nat,
            witness=self._witness,
            expulsion=self._expulsion,
            rotation=self.rotation,
            outbound=self._outbound,
        )
        self.sieve = Sieve(indices, self.peers)
        self.departures = Departures(self.peers, self._outbound)
        self.arrivals = Arrivals(indices, link, self.peers, self._inbound)
        self._collector = Collector(
            registration=self.registration,
            peers=self.peers,
            announcer=self._announcer,
            lifetime=self.lifetime,
            nat=self.nat,
            guessing=self.guessing,
            disclosure=self.disclosure,
            witness=self._witness,
            expulsion=self._expulsion,
            rotation=self.rotation,
            inbound=self._inbound,
            outbound=self._outbound,
            drops=self.drops,
        )
        for packed in config.revocations:
            try:
                self._expulsion.recall(parse_revocation(packed))
            except (Malformed, AuthenticationFailed) as error:
                self.drops[f"remembered revocation: {error}"] += 1
        self._collector.events.extend(self._expulsion.take_events())
        self._is_silent = self._expulsion.is_expelled
        """Whether nothing is sent any more: we said good-bye, because we stop or are revoked."""
        self.inviter.strike_revoked()
        if config.next_static is not None:
            self.rotation.begin(config.next_static, now)
        for known in () if self._is_silent else config.known_peers:
            try:
                self.peers.remember(known.certificate, known.endpoints)
            except (Malformed, AuthenticationFailed) as error:
                self.drops[f"remembered peer: {error}"] += 1

    # Commands

    def set_server_endpoints(self, endpoints: Sequence[Endpoint], now: float) -> None:
        """Where the server's name points to; the node registers there."""
        self.registration.set_endpoints(endpoints, now)
        self.nat.trace(now)
        self._collect(now)

    def network_changed(
        self,
        addresses: Sequence[HostAddress],
        port: int,
        now: float,
        routes: Sequence[Network] = (),
    ) -> None:
        """To be called at start and whenever local addresses change.

        `addresses` and `routes` without loopback, link-local and our own tunnel; `port` is our UDP
        port.
        """
        is_first = self._announcer.candidates is None
        self._announcer.set_network(addresses, port, routes)
        self._collector.announce(now)
        peers = self.peers.touch_all()
        for peer in peers:
            peer.admit_again(self._announcer.admit)
        if is_first:
            for peer in peers:
                if self._outbound.guess_endpoints(peer):
                    peer.session.initiate(now)
        else:
            self.registration.refresh(now)
            self._collector.punch_again(now, "network changed")
        self._collect(now)

    def routes_changed(self, routes: Sequence[Network], now: float) -> None:
        """To be called when local routes change and addresses do not."""
        if self._announcer.set_routes(routes):
            for peer in self.peers.touch_all():
                if peer.admit_again(self._announcer.admit) and peer.session.is_established(now):
                    peer.traversal.punch(now, "another route")
        self.registration.refresh(now)  # So that the server sees where we come from now.
        self._collect(now)

    def set_mapped_endpoint(self, endpoint: Endpoint | None, now: float) -> None:
        """Where the home router forwards to our port, if it does: a candidate like any other."""
        self._announcer.mapped = endpoint
        if self._collector.gather():
            # Also that it is gone: others must not send where nobody forwards.
            self.registration.announce(self._announcer.seal(), now)
            for peer in self.peers.touch_all():
                if endpoint is not None and peer.state(now) == "relayed":
                    peer.traversal.punch(now, "port mapped")
                    peer.traversal.call_peer(now)
        self._collect(now)

    def rebound(self, port: int, now: float) -> None:
        """Another socket, on `port`, has taken the place of the one in use, in the same network."""
        self._announcer.set_port(port)
        self._collector.announce(now)
        self.registration.refresh(now)
        self._collector.punch_all(now, "another port")
        self._collect(now)

    def ledger_saved(self, revision: int, now: float) -> None:
        """The ledger is safe on disk as it was at that revision of the inviter's: answer the
        joiners that waited for it."""
        self.inviter.note_saved(revision)
        for grant in self.inviter.take_grants(revision):
            self.registration.send(grant, now)
        for key, answer in self.inviter.take_rotations(revision):
            member = self.peers.get(key)
            if member is not None:
                self._outbound.send(member, answer.pack(), now)
        self._collect(now)

    def rotate(self, new: PrivateKey, now: float) -> None:
        """Ask for a certificate of `new`, which is kept on disk already; a KeyReplaced event will
        say what has come of it."""
        self.rotation.begin(new, now)
        self.rotation.handle_timer(now)
        self._collect(now)

    def revoke(self, revocation: Revocation, now: float) -> None:
        """Expel that member, and tell everybody. The revocation is safe on disk already; then the
        ledger is to be saved. Raises AuthenticationFailed."""
        self._expulsion.carry_out(revocation, now)
        self.inviter.strike_revoked()
        self._collect(now)

    @property
    def is_revoked(self) -> bool:
        """Whether this node is a member no more; it is silent then."""
        return self._expulsion.is_expelled

    def ping(self, name: str, now: float) -> int | None:
        """An echo to the peer of that name by the way traffic takes now. Its transaction, which a
        PingAnswered event will carry; None if there is no way."""
        peer = self.find_peer(name)
        if peer is None or not peer.session.is_established(now):
            if peer is not None:
                self._wake(peer, now)
                self._collect(now)
            return None
        peer.touch()
        routes = peer.traversal.routes(now)
        transaction = peer.traversal.ask(routes[0], now) if routes else None
        self._collect(now)
        return transaction

    def find_peer(self, name: str) -> Peer | None:
        """By name, or by tunnel address."""
        return self.peers.find(name)

    def close(self, now: float) -> None:
        """Say good-bye to peers and server. What is then to be sent is the last."""
        for peer in self.peers:
            if peer.session.is_established(now):
                self._outbound.send(peer, GoodBye().pack(), now)
        self.registration.close(now)
        self._collect(now)
        self._is_silent = True

    # Streams, where UDP does not pass: what `registration.transport` asks the driver for

    def stream_opened(self, number: int, endpoint: Endpoint, now: float) -> None:
        """It is ready for datagrams; `endpoint` is its other end."""
        self.registration.stream_opened(number, endpoint, now)
        self._collect(now)

    def stream_closed(self, number: int, reason: str, now: float) -> None:
        """It could not be opened, or has ended."""
        self.registration.stream_closed(number, reason, now)
        self._collect(now)

    def take_openings(self) -> list[Opening]:
        openings = self.registration.transport.take_openings()
        return [] if self._is_silent else openings

    def take_closings(self) -> list[int]:
        return self.registration.transport.take_closings()

    # From the TUN interface

    def send_packets(self, packets: Sequence[bytes], now: float) -> list[bytes]:
        """What is to be answered to their senders: packets too big for the way to a peer."""
        answers: list[bytes] = []
        for packet in packets:
            try:
                header = parse_ip_header(packet)
            except Malformed as error:
                self.drops[f"sent: {error}"] += 1
                continue
            packet = packet[: header.length]
            peer = self.peers.routes.find(header.destination)
            if peer is None:
                self.drops["sent: no route"] += 1
                continue
            peer.note_activity(now)
            if self._outbound.send(peer, packet, now, answers):
                peer.counters.tx_packets += 1
                peer.counters.tx_bytes += len(packet)
            else:
                peer.staged.append(bytes(packet))
                self._wake(peer, now)
        self._collect(now)
        return answers

    # From the network

    def receive_datagrams(
        self, datagrams: Sequence[bytes], source: Endpoint, now: float, local: int = 0
    ) -> list[bytes]:
        """The IP packets that were in them. Never raises for what a remote sent."""
        packets: list[bytes] = []
        if self.sieve.is_draining(now) and not is_stream(local):
            known = [datagram for datagram in datagrams if self.sieve.knows(datagram)]
            self.drops["flood"] += len(datagrams) - len(known)
            if not known:
                return packets
            datagrams = known
        for datagram in datagrams:
            if self._expulsion.is_expelled:
                self.drops["this node is revoked"] += 1
                continue
            try:
                self._inbound.receive(datagram, source, now, packets, local)
            except (Malformed, AuthenticationFailed) as error:
                self._drop(str(error), datagram, local, now)
            except CookieDemanded as demand:
                self._outbound.add([Transmit(demand.datagram, source, None, local)])
                self._drop("initiation: cookie demanded", datagram, local, now)
        self._collect(now)
        return packets

    def receive_error(self, endpoint: Endpoint, mtu: int | None, now: float) -> None:
        """ICMP about a datagram of ours to `endpoint`: IP packets larger than `mtu` bytes, or None
        at all, get there. Anybody can forge that: it is a reason to check, nothing more."""
        is_server = self.registration.link.is_server(endpoint)
        if is_server and mtu is None:
            self.registration.note_unreachable(now)
        for peer in self.peers:
            peer.receive_error(endpoint, mtu, now, is_server=is_server)
        self._collect(now)

    def receive_time_exceeded(
        self, endpoint: Endpoint, router_address: str, now: float, local: int
    ) -> None:
        """ICMP: the time to live of a datagram to `endpoint` ran out at that router. Anybody can
        forge that."""
        self.nat.receive_time_exceeded(endpoint, router_address, now, local)
        self._collect(now)

    def datagrams_to_send(self, now: float) -> list[Transmit]:
        # By `departures` and `arrivals`, which call nobody back.
        if self.peers.attention.has_touched:
            self._collect(now)
        return self._outbound.take_transmits()

    def next_event(self) -> Event | None:
        events = self._collector.events
        return events.popleft() if events else None

    # The clock

    def get_timer(self) -> float | None:
        if self._is_silent:
            return None
        parts: tuple[Timed, ...] = (
            *(self.registration, self.lifetime, self.nat, self.guessing),
            *(self.disclosure, self.sieve, self._expulsion, self.rotation),
        )
        return earliest((self.peers.attention.get_timer(), *(part.get_timer() for part in parts)))

    def handle_timer(self, now: float) -> None:
        if self._is_silent:
            return
        self.registration.handle_timer(now)
        self.lifetime.handle_timer(now)
        self.nat.handle_timer(now)
        ended = self.sieve.handle_timer(now)
        if ended is not None:
            self._collector.events.append(ended)
        due = self.peers.attention.take_due(now)
        for peer in due:
            peer.handle_timer(now)
            self.guessing.note(peer)
        self.guessing.handle_timer(self.peers, now)
        self.disclosure.handle_timer(self.peers, now)
        self._expulsion.handle_timer(now)
        self.rotation.handle_timer(now)
        may_rebind = self.config.may_rebind and self.registration.is_connected
        may_rebind = may_rebind and not self.registration.is_udp_blocked
        if may_rebind and self._rebind_policy.is_due(due, self.peers, now):
            self._collector.events.append(RebindWanted())
        self._collect(now)

    # Inside

    def _drop(self, reason: str, datagram: bytes, local: int, now: float) -> None:
        self.drops[reason] += 1
        event = None if is_stream(local) else self.sieve.note_dropped(datagram, now)
        if event is not None:
            self._collector.events.append(event)

    def _wake(self, peer: Peer, now: float) -> None:
        """There is something for a peer we have no session with."""
        peer.touch()
        peer.session.initiate(now)
        if not peer.is_online:
            self.registration.introduce(peer.key.data, now)
            self._witness.ask(peer, now)

    def _collect(self, now: float) -> None:
        """To be called at the end of every input."""
        if self._is_silent:
            self.registration.datagrams_to_send()  # What commands still asked for.
            return
        if self._followed != self.revocations.digests:
            for other in () if self.revocations.is_full else self.inviter.sign_consequences():
                self._expulsion.carry_out(other, now)
            self._followed = self.revocations.digests
        self._collector.collect(now)
        # With the words of farewell collected, those were the last.
        self._is_silent = self._expulsion.is_expelled

    def status(self, now: float) -> dict[str, Any]:
        """A snapshot for people and programs; the format of ``punchtun status --json``."""
        return describe_node(
            self.config,
            self.registration,
            self.lifetime,
            self.nat,
            self.sieve,
            [(peer, self.diagnose(peer, now)) for peer in self.peers],
            self.drops,
            now,
            self.revocations,
        )

    def diagnose(self, peer: Peer, now: float) -> Diagnosis | None:
        """Why the pair is not direct; None if it is."""
        own = self._announcer.candidates or ()
        record, nature = self.guessing.record(peer), self.disclosure.nature(now)
        return diagnose(gather_pair(peer, nature, own, record, self.registration, now))
