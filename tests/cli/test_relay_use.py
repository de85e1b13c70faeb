"""The real server, whose networks have a quota of the relay."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import TypeVar

from tests.cli.command import User
from tests.cli.test_mistakes import Server
from tunnel.config import read_server_url
from tunnel.core.indices import IndexTable
from tunnel.core.server_session import ServerSession
from tunnel.noise.keys import PrivateKey, PublicKey
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.handshake import parse_response
from tunnel.wire.invitation import ServerUrl
from tunnel.wire.relay import pack_relay
from tunnel.wire.rendezvous import (
    FromServer,
    Introduction,
    RefusalReason,
    Refused,
    Register,
    Registered,
)
from tunnel.wire.transport import TRANSPORT

M = TypeVar("M", bound=FromServer)


class Caller:
    """A node of one network, with a socket of its own."""

    def __init__(self, url: ServerUrl) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(10)
        self.server = Endpoint(url.host, url.port)
        self.link = ServerSession(
            static=PrivateKey.generate(os.urandom),
            server_key=PublicKey(url.public_key),
            access_token=url.access_token,
            indices=IndexTable(os.urandom),
            random_bytes=os.urandom,
            wall_clock=time.time,
        )
        self.link.set_endpoints([self.server])
        self.link.session.initiate(0.0)
        self._flush()
        response = parse_response(self.socket.recv(2000))
        self.link.receive_response(response, self.server, 0.0)

    def _flush(self) -> None:
        for transmit in self.link.datagrams_to_send():
            self.send(bytes(transmit.data))

    def send(self, datagram: bytes) -> None:
        self.socket.sendto(datagram, self.server)

    def register(self) -> None:
        self.link.send(Register(1, 0, bytes(16), b"announcement"), 0.0)
        self._flush()

    def wait_for(self, kind: type[M]) -> M:
        while True:
            datagram = self.socket.recv(2000)
            message = self.link.open(datagram, 0.0) if datagram[0] == TRANSPORT else None
            if isinstance(message, kind):
                return message


def test_a_restart_gives_no_network_its_quota_anew(user: User) -> None:
    server = Server(user, "--relay-quota", "5K/month", "--relay-rate", "1G")
    url = user.ask("server", "url", "--host", "127.0.0.1").stdout.strip()
    a, b = Caller(read_server_url(url)), Caller(read_server_url(url))
    try:
        a.register()
        a.wait_for(Registered)
        b.register()
        channel = b.wait_for(Introduction).channel
        for _ in range(6):
            b.send(pack_relay(channel, bytes(992)))
        refused = b.wait_for(Refused)
        assert refused.reason is RefusalReason.RELAY_QUOTA
        assert refused.until is not None
        assert time.time() < refused.until
    finally:
        server.stop()
    kept = json.loads((user.state / "relay.json").read_text())
    assert list(kept["used"].values()) == [5000]
    assert (user.state / "relay.json").stat().st_mode & 0o777 == 0o600
    server = Server(user, "--relay-quota", "5K/month")
    try:
        url = user.ask("server", "url", "--host", "127.0.0.1").stdout.strip()
        again = Caller(read_server_url(url))
        again.register()
        assert again.wait_for(Refused).reason is RefusalReason.RELAY_QUOTA
    finally:
        server.stop()
        for caller in (a, b, again):
            caller.socket.close()
