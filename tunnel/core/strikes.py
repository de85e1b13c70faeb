"""What one side sends in an attempt, and when, once both know where the other's mappings will be.

::

    ours \\ theirs   exact                          a range
    exact           an opener, then pings          a ping to each of its likeliest ports, or to
                                                   random ones, after their openers
    a range         an opener from each socket;    sequential × sequential: the nth to the nth;
                    late a ping from each, too     else from any socket to random ports, evenly
                                                   over LOTTERY_TIME

An opener has a time to live that ends before the peer's NAT. The late pings are for when it ended
before our own outer one; not from hundreds of sockets, for a router that tracks what nobody asked
for would make an entry for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tunnel.core.machine import RandomBytes
from tunnel.core.prediction import MAX_SENDS, PortRange, count_sends
from tunnel.wire.check import PredictionKind
from tunnel.wire.endpoint import Endpoint

LEAD = 0.05
"""Seconds from the start to the first ping, at least: both ends' openers come before."""
OPENER_RATE = 500.0
PING_RATE = 250.0
"""Datagrams a second. Home routers make thousands of entries a second; users of others lost their
internet to bursts of them."""
REPEATS = (0.0, 0.03, 0.08, 0.18, 0.35, 0.7, 1.2, 2.0)
"""Seconds after the first of pings from one socket to one endpoint."""
PASS_SPACING = 0.5
FEW = 64
"""Ports that are all tried three times, for packets get lost; up to 512 twice."""
MOST_LATE = 64
LOTTERY_TIME = 120.0
"""Seconds. Two datagrams meet if each names the other's port while both NATs still remember; so it
pays to send without pause, at the rate at which entries expire."""


class Strike(NamedTuple):
    at: float
    """Seconds after the start."""
    endpoint: Endpoint
    local: int
    is_opener: bool


def plan_strikes(
    ours: PortRange,
    theirs: PortRange,
    locals_: Sequence[int],
    their_sockets: int,
    most: int,
    lifetime: float,
    skew: float,
    random_bytes: RandomBytes,
) -> list[Strike]:
    """In order of time. `most` bounds the entries in our NAT at any moment, each of which it
    forgets after `lifetime` seconds; `skew` is by how many seconds the two starts may differ.
    `their_sockets` is the peer's word: more than MAX_SENDS of them keep nobody waiting."""
    lead = LEAD + skew
    their_sockets = min(their_sockets, MAX_SENDS)
    if ours.size == 1 and theirs.size == 1:
        pings = [Strike(lead + at, theirs.first, locals_[0], False) for at in REPEATS]
        return [Strike(0.0, theirs.first, locals_[0], True), *pings]
    if ours.size == 1:
        return _search(ours, theirs, locals_[0], their_sockets, lead, most, random_bytes)
    if theirs.size == 1:
        return _await(ours, theirs, locals_[:most], lead)
    return _meet(ours, theirs, locals_, lead, most, lifetime, random_bytes)


def _search(
    ours: PortRange,
    theirs: PortRange,
    local: int,
    their_sockets: int,
    lead: float,
    most: int,
    random_bytes: RandomBytes,
) -> list[Strike]:
    start = lead + their_sockets / OPENER_RATE  # After their openers.
    count = min(count_sends(ours, theirs.size, 1, their_sockets), most)
    ports = _choose_ports(theirs, count, random_bytes)
    passes = 3 if count <= FEW else 2 if count <= 512 and count == theirs.size else 1
    length = max(PASS_SPACING, count / PING_RATE)
    return [
        Strike(start + turn * length + number / PING_RATE, _at(theirs, port), local, False)
        for turn in range(passes)
        for number, port in enumerate(ports)
    ]


def _await(ours: PortRange, theirs: PortRange, locals_: Sequence[int], lead: float) -> list[Strike]:
    openers = [
        Strike(number / OPENER_RATE, theirs.first, local, True)
        for number, local in enumerate(locals_)
    ]
    if len(locals_) > MOST_LATE:
        return openers
    if len(locals_) == 1:
        pings = [Strike(lead + 0.1 + at, theirs.first, locals_[0], False) for at in REPEATS]
        return openers + pings
    # When theirs are through: a router that tracks must not see ours before.
    search = count_sends(theirs, ours.size, 1) / PING_RATE
    late = lead + len(locals_) / OPENER_RATE + search + PASS_SPACING
    return openers + [
        Strike(late + number / OPENER_RATE, theirs.first, local, False)
        for number, local in enumerate(locals_)
    ]


def _meet(
    ours: PortRange,
    theirs: PortRange,
    locals_: Sequence[int],
    lead: float,
    most: int,
    lifetime: float,
    random_bytes: RandomBytes,
) -> list[Strike]:
    count = min(count_sends(ours, theirs.size, len(locals_)), most)
    if ours.kind is theirs.kind is PredictionKind.SEQUENTIAL:
        length = max(PASS_SPACING, count / PING_RATE)
        return [
            Strike(
                lead + turn * length + number / PING_RATE,
                _at(theirs, theirs.port(number)),
                locals_[0],
                False,
            )
            for turn in range(3)
            for number in range(count)
        ]
    if PredictionKind.SEQUENTIAL in (ours.kind, theirs.kind):
        rate = PING_RATE  # Before others behind that NAT have taken the ports.
    else:
        rate = count / lifetime
        count = round(count * LOTTERY_TIME / lifetime)
    return [
        Strike(lead + number / rate, _at(theirs, theirs.port(draw)), local, False)
        for number, draw in enumerate(_draw(count, theirs.size, random_bytes))
        for local in (locals_[number % len(locals_)],)
    ]


def _at(theirs: PortRange, port: int) -> Endpoint:
    return Endpoint(theirs.first.host, port)


def _choose_ports(theirs: PortRange, count: int, random_bytes: RandomBytes) -> list[int]:
    """`count` different ports: the likeliest where they are counted, else random ones."""
    if count >= theirs.size or theirs.kind is PredictionKind.SEQUENTIAL:
        return [theirs.port(number) for number in range(min(count, theirs.size))]
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        chosen.update(dict.fromkeys(_draw(count - len(chosen), theirs.size, random_bytes)))
    return [theirs.port(number) for number in chosen]


def _draw(count: int, below: int, random_bytes: RandomBytes) -> list[int]:
    """Random numbers. The bias of the remainder is one in 65,536: ports are no keys."""
    data = random_bytes(4 * count)
    return [int.from_bytes(data[at : at + 4], "little") % below for at in range(0, 4 * count, 4)]
