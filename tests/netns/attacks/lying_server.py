"""A rendezvous server that works against its users: `python -m tests.netns.attacks.lying_server
STATE`.

The project's own machine, changed where it speaks, in the project's own loop, with its keys and
sockets. It is honest until its control socket is told `{"command": "lie", "how": …}`, which it
answers as `status`: with the server's status and `lies`, how many were told so far.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import gevent

from tunnel.config import RelayOptions
from tunnel.core import rendezvous
from tunnel.core.machine import Transmit
from tunnel.core.registrant import Registrant
from tunnel.core.relay import Relay
from tunnel.core.relay_allowance import RelayAllowance
from tunnel.drivers import clock, server, startup
from tunnel.drivers.places import server_places
from tunnel.errors import AuthenticationFailed
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.relay import RELAY_HEADER, RELAY_HEADER_LENGTH
from tunnel.wire.rendezvous import (
    Asked,
    Echoed,
    FromServer,
    Gone,
    Granted,
    Introduction,
    Moved,
    RefusalReason,
    Refused,
    Registered,
    parse_from_server,
)

TICK = 0.01
"""Seconds between two rounds of lies."""
MARK = b"for members only"
"""What the pair sends each other through the tunnel."""


class ListeningRelay(Relay):
    """Looks inside, and does what it is told to what it forwards."""

    def __init__(self, relay: Relay) -> None:
        self.__dict__ = relay.__dict__
        self.overheard = 0
        """Datagrams in which MARK was."""
        self.is_silent = False
        self.spoil: Callable[[Transmit], list[Transmit]] = lambda transmit: [transmit]
        self.more: list[Transmit] = []

    def forward(
        self,
        datagram: bytes,
        source: Endpoint,
        now: float,
        local: int,
        allowance: RelayAllowance,
    ) -> Transmit:
        transmit = super().forward(datagram, source, now, local, allowance)
        self.overheard += MARK in datagram
        if self.is_silent:
            raise AuthenticationFailed("withheld")
        first, *rest = self.spoil(transmit)
        self.more += rest
        return first


class LyingServer(rendezvous.RendezvousServer):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.relay = self.listening = ListeningRelay(self.relay)
        self.lies = 0
        self.how = "not at all"
        self.victim = Endpoint("::", 0)
        self._told: list[tuple[Registrant, Introduction]] = []
        """What was true once."""
        self._asked: list[Asked] = []

    def begin(self, how: str, victim: Endpoint) -> None:
        assert how in self.rounds() or how in ("not at all", "observe", "withhold", "spoil")
        self.how, self.victim = how, victim
        self.listening.is_silent = how == "withhold"
        self.listening.spoil = self._spoil if how == "spoil" else lambda transmit: [transmit]

    def status(self, now: float) -> dict[str, Any]:
        return super().status(now) | {"lies": self.lies, "overheard": self.listening.overheard}

    def datagrams_to_send(self, now: float) -> list[Transmit]:
        more, self.listening.more = self.listening.more, []
        return super().datagrams_to_send(now) + more

    # What it says unasked

    def rounds(self) -> dict[str, Callable[[Registrant, Registrant, float], None]]:
        return {
            "swap": self._swap,
            "forge": self._forge,
            "replay": self._replay,
            "aim": self._aim,
            "aim at many ports": self._aim_at_ports,
            "aim handshakes": self._aim_handshakes,
            "noise": self._noise,
        }

    def tell(self, now: float) -> None:
        """One round of lies, to every node about every other of its network."""
        lie = self.rounds().get(self.how)
        for members in list(self._networks.values()) if lie else []:
            for node, other in permutations(list(members.values()), 2):
                assert lie is not None
                lie(node, other, now)

    def say(self, node: Registrant, message: FromServer, now: float) -> None:
        self.lies += 1
        self._send(node, message, now)

    def _swap(self, node: Registrant, other: Registrant, now: float) -> None:
        """The announcement, the endpoint or the channel of one member under the key of another."""
        for third in self._peers_of(other):
            honest = self._introduction(node, other)
            channel = node.channels.get(third.key.data, 0)
            self.say(node, honest._replace(announcement=third.announcement), now)
            self.say(node, honest._replace(observed=third.endpoint or self.victim), now)
            self.say(node, honest._replace(peer=third.key.data), now)
            if third is not node:
                self.say(node, honest._replace(channel=channel), now)

    def _forge(self, node: Registrant, other: Registrant, now: float) -> None:
        """Keys that are no member's, with announcements of members and of nobody."""
        unknown = self._random_bytes(32)
        blob = self._random_bytes(len(other.announcement))
        honest = self._introduction(node, other)
        endpoint = other.endpoint or self.victim
        lies: list[FromServer] = [
            honest._replace(peer=unknown),
            honest._replace(peer=unknown, announcement=blob),
            honest._replace(announcement=blob),
            Moved(node.next_serial(), unknown, endpoint),
            Gone(node.next_serial(), unknown),
            Asked(node.next_serial(), 7, unknown, blob),
            Asked(node.next_serial(), 8, other.key.data, blob),
            Granted(node.next_serial(), 7, blob),
            Refused(RefusalReason.TOO_MANY, 7),
            # What somebody who was invited asked once, again, and as if another had.
            *self._asked,
            *(asked._replace(joiner=unknown) for asked in self._asked),
        ]
        for lie in lies:
            self.say(node, lie, now)

    def _replay(self, node: Registrant, other: Registrant, now: float) -> None:
        """All introductions there have been."""
        for to, introduction in self._told:
            if to.key == node.key:
                self.say(node, introduction._replace(serial=node.next_serial()), now)

    def _aim(self, node: Registrant, other: Registrant, now: float) -> None:
        self.say(node, Moved(node.next_serial(), other.key.data, self.victim), now)
        self.say(node, self._introduction(node, other)._replace(observed=self.victim), now)

    def _aim_at_ports(self, node: Registrant, other: Registrant, now: float) -> None:
        victim = self.victim._replace(port=1 + self.lies % 65535)
        self.say(node, Moved(node.next_serial(), other.key.data, victim), now)
        self.say(node, self._introduction(node, other)._replace(observed=victim), now)

    def _aim_handshakes(self, node: Registrant, other: Registrant, now: float) -> None:
        """Of all that were ever members, with no relay to agree on keys through."""
        for to, introduction in self._told:
            if to.key == node.key:
                lie = introduction._replace(
                    serial=node.next_serial(), observed=self.victim, channel=0, start=0
                )
                self.say(node, lie, now)

    def _noise(self, node: Registrant, other: Registrant, now: float) -> None:
        """Honest messages with a byte changed, and bytes of no meaning."""
        for message in (
            self._introduction(node, other),
            Moved(node.next_serial(), other.key.data, self.victim),
            Registered(1, self.victim, 12346, 240, self.victim, 1),
            Echoed(1, 0, self.victim, 1),
            Asked(node.next_serial(), 7, other.key.data, self._random_bytes(100)),
        ):
            payload = bytearray(message.pack())
            payload[self._random_bytes(1)[0] % len(payload)] = self._random_bytes(1)[0]
            self.lies += 2
            super()._send_packed(node, bytes(payload), now)
            super()._send_packed(node, self._random_bytes(1 + self._random_bytes(1)[0]), now)

    def _introduction(self, node: Registrant, other: Registrant) -> Introduction:
        return Introduction(
            serial=node.next_serial(),
            start=0,
            peer_rtt=other.rtt,
            channel=node.channels.get(other.key.data, 0),
            peer=other.key.data,
            observed=other.observed or self.victim,
            announcement=other.announcement,
        )

    # What it makes of what it ought to say

    def _send_packed(
        self,
        registrant: Registrant,
        payload: bytes,
        now: float,
        endpoint: Endpoint | None = None,
        local: int | None = None,
    ) -> None:
        message = parse_from_server(payload)
        if isinstance(message, Introduction) and self.how == "not at all":
            self._told.append((registrant, message))
        elif isinstance(message, Asked) and self.how == "not at all":
            self._asked.append(message)
        if self.how == "withhold":
            self.lies += 1
            return
        if self.how == "observe" and isinstance(message, Registered | Echoed):
            payload = self._observe(message).pack()
        super()._send_packed(registrant, payload, now, endpoint, local)

    def _observe(self, message: Registered | Echoed) -> Registered | Echoed:
        """Other ports of the victim each time, and any time of day."""
        self.lies += 1
        port = 1024 + int.from_bytes(self._random_bytes(2), "little") % 60000
        seen = self.victim._replace(port=port)
        time = int.from_bytes(self._random_bytes(8), "little")
        if isinstance(message, Echoed):
            return message._replace(observed=seen)
        return message._replace(observed=seen, alternate=self.victim, wall_time=time)

    def _spoil(self, transmit: Transmit) -> list[Transmit]:
        """Changed, again, under another channel, in another's name; the true one last."""
        self.lies += 6
        whole = bytes(transmit.data)
        changed = bytearray(whole)
        changed[RELAY_HEADER_LENGTH + self._random_bytes(1)[0] % 24] ^= 1
        kind, channel = RELAY_HEADER.unpack_from(whole)
        inner = whole[RELAY_HEADER_LENGTH:]
        others = [number for number in self.relay._ends if number != channel]
        copies = [bytes(changed), whole[:-1], whole + b"\0", whole, inner]
        copies += [RELAY_HEADER.pack(kind, number) + inner for number in others]
        return [transmit._replace(data=copy) for copy in (whole, *copies)]


class LyingDriver(server.ServerDriver):
    def run(self) -> None:
        liar = gevent.spawn(self._lie)
        try:
            super().run()
        finally:
            liar.kill()

    def _lie(self) -> None:
        assert isinstance(self._server, LyingServer)
        while True:
            gevent.sleep(TICK)
            now = clock.now()
            self._server.tell(now)
            self._loop.settle(now)

    def _answer(self, request: dict[str, Any]) -> Any:
        if request.get("command") == "lie":
            assert isinstance(self._server, LyingServer)
            self._server.begin(request["how"], Endpoint(*request["victim"]))
            request = {"command": "status"}
        return super()._answer(request)


def main() -> None:
    state = str(Path(sys.argv[1]))
    vars(server)["RendezvousServer"] = LyingServer
    vars(startup)["ServerDriver"] = LyingDriver
    startup.run_server(None, relay=RelayOptions(), places=server_places(state))


if __name__ == "__main__":
    main()
