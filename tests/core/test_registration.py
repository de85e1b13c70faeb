"""The node's side of the rendezvous protocol, against a scripted server in virtual time."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from tests.core.ends import (
    ACCESS,
    ALTERNATE,
    SERVER,
    SERVER_KEY,
    TAG,
    Clock,
    ScriptedServer,
    key,
    seeded,
)
from tunnel.core.events import Event, MappingMoved, RelayRefused, ServerLost, ServerRegistered
from tunnel.core.indices import IndexTable
from tunnel.core.registration import (
    INTRODUCE_SPACING,
    MAX_ASKS,
    REFUSED_RETRY,
    Registration,
    RegistrationState,
)
from tunnel.core.server_session import ServerSession
from tunnel.errors import AuthenticationFailed
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.handshake import INITIATION, RESPONSE, parse_response
from tunnel.wire.rendezvous import (
    Acknowledge,
    Challenge,
    Echo,
    Echoed,
    FromNode,
    FromServer,
    Gone,
    Introduce,
    Leave,
    Probe,
    Proof,
    RefusalReason,
    Refused,
    Register,
    Registered,
)

UNREACHABLE, REGISTERING, CONNECTED = RegistrationState
NODE = Endpoint("203.0.113.2", 40002)
ELSEWHERE = Endpoint("203.0.113.2", 40999)
SECOND_ADDRESS = Endpoint("198.51.100.2", 12345)
SERVER_V6 = Endpoint("2001:db8::1", 12345)
NODE_V6 = Endpoint("2001:db8:2::2", 51000)
Lose = Callable[[float, FromNode | FromServer | None], bool]


class Lab:
    """Registration and server, `delay` seconds apart. The server answers as the true one does."""

    def __init__(self, delay: float = 0.025) -> None:
        self.clock = Clock()
        self.start = self.clock.now
        self.delay = delay
        self.server = ScriptedServer(self.clock)
        self.is_up = True
        self.seen_from: dict[Endpoint, Endpoint] = {
            SERVER: NODE,
            ALTERNATE: NODE,
            SERVER_V6: NODE_V6,
        }
        """Where each of the server's endpoints sees the node."""
        self.lose: Lose = lambda at, message: False
        self.refuses: Refused | None = None
        """What it says to registrations."""
        self.second_address: Endpoint | None = None
        """What the server says of itself."""
        self.sent: list[tuple[float, Endpoint, FromNode | None]] = []
        """Messages, and None for handshakes."""
        self.sent_to: list[Endpoint] = []
        self.events: list[tuple[float, Event]] = []
        self.handed_back: list[FromServer] = []
        link = ServerSession(
            static=key(2),
            server_key=SERVER_KEY.public_key,
            access_token=ACCESS,
            indices=IndexTable(seeded(1)),
            random_bytes=seeded(2),
            wall_clock=self.clock.wall,
        )
        self.registration = Registration(link, TAG, seeded(3))
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    @property
    def at(self) -> float:
        return self.clock.now - self.start

    @property
    def state(self) -> RegistrationState:
        return self.registration.state

    def later(self, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.clock.now + self.delay, self._count, action))

    def settle(self) -> None:
        for transmit in self.registration.datagrams_to_send():
            data, to = bytes(transmit.data), transmit.endpoint
            self.sent_to.append(to)
            if data[0] == INITIATION:
                self.sent.append((self.at, to, None))
            self.later(lambda data=data, to=to: self._arrive(data, to))  # type: ignore[misc]
        self.events += [(self.at, event) for event in self.registration.take_events()]

    def _arrive(self, datagram: bytes, to: Endpoint) -> None:
        """At the server's endpoint `to`."""
        if to not in self.seen_from:
            return
        if not self.is_up:
            return
        source = self.seen_from[to]
        for answer in self.server.receive(datagram, source):
            if not self.lose(self.at, None):
                self.deliver(answer, to)
        heard, self.server.heard = self.server.heard, []
        for message in heard:
            if self.lose(self.at, message):
                continue
            self.sent.append((self.at - self.delay, to, message))
            if isinstance(message, Register):
                other = self.second_address
                registered = Registered(message.sequence, source, ALTERNATE.port, 60, other)
                self.say(self.refuses or registered, to)
            elif isinstance(message, Echo):
                self.say(Echoed(message.transaction, int(to == ALTERNATE), source), to)
            elif isinstance(message, Probe):
                self.say(Echoed(message.transaction, 0, source), to)

    def say(self, message: FromServer, source: Endpoint = SERVER) -> None:
        if not self.lose(self.at, message):
            self.deliver(self.server.seal(message), source)

    def deliver(self, datagram: bytes, source: Endpoint) -> None:
        self.later(lambda: self._receive(datagram, source))

    def _receive(self, datagram: bytes, source: Endpoint) -> None:
        now, registration = self.clock.now, self.registration
        with contextlib.suppress(AuthenticationFailed):  # as the node does, and counts it
            if datagram[0] == RESPONSE:
                registration.receive_response(parse_response(datagram), source, now)
                return
            message = registration.link.open(datagram, now)
            assert message is not None
            handed_back = registration.receive(message, now)
            if handed_back is not None:
                self.handed_back.append(handed_back)

    def run(self, seconds: float) -> None:
        until = self.clock.now + seconds
        self.settle()
        while True:
            timer = self.registration.get_timer()
            at = until + 1 if timer is None else timer
            if self._queue:
                at = min(at, self._queue[0][0])
            if at > until:
                break
            self.clock.now = max(at, self.clock.now)
            while self._queue and self._queue[0][0] <= self.clock.now:
                heapq.heappop(self._queue)[2]()
                self.settle()
            self.registration.handle_timer(self.clock.now)
            self.settle()
        self.clock.now = until

    def connect(self, endpoints: Sequence[Endpoint] = (SERVER,)) -> Lab:
        self.registration.set_endpoints(endpoints, self.clock.now)
        self.registration.announce(b"announcement 1", self.clock.now)
        self.run(2)
        assert self.state is CONNECTED
        self.events.clear()
        self.sent.clear()
        return self

    def times(self, kind: type[FromNode]) -> list[float]:
        return [at for at, _, message in self.sent if isinstance(message, kind)]

    def lose_next(self, kind: type[FromNode | FromServer], count: int = 1) -> None:
        left = [count]

        def lose(at: float, message: FromNode | FromServer | None) -> bool:
            if isinstance(message, kind) and left[0] > 0:
                left[0] -= 1
                return True
            return False

        self.lose = lose


