"""Two sessions in virtual time. The transitions are those of the table in session.py."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.core.ends import Clock, key, seeded
from tunnel.constants import REJECT_AFTER_TIME, REKEY_AFTER_TIME, REKEY_ATTEMPT_TIME
from tunnel.core.handshakes import CookieDemanded, HandshakeReceiver
from tunnel.core.indices import IndexTable
from tunnel.core.session import (
    INITIATION_SPACING,
    MAX_INITIATIONS,
    RETRANSMIT,
    Session,
    SessionTimes,
)
from tunnel.errors import AuthenticationFailed, Malformed
from tunnel.noise.handshake import PUNCHTUN, Construction
from tunnel.noise.keys import PresharedKey
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.handshake import (
    COOKIE_REPLY,
    INITIATION,
    RESPONSE,
    parse_cookie_reply,
    parse_initiation,
    parse_response,
)
from tunnel.wire.transport import TRANSPORT, parse_header

Lose = Callable[[float, "End", bytes], bool]
PRESHARED = PresharedKey(b"p" * 32)


def nothing_is_lost(now: float, sender: End, datagram: bytes) -> bool:
    return False


class End:
    """One session with its node around it: what receives initiations and counts drops."""

    def __init__(
        self,
        clock: Clock,
        number: int,
        other: int,
        *,
        preshared: PresharedKey = PRESHARED,
        calm_rate: float = 200.0,
        times: SessionTimes | None = None,
        may_initiate: bool = True,
        may_use_aegis: bool = True,
    ) -> None:
        self.clock = clock
        self.endpoint = Endpoint(f"192.0.2.{number}", number)
        self.indices: IndexTable[Session] = IndexTable(seeded(number))
        self.session = Session(
            construction=PUNCHTUN,
            static=key(number),
            remote_static=key(other).public_key,
            preshared=preshared,
            indices=self.indices,
            random_bytes=seeded(100 + number),
            wall_clock=clock.wall,
            times=times or SessionTimes(),
            may_initiate=may_initiate,
            may_use_aegis=may_use_aegis,
        )
        self.receiver = HandshakeReceiver(PUNCHTUN, key(number), seeded(200 + number), calm_rate)
        self.payloads: list[bytes] = []
        self.drops: list[str] = []
        self.sent: list[tuple[float, bytes]] = []

    def receive(self, datagram: bytes, source: Endpoint) -> list[bytes]:
        now = self.clock.now
        try:
            if datagram[0] == INITIATION:
                received = self.receiver.receive(datagram, source, now)
                response = self.session.receive_initiation(received, now)
                return [] if response is None else [response]
            if datagram[0] == RESPONSE:
                self.session.receive_response(parse_response(datagram), now)
                keepalive = self.session.seal(b"", now)
                return [] if keepalive is None else [keepalive]
            if datagram[0] == COOKIE_REPLY:
                self.session.receive_cookie(parse_cookie_reply(datagram), now)
            elif datagram[0] == TRANSPORT:
                receiver, counter = parse_header(datagram)
                self.payloads.append(self.session.open(receiver, counter, datagram, now))
        except CookieDemanded as demand:
            return [demand.datagram]
        except (AuthenticationFailed, Malformed) as error:
            self.drops.append(str(error))
        return []


class Pair:
    """A and B, `delay` seconds apart."""

    def __init__(
        self,
        delay: float = 0.05,
        lose: Lose = nothing_is_lost,
        a_may_use_aegis: bool = True,
        **b: object,
    ) -> None:
        self.clock = Clock()
        self.start = self.clock.now
        self.a = End(self.clock, 1, 2, may_use_aegis=a_may_use_aegis)
        self.b = End(self.clock, 2, 1, **b)  # type: ignore[arg-type]
        self.delay = delay
        self.lose = lose
        self._queue: list[tuple[float, int, End, End, bytes]] = []
        self._count = 0

    def other(self, end: End) -> End:
        return self.b if end is self.a else self.a

    def send(self, end: End, datagram: bytes) -> None:
        end.sent.append((self.clock.now - self.start, datagram))
        if not self.lose(self.clock.now - self.start, end, datagram):
            self._count += 1
            to = self.other(end)
            heapq.heappush(
                self._queue, (self.clock.now + self.delay, self._count, end, to, datagram)
            )

    def settle(self) -> None:
        for end in (self.a, self.b):
            for datagram in end.session.take_datagrams():
                self.send(end, datagram)

    def run(self, seconds: float) -> None:
        until = self.clock.now + seconds
        self.settle()
        while True:
            timers = [end.session.get_timer() for end in (self.a, self.b)]
            at = min((t for t in timers if t is not None), default=until + 1)
            if self._queue:
                at = min(at, self._queue[0][0])
            if at > until:
                break
            self.clock.now = max(at, self.clock.now)
            if self._queue and self._queue[0][0] <= self.clock.now:
                _, _, sender, to, datagram = heapq.heappop(self._queue)
                for answer in to.receive(datagram, sender.endpoint):
                    self.send(to, answer)
            for end in (self.a, self.b):
                end.session.handle_timer(self.clock.now)
            self.settle()
        self.clock.now = until

    def handshake(self) -> None:
        self.a.session.initiate(self.clock.now)
        self.run(3 * self.delay)
        assert self.a.session.is_established(self.clock.now)
        assert self.b.session.is_established(self.clock.now)

    def carries(self, sender: End, payload: bytes = b"payload") -> bool:
        """Whether a frame from `sender` is opened by the other."""
        frame = sender.session.seal(payload, self.clock.now)
        if frame is None:
            return False
        to = self.other(sender)
        before = len(to.payloads)
        to.receive(frame, sender.endpoint)
        return to.payloads[before:] == [payload]

    def times(self, end: End, kind: int) -> list[float]:
        return [round(at, 3) for at, datagram in end.sent if datagram[0] == kind]


def kinds_lost(*lost: tuple[str, int]) -> Lose:
    """Loses the first datagram of each (end, kind), as often as it is named."""
    left = list(lost)

    def lose(now: float, sender: End, datagram: bytes) -> bool:
        name = ("a" if sender.endpoint.port == 1 else "b", datagram[0])
        if name in left:
            left.remove(name)
            return True
        return False

    return lose


# The handshake


def test_one_round_trip_and_the_first_frame() -> None:
    pair = Pair(delay=0.05)
    assert not pair.a.session.is_established(pair.clock.now)
    assert pair.a.session.handshake_age(pair.clock.now) is None
    pair.a.session.initiate(pair.clock.now)
    assert pair.a.session.is_initiating
    pair.run(0.11)
    assert pair.a.session.is_established(pair.clock.now)
    assert not pair.b.session.is_established(pair.clock.now), "it has heard no frame yet"
    pair.run(0.05)
    assert pair.b.session.is_established(pair.clock.now)
    assert not pair.a.session.is_initiating
    assert pair.a.session.handshakes == pair.b.session.handshakes == 1
    assert pair.a.session.handshake_rtt == pytest.approx(0.1)
    assert pair.a.session.handshake_age(pair.clock.now) == pytest.approx(0.06)
    assert pair.carries(pair.a)
    assert pair.carries(pair.b)


def test_nothing_can_be_sealed_before_and_trying_begins_a_handshake() -> None:
    pair = Pair()
    assert pair.a.session.seal(b"payload", pair.clock.now) is None
    assert pair.a.session.is_initiating
    pair.run(1)
    assert pair.carries(pair.a)


def test_one_that_may_not_initiate_does_not() -> None:
    pair = Pair(may_initiate=False)
    pair.b.session.initiate(pair.clock.now)
    pair.b.session.restart_handshake(pair.clock.now)
    assert pair.b.session.seal(b"payload", pair.clock.now) is None
    assert pair.b.session.take_datagrams() == []
    assert pair.b.session.get_timer() is None
    pair.handshake()


@pytest.mark.parametrize(
    ("lost", "seconds"),
    [
        ([("a", INITIATION)], 0.8),
        ([("b", RESPONSE)], 0.8),
        ([("a", INITIATION), ("b", RESPONSE)], 1.7),
        ([("a", INITIATION)] * 3, 3.2),
        ([("a", TRANSPORT)], 0.5),
    ],
)
def test_loss_of_each_message(lost: list[tuple[str, int]], seconds: float) -> None:
    pair = Pair(lose=kinds_lost(*lost))
    pair.a.session.initiate(pair.clock.now)
    pair.run(seconds)
    # The first frame may be the one that was lost; any other does as well.
    assert pair.carries(pair.a)
    assert pair.carries(pair.b)
    assert set(pair.a.drops + pair.b.drops) <= {"no such keypair"}


def test_retransmission_schedule_and_give_up() -> None:
    pair = Pair(lose=lambda now, sender, datagram: True)
    pair.a.session.initiate(pair.clock.now)
    pair.run(200)
    times = pair.times(pair.a, INITIATION)
    waits = [later - earlier for earlier, later in pairwise(times)]
    for number, wait in enumerate(waits):
        expected = RETRANSMIT[min(number, len(RETRANSMIT) - 1)]
        assert expected <= wait <= expected * 1.07 + 0.001
    assert times[-1] < REKEY_ATTEMPT_TIME
    assert times[-1] + 5.4 > REKEY_ATTEMPT_TIME
    assert not pair.a.session.is_initiating
    assert pair.a.session.get_timer() is None
    assert len(pair.a.indices) == 0
    assert len({datagram for _, datagram in pair.a.sent}) == len(times), "each is a new one"


def test_after_giving_up_one_can_begin_again() -> None:
    pair = Pair(lose=lambda now, sender, datagram: now < 120)
    pair.a.session.initiate(pair.clock.now)
    pair.run(130)
    assert not pair.a.session.is_initiating
    pair.handshake()
    assert pair.carries(pair.b)


def test_initiations_under_way_are_bounded() -> None:
    pair = Pair(lose=lambda now, sender, datagram: True)
    pair.a.session.initiate(pair.clock.now)
    pair.run(60)
    assert len(pair.a.indices) == MAX_INITIATIONS


def test_initiate_while_initiating_changes_nothing() -> None:
    pair = Pair()
    pair.a.session.initiate(pair.clock.now)
    first = pair.a.session.take_datagrams()
    timer = pair.a.session.get_timer()
    pair.a.session.initiate(pair.clock.now + 0.1)
    assert pair.a.session.take_datagrams() == []
    assert pair.a.session.get_timer() == timer
    assert len(first) == 1


def test_restart_sends_at_once_but_not_a_flood() -> None:
    pair = Pair()
    session, now = pair.a.session, pair.clock.now
    session.restart_handshake(now)
    assert len(session.take_datagrams()) == 1
    session.restart_handshake(now + INITIATION_SPACING / 2)
    assert session.take_datagrams() == []
    session.restart_handshake(now + INITIATION_SPACING * 2)
    (again,) = session.take_datagrams()
    assert again[0] == INITIATION


def test_slow_path_the_response_to_an_earlier_initiation_counts() -> None:
    """A round trip of 3 s, longer than the first waits: the answers are those to the earlier."""
    pair = Pair(delay=1.5)
    pair.a.session.initiate(pair.clock.now)
    pair.run(3.01)
    assert len(pair.times(pair.a, INITIATION)) > 2
    assert pair.a.session.is_established(pair.clock.now)
    pair.run(6)
    assert pair.carries(pair.a)
    assert pair.carries(pair.b)
    assert len(pair.times(pair.a, INITIATION)) <= 5


def test_simultaneous_initiation() -> None:
    pair = Pair()
    pair.a.session.initiate(pair.clock.now)
    pair.b.session.initiate(pair.clock.now)
    pair.run(1)
    for _ in range(3):
        assert pair.carries(pair.a)
        assert pair.carries(pair.b)
    assert not pair.a.session.is_initiating
    assert not pair.b.session.is_initiating


@pytest.mark.parametrize("lost", [("a", RESPONSE), ("b", RESPONSE), ("a", INITIATION)])
def test_simultaneous_initiation_with_loss(lost: tuple[str, int]) -> None:
    pair = Pair(lose=kinds_lost(lost))
    pair.a.session.initiate(pair.clock.now)
    pair.b.session.initiate(pair.clock.now)
    pair.run(2)
    assert pair.carries(pair.a)
    assert pair.carries(pair.b)


# What is refused


def test_replayed_initiation() -> None:
    pair = Pair()
    pair.a.session.initiate(pair.clock.now)
    (initiation,) = pair.a.session.take_datagrams()
    assert len(pair.b.receive(initiation, pair.a.endpoint)) == 1
    pair.clock.now += 1
    assert pair.b.receive(initiation, pair.a.endpoint) == []
    assert pair.b.receive(initiation, Endpoint("203.0.113.9", 9)) == []
    assert len(pair.b.indices) == 1


def test_an_older_initiation_than_the_last() -> None:
    pair = Pair()
    now = pair.clock.now
    pair.a.session.restart_handshake(now)
    (older,) = pair.a.session.take_datagrams()
    pair.clock.now += 1
    pair.a.session.restart_handshake(pair.clock.now)
    (newer,) = pair.a.session.take_datagrams()
    assert len(pair.b.receive(newer, pair.a.endpoint)) == 1
    pair.clock.now += 1
    assert pair.b.receive(older, pair.a.endpoint) == []


def test_initiations_faster_than_one_in_20_ms() -> None:
    pair = Pair()
    answered = 0
    for _ in range(10):
        pair.clock.now += INITIATION_SPACING / 4
        pair.a.session.close()
        pair.a.session.initiate(pair.clock.now)
        (initiation,) = pair.a.session.take_datagrams()
        answered += len(pair.b.receive(initiation, pair.a.endpoint))
    assert 2 <= answered <= 3


def test_timestamps_grow_though_the_wall_clock_does_not() -> None:
    """A clock that was set back, or that ticks more coarsely than we initiate."""
    pair = Pair()
    seen = []
    for step in (0.0, 0.001, -3600.0, 0.0):
        pair.clock.now += step
        pair.a.session.close()
        pair.a.session.initiate(pair.clock.now)
        (initiation,) = pair.a.session.take_datagrams()
        received = pair.b.receiver.receive(initiation, pair.a.endpoint, pair.clock.now)
        seen.append(received.timestamp)
    assert seen == sorted(set(seen))


def test_a_response_twice_or_to_nobody() -> None:
    pair = Pair()
    pair.a.session.initiate(pair.clock.now)
    (initiation,) = pair.a.session.take_datagrams()
    (response,) = pair.b.receive(initiation, pair.a.endpoint)
    wrong = parse_response(response)._replace(receiver=12345)
    pair.a.receive(wrong.pack(), pair.b.endpoint)
    forged = bytearray(response)
    forged[50] ^= 1
    pair.a.receive(bytes(forged), pair.b.endpoint)
    assert pair.a.drops == ["response to no initiation of ours", "mac1"]
    assert not pair.a.session.is_established(pair.clock.now)
    pair.a.receive(response, pair.b.endpoint)
    assert pair.a.session.is_established(pair.clock.now)
    pair.a.receive(response, pair.b.endpoint)
    assert pair.a.drops[2:] == ["response to no initiation of ours"]
    assert pair.a.session.handshakes == 1


def test_another_preshared_key() -> None:
    pair = Pair(preshared=PresharedKey(b"q" * 32))
    pair.a.session.initiate(pair.clock.now)
    pair.run(1)
    assert set(pair.a.drops) == {"response"}
    assert not pair.a.session.is_established(pair.clock.now)


def test_frames_that_are_refused() -> None:
    pair = Pair()
    pair.handshake()
    frame = pair.a.session.seal(b"payload", pair.clock.now)
    assert frame is not None
    pair.b.drops.clear()
    for position in range(4, len(frame)):
        changed = bytearray(frame)
        changed[position] ^= 1
        pair.b.receive(bytes(changed), pair.a.endpoint)
    assert set(pair.b.drops) == {"tag", "no such keypair"}
    assert pair.b.payloads == [b""]
    opened = pair.b.session.opened
    pair.b.drops.clear()
    pair.b.receive(frame, pair.a.endpoint)
    pair.b.receive(frame, pair.a.endpoint)
    assert pair.b.payloads == [b"", b"payload"]
    assert pair.b.drops == ["replay"]
    assert pair.b.session.opened == opened + 1


# Rekeying


def test_the_initiator_alone_rekeys_after_120_seconds() -> None:
    pair = Pair()
    pair.handshake()
    born = pair.a.session.handshake_age(pair.clock.now)
    assert born is not None
    pair.run(REKEY_AFTER_TIME - born - 0.01)
    assert pair.carries(pair.a)
    assert not pair.a.session.is_initiating
    pair.run(0.02)
    assert pair.carries(pair.b)
    assert not pair.b.session.is_initiating, "the responder waits for the initiator"
    assert pair.carries(pair.a), "and the old keys go on meanwhile"
    assert pair.a.session.is_initiating
    pair.run(1)
    assert pair.a.session.handshakes == pair.b.session.handshakes == 2
    age = pair.b.session.handshake_age(pair.clock.now)
    assert age is not None
    assert age <= 1
    assert pair.carries(pair.b)


def test_frames_under_way_at_a_rekey_are_opened() -> None:
    pair = Pair()
    pair.handshake()
    late = [pair.a.session.seal(b"late", pair.clock.now), pair.b.session.seal(b"late", 0.0)]
    pair.run(REKEY_AFTER_TIME)
    assert pair.carries(pair.a)
    pair.run(1)
    assert pair.a.session.handshakes == 2
    assert None not in late
    pair.b.receive(late[0] or b"", pair.a.endpoint)
    pair.a.receive(late[1] or b"", pair.b.endpoint)
    assert pair.b.payloads[-1] == pair.a.payloads[-1] == b"late"


def test_a_silent_pair_does_not_rekey() -> None:
    pair = Pair()
    pair.handshake()
    pair.run(REKEY_AFTER_TIME + 10)
    assert pair.a.session.handshakes == 1


@pytest.mark.parametrize("end", ["a", "b"])
def test_old_keys_are_refused_after_180_seconds(end: str) -> None:
    pair = Pair()
    pair.handshake()
    old = pair.a.session.seal(b"old", pair.clock.now)
    pair.lose = lambda now, sender, datagram: True
    pair.run(REJECT_AFTER_TIME - 0.2)
    assert pair.a.session.is_established(pair.clock.now)
    pair.run(0.2)
    sender = pair.a if end == "a" else pair.b
    assert not sender.session.is_established(pair.clock.now)
    assert sender.session.seal(b"payload", pair.clock.now) is None
    assert sender.session.is_initiating, "either end begins anew once there are no keys"
    pair.b.drops.clear()
    assert old is not None
    pair.b.receive(old, pair.a.endpoint)
    assert pair.b.drops == ["keypair expired"]


def test_keys_are_zeroed_after_540_seconds() -> None:
    pair = Pair()
    pair.handshake()
    frame = pair.a.session.seal(b"old", pair.clock.now)
    assert len(pair.b.indices) == 1
    pair.run(3 * REJECT_AFTER_TIME - 0.2)
    assert pair.b.session.handshake_age(pair.clock.now) is not None
    pair.run(0.3)
    assert pair.b.session.handshake_age(pair.clock.now) is None
    assert pair.b.session.get_timer() is None
    assert len(pair.a.indices) == len(pair.b.indices) == 0
    assert frame is not None
    pair.b.drops.clear()
    pair.b.receive(frame, pair.a.endpoint)
    assert pair.b.drops == ["no such keypair"]


def test_close_forgets_keys_and_handshakes() -> None:
    pair = Pair()
    pair.handshake()
    pair.a.session.restart_handshake(pair.clock.now)
    pair.a.session.close()
    assert not pair.a.session.is_established(pair.clock.now)
    assert not pair.a.session.is_initiating
    assert len(pair.a.indices) == 0
    assert pair.a.session.get_timer() is None


def test_a_day_of_traffic_keeps_few_indices() -> None:
    pair = Pair()
    pair.handshake()
    for _ in range(24 * 60):
        pair.run(60)
        assert pair.carries(pair.a)
        assert pair.carries(pair.b)
        assert len(pair.a.indices) <= 3 + MAX_INITIATIONS
        assert len(pair.b.indices) <= 3 + MAX_INITIATIONS
    assert pair.a.session.handshakes > 24 * 60 * 60 / 200


def test_lost_frames_can_be_counted() -> None:
    pair = Pair()
    pair.handshake()
    for number in range(100):
        frame = pair.a.session.seal(b"payload", pair.clock.now)
        assert frame is not None
        if number % 10:
            pair.b.receive(frame, pair.a.endpoint)
    assert pair.b.session.sent_to_us - pair.b.session.opened == 10


# Clock


def test_timer_reads_only_and_may_fire_early_or_twice() -> None:
    pair = Pair(lose=lambda now, sender, datagram: True)
    session = pair.a.session
    session.initiate(pair.clock.now)
    assert len(session.take_datagrams()) == 1
    timer = session.get_timer()
    assert timer is not None
    assert [session.get_timer() for _ in range(3)] == [timer] * 3
    session.handle_timer(timer - 0.01)
    assert session.take_datagrams() == []
    assert session.get_timer() == timer
    session.handle_timer(timer)
    session.handle_timer(timer)
    assert len(session.take_datagrams()) == 1
    later = session.get_timer()
    assert later is not None
    assert later > timer


# Receiving initiations


def initiation(number: int, to: End, now: float) -> bytes:
    end = End(Clock(now), number, 2)
    end.session.initiate(now)
    (datagram,) = end.session.take_datagrams()
    return datagram


def test_strangers_are_refused_by_mac1() -> None:
    pair = Pair()
    pair.a.session.initiate(0.0)
    (datagram,) = pair.a.session.take_datagrams()
    assert pair.b.receiver.has_valid_mac1(datagram)
    broken = bytearray(datagram)
    broken[120] ^= 1
    assert not pair.b.receiver.has_valid_mac1(bytes(broken))
    with pytest.raises(AuthenticationFailed, match="mac1"):
        pair.b.receiver.receive(bytes(broken), pair.a.endpoint, 0.0)
    with pytest.raises(Malformed):
        pair.b.receiver.receive(datagram[:-1], pair.a.endpoint, 0.0)
    elsewhere = HandshakeReceiver(Construction(b"other"), key(2), seeded(3))
    with pytest.raises(AuthenticationFailed, match="initiation"):
        elsewhere.receive(datagram, pair.a.endpoint, 0.0)


def test_cookie_under_load_and_the_handshake_after_it() -> None:
    """The loaded end answers with a cookie, which the next initiation carries."""
    pair = Pair(calm_rate=0.0001)
    pair.b.receiver = HandshakeReceiver(PUNCHTUN, key(2), seeded(9), calm_rate=0.0)
    pair.a.session.initiate(pair.clock.now)
    pair.run(0.2)
    (reply,) = (datagram for _, datagram in pair.b.sent)
    assert reply[0] == COOKIE_REPLY
    assert len(reply) <= len(pair.a.sent[0][1])
    assert not pair.a.session.is_established(pair.clock.now)
    assert pair.a.drops == []
    pair.run(1)
    assert pair.carries(pair.a)
    assert pair.carries(pair.b)
    assert pair.times(pair.a, INITIATION)[1] == pytest.approx(0.36, abs=0.03)


def test_load_ends_the_calm_and_a_source_has_its_share() -> None:
    receiver = HandshakeReceiver(PUNCHTUN, key(2), seeded(9), calm_rate=5.0)
    now = 1000.0
    pair = Pair()
    source = pair.a.endpoint
    datagram = initiation(1, pair.b, now)
    outcomes = []
    for _ in range(8):
        try:
            receiver.receive(datagram, source, now)
            outcomes.append("opened")
        except CookieDemanded:
            outcomes.append("cookie")
    assert outcomes == ["opened"] * 5 + ["cookie"] * 3
    receiver.receive(datagram, source, now + 1)  # A second later it is calm again.


@pytest.mark.parametrize(
    ("source", "neighbour", "stranger"),
    [
        (Endpoint("192.0.2.1", 5), Endpoint("192.0.2.1", 6), Endpoint("192.0.2.2", 5)),
        (Endpoint("2001:db8::1", 5), Endpoint("2001:db8::ffff", 6), Endpoint("2001:db8:0:1::", 5)),
    ],
)
def test_with_a_cookie_each_source_has_a_limit(
    source: Endpoint, neighbour: Endpoint, stranger: Endpoint
) -> None:
    """IPv4 by address, IPv6 by /64 (white paper §5.3)."""
    receiver = HandshakeReceiver(PUNCHTUN, key(2), seeded(9), calm_rate=0.0)

    def with_cookie(endpoint: Endpoint) -> bytes:
        end = End(Clock(), 1, 2)
        end.session.initiate(0.0)
        (first,) = end.session.take_datagrams()
        with pytest.raises(CookieDemanded) as demanded:
            receiver.receive(first, endpoint, 0.0)
        end.session.receive_cookie(parse_cookie_reply(demanded.value.datagram), 0.0)
        end.session.restart_handshake(0.1)
        (second,) = end.session.take_datagrams()
        return second

    datagram, from_neighbour = with_cookie(source), with_cookie(neighbour)
    from_stranger = with_cookie(stranger)
    for _ in range(40):
        receiver.receive(datagram, source, 0.0)
    for refused, at in ((datagram, source), (from_neighbour, neighbour)):
        with pytest.raises(AuthenticationFailed, match="too many"):
            receiver.receive(refused, at, 0.0)
    receiver.receive(from_stranger, stranger, 0.0)
    receiver.receive(datagram, source, 1.0)
    with pytest.raises(CookieDemanded):
        receiver.receive(datagram, stranger, 0.0)


def test_a_cookie_reply_nobody_asked_for() -> None:
    pair = Pair()
    pair.handshake()
    reply = bytes([COOKIE_REPLY, 0, 0, 0]) + bytes(60)
    pair.a.receive(reply, pair.b.endpoint)
    assert pair.a.drops == ["cookie reply"]


def test_a_session_of_other_times() -> None:
    """That with the server lives for half an hour."""
    pair = Pair(times=SessionTimes(rekey_after=1800.0, reject_after=2100.0))
    pair.handshake()
    pair.run(200)
    assert not pair.a.session.is_established(pair.clock.now)
    assert pair.b.session.is_established(pair.clock.now)


def test_parse_of_what_is_sent() -> None:
    pair = Pair()
    pair.handshake()
    sizes = {datagram[0]: len(datagram) for end in (pair.a, pair.b) for _, datagram in end.sent}
    assert sizes == {INITIATION: 148, RESPONSE: 92, TRANSPORT: 48}, "an empty frame of AEGIS"
    assert parse_initiation(pair.a.sent[0][1]).sender
