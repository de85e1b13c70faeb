"""Whether our NAT brings a datagram back that is for its own outside (hairpinning, RFC 4787 §6).

Two sockets of ours send to each other's external endpoint, as two nodes behind one NAT would: both,
because the NAT may filter what comes back like anything else.

    =========  ====================================  ==========================================
    state      meaning                               left by
    =========  ====================================  ==========================================
    idle       nothing asked, or the answer known    ``start`` → asking
    asking     a token is awaited                    it arrives, or ``TRIES`` in vain → idle
    =========  ====================================  ==========================================
"""

from __future__ import annotations

from tunnel.core.machine import RandomBytes, Transmit
from tunnel.noise.primitives import constant_time_equal
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.feeler import TOKEN_LENGTH, Hairpin

TRIES = 3
PATIENCE = 0.4
"""Seconds: it only goes to our NAT and back."""


class HairpinDiscovery:
    def __init__(self, random_bytes: RandomBytes) -> None:
        self.works: bool | None = None
        """None: not known yet, or there is no NAT."""
        self._random_bytes = random_bytes
        self._token = b""
        self._ends: tuple[tuple[int, Endpoint], ...] = ()
        """A socket, and the external endpoint of the other one."""
        self._tries = 0
        self._at: float | None = None
        self._transmits: list[Transmit] = []

    @property
    def is_running(self) -> bool:
        return self._at is not None

    def start(self, one: tuple[int, Endpoint], other: tuple[int, Endpoint], now: float) -> None:
        """Each is a socket of ours and where it is seen."""
        self._token = self._random_bytes(TOKEN_LENGTH)
        self._ends = ((one[0], other[1]), (other[0], one[1]))
        self._tries = 0
        self._send(now)

    def stop(self) -> None:
        """Forget what is known."""
        self.works, self._at, self._token = None, None, b""
        self._transmits.clear()

    def take_transmits(self) -> list[Transmit]:
        transmits, self._transmits = self._transmits, []
        return transmits

    def receive(self, token: bytes) -> bool:
        """A token came in; whether it was ours."""
        if not self._token or not constant_time_equal(token, self._token):
            return False
        self.works, self._at = True, None
        return True

    def get_timer(self) -> float | None:
        return self._at

    def handle_timer(self, now: float) -> None:
        if self._at is None or now < self._at:
            return
        if self._tries < TRIES:
            self._send(now)
        else:
            self.works, self._at = False, None

    def _send(self, now: float) -> None:
        datagram = Hairpin(self._token).pack()
        self._transmits += [Transmit(datagram, to, local=local) for local, to in self._ends]
        self._tries += 1
        self._at = now + PATIENCE