# unreachable → registering → connected


def test_registered_after_two_round_trips() -> None:
    lab = Lab(delay=0.025)
    assert lab.state is UNREACHABLE
    assert lab.registration.get_timer() is None
    lab.registration.set_endpoints([SERVER], lab.clock.now)
    lab.registration.announce(b"announcement 1", lab.clock.now)
    lab.run(0.051)
    assert lab.state is REGISTERING
    lab.run(0.05)
    assert lab.state is CONNECTED
    assert lab.registration.is_connected
    assert lab.events == [(pytest.approx(0.1), ServerRegistered(SERVER, NODE))]
    (message,) = (m for _, _, m in lab.sent if isinstance(m, Register))
    assert message == Register(1, 50_000, TAG, b"announcement 1")
    assert lab.registration.rtt == pytest.approx(0.05)
    assert lab.registration.main_observed == NODE
    assert lab.registration.reflexive_endpoints() == [NODE]


def test_the_round_trip_is_not_that_of_making_keys() -> None:
    lab = Lab(delay=0.025)
    lab.registration.set_endpoints([SERVER], lab.clock.now)
    lab.registration.announce(b"announcement 1", lab.clock.now)
    lab.run(0.051)
    lab.registration.link.session.handshake_rtt = 0.4
    assert lab.registration.rtt == 0.4
    lab.run(0.05)
    assert lab.state is CONNECTED
    assert lab.registration.rtt == pytest.approx(0.05)
    lab.delay = 0.425
    lab.run(20)
    assert lab.times(Echo)
    assert 0.05 < lab.registration.rtt < 0.4


def test_a_registration_that_was_repeated_measures_nothing() -> None:
    """Nobody knows which one is answered."""
    lab = Lab(delay=0.025)
    lab.lose_next(Registered)
    lab.registration.set_endpoints([SERVER], lab.clock.now)
    lab.registration.announce(b"announcement 1", lab.clock.now)
    lab.run(2)
    assert lab.state is CONNECTED
    assert len(lab.times(Register)) == 2
    lab.registration.link.session.handshake_rtt = 0.4
    assert lab.registration.rtt == 0.4
    lab.run(20)
    assert lab.registration.rtt == pytest.approx(0.05)


def test_keys_before_there_is_anything_to_announce() -> None:
    lab = Lab()
    lab.registration.set_endpoints([SERVER], lab.clock.now)
    lab.run(1)
    assert lab.state is REGISTERING
    assert lab.times(Register) == []
    lab.registration.announce(b"announcement 1", lab.clock.now)
    lab.run(1)
    assert lab.state is CONNECTED


