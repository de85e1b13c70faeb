"""A session: handshakes and keypairs with one remote, and the timers of the white paper §6.

It says *what* to send (handshake messages in ``take_datagrams``); its owner decides on which path.

States of the handshake we start:

    ==========  =========================  ==========================================
    state       entered by                 left by
    ==========  =========================  ==========================================
    idle        start, response, give-up   ``initiate``
    initiated   ``initiate``               valid response → idle with a new keypair;
                                           ``handle_timer`` repeats it, and gives up
                                           after ``REKEY_ATTEMPT_TIME``
    ==========  =========================  ==========================================

As responder a session has no state beyond its keypairs: the response is made at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunnel.constants import REJECT_AFTER_TIME, REKEY_AFTER_TIME, REKEY_ATTEMPT_TIME
from tunnel.core.indices import IndexTable
from tunnel.core.machine import Buffer, RandomBytes, WallClock, earliest
from tunnel.errors import AuthenticationFailed
from tunnel.noise.cookie import CookieChecker, CookieGenerator
from tunnel.noise.frame_cipher import FrameCipher
from tunnel.noise.handshake import Construction, Initiator, ReceivedInitiation
from tunnel.noise.keypair import (
    REJECT_AFTER_MESSAGES,
    REKEY_AFTER_MESSAGES,
    Keypair,
    Keypairs,
)
from tunnel.noise.keys import PresharedKey, PrivateKey, PublicKey
from tunnel.noise.sodium import DirectKey
from tunnel.noise.tai64n import timestamp
from tunnel.wire.handshake import OFFER_AEGIS, CookieReply, Response

RETRANSMIT = (0.35, 0.7, 1.5, 3.0, 5.0)
"""Seconds before the initiation is sent again; the last one goes on, with the white paper's jitter.
Shorter than its 5 s at first: a single loss must not cost a user five seconds."""
JITTER = 0.333
MAX_INITIATIONS = 4
INITIATION_SPACING = 0.02
"""An initiator sends at most one per 20 ms, so nothing that comes faster is genuine (§6.1)."""


@dataclass(frozen=True)
class SessionTimes:
    """When keys are replaced, in seconds of their age."""

    rekey_after: float = REKEY_AFTER_TIME
    reject_after: float = REJECT_AFTER_TIME
    renew_after: float | None = None
    """Age at which the initiator replaces them though nothing is sent, so that a pair that is idle
    has keys when it is not. None: they may expire."""


PEER_TIMES = SessionTimes(renew_after=165.0)
"""165 s: §6.2's margin before rejection, kept without waiting for a frame to arrive."""
RESPONDER_RENEWS_LATER = 8.0
"""Seconds, in case the initiator cannot."""


