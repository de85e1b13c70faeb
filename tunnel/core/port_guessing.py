"""Attempts to meet where checking the candidates is in vain: from fresh sockets, at ports that are
predicted or guessed.

Each attempt is agreed on by the relay. Both ends take fresh sockets, which no router's table can
hold a grudge against, sample at the server what the NAT maps them to, tell each other
(``prediction``), and then both send what ``strikes`` has planned.

    ========  =======================================  =========================================
    state     meaning                                  left by
    ========  =======================================  =========================================
    IDLE      nothing under way                        a pair is stuck and due → SAMPLING;
                                                       a peer asks → SAMPLING
    SAMPLING  the server tells where our sockets are   samples: who asked → ASKING, who was
              seen                                     asked answers → STRIKING; none → IDLE
    ASKING    our prediction is with the peer          its answer → STRIKING; it declines, or
                                                       ``ASK_TRIES`` in vain → IDLE
    STRIKING  datagrams go to where it may be          a direct path, or the end of the plan →
                                                       IDLE
    ========  =======================================  =========================================

One attempt at a time, whatever the number of peers, and all of them within one EntryBudget.
"""

from __future__ import annotations

from collections.abc import Iterable

from tunnel.core.attempt import Attempt, GuessState, Message
from tunnel.core.checks import Outgoing
from tunnel.core.entry_budget import EntryBudget
from tunnel.core.entry_lifetime import EntryLifetime, EntryState
from tunnel.core.fresh_sockets import FreshSockets
from tunnel.core.guess_record import GuessRecord
from tunnel.core.machine import RandomBytes, draw_number, earliest
from tunnel.core.nat import NatDiscovery
from tunnel.core.nat_mapping import ADDRESS, INDEPENDENT
from tunnel.core.path import RELAYED
from tunnel.core.peer import Peer
from tunnel.core.prediction import (
    LEAST_SENDS,
    SMALL_SENDS,
    PortRange,
    count_sends,
    count_sockets,
    estimate_chance,
    predict,
)
from tunnel.core.registration import Registration
from tunnel.core.sampling import Asked, Sampler
from tunnel.core.strikes import PING_RATE, plan_strikes
from tunnel.core.stuck_pairs import StuckPairs
from tunnel.wire.check import Phase, Ping, Prediction, PredictionKind, Refusal
from tunnel.wire.endpoint import Endpoint

SAMPLE_SOCKETS = 6
"""Two ports each: twelve samples tell a block's ends to a twelfth of its width."""
ENOUGH = 0.9
ASK_TRIES = 4
FIRST_ASK_RETRY = 0.4
HOPELESS = 0.02
"""Chance of an attempt below which it is not worth the peer's and the routers' trouble."""
LINGER = 1.0
"""Seconds after a path is proven during which answers to other guesses may still come in."""
AFTERMATH = 2.0
"""Seconds to wait after the last datagram."""
PROVISIONAL_TIME = 35.0
"""Seconds of an attempt that begins before it is known how long an entry lasts."""
TIDY_INTERVAL = 30.0
TTL_STEP, HIGHEST_TTL = 2, 12
"""Openers that died before our own outer NAT did nothing: once every way of trying has been in
vain, they go farther."""