@pytest.mark.parametrize("lost", [Register, Registered])
def test_lost_register_or_registered(lost: type[FromNode | FromServer]) -> None:
    lab = Lab()
    lab.lose_next(lost, 2)
    lab.registration.set_endpoints([SERVER], lab.clock.now)
    lab.registration.announce(b"announcement 1", lab.clock.now)
    lab.run(3)
    assert lab.state is CONNECTED
    assert [e for _, e in lab.events] == [ServerRegistered(SERVER, NODE)]


def test_a_registered_for_an_older_announcement_does_not_count() -> None:
    lab = Lab().connect()
    lab.registration.announce(b"announcement 2", lab.clock.now)
    assert lab.state is REGISTERING
    lab.lose_next(Register)
    lab.say(Registered(1, NODE, ALTERNATE.port, 60))
    lab.run(0.1)
    assert lab.state is REGISTERING
    lab.run(2)
    assert lab.state is CONNECTED
    registers = [m for _, _, m in lab.sent if isinstance(m, Register)]
    assert [(m.sequence, m.announcement) for m in registers] == [(2, b"announcement 2")]


def test_a_change_that_the_server_has_not_heard_is_repeated_until_it_has() -> None:
    lab = Lab().connect()
    lab.lose_next(Register, 3)
    lab.registration.announce(b"announcement 2", lab.clock.now)
    lab.run(10)
    assert lab.state is CONNECTED


def test_the_second_port_is_a_witness() -> None:
    lab = Lab()
    assert lab.registration.witnesses == {}
    lab.connect()
    assert lab.registration.witnesses == {ALTERNATE: NODE}
    assert lab.registration.alternate_port == ALTERNATE.port
    varying = Lab()
    varying.seen_from[ALTERNATE] = ELSEWHERE
    varying.connect()
    assert varying.registration.witnesses == {ALTERNATE: ELSEWHERE}
    assert varying.registration.reflexive_endpoints() == [NODE], "peers see what port 0 sees"


def test_without_an_answer_from_the_second_port_nothing_is_said() -> None:
    lab = Lab()
    del lab.seen_from[ALTERNATE]
    lab.connect()
    lab.run(120)
    assert lab.state is CONNECTED
    assert lab.registration.witnesses == {}


def test_a_silent_second_port_is_not_asked_for_ever() -> None:
    """Of which a firewall knows nothing. Until it is asked for again."""
    lab = Lab()
    del lab.seen_from[ALTERNATE]
    lab.connect()

    def count() -> int:
        return sum(to == ALTERNATE for to in lab.sent_to)

    lab.run(600)
    assert 2 <= count() <= MAX_ASKS
    before = count()
    lab.registration.ask_others(lab.clock.now)
    lab.run(1)
    assert count() == before + 1
    lab.seen_from[ALTERNATE] = NODE
    lab.run(60)
    assert lab.registration.witnesses == {ALTERNATE: NODE}


def test_a_second_address_is_probed_and_never_registered_at() -> None:
    lab = Lab()
    lab.seen_from[SECOND_ADDRESS] = ELSEWHERE
    lab.second_address = SECOND_ADDRESS
    lab.connect()
    assert lab.registration.witnesses == {ALTERNATE: NODE, SECOND_ADDRESS: ELSEWHERE}
    assert lab.registration.reflexive_endpoints() == [NODE]
    assert lab.registration.main_observed == NODE
    assert lab.registration.link.endpoint == SERVER
    lab.run(120)
    kinds = {type(message) for _, to, message in lab.sent if to == SECOND_ADDRESS}
    assert kinds <= {Probe}
    lab.registration.ask_others(lab.clock.now)
    lab.seen_from[SECOND_ADDRESS] = NODE
    lab.run(1)
    assert lab.registration.witnesses[SECOND_ADDRESS] == NODE


@pytest.mark.parametrize(
    "alternate",
    [Endpoint("192.168.1.1", 53), Endpoint("8.8.8.8", 0), Endpoint("127.0.0.1", 9), ALTERNATE],
)
def test_a_second_address_that_is_of_no_use(alternate: Endpoint) -> None:
    """Or that aims at something we reach and strangers do not."""
    lab = Lab()
    lab.second_address = alternate
    lab.connect()
    lab.run(60)
    assert lab.registration.link.alternate is None
    assert set(lab.sent_to) <= {SERVER, ALTERNATE}


