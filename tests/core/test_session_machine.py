"""Two sessions, and all that can happen between them, in any order: what must hold always."""

from __future__ import annotations

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.core.ends import Clock, key
from tests.core.test_session import End
from tunnel.core.session import INITIATION_SPACING, MAX_INITIATIONS
from tunnel.noise.cookie import CookieGenerator
from tunnel.noise.handshake import PUNCHTUN
from tunnel.noise.keypair import MAX_WAITING
from tunnel.wire.handshake import INITIATION
from tunnel.wire.transport import TRANSPORT, parse_header

LONGEST = 60
"""Datagrams under way; the oldest are lost."""
ends = st.sampled_from([0, 1])
which = st.integers(0, LONGEST - 1)


class Sessions(RuleBasedStateMachine):
    """Datagrams are on their way until a rule delivers or drops them; so they come in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.ends = (End(self.clock, 1, 2), End(self.clock, 2, 1))
        self.under_way: list[tuple[int, bytes]] = []
        """Who sent it, and it."""
        self.sealed: dict[tuple[bytes, int], bytes] = {}
        """Key and counter → the payload sealed with them."""
        self.frames: dict[tuple[int, int, int], bytes] = {}
        """Who sealed it, the receiver's index and the counter → the payload."""
        self.opened: set[tuple[int, int, int]] = set()
        """The same, of those that were accepted."""
        self.number = 0
        self.initiations: dict[bytes, int] = {}
        """In the order in which they were sent."""
        self.answered = [-1, -1]
        """By sender, which of them was answered last."""

    # What the ends do

    @rule(end=ends)
    def initiate(self, end: int) -> None:
        self.ends[end].session.initiate(self.clock.now)
        self.collect()

    @rule(end=ends)
    def restart_handshake(self, end: int) -> None:
        self.ends[end].session.restart_handshake(self.clock.now)
        self.collect()

    @rule(end=ends, count=st.integers(1, 5))
    def seal(self, end: int, count: int) -> None:
        for _ in range(count):
            frame = self.seal_next(end)
            if frame is not None:
                self.under_way.append((end, frame))
        self.collect()

    @rule(end=ends)
    def close(self, end: int) -> None:
        self.ends[end].session.close()

    # What the network does

    @precondition(lambda self: self.under_way)
    @rule(number=which)
    def deliver(self, number: int) -> None:
        self.receive(*self.under_way.pop(number % len(self.under_way)))

    @precondition(lambda self: self.under_way)
    @rule(number=which)
    def deliver_and_keep(self, number: int) -> None:
        self.receive(*self.under_way[number % len(self.under_way)])

    @precondition(lambda self: self.under_way)
    @rule(random=st.randoms(use_true_random=False), copies=st.integers(1, 2))
    def deliver_all(self, random: Random, copies: int) -> None:
        """In any order; what is answered comes with the next."""
        arriving, self.under_way = self.under_way * copies, []
        random.shuffle(arriving)
        for sender, datagram in arriving:
            self.receive(sender, datagram)

    @precondition(lambda self: self.under_way)
    @rule(number=which)
    def drop(self, number: int) -> None:
        self.under_way.pop(number % len(self.under_way))

    @precondition(lambda self: self.under_way)
    @rule(number=which, position=st.integers(0, 200), bit=st.integers(0, 7))
    def change(self, number: int, position: int, bit: int) -> None:
        """A copy with a flipped bit, elsewhere than in mac2, which only counts under load."""
        sender, datagram = self.under_way[number % len(self.under_way)]
        at = position % (len(datagram) if datagram[0] == TRANSPORT else len(datagram) - 16)
        changed = bytearray(datagram)
        changed[at] ^= 1 << bit
        receiver = self.ends[1 - sender]
        handshakes, payloads = receiver.session.handshakes, len(receiver.payloads)
        assert receiver.receive(bytes(changed), self.ends[sender].endpoint) == []
        assert (receiver.session.handshakes, len(receiver.payloads)) == (handshakes, payloads)

    @precondition(lambda self: self.under_way)
    @rule(number=which, position=st.integers(0, 115), bit=st.integers(0, 7))
    def change_and_mend(self, number: int, position: int, bit: int) -> None:
        """A handshake message, by who knows both public keys, so that mac1 is right. He can prevent
        a session, as by dropping it; and no more."""
        sender, datagram = self.under_way[number % len(self.under_way)]
        if datagram[0] == TRANSPORT:
            return
        changed = bytearray(datagram)
        changed[position % (len(datagram) - 32)] ^= 1 << bit
        generator = CookieGenerator(PUNCHTUN, key(2 - sender).public_key)
        receiver = self.ends[1 - sender]
        payloads = len(receiver.payloads)
        mended = generator.stamp(bytes(changed), self.clock.now)
        self.take_answers(1 - sender, receiver.receive(mended, self.ends[sender].endpoint))
        assert len(receiver.payloads) == payloads

    @rule(seconds=st.sampled_from([0.005, 0.025, 0.4, 1.0, 6.0, 60.0, 119.0, 125.0, 185.0, 600.0]))
    def advance(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while True:
            timers = [each.session.get_timer() for each in self.ends]
            at = min((timer for timer in timers if timer is not None), default=end + 1)
            if at > end:
                break
            self.clock.now = max(at, self.clock.now)
            for each in self.ends:
                each.session.handle_timer(self.clock.now)
            self.collect()
        self.clock.now = end

    @rule(end=ends)
    def a_new_handshake_restores_traffic(self, end: int) -> None:
        """Whatever was before, and is still under way."""
        before = list(self.under_way)
        self.advance(2 * INITIATION_SPACING)
        self.under_way.clear()
        self.ends[end].session.restart_handshake(self.clock.now)
        self.collect()
        while self.under_way:
            self.receive(*self.under_way.pop(0))
        for sender in (0, 1):
            receiver = self.ends[1 - sender]
            frame = self.seal_next(sender)
            assert frame is not None
            count = len(receiver.payloads)
            self.receive(sender, frame)
            assert len(receiver.payloads) == count + 1
        self.under_way = before

    # What must hold

    @invariant()
    def nothing_piles_up(self) -> None:
        del self.under_way[:-LONGEST]
        for end in self.ends:
            assert len(end.indices) <= MAX_INITIATIONS + 3 + MAX_WAITING
            held = [keypair.local_index for keypair in end.session._keypairs]
            assert len(set(held)) == len(held)
            assert set(held) == set(end.session._receiving)

    def teardown(self) -> None:
        for end in (0, 1):
            self.a_new_handshake_restores_traffic(end)

    # Inside

    def collect(self) -> None:
        for number, end in enumerate(self.ends):
            for datagram in end.session.take_datagrams():
                self.initiations[datagram] = len(self.initiations)
                self.under_way.append((number, datagram))

    def seal_next(self, end: int, payload: bytes | None = None) -> bytes | None:
        self.number += 1
        payload = b"payload %d" % self.number if payload is None else payload
        frame = self.ends[end].session.seal(payload, self.clock.now)
        if frame is not None:
            self.note(end, frame, payload)
        return frame

    def note(self, end: int, frame: bytes, payload: bytes) -> None:
        """No counter twice under a key."""
        receiver, counter = parse_header(frame)
        current = self.ends[end].session._keypairs.current
        assert current is not None
        assert (current.sending_key, counter) not in self.sealed
        assert (end, receiver, counter) not in self.frames
        self.sealed[current.sending_key, counter] = payload
        self.frames[end, receiver, counter] = payload

    def take_answers(self, end: int, answers: list[bytes]) -> None:
        for answer in answers:
            if answer[0] == TRANSPORT:  # The first under new keys.
                self.note(end, answer, b"")
            self.under_way.append((end, answer))

    def receive(self, sender: int, datagram: bytes) -> None:
        """What is opened was sealed by the other, and is opened once. An initiation is answered
        once, and none that was sent before one that was answered."""
        receiver, source = self.ends[1 - sender], self.ends[sender].endpoint
        count = len(receiver.payloads)
        answers = receiver.receive(datagram, source)
        self.take_answers(1 - sender, answers)
        if answers and datagram[0] == INITIATION:
            assert len(answers[0]) < len(datagram)
            assert self.initiations[datagram] > self.answered[sender]
            self.answered[sender] = self.initiations[datagram]
        for payload in receiver.payloads[count:]:
            index, counter = parse_header(datagram)
            name = (sender, index, counter)
            assert self.frames[name] == payload
            assert name not in self.opened
            self.opened.add(name)
        self.collect()


Sessions.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestSessions = Sessions.TestCase
