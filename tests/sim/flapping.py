"""A direct pair under traffic and a disturbance: what it did, and what it cost.

``python -m tests.sim.flapping`` prints the whole table; ``test_flapping.py`` runs a part of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from tests.sim.nat import Nat
from tests.sim.topology import Direction
from tests.sim.trace import Why
from tests.sim.world import BOTH_WAYS, SERVER_PORT, World
from tunnel.core.events import PathChanged, PathDoubted, PathRepaired
from tunnel.wire.endpoint import Endpoint

SETTLING = 5.0
SPIKE_EVERY, SPIKE_FOR, SPIKE = 2.0, 0.06, 0.3
Disturb = Callable[[World], None]


class LossyNat(Nat):
    """Loses what goes between the peers, and nothing that goes to or comes from the server."""

    loss = 0.0

    def outbound(self, source: Endpoint, destination: Endpoint, now: float) -> Endpoint | Why:
        external = super().outbound(source, destination, now)
        return Why.LOSS if self._loses(destination) else external

    def inbound(self, source: Endpoint, destination: Endpoint, now: float) -> Endpoint | Why:
        inside = super().inbound(source, destination, now)
        return Why.LOSS if self._loses(source) else inside

    def _loses(self, remote: Endpoint) -> bool:
        return remote.port not in (SERVER_PORT, SERVER_PORT + 1) and (
            self.random.random() < self.loss
        )


@dataclass
class Figures:
    """Of one run, both directions taken together."""

    what: str
    seed: int
    seconds: float
    sent: int
    lost: int
    copies: int
    """Packets delivered to an application a second time."""
    changes: int
    to_relay: int
    doubts: int
    in_doubt: float
    """Share of the time in doubt, the mean of both ends."""
    sent_in_doubt: int
    lost_in_doubt: int
    """Packets sent twice, and those of them of which no copy arrived."""
    wire_bytes: int
    """What left the two nodes, with IP and UDP headers."""
    relayed_bytes: int
    dropped: int
    """Datagrams that the network lost: the disturbance did happen."""
    latest: float
    """Seconds the slowest packet took."""

    @property
    def effective_loss(self) -> float:
        return self.lost / self.sent

    @property
    def changes_a_minute(self) -> float:
        """Of one end."""
        return self.changes / 2 * 60 / self.seconds


def build(seed: int, rtt: float, *, nat: type[Nat] = Nat) -> World:
    """A direct pair, each behind a NAT, with that round trip between them; the server is halfway.
    The relayed way takes as long as the direct one, and half a millisecond more."""
    world = World(seed, delay=0.00025)
    for name in "ab":
        world.add_node(name, nat(mapping_timeout=120), delay=max(0.0, rtt / 4 - 0.00025))
    assert world.wait_until_direct(timeout=20)
    world.net.run_for(SETTLING + 4 * rtt)
    assert world.is_direct()
    return world


def run(
    what: str,
    disturb: Disturb,
    *,
    seed: int = 1,
    rtt: float = 0.04,
    seconds: float = 60.0,
    size: int = 200,
    nat: type[Nat] = Nat,
) -> Figures:
    """100 packets a second of `size` bytes each way, disturbed from the start."""
    world = build(seed, rtt, nat=nat)
    net = world.net
    disturb(world)
    before = net.now
    spent = sum(net.trace.statistics[name].bytes_sent for name in "ab")
    relayed = world.server.relay.forwarded_bytes
    lost = net.trace.dropped_because(Why.LOSS)
    streams = [world.stream(*way, seconds, size=size) for way in BOTH_WAYS]
    net.run_for(seconds)
    wire = sum(net.trace.statistics[name].bytes_sent for name in "ab") - spent
    end = net.now
    net.run_for(2 + 3 * rtt)
    changed = [
        event
        for name in "ab"
        for at, event in world.hosts[name].events
        if isinstance(event, PathChanged) and before < at <= end
    ]
    spans = {name: list(_doubts(world, name, before, end)) for name in "ab"}
    doubts = spans["a"] + spans["b"]
    twice = [
        (stream, number)
        for name, stream in zip("ab", streams, strict=True)
        for number, at in enumerate(stream.sent)
        if any(since <= at < until for since, until in spans[name])
    ]
    arrivals = {id(stream): stream.arrivals for stream in streams}
    return Figures(
        what,
        seed,
        seconds,
        sent=sum(len(stream.sent) for stream in streams),
        lost=sum(stream.lost for stream in streams),
        copies=sum(stream.copies - len(stream.arrivals) for stream in streams),
        changes=len(changed),
        to_relay=sum(1 for event in changed if event.after == "relay"),
        doubts=len(doubts),
        in_doubt=sum(until - since for since, until in doubts) / (2 * seconds),
        sent_in_doubt=len(twice),
        lost_in_doubt=sum(number not in arrivals[id(stream)] for stream, number in twice),
        wire_bytes=wire,
        relayed_bytes=world.server.relay.forwarded_bytes - relayed,
        dropped=net.trace.dropped_because(Why.LOSS) - lost,
        latest=max(
            at - stream.sent[number] for stream in streams for number, at in stream.arrivals.items()
        ),
    )


@lru_cache
def undisturbed(rtt: float = 0.04, seconds: float = 60.0, size: int = 200) -> Figures:
    """What every other run of these parameters is compared with."""
    return run("nothing", lambda world: None, rtt=rtt, seconds=seconds, size=size)


def _doubts(world: World, name: str, after: float, until: float) -> Iterable[tuple[float, float]]:
    """The spans of doubt at one end."""
    since = None
    for at, event in world.hosts[name].events:
        if not after < at <= until:
            continue
        if isinstance(event, PathDoubted):
            since = at
        elif since is not None and isinstance(event, (PathRepaired, PathChanged)):
            yield since, at
            since = None
    if since is not None:
        yield since, until


# Disturbances


def loss_at_home(share: float) -> Disturb:
    """a's own line loses, whatever it carries: the relay is no better than the direct path."""
    return lambda world: world.hosts["a"].link.set(loss=share)


