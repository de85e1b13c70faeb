"""Two PortGuessing that talk through a scripted relay and server, in virtual time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any

from tests.core.ends import seeded
from tunnel.core.attempt import GuessState
from tunnel.core.checks import Outgoing
from tunnel.core.nat_mapping import ADDRESS_AND_PORT, INDEPENDENT
from tunnel.core.path import RELAYED
from tunnel.core.port_guessing import PortGuessing
from tunnel.core.sampling import Asked
from tunnel.wire.check import Phase, Prediction, PredictionKind, Refusal, parse_check
from tunnel.wire.endpoint import Endpoint

IDLE, SAMPLING, ASKING, STRIKING = GuessState
SERVER = Endpoint("198.51.100.1", 12345)
VICTIM = "198.51.100.99"
RTT = 0.04
Lose = Callable[["End", Prediction], bool]


class Traversal:
    """As much of one as is asked; a test says what becomes of it."""

    def __init__(self) -> None:
        self.best: Any = None
        self.relay: Any = SimpleNamespace(rtt=RTT, is_alive=lambda now: True)
        self.stuck = False
        self.opener_ttl = 4
        self.locals_in_use: set[int] = set()
        self.transactions: list[int] = []

    @property
    def needs_path(self) -> bool:
        return self.best is None

    @property
    def stuck_from(self) -> float | None:
        return float("-inf") if self.stuck else None

    def expect_answers_to(self, transaction: int) -> None:
        self.transactions.append(transaction)

    def succeed(self, local: int) -> None:
        self.best, self.stuck = object(), False
        self.locals_in_use = {local}


class End:
    """A node; `host` is its NAT's address, `allocate` that NAT's next port: the same for all of a
    socket's destinations if it `is_steady`."""

    def __init__(
        self, name: str, number: int, seed: int, kind: str = "exact", *, may_guess: bool = True
    ) -> None:
        self.name = name
        self.host = f"203.0.113.{number}"
        self.kind = kind
        self.server_answers = True
        self.registration = SimpleNamespace(
            link=SimpleNamespace(endpoint=SERVER, endpoints=[SERVER], is_on_stream=False),
            is_connected=True,
            alternate_port=12346,
            rtt=RTT,
        )
        behaviour = INDEPENDENT if kind == "exact" else ADDRESS_AND_PORT
        self.mapping = SimpleNamespace(behaviour=behaviour)
        nat = SimpleNamespace(mapping=lambda now: self.mapping)
        registration: Any = self.registration
        self.key = bytes([number]) * 32
        self.guessing = PortGuessing(
            self.key,
            registration,
            nat,
            seeded(seed),
            may_guess=may_guess,  # type: ignore[arg-type]
        )
        self.peers: dict[str, Any] = {}
        self.probes: list[tuple[float, Asked]] = []
        self.sent: list[tuple[float, Prediction]] = []
        self.struck: list[tuple[float, Outgoing]] = []
        self.opened: set[int] = set()
        self.released: list[int] = []
        self.is_credible = True
        self._next = 20000
        self._draw = seeded(seed + 100)
        self._mapped: dict[tuple[int, Endpoint], int] = {}

    @property
    def state(self) -> GuessState:
        return self.guessing.state

    def observed(self, local: int, destination: Endpoint) -> Endpoint:
        """Where `destination` sees that socket."""
        if self.kind == "exact":
            return Endpoint(self.host, 40000 + local)
        key = local, destination
        if key not in self._mapped:
            if self.kind == "sequential":
                self._next += 1
                self._mapped[key] = self._next
            else:
                width = 64000 if self.kind == "random" else int(self.kind)
                self._mapped[key] = 1100 + int.from_bytes(self._draw(4), "little") % width
        return Endpoint(self.host, self._mapped[key])

    def handle_timer(self, now: float) -> None:
        """As a node does, whose every peer something has happened to."""
        for peer in self.peers.values():
            self.guessing.note(peer)
        self.guessing.handle_timer(self.peers.values(), now)

    def peer(self, of: End) -> Any:
        return self.peers[of.name]

    def phases(self) -> list[Phase]:
        return [prediction.phase for _, prediction in self.sent]

    def refusals(self) -> list[Refusal]:
        declined = [p for _, p in self.sent if p.phase is Phase.DECLINE]
        return [Refusal(prediction.kind) for prediction in declined]