class PortGuessing:
    def __init__(
        self,
        own_key: bytes,
        registration: Registration,
        nat: NatDiscovery,
        random_bytes: RandomBytes,
        *,
        may_guess: bool = True,
    ) -> None:
        self.sockets = FreshSockets()
        self.budget = EntryBudget()
        self.entry_lifetime = EntryLifetime(random_bytes)
        self.may_guess = may_guess
        self.state = GuessState.IDLE
        self._pairs = StuckPairs(own_key)
        self._registration = registration
        self._nat = nat
        self._random_bytes = random_bytes
        self._attempt: Attempt | None = None
        self._sampler: Sampler | None = None
        self._next_at: float | None = None
        """Of the attempt."""
        self._tidy_at: float | None = None
        self._probes: list[Asked] = []
        self._messages: list[Message] = []

    # What the owner asks

    def record(self, peer: Peer) -> GuessRecord:
        """What has been tried for that peer."""
        return self._pairs.record(peer)

    def take_probes(self) -> list[Asked]:
        """To be sent to the server, each from its own socket."""
        probes, self._probes = self._probes, []
        return probes

    def take_released(self) -> tuple[int, ...]:
        """Sockets that are to be closed."""
        return self.sockets.take_released() + self.entry_lifetime.take_released()

    def take_messages(self) -> list[Message]:
        """To be sealed for a peer."""
        messages, self._messages = self._messages, []
        return messages

    # Commands

    def note(self, peer: Peer) -> None:
        """Something has happened to that peer: whether the pair is stuck is to be seen."""
        self._pairs.note(peer)

    def reset(self, now: float) -> None:
        """The network has changed: what is under way is void, and what was tried means nothing."""
        if self._attempt is not None:
            self._finish(self._attempt, now)
        self._pairs.reset()
        self.entry_lifetime.restart()

    def forget(self, peer: Peer, now: float) -> None:
        """It is a member no more."""
        if self._attempt is not None and self._attempt.peer is peer:
            self._finish(self._attempt, now)
        self._messages = [message for message in self._messages if message.to is not peer]
        self._pairs.forget(peer)

    def measure(self, now: float) -> None:
        """Find out how long an entry lasts, if that is not known and the server is there."""
        if self.may_guess and self.entry_lifetime.state is EntryState.UNKNOWN:
            for port in self._server_ports()[:1]:
                self._probes += self.entry_lifetime.start(port, now)

    # From the network

    def receive_echoed(self, transaction: int, observed: Endpoint, now: float) -> bool:
        """The server's answer to a probe; whether it was one of ours."""
        if self.entry_lifetime.receive(transaction):
            self.budget.lifetime = self.entry_lifetime.seconds
            return True
        if self._sampler is None or not self._sampler.receive(transaction, observed):
            return False
        if self._sampler.is_complete:
            self._note_samples(now)
        return True

    def receive(self, prediction: Prediction, peer: Peer, is_credible: bool, now: float) -> None:
        """What a peer says through the relay; `is_credible`: its address is really the peer's."""
        attempt = self._attempt
        is_same = attempt is not None and (attempt.peer, attempt.number) == (
            peer,
            prediction.attempt,
        )
        if prediction.phase is Phase.ASK:
            self._receive_ask(prediction, peer, is_credible, is_same, now)
        elif attempt is None or not is_same or self.state is not GuessState.ASKING:
            return
        elif prediction.phase is Phase.DECLINE:
            self._note_refusal(attempt, Refusal(prediction.kind), now, by_peer=True)
        elif is_credible:
            self._note_theirs(attempt, prediction)
            if not self._gives_up(attempt, now):
                self._strike(attempt, now, prediction.start / 1000)

    # The clock

    def get_timer(self) -> float | None:
        next_at = self._pairs.next_at if self._attempt is None else self._next_at
        return earliest((next_at, self._tidy_at, self.entry_lifetime.get_timer()))

    def handle_timer(self, peers: Iterable[Peer], now: float) -> None:
        """`peers`: all of them. What has happened to one since the last time was noted."""
        attempt = self._attempt
        self.entry_lifetime.handle_timer(now)
        self.budget.lifetime = self.entry_lifetime.seconds
        if attempt is None:
            self._consider(peers, now)
        elif self.state is GuessState.SAMPLING and self._sampler is not None:
            self._probes += self._sampler.take_due(now)
            self._next_at = self._sampler.get_timer()
            if self._sampler.is_done(now):
                self._note_samples(now)
        elif self.state is GuessState.ASKING:
            if self._next_at is not None and now >= self._next_at:
                self._ask_again(attempt, now)
        elif self.state is GuessState.STRIKING:
            self._send_strikes(attempt, now)
        if self._tidy_at is not None and now >= self._tidy_at:
            self._tidy(peers, now)

    # Inside

    def _consider(self, peers: Iterable[Peer], now: float) -> None:
        """Begin with the pair that is due first."""

        def can_afford(record: GuessRecord) -> bool:
            return self._can_afford(record.expected_sends, now, rounds=2)

        has_ports = self._server_ports() != []
        peer = self._pairs.take_due(peers, now, has_ports=has_ports, can_afford=can_afford)
        if peer is not None:
            wish, distrusts_steady = self.record(peer).begin()
            number = draw_number(self._random_bytes) & 0xFFFFFFFF
            self._sample(Attempt(peer, number, True, [], distrusts_steady, int(wish)), now)

    def _server_ports(self) -> list[Endpoint]:
        """Where to sample: IPv4, for IPv6 is not translated. Nowhere if no UDP passes."""
        link = self._registration.link
        if link.is_on_stream or not self._registration.is_connected:
            return []
        known = [link.endpoint] if link.endpoint is not None else []
        main = next((e for e in [*known, *link.endpoints] if not e.is_ipv6), None)
        if main is None:
            return []
        other = self._registration.alternate_port
        return [main] if other is None else [main, Endpoint(main.host, other)]

    def _sample(self, attempt: Attempt, now: float) -> None:
        behaviour = self._nat.mapping(now).behaviour
        attempt.distrusts_steady |= behaviour == ADDRESS
        is_enough = behaviour == INDEPENDENT and not attempt.distrusts_steady
        attempt.locals = self.sockets.take(1 if is_enough else SAMPLE_SOCKETS)
        ports = self._server_ports()
        self.budget.spend_samples(len(attempt.locals) * len(ports), now)
        self._attempt, self.state = attempt, GuessState.SAMPLING
        rtt = self._registration.rtt
        self._sampler = Sampler(attempt.locals, ports, rtt, self._random_bytes, now)
        self._probes += self._sampler.take_due(now)
        self._next_at = self._sampler.get_timer()

    def _note_samples(self, now: float) -> None:
        attempt, sampler = self._attempt, self._sampler
        assert attempt is not None
        assert sampler is not None
        self._sampler = None
        samples = sampler.samples()
        ours = predict(samples, distrusts_steady=attempt.distrusts_steady) if samples else None
        if ours is None:
            self._decline(attempt, Refusal.UNPREDICTABLE, now)
            return
        if ours.kind is not PredictionKind.EXACT and not self.may_guess:
            self._decline(attempt, Refusal.OFF, now)
            return
        attempt.ours = ours
        seems = predict(samples)
        seems_steady = seems is not None and seems.kind is PredictionKind.EXACT
        attempt.is_suspicion = seems_steady and ours.size > 1
        attempt.is_suspicion &= self._nat.mapping(now).behaviour != ADDRESS
        wanted = count_sockets(ours, is_suspicion=attempt.is_suspicion)
        self.sockets.release(attempt.locals[wanted:])
        attempt.locals = attempt.locals[:wanted]
        attempt.locals += self.sockets.take(wanted - len(attempt.locals))
        if attempt.is_asker:
            self.state = GuessState.ASKING
            self._ask_again(attempt, now)
        else:
            self._answer(attempt, now)

    def _ask_again(self, attempt: Attempt, now: float) -> None:
        if attempt.tries >= ASK_TRIES:
            self.record(attempt.peer).fail(now)
            self._finish(attempt, now)
            return
        attempt.tries += 1
        self._tell(attempt, Phase.ASK, 0)
        relay = attempt.peer.traversal.relay
        # The peer samples, too, before it answers.
        patience = FIRST_ASK_RETRY + 2 * ((relay.rtt if relay else None) or 0.0)
        self._next_at = now + patience * attempt.tries

    def _receive_ask(
        self, prediction: Prediction, peer: Peer, is_credible: bool, is_same: bool, now: float
    ) -> None:
        attempt = self._attempt
        if is_same and attempt is not None:
            if not attempt.is_asker and self.state is GuessState.STRIKING:
                self._tell(attempt, Phase.ANSWER, 0)  # The first answer was lost.
            return
        if attempt is not None and attempt.peer is peer and attempt.is_asker:
            if self.state is GuessState.STRIKING or prediction.attempt < attempt.number:
                return  # It will come round to ours.
            if not is_credible:
                return
            attempt.number, attempt.is_asker = prediction.attempt, False
            self._note_theirs(attempt, prediction)
            if self.state is GuessState.ASKING:
                self._answer(attempt, now)
            return
        refusal = self._refuse(prediction, peer, is_credible, now)
        if refusal is not None:
            declined = Prediction(
                Phase.DECLINE, refusal, 0, prediction.attempt, 0, 0, Endpoint("::", 0), 0
            )
            self._messages.append(Message(peer, Outgoing(RELAYED, declined.pack())))
            return
        self.record(peer).note_asked()
        attempt = Attempt(peer, prediction.attempt, False, [], prediction.wish == 1)
        self._note_theirs(attempt, prediction)
        self._sample(attempt, now)

    def _refuse(
        self, prediction: Prediction, peer: Peer, is_credible: bool, now: float
    ) -> Refusal | None:
        is_guess = prediction.kind != PredictionKind.EXACT
        if is_guess and not self.may_guess:
            return Refusal.OFF
        if not is_credible or not self._server_ports():
            return Refusal.UNPREDICTABLE
        wanted = self.record(peer).expected_sends or (LEAST_SENDS if is_guess else 0)
        if self._attempt is not None or not self._can_afford(wanted, now, rounds=1):
            return Refusal.BUSY
        return None

    def _can_afford(self, sends: int, now: float, *, rounds: int) -> bool:
        """Whether there are entries for what an attempt may want. Who asks leaves room for one more
        round of samples, so that others can ask as well."""
        return (
            self._has_entries(sends, now)
            and self.budget.left_for_samples(now) >= rounds * 2 * SAMPLE_SOCKETS
            and self.sockets.free > SAMPLE_SOCKETS
        )

    def _has_entries(self, sends: int, now: float) -> bool:
        """Nearly enough is enough; half of an attempt would be in vain."""
        return self.budget.left(now) >= ENOUGH * sends

    def _note_theirs(self, attempt: Attempt, prediction: Prediction) -> None:
        kind = PredictionKind(prediction.kind)
        attempt.theirs = PortRange(kind, prediction.first, prediction.last)
        attempt.their_sockets = prediction.sockets

    def _answer(self, attempt: Attempt, now: float) -> None:
        if self._gives_up(attempt, now):
            return
        self._tell(attempt, Phase.ANSWER, 0)
        relay = attempt.peer.traversal.relay
        self._strike(attempt, now, ((relay.rtt if relay else None) or 0.0) / 2)

    def _gives_up(self, attempt: Attempt, now: float) -> bool:
        """Whether it is given up after all, now that both predictions are known."""
        assert attempt.theirs is not None
        refusal: Refusal | None = None
        if attempt.theirs.size > 1 and not self.may_guess:
            refusal = Refusal.OFF
        elif self._chance(attempt) < HOPELESS:
            refusal = Refusal.HOPELESS
        elif not self._has_entries(self.record(attempt.peer).expected_sends, now):
            refusal = Refusal.BUSY
        if refusal is not None:
            self._decline(attempt, refusal, now)
        return refusal is not None

    def _decline(self, attempt: Attempt, refusal: Refusal, now: float) -> None:
        if not attempt.is_asker:
            self._tell(attempt, Phase.DECLINE, 0, refusal)
        self._note_refusal(attempt, refusal, now)

    def _note_refusal(
        self, attempt: Attempt, refusal: Refusal, now: float, *, by_peer: bool = False
    ) -> None:
        record = self.record(attempt.peer)
        if refusal is Refusal.HOPELESS and (attempt.distrusts_steady or attempt.wish):
            record.fail(now)  # Only if the mappings are not what they seem.
        else:
            record.refuse(refusal, now, by_peer=by_peer)
        self._finish(attempt, now)

    def _tell(
        self, attempt: Attempt, phase: Phase, start: int, refusal: Refusal | None = None
    ) -> None:
        ours = attempt.ours
        kind = refusal if refusal is not None else ours.kind if ours else 0
        first, last = (ours.first, ours.last) if ours else (Endpoint("::", 0), 0)
        told = Prediction(
            phase, kind, attempt.wish, attempt.number, len(attempt.locals), start, first, last
        )
        self._messages.append(Message(attempt.peer, Outgoing(RELAYED, told.pack())))

    def _chance(self, attempt: Attempt) -> float:
        ours, theirs = attempt.ours, attempt.theirs
        if ours is None or theirs is None:
            return 0.0
        chance = estimate_chance(ours, theirs, len(attempt.locals), attempt.their_sockets)
        self.record(attempt.peer).note_ranges(ours, theirs, chance)
        return chance

    def _strike(self, attempt: Attempt, now: float, delay: float) -> None:
        ours, theirs = attempt.ours, attempt.theirs
        assert ours is not None
        assert theirs is not None
        if ours.size > 1 or theirs.size > 1:
            self._pairs.guessed_at = now
        sends = count_sends(ours, theirs.size, len(attempt.locals), attempt.their_sockets)
        most = min(self.budget.left(now), sends)
        traversal = attempt.peer.traversal
        rtt = (traversal.relay.rtt if traversal.relay else None) or 0.0
        attempt.transaction = draw_number(self._random_bytes)
        traversal.expect_answers_to(attempt.transaction)
        ping = Ping(attempt.transaction).pack()
        planned = plan_strikes(
            ours,
            theirs,
            attempt.locals,
            attempt.their_sockets,
            most,
            self.budget.lifetime,
            rtt / 4,
            self._random_bytes,
        )
        rounds = self.record(attempt.peer).rounds
        opener_ttl = min(traversal.opener_ttl + TTL_STEP * rounds, HIGHEST_TTL)
        # At a pace for the lifetime assumed; soon there will be a better one.
        horizon = float("inf") if self.entry_lifetime.is_known else PROVISIONAL_TIME
        for at, endpoint, local, is_opener in (one for one in planned if one.at <= horizon):
            payload, ttl = (None, opener_ttl) if is_opener else (ping, None)
            attempt.strikes.append((now + delay + at, Outgoing(endpoint, payload, local, ttl)))
        last = attempt.strikes[-1][0] if attempt.strikes else now
        # If the suspicion is wrong, a router that tracks makes entries of the peer's pings as well.
        tracked = SMALL_SENDS if attempt.is_suspicion else 0
        self.budget.spend(most + tracked, now, last + tracked / PING_RATE)
        attempt.ends_at = last + AFTERMATH + rtt
        self.state = GuessState.STRIKING
        self._send_strikes(attempt, now)

    def _send_strikes(self, attempt: Attempt, now: float) -> None:
        strikes = attempt.strikes
        if strikes and not attempt.peer.traversal.needs_path:
            strikes.clear()
            attempt.ends_at = now + LINGER
        while strikes and strikes[0][0] <= now:
            self._messages.append(Message(attempt.peer, strikes.popleft()[1]))
        self._next_at = strikes[0][0] if strikes else attempt.ends_at
        if not strikes and now >= attempt.ends_at:
            if attempt.peer.traversal.needs_path:
                self.record(attempt.peer).fail(now)
            self._finish(attempt, now)

    def _finish(self, attempt: Attempt, now: float) -> None:
        self._attempt, self._sampler, self.state = None, None, GuessState.IDLE
        in_use = attempt.peer.traversal.locals_in_use
        self.sockets.release(set(attempt.locals) - in_use)
        self._tidy_at = now + TIDY_INTERVAL if in_use & set(attempt.locals) else self._tidy_at
        self._pairs.next_at = now  # Somebody else may be waiting.

    def _tidy(self, peers: Iterable[Peer], now: float) -> None:
        """Give up the sockets of paths that have found another way."""
        in_use = {local for peer in peers for local in peer.traversal.locals_in_use}
        under_way = set(self._attempt.locals) if self._attempt is not None else set()
        self.sockets.release_all_but(in_use | under_way)
        self._tidy_at = now + TIDY_INTERVAL if in_use - {0} else None