def test_both_address_families_are_observed() -> None:
    lab = Lab().connect([SERVER, SERVER_V6])
    assert set(lab.registration.reflexive_endpoints()) == {NODE, NODE_V6}
    assert lab.registration.main_observed in (NODE, NODE_V6)


def test_the_endpoint_that_answers_first_is_used() -> None:
    lab = Lab()
    del lab.seen_from[SERVER]
    lab.connect([SERVER, SERVER_V6])
    assert lab.registration.link.endpoint == SERVER_V6
    assert lab.registration.main_observed == NODE_V6


# connected


def test_echoes_keep_the_mapping() -> None:
    lab = Lab().connect()
    lab.run(600)
    times = lab.times(Echo)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    interval = lab.registration.keepalive_interval
    assert len(times) > 600 / interval - 2
    assert all(0.9 * interval <= gap <= interval + 0.06 for gap in gaps)
    assert len(set(gaps)) > 5, "with jitter"
    assert lab.events == []


def test_a_lost_echo_is_repeated_sooner() -> None:
    lab = Lab().connect()
    lab.lose_next(Echoed, 2)
    lab.run(40)
    assert lab.state is CONNECTED
    assert not any(isinstance(event, ServerLost) for _, event in lab.events)


def test_the_mapping_moves() -> None:
    lab = Lab().connect()
    moved = dict.fromkeys((SERVER, ALTERNATE), ELSEWHERE)
    lab.seen_from |= moved
    lab.run(20)
    assert [e for _, e in lab.events if isinstance(e, MappingMoved)] == [
        MappingMoved(NODE, ELSEWHERE)
    ]
    assert lab.registration.reflexive_endpoints() == [ELSEWHERE]
    assert lab.registration.witnesses == {ALTERNATE: ELSEWHERE}, "asked anew"


def test_refresh_tells_at_once() -> None:
    lab = Lab().connect()
    lab.seen_from |= dict.fromkeys((SERVER, ALTERNATE), ELSEWHERE)
    lab.registration.refresh(lab.clock.now)
    lab.run(0.06)
    assert [e for _, e in lab.events] == [MappingMoved(NODE, ELSEWHERE)]


def test_a_thousand_refreshes_are_few_echoes_and_no_loss() -> None:
    lab = Lab().connect()
    for _ in range(1000):
        lab.registration.refresh(lab.clock.now)
        lab.run(0.001)
    assert len(lab.times(Echo)) <= 60
    assert lab.state is CONNECTED


def test_introductions_are_asked_for_once_a_second() -> None:
    lab = Lab().connect()
    for _ in range(100):
        lab.registration.introduce(key(9).public_key.data, lab.clock.now)
        lab.registration.introduce(key(8).public_key.data, lab.clock.now)
        lab.run(0.05)
    assert len(lab.times(Introduce)) == pytest.approx(2 * 5 / INTRODUCE_SPACING, abs=2)


def test_notices_are_acknowledged_and_handed_back_each_time() -> None:
    lab = Lab().connect()
    gone = Gone(7, key(9).public_key.data)
    for _ in range(2):
        lab.say(gone)
    lab.run(0.1)
    assert lab.handed_back == [gone, gone]
    assert [m for _, _, m in lab.sent if isinstance(m, Acknowledge)] == [Acknowledge(7)] * 2


# Refusals


def test_a_refused_registration_is_told_and_tried_again() -> None:
    lab = Lab()
    lab.refuses = Refused(RefusalReason.NETWORK_FULL, 0)
    lab.registration.set_endpoints([SERVER], lab.clock.now)
    lab.registration.announce(b"announcement 1", lab.clock.now)
    lab.run(200)
    assert lab.state is UNREACHABLE
    assert lab.registration.refusal is not None
    assert lab.registration.refusal.describe()["code"] == "network-full"
    losses = [e for _, e in lab.events if isinstance(e, ServerLost)]
    assert len(losses) == 1, "said once"
    assert losses[0].reason.startswith("it refuses us: this network has as many nodes")
    assert 3 <= len(lab.times(Register)) <= 8
    lab.refuses = None
    lab.run(2 * REFUSED_RETRY + 1)
    assert lab.state is CONNECTED
    assert lab.registration.refusal is None