def loss_between(share: float) -> Disturb:
    """Only what goes directly from peer to peer is lost."""

    def disturb(world: World) -> None:
        nat = world.net.routers["nat-a0"]
        assert isinstance(nat, LossyNat)
        nat.loss = share

    return disturb


def jitter(*, in_order: bool) -> Disturb:
    """10 to 150 ms extra each way, on a's line: in a queue, or each datagram for itself."""

    def disturb(world: World) -> None:
        for direction in _line(world):
            direction.delay += 0.01
            direction.jitter = 0.14
            direction.in_order = in_order

    return disturb


def spikes(world: World) -> None:
    """Now and then everything on a's line takes 300 ms longer."""
    up, down = _line(world)

    def set_delay(direction: Direction, delay: float) -> None:
        direction.delay = delay

    at = 0.0
    while at < 60:
        at += SPIKE_EVERY * (0.5 + world.net.random.random())
        direction = world.net.random.choice((up, down))
        world.net.call_later(at, set_delay, direction, direction.delay + SPIKE)
        world.net.call_later(at + SPIKE_FOR, set_delay, direction, direction.delay)


def _line(world: World) -> tuple[Direction, Direction]:
    link = world.hosts["a"].link
    return link.up, link.down


HEADINGS = (
    "what                  seed  sent   lost  loss%  copies chg/min relay  doubts doubt%"
    "  twice  lost%  bytes  relayed%  net lost  slowest"
)


def row(figures: Figures, base: Figures) -> str:
    return (
        f"{figures.what:22}{figures.seed:4}{figures.sent:7}{figures.lost:6}"
        f"{figures.effective_loss:7.1%}{figures.copies:7}{figures.changes_a_minute:8.1f}"
        f"{figures.to_relay:6}{figures.doubts:8}{figures.in_doubt:7.1%}"
        f"{figures.sent_in_doubt:7}{figures.lost_in_doubt / max(1, figures.sent_in_doubt):7.1%}"
        f"{figures.wire_bytes / base.wire_bytes:7.3f}"
        f"{figures.relayed_bytes / base.wire_bytes:9.1%}{figures.dropped:10}"
        f"{figures.latest * 1000:7.0f} ms"
    )


def main() -> None:
    seeds = [int(argument) for argument in sys.argv[1:]] or [1, 2, 3]
    losses = {f"home {share:.0%}": loss_at_home(share) for share in (0.05, 0.1, 0.2, 0.3)}
    delays = {
        "jitter, in order": jitter(in_order=True),
        "jitter, reordering": jitter(in_order=False),
        "spikes of 300 ms": spikes,
    }
    for rtt, size in ((0.04, 24), (0.04, 200), (0.04, 1200), (0.001, 200), (0.7, 200)):
        base = undisturbed(rtt=rtt, size=size)
        print(f"\nRTT {rtt * 1000:.0f} ms, packets of {size} bytes\n{HEADINGS}\n{row(base, base)}")
        for what, disturb in (losses | (delays if size == 200 else {})).items():
            for seed in seeds:
                print(row(run(what, disturb, seed=seed, rtt=rtt, size=size), base), flush=True)
        for share in (0.1, 0.3):
            for seed in seeds if size == 200 else ():
                figures = run(
                    f"between {share:.0%}",
                    loss_between(share),
                    seed=seed,
                    rtt=rtt,
                    size=size,
                    nat=LossyNat,
                )
                print(row(figures, base), flush=True)


if __name__ == "__main__":
    main()
