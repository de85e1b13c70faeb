"""How large a datagram reaches the server whole: padded probes, all sizes at once, as often as
``TRIES`` until they are answered. No state machine of its own: asking, or not."""

from __future__ import annotations

from tunnel.core.machine import RandomBytes, Transmit, draw_number
from tunnel.core.mtu_discovery import IPV4_HEADER, IPV6_HEADER, UDP_HEADER
from tunnel.core.session import Session
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.rendezvous import Probe
from tunnel.wire.transport import TRANSPORT_MINIMUM

SIZES = (1500, 1492, 1480, 1460, 1440, 1420, 1400, 1380, 1360, 1340, 1320, 1300, 1280, 1024, 576)
"""Bytes of an IP datagram: Ethernet, PPPoE, tunnels, the least of IPv6, the least of IPv4."""
TRIES = 3
PATIENCE = 0.5


class SizeProbe:
    def __init__(self, random_bytes: RandomBytes) -> None:
        self.largest: int | None = None
        """That was answered."""
        self._random_bytes = random_bytes
        self._asked: dict[int, int] = {}
        self._tries = 0
        self._at: float | None = None
        self._is_due = False

    def start(self, now: float) -> None:
        self._tries, self._is_due, self._at = 1, True, now + PATIENCE

    def receive(self, transaction: int) -> bool:
        """Whether it answers one of these."""
        size = self._asked.pop(transaction, None)
        if size is None:
            return False
        self.largest = max(size, self.largest or 0)
        if self.largest == SIZES[0]:
            self._at = None
        return True

    def take_transmits(
        self, session: Session, server: Endpoint, local: int, now: float
    ) -> list[Transmit]:
        if not self._is_due:
            return []
        self._is_due = False
        # Sessions with the server have the shortest tag: they offer no other cipher.
        header = (IPV6_HEADER if server.is_ipv6 else IPV4_HEADER) + UDP_HEADER + TRANSPORT_MINIMUM
        transmits = []
        for size in SIZES:
            if size <= (self.largest or 0):
                break
            transaction = draw_number(self._random_bytes)
            payload = Probe(transaction, 0).pack().ljust(size - header, b"\0")
            frame = session.seal(payload, now)
            if frame is not None:
                self._asked[transaction] = size
                transmits.append(Transmit(frame, server, local=local, dont_fragment=True))
        return transmits

    def get_timer(self) -> float | None:
        return self._at

    def handle_timer(self, now: float) -> None:
        if self._at is None or now < self._at:
            return
        if self._tries >= TRIES:
            self._at = None
            return
        self._tries += 1
        self._is_due, self._at = True, now + PATIENCE
