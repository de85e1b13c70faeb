"""Tiny machines with which the simulator itself is tested: an echo, a sender, and a puncher with
its introducer. No protocol of ours, no cryptography."""

from __future__ import annotations

from collections.abc import Sequence

from tunnel.core.machine import Buffer, Transmit
from tunnel.wire.endpoint import Endpoint

PING_INTERVAL = 0.1
PUNCH_DURATION = 3.0
KEEPALIVE_INTERVAL = 15.0


class Sender:
    """Sends what it is told, keeps what it receives, and has no timer."""

    def __init__(self) -> None:
        self.received: list[tuple[float, bytes, Endpoint, int]] = []
        self.batches: list[int] = []
        self._outgoing: list[Transmit] = []

    def send(self, data: bytes, to: Endpoint, **fields: int) -> None:
        self._outgoing.append(Transmit(data, to, **fields))

    def receive_datagrams(
        self, datagrams: list[Buffer], source: Endpoint, now: float, local: int
    ) -> Sequence[Buffer] | None:
        self.batches.append(len(datagrams))
        for datagram in datagrams:
            self.received.append((now, bytes(datagram), source, local))
        return None

    def datagrams_to_send(self, now: float) -> list[Transmit]:
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def get_timer(self) -> float | None:
        return None

    def handle_timer(self, now: float) -> None:
        pass


class Echo(Sender):
    """Answers every datagram with the source it saw, from the socket it came in at."""

    def receive_datagrams(
        self, datagrams: list[Buffer], source: Endpoint, now: float, local: int
    ) -> Sequence[Buffer] | None:
        super().receive_datagrams(datagrams, source, now, local)
        for _ in datagrams:
            self.send(str(source).encode(), source, local=local)
        return None


class Introducer(Sender):
    """Tells each of two punchers where it saw the other, both at the same moment."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[bytes, Endpoint] = {}

    def receive_datagrams(
        self, datagrams: list[Buffer], source: Endpoint, now: float, local: int
    ) -> Sequence[Buffer] | None:
        self.seen[bytes(datagrams[-1])] = source
        if len(self.seen) == 2:
            one, other = self.seen.values()
            self.send(f"introduce {other.host} {other.port}".encode(), one)
            self.send(f"introduce {one.host} {one.port}".encode(), other)
        return None


class Puncher(Sender):
    """Registers, pings wherever the peer was seen or is seen, and stays on what answered."""

    def __init__(self, name: str, server: Endpoint, now: float, hesitation: float = 0.0) -> None:
        super().__init__()
        self.name = name.encode()
        self.server = server
        self.hesitation = hesitation
        self.targets: set[Endpoint] = set()
        self.path: Endpoint | None = None
        self.path_since = 0.0
        self._ends = 0.0
        self._next: float | None = now

    def receive_datagrams(
        self, datagrams: list[Buffer], source: Endpoint, now: float, local: int
    ) -> Sequence[Buffer] | None:
        packets: list[Buffer] = []
        for datagram in datagrams:
            word, *rest = bytes(datagram).split(b" ")
            if word == b"introduce" and source == self.server:
                self.targets = {Endpoint(rest[0].decode(), int(rest[1]))}
                if self._ends < now:
                    self._next = now + self.hesitation
                    self._ends = self._next + PUNCH_DURATION
            elif word == b"ping":
                if now >= self._ends - PUNCH_DURATION:
                    self.send(b"pong", source)
                self.targets.add(source)
            elif word == b"pong" and self.path is None:
                self.path, self.path_since = source, now
            elif word == b"packet":
                packets.append(rest[0])
        return packets

    def send_packets(self, packets: list[bytes], now: float) -> None:
        for packet in packets:
            if self.path is not None:
                self.send(b"packet " + packet, self.path)

    def get_timer(self) -> float | None:
        return self._next

    def handle_timer(self, now: float) -> None:
        if self._next is None or now < self._next:
            return
        if now < self._ends and self.path is None:
            for target in sorted(self.targets):
                self.send(b"ping", target)
            self._next = now + PING_INTERVAL
        else:
            self.send(self.name, self.server)
            if self.path is not None:
                self.send(b"ping", self.path)
            self._next = now + KEEPALIVE_INTERVAL