class Session:
    """Seals for, and opens from, one remote static key."""

    def __init__(
        self,
        *,
        construction: Construction,
        static: PrivateKey,
        remote_static: PublicKey,
        preshared: PresharedKey,
        indices: IndexTable[Session],
        random_bytes: RandomBytes,
        wall_clock: WallClock,
        times: SessionTimes = PEER_TIMES,
        may_initiate: bool = True,
        may_use_aegis: bool = False,
    ) -> None:
        self.remote_static = remote_static
        self._construction = construction
        self._static = static
        self._preshared = preshared
        self._indices = indices
        self._random_bytes = random_bytes
        self._wall_clock = wall_clock
        self._times = times
        self._may_initiate = may_initiate
        self._offer = OFFER_AEGIS if may_use_aegis else 0
        self._cookies = CookieGenerator(construction, remote_static)
        self._checker = CookieChecker(construction, static.public_key, random_bytes)
        self._keypairs = Keypairs()
        self._receiving: dict[int, Keypair] = {}
        """Those held, by the index that frames for them name."""
        self._expires_at: float | None = None
        self._initiators: dict[int, tuple[Initiator, float]] = {}
        """Initiations under way by index, oldest first, with the time they were sent: on a slow
        path the response to an earlier one arrives after the next was sent, and still counts."""
        self._attempt_started = 0.0
        self._attempts = 0
        self._initiated_at = float("-inf")
        self._retransmit_at: float | None = None
        self._greatest_timestamp = b""
        self._last_initiation_at = float("-inf")
        self._sent_timestamp = b""
        self._outbox: list[bytes] = []
        self.handshakes = 0
        """Completed, in either role."""
        self.key_changes = 0
        """How often keys came, went, or took another's place."""
        self.opened = 0
        """Frames opened, under all keys."""
        self.skipped = 0
        """Frames that the one opened last has overtaken: missing, or still on their way."""
        self.was_late = False
        """Whether the one opened last had been overtaken itself."""
        self._sent_under_dropped_keys = 0
        self._renewed: Keypair | None = None
        """For which a handshake was begun by its age: once, or a peer that is gone is called for
        ever."""
        self.handshake_rtt: float | None = None
        """Seconds from our last answered initiation to its response."""

    # What the owner asks

    def is_established(self, now: float) -> bool:
        """Whether a frame can be sealed now."""
        until = self.established_until
        return until is not None and now < until

    @property
    def agreed_at(self) -> float | None:
        """When the keys in use were agreed; None without keys."""
        current = self._keypairs.current
        return None if current is None else current.created_at

    @property
    def established_until(self) -> float | None:
        """When they expire, or did; None without keys."""
        agreed_at = self.agreed_at
        return None if agreed_at is None else agreed_at + self._times.reject_after

    def handshake_age(self, now: float) -> float | None:
        """Seconds since then; None without keys."""
        agreed_at = self.agreed_at
        return None if agreed_at is None else now - agreed_at

    @property
    def cipher(self) -> FrameCipher | None:
        """Of the keys in use; None without keys."""
        current = self._keypairs.current
        return None if current is None else current.cipher

    @property
    def is_initiating(self) -> bool:
        return self._retransmit_at is not None

    @property
    def has_repeated(self) -> bool:
        """Whether an initiation has gone unanswered."""
        return self._retransmit_at is not None and self._attempts > 1

    @property
    def sent_to_us(self) -> int:
        """Frames the remote has sealed for us, as far as their counters tell. What it exceeds
        `opened` by was lost, or is still under way."""
        held = sum(keypair.replay.greatest + 1 for keypair in self._keypairs)
        return self._sent_under_dropped_keys + held

    # Commands

    def initiate(self, now: float) -> None:
        """Start a handshake, unless one is under way."""
        if self._retransmit_at is None and self._may_initiate:
            self._attempt_started, self._attempts = now, 0
            self._send_initiation(now)

    def restart_handshake(self, now: float) -> None:
        """Start a handshake, or send the one under way again at once (a new way has opened)."""
        if self._retransmit_at is None:
            self.initiate(now)
        elif now - self._initiated_at > INITIATION_SPACING:
            self._attempt_started, self._attempts = now, 0
            self._send_initiation(now)

    def take_datagrams(self) -> list[bytes]:
        """Handshake messages to send now, each once."""
        datagrams, self._outbox = self._outbox, []
        return datagrams

    def close(self) -> None:
        """Forget all keys."""
        self._abandon()
        self._drop_all()

    def retire(self) -> None:
        """Forget all keys, and begin no handshake any more."""
        self.close()
        self._outbox.clear()
        self._may_initiate = False

    # From the network

    def receive_initiation(self, received: ReceivedInitiation, now: float) -> bytes | None:
        """The response to an initiation already opened; None for a replay or a flood."""
        if received.timestamp <= self._greatest_timestamp:
            return None
        if now - self._last_initiation_at < INITIATION_SPACING:
            return None
        self._greatest_timestamp = received.timestamp
        self._last_initiation_at = now
        index = self._indices.allocate(self)
        response, keys = received.create_response(
            sender=index,
            ephemeral=PrivateKey.generate(self._random_bytes),
            preshared=self._preshared,
            offer=self._offer,
        )
        self._add_keypair(
            Keypair(
                cipher=keys.cipher,
                sending_key=keys.sending,
                receiving_key=keys.receiving,
                local_index=index,
                remote_index=received.sender,
                created_at=now,
                is_initiator=False,
            )
        )
        return self._cookies.stamp(response.pack(), now)

    def receive_response(self, response: Response, now: float) -> None:
        """Complete the handshake we started. Raises AuthenticationFailed, changing nothing."""
        if response.receiver not in self._initiators:
            raise AuthenticationFailed("response to no initiation of ours")
        if not self._checker.has_valid_mac1(response.pack()):
            raise AuthenticationFailed("mac1")
        initiator, sent_at = self._initiators[response.receiver]
        keys = initiator.consume_response(response)
        self.handshake_rtt = now - sent_at
        del self._initiators[response.receiver]
        self._abandon()
        self._add_keypair(
            Keypair(
                cipher=keys.cipher,
                sending_key=keys.sending,
                receiving_key=keys.receiving,
                local_index=response.receiver,
                remote_index=response.sender,
                created_at=now,
                is_initiator=True,
            )
        )

    def receive_cookie(self, reply: CookieReply, now: float) -> None:
        """Take the cookie; the next initiation carries it. Raises AuthenticationFailed."""
        self._cookies.consume_reply(reply, now)

    def open(self, receiver: int, counter: int, datagram: Buffer, now: float) -> bytes:
        """The payload of a frame. Raises AuthenticationFailed: tag, replay, stale or no keys."""
        keypair = self._receiving.get(receiver)
        if keypair is None:
            raise AuthenticationFailed("no such keypair")
        if self._is_expired(keypair, now):
            raise AuthenticationFailed("keypair expired")
        greatest = keypair.replay.greatest
        payload = keypair.open(counter, datagram)
        self._note_opened(keypair, counter, 1, greatest)
        return payload

    def seal(self, payload: Buffer, now: float) -> bytes | None:
        """A frame for `payload`; None while there are no keys (and a handshake is then begun)."""
        current = self._find_sending(now)
        return None if current is None else current.seal(payload)

    # For frames that are sealed and opened by others, many at a time

    def reserve(self, frames: int, now: float) -> tuple[DirectKey, int, int] | None:
        """For so many frames: the key, the receiver they name, and the counter of the first, used
        up herewith. None as `seal` gives it, or where the cipher has no direct functions."""
        current = self._find_sending(now)
        if current is None or current.sending is None:
            return None
        return current.sending, current.remote_index, current.reserve(frames)

    def find_keypair(self, receiver: int, now: float) -> Keypair | None:
        """What opens frames that name our index `receiver`; None: nothing any more."""
        keypair = self._receiving.get(receiver)
        return None if keypair is None or self._is_expired(keypair, now) else keypair

    def accept_run(self, keypair: Keypair, counter: int, frames: int) -> bool:
        """Note that frames from `counter` on have opened under `keypair`. False, and nothing is
        noted, unless each of them is new."""
        greatest = keypair.replay.greatest
        if counter + frames > REJECT_AFTER_MESSAGES:
            return False
        if not keypair.replay.accept_run(counter, frames):
            return False
        self._note_opened(keypair, counter, frames, greatest)
        return True

    def _note_opened(self, keypair: Keypair, counter: int, frames: int, greatest: int) -> None:
        self.skipped = max(0, counter - greatest - 1)
        self.was_late = counter < greatest
        self.opened += frames
        if keypair is not self._keypairs.current:
            self._drop(self._keypairs.received_with(keypair))
            if self._keypairs.current is keypair:
                self._note_keys()

    def _find_sending(self, now: float) -> Keypair | None:
        """The keypair to seal with; asks for its successor when that is due."""
        current = self._keypairs.current
        if current is None or now >= current.created_at + self._times.reject_after:
            self.initiate(now)
            return None
        if current.sending_counter >= REKEY_AFTER_MESSAGES or (
            current.is_initiator and now - current.created_at >= self._times.rekey_after
        ):
            self.initiate(now)
        return current

    def _is_expired(self, keypair: Keypair, now: float) -> bool:
        return now - keypair.created_at > self._times.reject_after

    # The clock

    def get_timer(self) -> float | None:
        return earliest((self._retransmit_at, self._expires_at, self._renewal()))

    def handle_timer(self, now: float) -> None:
        if self._expires_at is not None and now >= self._expires_at:
            self._drop_all()
        renewal = self._renewal()
        if renewal is not None and now >= renewal:
            self._renewed = self._keypairs.current
            self.initiate(now)
        if self._retransmit_at is not None and now >= self._retransmit_at:
            if now - self._attempt_started >= REKEY_ATTEMPT_TIME:
                self._abandon()
            else:
                self._send_initiation(now)

    # Inside

    def _renewal(self) -> float | None:
        current = self._keypairs.current
        if current is None or current is self._renewed or self._times.renew_after is None:
            return None
        later = 0.0 if current.is_initiator else RESPONDER_RENEWS_LATER
        return current.created_at + self._times.renew_after + later

    def _send_initiation(self, now: float) -> None:
        if len(self._initiators) >= MAX_INITIATIONS:
            oldest = next(iter(self._initiators))
            del self._initiators[oldest]
            self._indices.release(oldest)
        index = self._indices.allocate(self)
        initiator = Initiator(
            self._construction, self._static, self.remote_static, self._preshared, self._offer
        )
        self._initiators[index] = (initiator, now)
        # Whitened timestamps repeat within 16 ms; ours must grow with every initiation (§5.1).
        stamp = timestamp(self._wall_clock())
        if stamp <= self._sent_timestamp:
            stamp = (int.from_bytes(self._sent_timestamp, "big") + 1).to_bytes(12, "big")
        self._sent_timestamp = stamp
        initiation = initiator.create_initiation(
            sender=index,
            ephemeral=PrivateKey.generate(self._random_bytes),
            timestamp=stamp,
        )
        self._outbox = [self._cookies.stamp(initiation.pack(), now)]
        delay = RETRANSMIT[min(self._attempts, len(RETRANSMIT) - 1)]
        jitter = JITTER * delay / RETRANSMIT[-1] * self._random_bytes(1)[0] / 255
        self._initiated_at = now
        self._retransmit_at = now + delay + jitter
        self._attempts += 1

    def _abandon(self) -> None:
        for index in self._initiators:
            self._indices.release(index)
        self._initiators.clear()
        self._retransmit_at = None

    def _add_keypair(self, keypair: Keypair) -> None:
        self._receiving[keypair.local_index] = keypair
        self._drop(self._keypairs.add(keypair))
        self.handshakes += 1
        self._note_keys()

    def _drop_all(self) -> None:
        self._drop(self._keypairs.drop_all())
        self._note_keys()

    def _note_keys(self) -> None:
        self.key_changes += 1
        newest = max((keypair.created_at for keypair in self._keypairs), default=None)
        # Keys are zeroed after three times their life (white paper §6.1).
        self._expires_at = None if newest is None else newest + 3 * self._times.reject_after

    def _drop(self, keypairs: list[Keypair]) -> None:
        for keypair in keypairs:
            self._sent_under_dropped_keys += keypair.replay.greatest + 1
            self._indices.release(keypair.local_index)
            self._receiving.pop(keypair.local_index, None)