def test_what_is_not_relayed_is_known_until_its_time() -> None:
    lab = Lab().connect()
    until = int(lab.clock.wall()) + 600
    for _ in range(3):
        lab.say(Refused(RefusalReason.RELAY_QUOTA, 0, until))
        lab.run(0.1)
    told = [e for _, e in lab.events if isinstance(e, RelayRefused)]
    assert [e.code for e in told] == ["relay-quota"]
    assert lab.state is CONNECTED
    assert lab.registration.is_relay_cut(lab.clock.now)
    lab.run(500)
    assert lab.registration.is_relay_cut(lab.clock.now)
    lab.run(110)
    assert not lab.registration.is_relay_cut(lab.clock.now)
    assert lab.registration.relay_refusal(lab.clock.now) is None


def test_a_rate_cuts_nothing_and_is_soon_forgotten() -> None:
    lab = Lab().connect()
    lab.say(Refused(RefusalReason.RELAY_RATE, 0))
    lab.run(0.1)
    assert lab.registration.relay_refusal(lab.clock.now) is not None
    assert not lab.registration.is_relay_cut(lab.clock.now)
    lab.run(31)
    assert lab.registration.relay_refusal(lab.clock.now) is None


@pytest.mark.parametrize("request_id", [0, 7])
@pytest.mark.parametrize("reason", list(RefusalReason))
def test_any_refusal_at_any_time(reason: RefusalReason, request_id: int) -> None:
    lab = Lab().connect()
    lab.say(Refused(reason, request_id, 2**64 - 1))
    lab.run(60)
    assert lab.state is CONNECTED
    assert lab.handed_back == []


def test_a_challenge_is_answered_and_not_handed_back() -> None:
    lab = Lab().connect()
    lab.say(Challenge(2**64 - 5))
    lab.run(0.1)
    assert lab.handed_back == []
    assert [m for _, _, m in lab.sent if isinstance(m, Proof)] == [Proof(2**64 - 5)]


def test_an_echo_nobody_asked_for() -> None:
    lab = Lab().connect()
    lab.say(Echoed(12345, 0, ELSEWHERE))
    lab.run(0.1)
    assert lab.events == []
    assert lab.registration.main_observed == NODE


def test_close_says_good_bye() -> None:
    lab = Lab().connect()
    lab.registration.close(lab.clock.now)
    lab.run(0.1)
    assert len(lab.times(Leave)) == 1


# connected → unreachable and back


def test_a_server_that_stops_answering() -> None:
    lab = Lab().connect()
    lab.is_up = False
    lab.run(60)
    assert lab.state is UNREACHABLE
    losses = [(at, e) for at, e in lab.events if isinstance(e, ServerLost)]
    assert len(losses) == 1
    assert losses[0][0] < 2 + 15 + 12
    lab.is_up = True
    lab.run(61)
    assert lab.state is CONNECTED
    assert lab.events[-1][1] == ServerRegistered(SERVER, NODE)


def test_a_server_that_was_restarted_is_found_again_within_seconds() -> None:
    lab = Lab().connect()
    lab.server.restart()
    lab.run(15 + 10)
    assert lab.state is CONNECTED
    assert len(lab.times(Register)) == 1, "registered anew"


@pytest.mark.parametrize("away", [1, 30, 89, 91, 200, 3600])
def test_a_server_that_is_away_at_the_start(away: float) -> None:
    """However long: a handshake is given up after 90 s, and begun again."""
    lab = Lab()
    lab.is_up = False
    lab.registration.set_endpoints([SERVER], lab.clock.now)
    lab.registration.announce(b"announcement 1", lab.clock.now)
    lab.run(away)
    assert lab.state is UNREACHABLE
    lab.is_up = True
    lab.run(62)
    assert lab.state is CONNECTED


def test_trying_for_hours_is_gentle() -> None:
    lab = Lab()
    lab.is_up = False
    lab.registration.set_endpoints([SERVER], lab.clock.now)
    lab.run(3600)
    assert 100 < len(lab.sent) < 1500
    assert len([e for _, e in lab.events if isinstance(e, ServerLost)]) == 1, "said once"


def test_refresh_while_unreachable_tries_at_once() -> None:
    lab = Lab().connect()
    lab.is_up = False
    lab.run(300)
    lab.is_up = True
    lab.registration.refresh(lab.clock.now)
    lab.run(0.2)
    assert lab.state is CONNECTED


def test_without_endpoints_nothing_happens() -> None:
    lab = Lab()
    lab.registration.set_endpoints([], lab.clock.now)
    lab.registration.refresh(lab.clock.now)
    lab.registration.introduce(key(9).public_key.data, lab.clock.now)
    lab.registration.close(lab.clock.now)
    lab.run(100)
    assert lab.sent == []


