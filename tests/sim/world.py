"""A rendezvous server and nodes of one network, on a simulated internet: the real core, no driver.

::

        server 203.0.113.10                      everything runs in virtual time
              |
        == internet ==
          |        |
        NAT a    NAT b          each a Nat, a chain of them from the inside out, or None
          |        |
          a        b            tunnel addresses 10.9.0.1, 10.9.0.2, ...
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from tests.sim.host import Host
from tests.sim.nat import Firewall
from tests.sim.network import VirtualInternet
from tests.sim.theory import Side
from tests.sim.topology import Router
from tunnel.core.candidates import HostAddress
from tunnel.core.configuration import KnownPeer, NodeConfig, ServerConfig
from tunnel.core.ledger import InvitationLedger
from tunnel.core.membership import NetworkIdentity, derive_ula, sign_certificate
from tunnel.core.node import Node
from tunnel.core.peer import Peer
from tunnel.core.rendezvous import RendezvousServer
from tunnel.core.revocations import sign_revocation
from tunnel.noise.keys import PrivateKey, SigningKey
from tunnel.wire.certificate import Certificate
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.invitation import ServerUrl
from tunnel.wire.revocation import Revocation

SERVER_PORT = 12345
SERVER_ADDRESS = "203.0.113.10"
Way = tuple[str, str]
AB: Way = ("a", "b")
BA: Way = ("b", "a")
BOTH_WAYS = (AB, BA)


class World:
    def __init__(
        self,
        seed: int = 1,
        *,
        delay: float = 0.01,
        relay: bool = True,
        server_addresses: Sequence[str] = (SERVER_ADDRESS,),
        may_guess: bool = True,
        limits: Mapping[str, Any] | None = None,
    ) -> None:
        """`limits`: of the server's configuration."""
        self._may_guess = may_guess
        self.without_aegis: set[str] = set()
        """Names of nodes whose CPU is not good at it, when they are started."""
        self.net = VirtualInternet(seed, delay=delay)
        ports = (SERVER_PORT, SERVER_PORT + 1)
        self.server_host = self.net.add_host(
            "server", server_addresses[0], ports=ports * len(server_addresses)
        )
        for address in server_addresses[1:]:
            self.server_host.attach(address)
        if len(server_addresses) > 1:
            numbers = range(2 * len(server_addresses))
            self.server_host.bound = {number: server_addresses[number // 2] for number in numbers}
        random_bytes = self.server_host.random_bytes
        self._server_config = ServerConfig(
            PrivateKey.generate(random_bytes),
            random_bytes(16),
            relay,
            listeners=tuple(Endpoint(address, SERVER_PORT) for address in server_addresses),
            **(limits or {}),
        )
        self._url = ServerUrl(
            SERVER_ADDRESS,
            SERVER_PORT,
            self._server_config.static.public_key.data,
            self._server_config.access_token,
        )
        self._signing_key = SigningKey.generate(random_bytes)
        self._secret = random_bytes(32)
        self._keys: dict[str, PrivateKey] = {}
        self._certificates: dict[str, Certificate] = {}
        self._ports: dict[str, int] = {}
        self.server_names: Sequence[str] = (SERVER_ADDRESS,)
        """The addresses that the server's name has, for nodes started from now on."""
        self.hosts: dict[str, Host] = {}
        self.ledgers: dict[str, InvitationLedger] = {}
        """Of nodes that may invite, by name: what they have on disk."""
        self.start_server()

    # Building

    def start_server(self) -> None:
        """Start it, or start it anew with nothing remembered but its key."""
        self.server_host.start(
            RendezvousServer(
                self._server_config,
                now=self.server_host.now,
                random_bytes=self.server_host.random_bytes,
                wall_clock=self.server_host.wall_clock,
            )
        )

    @property
    def server(self) -> RendezvousServer:
        machine = self.server_host.machine
        assert isinstance(machine, RendezvousServer)
        return machine

    def add_node(
        self,
        name: str,
        side: Side = None,
        *,
        behind: Router | None = None,
        delay: float = 0.0,
        ipv6: Sequence[Router] = (),
        has_ipv4: bool = True,
    ) -> Node:
        """A started member behind `side`, or on the LAN of `behind`, with one more address behind
        each router of `ipv6`."""
        chain = () if side is None else side if isinstance(side, (list, tuple)) else (side,)
        for number, nat in enumerate(reversed(chain)):
            behind = self.net.add_router(nat, f"nat-{name}{number}", behind=behind)
        address = f"5.77.0.{len(self.hosts) + 1}" if isinstance(behind, Firewall) else None
        host = self.net.add_host(name, address, behind=behind)
        for router in ipv6:
            host.attach(behind=router)
        if not has_ipv4:
            host.detach(host.address)
        if delay:
            host.link.set(delay=delay)
        host.opens_sockets = True  # The second one, for measuring.
        host.hears_icmp = True
        self.hosts[name] = host
        return self.start_node(name)

    def make_inviter(self, name: str) -> Node:
        """Start it again as one that may invite, with a ledger of its own."""
        own = replace(self._certificates[name], serial=1000, may_invite=True)
        self._certificates[name] = self.sign(own)
        return self.start_node(name)

    def rotated(self, name: str) -> Node:
        """Start it again with the key that it has been granted, as the driver has kept it."""
        node = self.node(name)
        grant, new = node.rotation.grant, node.rotation._next
        assert grant is not None
        assert new is not None
        peers = tuple(KnownPeer(peer.packed_certificate, ()) for peer in node.peers)
        revocations = (*(one.pack() for one in node.revocations), grant.revocation.pack())
        self.hosts[name].stop()
        self._keys[name], self._certificates[name] = new, grant.certificate
        return self.start_node(name, peers, revocations)

    def start_node(
        self,
        name: str,
        known_peers: tuple[KnownPeer, ...] = (),
        revocations: tuple[bytes, ...] = (),
    ) -> Node:
        """Start it, or start its process anew, with its key and certificate."""
        host = self.hosts[name]
        certificate = self._certificates.get(name) or self._certify(name, host)
        node = Node(
            NodeConfig(
                self._keys[name],
                self._identity,
                certificate,
                self._url,
                known_peers,
                revocations,
                may_guess=self._may_guess,
                may_use_aegis=name not in self.without_aegis,
            ),
            now=host.now,
            random_bytes=host.random_bytes,
            wall_clock=host.wall_clock,
            ledger=self._ledger_of(name, certificate),
        )
        host.start(node)
        if name in self._ports:  # The driver takes the port of last time, if it can.
            host.close_socket(0)
            host.open_socket(0, self._ports[name])
        self._ports[name] = host.endpoint().port
        self.tell_addresses(name)
        endpoints = [Endpoint(address, SERVER_PORT) for address in self.server_names]
        host.call(lambda node, now: node.set_server_endpoints(endpoints, now))
        return node

    def give_ledger(self, name: str) -> InvitationLedger:
        """An empty one: from its next start on this node may invite."""
        certificate = self._certificates[name]
        key = self._keys[name]
        ledger = InvitationLedger(self._identity, self._signing_key, key, [certificate])
        self.ledgers[name] = ledger
        return ledger

    def _ledger_of(self, name: str, certificate: Certificate) -> InvitationLedger | None:
        """That of last time, if it was started before."""
        if certificate.may_invite and name not in self.ledgers:
            self.give_ledger(name)
        return self.ledgers.get(name)

    def save_ledger(self, name: str) -> None:
        """As its driver does when something is asked of it."""
        host = self.hosts[name]
        host.call(lambda node, now: node.ledger_saved(node.inviter.revision, now))

    @property
    def url(self) -> ServerUrl:
        return self._url

    @property
    def _identity(self) -> NetworkIdentity:
        return NetworkIdentity(self._signing_key.verify_key, self._secret)

    def tell_addresses(self, name: str) -> None:
        """As the driver does at start and when netlink reports a change."""
        host = self.hosts[name]
        addresses = [
            HostAddress(
                ipaddress.ip_interface(f"{i.address}/{64 if ':' in i.address else 24}"),
                is_temporary=i.is_temporary,
                is_deprecated=i.is_deprecated,
                leads_out=True,
            )
            for i in host.interfaces
            if i.up
        ]
        routes = [ipaddress.ip_network(prefix) for prefix in host.routes]
        port = host.endpoint().port
        host.call(lambda node, now: node.network_changed(addresses, port, now, routes))

    def sign(self, certificate: Certificate) -> Certificate:
        """As an inviter of this network."""
        return sign_certificate(certificate, self._signing_key)

    def _certify(self, name: str, host: Host) -> Certificate:
        number = len(self._certificates) + 1
        key = self._keys[name] = PrivateKey.generate(host.random_bytes)
        certificate = Certificate(
            key=key.public_key.data,
            name=name,
            addresses=(
                ipaddress.IPv4Interface(f"10.9.0.{number}/24"),
                derive_ula(self._signing_key.verify_key, key.public_key),
            ),
            serial=number,
            issued=0,
        )
        self._certificates[name] = sign_certificate(certificate, self._signing_key)
        return self._certificates[name]

    def add_successor(self, name: str, of: str, side: Side = None) -> Node:
        """A started member that was invited again, later: another key, and the name and the IPv4
        address of `of`. `name` is what it is called here only."""
        former = self._certificates[of]
        key = self._keys[name] = PrivateKey.generate(self.server_host.random_bytes)
        ula = derive_ula(self._signing_key.verify_key, key.public_key)
        self._certificates[name] = self.sign(
            replace(
                former,
                key=key.public_key.data,
                addresses=(former.addresses[0], ula),
                serial=len(self._certificates) + 1,
                issued=former.issued + 1,
            )
        )
        return self.add_node(name, side)

    def revocation(self, name: str) -> Revocation:
        """Of that member, by the network's key."""
        key = self._keys[name].public_key
        return sign_revocation(key, self.server_host.wall_clock(), self._signing_key)

    def revoke(self, name: str, at: str) -> None:
        """As `punchtun revoke NAME` does, at that node."""
        revocation = self.revocation(name)
        self.hosts[at].call(lambda node, now: node.revoke(revocation, now))

    def found_another_network(self) -> None:
        """The nodes added from now on are strangers to those before. Those must not be restarted
        any more."""
        random_bytes = self.server_host.random_bytes
        self._signing_key = SigningKey.generate(random_bytes)
        self._secret = random_bytes(32)

    # Looking

    def certificate(self, name: str) -> bytes:
        return self._certificates[name].pack()

    def node(self, name: str) -> Node:
        machine = self.hosts[name].machine
        assert isinstance(machine, Node)
        return machine

    def peer(self, name: str, of: str) -> Peer:
        found = self.node(name).find_peer(of)
        assert found is not None, f"{name} does not know {of}"
        return found

    def state(self, name: str, of: str) -> str:
        found = self.node(name).find_peer(of)
        return "unknown" if found is None else found.state(self.hosts[name].now)

    def states(self, a: str = "a", b: str = "b") -> set[str]:
        return {self.state(a, b), self.state(b, a)}

    def is_direct(self, a: str = "a", b: str = "b") -> bool:
        return self.states(a, b) == {"direct"}

    def wait_until_direct(self, a: str = "a", b: str = "b", timeout: float = 10.0) -> bool:
        return self.net.run_until_true(lambda: self.is_direct(a, b), timeout)

    def events(self, name: str, kind: type) -> list[Any]:
        return [event for _, event in self.hosts[name].events if isinstance(event, kind)]

    # Traffic

    def packet(self, source: str, destination: str, payload: bytes = b"") -> bytes:
        """A UDP-less IPv4 packet: our routing reads no further than its addresses."""
        ips = [self._certificates[name].addresses[0].ip.packed for name in (source, destination)]
        length = 20 + len(payload)
        header = bytes([0x45, 0]) + length.to_bytes(2, "big") + bytes(8)
        return header + b"".join(ips) + payload

    def stream(
        self,
        source: str,
        destination: str,
        duration: float,
        interval: float = 0.01,
        *,
        size: int = 24,
    ) -> Stream:
        """Numbered packets of `size` bytes for `duration` seconds of virtual time, scheduled from
        now."""
        stream = Stream(self, source, destination, size)
        for number in range(round(duration / interval)):
            self.net.call_later(number * interval, stream.send, number)
        return stream


class Stream:
    """What was sent and what arrived."""

    def __init__(self, world: World, source: str, destination: str, size: int = 24) -> None:
        self._world = world
        self._source = world.hosts[source]
        self._destination = world.hosts[destination]
        self._header = world.packet(source, destination, bytes(size - 20))[:-4]
        self.sent: list[float] = []

    def send(self, number: int) -> None:
        self.sent.append(self._world.net.now)
        self._source.send_packet(self._header + number.to_bytes(4, "big"))

    @property
    def arrivals(self) -> dict[int, float]:
        """Number → first arrival."""
        found: dict[int, float] = {}
        for at, packet in self._destination.packets_received:
            if packet[:-4] == self._header:
                found.setdefault(int.from_bytes(packet[-4:], "big"), at)
        return found

    @property
    def copies(self) -> int:
        """Packets that arrived, each counted as often as it did."""
        return sum(1 for _, p in self._destination.packets_received if p[:-4] == self._header)

    @property
    def lost(self) -> int:
        return len(self.sent) - len(self.arrivals)

    @property
    def longest_gap(self) -> float:
        times = sorted(self.arrivals.values())
        return max((b - a for a, b in pairwise(times)), default=float("inf"))
