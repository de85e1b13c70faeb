"""The relay: forwards between the two ends of a channel, and never looks inside.

A channel has two numbers, one for each end. A datagram must come from the endpoint its end was
last seen at by an authentic frame, and goes to the other end's, once that has shown that it
receives there (``return_route.py``); never to an address that a packet names.
"""

from __future__ import annotations

from collections import Counter

from tunnel.core.machine import RandomBytes, Transmit
from tunnel.core.registrant import Registrant
from tunnel.core.relay_allowance import RelayAllowance
from tunnel.core.relay_tally import PairTally, RelayTally
from tunnel.errors import AuthenticationFailed, Malformed
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.relay import RELAY, RELAY_HEADER, RELAY_HEADER_LENGTH
from tunnel.wire.rendezvous import RefusalReason


class RelayRefused(AuthenticationFailed):
    """The network has used up what it may have relayed, and `owner` sent more."""

    def __init__(self, owner: Registrant, reason: RefusalReason) -> None:
        super().__init__(f"over the network's {reason.words}")
        self.owner = owner
        self.reason = reason


class Relay:
    def __init__(self, random_bytes: RandomBytes, max_per_network: int, max_channels: int) -> None:
        self._random_bytes = random_bytes
        self._max_per_network = max_per_network
        self._max_channels = max_channels
        self._per_network: Counter[bytes] = Counter()
        self._ends: dict[int, tuple[Registrant, Registrant, int, PairTally]] = {}
        """Number → its owner, the other end, the other end's number, what the pair has had."""
        self.tally = RelayTally()
        self.forwarded_datagrams = 0
        self.forwarded_bytes = 0

    def __len__(self) -> int:
        return len(self._ends) // 2

    def open_channel(self, one: Registrant, other: Registrant) -> bool:
        """Agree on numbers for the pair, unless it has them. False: a bound is reached."""
        if other.key.data in one.channels:
            return True
        network = one.network or b""
        if len(self) >= self._max_channels or self._per_network[network] >= self._max_per_network:
            return False
        self._per_network[network] += 1
        first = self._draw()
        second = self._draw(first)
        one.channels[other.key.data] = first
        other.channels[one.key.data] = second
        tally = self.tally.open(one.network or b"")
        self._ends[first] = (one, other, second, tally)
        self._ends[second] = (other, one, first, tally)
        return True

    def close_channels(self, registrant: Registrant) -> None:
        for number in registrant.channels.values():
            _, other, second, tally = self._ends.pop(number)
            self.tally.close(tally)
            self._ends.pop(second, None)
            other.channels.pop(registrant.key.data, None)
            self._close_one(registrant.network or b"")
        registrant.channels.clear()

    def _close_one(self, network: bytes) -> None:
        self._per_network[network] -= 1
        if not self._per_network[network]:
            del self._per_network[network]

    def forward(
        self,
        datagram: bytes,
        source: Endpoint,
        now: float,
        local: int,
        allowance: RelayAllowance,
    ) -> Transmit:
        """The datagram for the other end. Raises Malformed, AuthenticationFailed, RelayRefused."""
        if len(datagram) <= RELAY_HEADER_LENGTH:
            raise Malformed("relay length")
        kind, number = RELAY_HEADER.unpack_from(datagram)
        end = self._ends.get(number)
        if kind != RELAY or end is None:
            raise AuthenticationFailed("relay: unknown channel")
        owner, other, second, tally = end
        if not owner.is_at(source, local):
            raise AuthenticationFailed("relay: not from the channel's owner")
        target = other.endpoint
        if target is None:
            raise AuthenticationFailed("relay: the other end is away")
        if not other.may_be_sent(target, len(datagram)):
            raise AuthenticationFailed("relay: the other end has not shown that it receives there")
        if not owner.relay_limit.take(now, len(datagram)):
            raise AuthenticationFailed("relay: over the rate limit")
        if allowance.is_limited:
            pair = min(number, second)
            refusal = allowance.take(owner.network or b"", pair, now, len(datagram))
            if refusal is not None:
                raise RelayRefused(owner, refusal)
        self.forwarded_datagrams += 1
        self.forwarded_bytes += len(datagram)
        tally.network.relayed_bytes += len(datagram)
        if tally.window != self.tally.window or now >= self.tally.ends_at:
            self.tally.turn(tally, now)
        header = RELAY_HEADER.pack(RELAY, second)
        return Transmit(header + datagram[RELAY_HEADER_LENGTH:], target, None, other.local)

    def _draw(self, other: int = 0) -> int:
        while True:
            number = int.from_bytes(self._random_bytes(4), "little")
            if number not in (0, other) and number not in self._ends:
                return number