class Pair:
    """`a` has the smaller key, so it is the one that asks."""

    def __init__(
        self,
        a: str = "exact",
        b: str = "exact",
        *,
        seed: int = 1,
        delay: float = RTT / 2,
        may_guess: tuple[bool, bool] = (True, True),
    ) -> None:
        self.now = 1000.0
        self.delay = delay
        self.a = End("a", 1, seed, a, may_guess=may_guess[0])
        self.b = End("b", 2, seed + 1, b, may_guess=may_guess[1])
        self.ends = [self.a, self.b]
        for one, other in ((self.a, self.b), (self.b, self.a)):
            one.peers[other.name] = make_peer(other)
        self.lose: Lose = lambda end, prediction: False
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()

    def add(self, end: End, knows: End) -> None:
        """One more node, which has one peer."""
        self.ends.append(end)
        end.peers[knows.name], knows.peers[end.name] = make_peer(knows), make_peer(end)

    def get_stuck(self, *ends: End) -> None:
        for end in ends or self.ends:
            for peer in end.peers.values():
                peer.traversal.stuck = True
            end.handle_timer(self.now)
            self.settle(end)

    def settle(self, end: End) -> None:
        """What the node does after each input."""
        for asked in end.guessing.take_probes():
            end.probes.append((self.now, asked))
            end.opened.add(asked.local)
            if end.server_answers:
                observed = end.observed(asked.local, asked.endpoint)
                self.later(RTT, self._echo, end, asked.probe.transaction, observed)
        for to, check in end.guessing.take_messages():
            if check.endpoint == RELAYED:
                assert check.payload is not None
                self._relay(end, to, check.payload)
            else:
                assert check.endpoint.port != 0
                assert check.local in end.guessing.sockets._taken, "a socket that was given up"
                end.opened.add(check.local)
                end.struck.append((self.now, check))
        for local in end.guessing.sockets.take_released():
            for peer in end.peers.values():
                assert local not in peer.traversal.locals_in_use
            end.released.append(local)

    def later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        item = (self.now + seconds, next(self._number), lambda: call(*arguments))
        heapq.heappush(self._queue, item)

    def hear(self, end: End, prediction: Prediction, *, of: End | None = None) -> None:
        """`end` is told that by its peer."""
        other = of or next(e for e in self.ends if e is not end)
        end.guessing.receive(prediction, end.peer(other), other.is_credible, self.now)
        self.settle(end)

    def run(self, seconds: float) -> None:
        end_at = self.now + seconds
        for _ in range(100_000):
            timers = [(end.guessing.get_timer(), n) for n, end in enumerate(self.ends)]
            due = min(((at, n) for at, n in timers if at is not None), default=None)
            queued = self._queue[0][0] if self._queue else None
            times = [at for at in (queued, due[0] if due else None) if at is not None]
            if not times or min(times) > end_at:
                self.now = end_at
                return
            self.now = max(self.now, min(times))
            if queued is not None and queued <= min(times):
                heapq.heappop(self._queue)[2]()
            else:
                assert due is not None
                end = self.ends[due[1]]
                end.handle_timer(self.now)
                timer = end.guessing.get_timer()
                self.settle(end)
                assert timer is None or timer > self.now or self.state_changed(end), "it spins"
        raise AssertionError("it spins")

    def rest(self) -> None:
        """No pair is stuck any more; what is under way comes to its end."""
        for end in self.ends:
            for peer in end.peers.values():
                peer.traversal.stuck = False
        self.run(300)

    def state_changed(self, end: End) -> bool:
        """An attempt that has just ended makes room for another at the same moment; no other timer
        may be due again at once."""
        return end.state is IDLE

    def run_until(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        end_at = self.now + timeout
        while not condition():
            assert self.now < end_at, "it does not happen"
            self.run(0.001)

    def _echo(self, end: End, transaction: int, observed: Endpoint) -> None:
        end.guessing.receive_echoed(transaction, observed, self.now)
        self.settle(end)

    def _relay(self, end: End, to: Any, payload: bytes) -> None:
        prediction = parse_check(payload)
        assert isinstance(prediction, Prediction)
        end.sent.append((self.now, prediction))
        other = next(e for e in self.ends if e.key == to.key.data)
        if not self.lose(end, prediction):
            self.later(self.delay, lambda: self.hear(other, prediction, of=end))


def make_peer(end: End) -> Any:
    return SimpleNamespace(
        name=end.name, key=SimpleNamespace(data=end.key), has_keys=True, traversal=Traversal()
    )


def ask(
    end: End,
    number: int = 7,
    kind: PredictionKind = PredictionKind.EXACT,
    *,
    phase: Phase = Phase.ASK,
    first: int = 40016,
    last: int = 0,
    host: str = "",
    sockets: int = 1,
    wish: int = 0,
    start: int = 0,
) -> Prediction:
    """What `end` might say."""
    endpoint = Endpoint(host or end.host, first)
    return Prediction(phase, kind, wish, number, sockets, start, endpoint, last or first)
