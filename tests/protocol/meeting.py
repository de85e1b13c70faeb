"""Where a node, a server and the second implementation meet, without distance between them."""

from __future__ import annotations

import ipaddress

from tests.core.ends import (
    ACCESS,
    SERVER,
    SERVER_KEY,
    URL,
    Clock,
    Network,
    key,
    make_server,
    seeded,
)
from tests.protocol.second.node import SecondNode
from tunnel.core.candidates import HostAddress
from tunnel.core.configuration import NodeConfig
from tunnel.core.node import Node
from tunnel.wire.endpoint import Endpoint

NETWORK = Network()
HERE, THERE = Endpoint("203.0.113.1", 40001), Endpoint("203.0.113.2", 40002)


class Meeting:
    """`second`: the number of the key that the second implementation has."""

    def __init__(self, second: int, offer: int = 1) -> None:
        self.clock = Clock()
        self.server = make_server(self.clock)
        self.node = Node(
            NodeConfig(NETWORK.founder, NETWORK.identity, NETWORK.certificate, URL),
            now=self.clock.now,
            random_bytes=seeded(1),
            wall_clock=self.clock.wall,
        )
        self.second = SecondNode(
            key(second).data,
            NETWORK.certify(key(second), "second", 2).pack(),
            NETWORK.identity.key.data,
            NETWORK.identity.secret,
            SERVER,
            SERVER_KEY.public_key.data,
            ACCESS,
            THERE,
            self.clock.wall(),
            seeded(second),
            offer,
        )
        self.packets: list[bytes] = []

    def settle(self) -> None:
        """Until nobody has anything to say."""
        while True:
            sent: list[tuple[bytes, tuple[str, int], Endpoint]] = []
            for who, endpoint in ((self.node, HERE), (self.server, SERVER)):
                for transmit in who.datagrams_to_send(self.clock.now):
                    if transmit.ttl is None and not transmit.local:
                        sent.append((bytes(transmit.data), transmit.endpoint, endpoint))
            sent += [(data, to, THERE) for data, to in self.second.outbox]
            self.second.outbox = []
            if not sent:
                return
            for data, to, source in sent:
                if to == SERVER:
                    self.server.receive_datagrams([data], source, self.clock.now)
                elif to == HERE:
                    self.packets += self.node.receive_datagrams([data], source, self.clock.now)
                elif to == THERE:
                    self.second.receive(data, source)

    def begin(self) -> None:
        address = HostAddress(ipaddress.ip_interface(f"{HERE.host}/24"))
        self.node.network_changed([address], HERE.port, self.clock.now)
        self.node.set_server_endpoints([SERVER], self.clock.now)
        self.settle()

    def run(self, seconds: float) -> None:
        until = self.clock.now + seconds
        while True:
            timers = [self.node.get_timer(), self.server.get_timer()]
            at = min((timer for timer in timers if timer is not None), default=until + 1)
            if at > until:
                break
            self.clock.now = max(self.clock.now, at)
            self.node.handle_timer(self.clock.now)
            self.server.handle_timer(self.clock.now)
            self.settle()
        self.clock.now = until