def test_an_hour_brings_a_rekey_and_no_interruption() -> None:
    lab = Lab().connect()
    lab.run(2 * 3600)
    assert lab.state is CONNECTED
    assert lab.registration.link.session.handshakes >= 3
    assert not any(isinstance(event, ServerLost) for _, event in lab.events)


# The server's name points elsewhere


NEW = Endpoint("198.51.100.7", 12345)


def test_the_server_has_moved_to_another_address() -> None:
    """A name server says so while we are connected to the old one, which is gone."""
    lab = Lab().connect()
    lab.seen_from = {NEW: NODE}
    lab.registration.set_endpoints([NEW], lab.clock.now)
    lab.run(40)
    assert lab.state is CONNECTED
    assert lab.registration.link.endpoint == NEW


@pytest.mark.parametrize("inputs", ["refresh", "announce", "timer"])
def test_no_input_fails_between_the_old_address_and_the_new(inputs: str) -> None:
    lab = Lab().connect()
    lab.is_up = False
    lab.registration.set_endpoints([NEW], lab.clock.now)
    if inputs == "refresh":
        lab.registration.refresh(lab.clock.now)
    elif inputs == "announce":
        lab.registration.announce(b"announcement 2", lab.clock.now)
    lab.run(100)
    assert lab.state is UNREACHABLE


def test_a_registered_in_flight_when_the_port_has_changed() -> None:
    """From the same host, so it may be the server's; but nobody has answered at the new port."""
    lab = Lab().connect()
    lab.registration.set_endpoints([SERVER._replace(port=999)], lab.clock.now)
    lab.registration.announce(b"announcement 2", lab.clock.now)
    lab.say(Registered(2, NODE, ALTERNATE.port, 60))
    lab.run(0.1)
    lab.seen_from[SERVER._replace(port=999)] = NODE
    lab.run(40)
    assert lab.state is CONNECTED
    assert lab.registration.link.endpoint == SERVER._replace(port=999)


def test_the_same_address_again_changes_nothing() -> None:
    lab = Lab().connect()
    lab.registration.set_endpoints([SERVER_V6, SERVER], lab.clock.now)
    assert lab.state is CONNECTED
    assert lab.registration.link.endpoint == SERVER
    lab.run(60)
    assert lab.state is CONNECTED


def test_the_server_has_no_address_any_more() -> None:
    lab = Lab().connect()
    lab.registration.set_endpoints([], lab.clock.now)
    lab.run(100)
    assert lab.state is UNREACHABLE
    lab.registration.set_endpoints([SERVER], lab.clock.now)
    lab.run(2)
    assert lab.state is CONNECTED


def test_a_server_that_delays_ever_more_breaks_nothing() -> None:
    """The round trip goes into 32 bits of microseconds, and into how long we wait."""
    lab = Lab().connect()
    for _ in range(12):
        lab.delay *= 2
        lab.run(4 * lab.delay)
    lab.delay = 0.025
    lab.run(200)
    assert lab.state is CONNECTED


def test_timer_reads_only_and_may_fire_early_or_twice() -> None:
    lab = Lab().connect()
    timer = lab.registration.get_timer()
    assert timer is not None
    assert timer == lab.registration.get_timer()
    lab.registration.handle_timer(lab.clock.now)
    assert lab.registration.datagrams_to_send() == []
    lab.registration.handle_timer(timer)
    assert len(lab.registration.datagrams_to_send()) == 1
    lab.registration.handle_timer(timer)
    assert lab.registration.datagrams_to_send() == []


def test_keys_agreed_with_a_port_that_is_not_the_servers() -> None:
    """The response came from elsewhere on its host: it is authentic, but nobody has answered where
    we ask, so nothing can be sent yet."""
    lab = Lab()
    lab.registration.set_endpoints([SERVER], lab.clock.now)
    lab.registration.announce(b"announcement 1", lab.clock.now)
    (transmit,) = lab.registration.datagrams_to_send()
    (response,) = lab.server.receive(bytes(transmit.data), NODE)
    lab.deliver(response, ALTERNATE)
    lab.run(0.03)
    assert lab.state is REGISTERING
    lab.run(60)
    assert lab.state is CONNECTED
    assert lab.registration.link.endpoint == SERVER


def test_echoes_under_way_are_bounded_and_old_ones_forgotten() -> None:
    lab = Lab().connect()
    lab.delay = 3.0
    for _ in range(40):
        lab.registration.refresh(lab.clock.now)
        lab.run(0.03)
    lab.run(20)
    assert lab.state is CONNECTED
