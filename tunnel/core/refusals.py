"""Why the server refuses something to this node: in words, and what can be done about it."""

from __future__ import annotations

from typing import NamedTuple

from tunnel.wire.rendezvous import RefusalReason, Refused

_NETWORK_BOUND = "remove nodes that are not needed, or use a server of your own"


class Words(NamedTuple):
    code: str
    """For programs."""
    reason: str
    fix: str


WORDS = {
    RefusalReason.TOO_MANY: Words(
        "too-many", "a bound of the server is reached", "wait: the node tries again by itself"
    ),
    RefusalReason.SERVER_FULL: Words(
        "server-full",
        "the server has no place for more nodes or networks",
        "wait: the node tries again by itself; or use a server of your own",
    ),
    RefusalReason.NETWORK_FULL: Words(
        "network-full", "this network has as many nodes as the server admits", _NETWORK_BOUND
    ),
    RefusalReason.SOURCE_FULL: Words(
        "source-full",
        "as many nodes as the server admits are registered from this public address (all of one "
        "NAT, or of one IPv6 /64)",
        "stop nodes behind the same address, or let this one reach the server by another",
    ),
    RefusalReason.TOO_MANY_NETWORKS: Words(
        "too-many-networks",
        "as many networks as the server admits were begun from this public address",
        "start a node of this network elsewhere first, or use a server of your own",
    ),
    RefusalReason.RELAY_PAIRS: Words(
        "relay-pairs",
        "as many pairs of this network as the server admits have the relay",
        "let the server's owner raise --relay-pairs; pairs with a direct path do not need it",
    ),
    RefusalReason.RELAY_QUOTA: Words(
        "relay-quota",
        "this network has used up what the server relays for it",
        "wait, get the pair a direct path (`punchtun doctor PEER`), or let the server's owner "
        "raise --relay-quota",
    ),
    RefusalReason.RELAY_RATE: Words(
        "relay-rate",
        "the server drops what this network relays beyond its rate",
        "get the busy pairs a direct path (`punchtun doctor PEER`), or let the server's owner "
        "raise --relay-rate",
    ),
}
"""Of those that are no answers to a request."""
OF_RELAY = {RefusalReason.RELAY_PAIRS, RefusalReason.RELAY_QUOTA, RefusalReason.RELAY_RATE}
LASTING = {RefusalReason.RELAY_PAIRS: 300.0, RefusalReason.RELAY_RATE: 30.0}
"""Seconds after which it is no longer true unless the server says so again."""


class StandingRefusal(NamedTuple):
    reason: RefusalReason
    until: int | None
    """Seconds since the Unix epoch, by the server's clock; None: not foreseeable."""
    told_at: float

    @property
    def words(self) -> Words:
        return WORDS[self.reason]

    def stands(self, now: float, server_time: float) -> bool:
        if self.until is not None:
            return server_time < self.until
        return now - self.told_at < LASTING.get(self.reason, float("inf"))

    def describe(self) -> dict[str, str | int | None]:
        """``server.refusal`` of ``punchtun status --json``."""
        return self.words._asdict() | {"until": self.until}


def take_refusal(message: Refused, now: float) -> StandingRefusal | None:
    """None: the answer to a request of somebody else's."""
    if message.request or message.reason not in WORDS:
        return None
    return StandingRefusal(message.reason, message.until, now)
