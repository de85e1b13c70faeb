"""Redeeming an invitation: the joiner's side.

    ==========  ==========================================  =================================
    state       meaning                                     left by
    ==========  ==========================================  =================================
    WAITING     handshake with the server, then the sealed  the inviter's answer → GRANTED or
                request, repeated for ever                  REFUSED
    GRANTED     ``admission`` holds the membership
    REFUSED     ``refusal`` says why
    ==========  ==========================================  =================================

While the server is away or the inviter offline it goes on trying, and ``obstacle`` says so. The
server may keep the request: then it may also be stopped, and another one with the same key be
started later, which is given the answer that waits.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunnel.core.indices import IndexTable
from tunnel.core.machine import RandomBytes, Transmit, WallClock, draw_number, earliest
from tunnel.core.membership import (
    NetworkIdentity,
    invitation_id,
    join_key,
    open_join_answer,
)
from tunnel.core.server_session import ServerSession
from tunnel.core.session import Session
from tunnel.core.transport import Opening, Transport, stream_routes
from tunnel.errors import AuthenticationFailed, Malformed
from tunnel.noise.keys import PrivateKey, PublicKey, VerifyKey
from tunnel.noise.sealing import seal_blob
from tunnel.wire.certificate import Certificate
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.handshake import COOKIE_REPLY, RESPONSE, parse_cookie_reply, parse_response
from tunnel.wire.invitation import (
    Admission,
    JoinRequest,
    JoinStatus,
    JoinString,
    parse_join_answer,
)
from tunnel.wire.rendezvous import (
    Acknowledge,
    Challenge,
    Granted,
    Kept,
    Proof,
    Redeem,
    RefusalReason,
    Refused,
)
from tunnel.wire.transport import TRANSPORT

RETRY = (0.7, 1.5, 3.0, 5.0)
KEPT_RETRY = 10.0
"""Seconds between requests while the server keeps ours: it is to go on knowing where we are, and to
know ours again should it restart."""
SUSPECT_KEYS_AFTER = 3
"""Requests without a word from the server after which keys are agreed anew: it may have restarted,
and would know nothing of ours for half an hour."""
PATIENCE = 4
"""Requests that the server has taken without a word of the inviter, after which that is worth a
word."""
SERVER_TIMEOUT = 5.0
"""Seconds after which an unanswered handshake is worth a word to the person waiting."""


class Joiner:
    def __init__(
        self,
        join: JoinString,
        static: PrivateKey,
        *,
        now: float,
        random_bytes: RandomBytes,
        wall_clock: WallClock,
        name: str = "",
    ) -> None:
        """`name`: what to be called, where the invitation leaves a choice; else what it says."""
        self.admission: tuple[NetworkIdentity, Certificate, Admission] | None = None
        self.refusal: JoinStatus | None = None
        self.obstacle: str | None = None
        self._join = join
        self._static = static
        self._inviter = PublicKey(join.inviter)
        self._wall_clock = wall_clock
        self._started_at = now
        self._request_id = draw_number(random_bytes)
        indices: IndexTable[Session] = IndexTable(random_bytes)
        self._link = ServerSession(
            static=static,
            server_key=PublicKey(join.server.public_key),
            access_token=join.server.access_token,
            indices=indices,
            random_bytes=random_bytes,
            wall_clock=wall_clock,
        )
        self._transport = Transport(self._link, stream_routes(join.server), random_bytes)
        key = join_key(b"join request", static, self._inviter, join.token)
        sealed = seal_blob(key, name.encode("ascii"), random_bytes(24))
        self._request = JoinRequest(invitation_id(join.token), sealed).pack()
        self._next_at: float | None = None
        self._tries = 0
        self._unheard = 0

    @property
    def is_done(self) -> bool:
        return self.admission is not None or self.refusal is not None

    def set_server_endpoints(self, endpoints: Sequence[Endpoint], now: float) -> None:
        self._link.set_endpoints(endpoints)
        if not self._link.session.is_established(now) and endpoints:
            self._link.session.restart_handshake(now)
        self._transport.start(now)

    def stream_opened(self, number: int, endpoint: Endpoint, now: float) -> None:
        """It is ready for datagrams; `endpoint` is its other end."""
        self._transport.stream_opened(number, endpoint, now)

    def stream_closed(self, number: int, reason: str, now: float) -> None:
        """It could not be opened, or has ended."""
        self._transport.stream_closed(number, now)

    def take_openings(self) -> list[Opening]:
        return self._transport.take_openings()

    def take_closings(self) -> list[int]:
        return self._transport.take_closings()

    def receive_datagrams(
        self, datagrams: Sequence[bytes], source: Endpoint, now: float, local: int = 0
    ) -> list[bytes]:
        """Always returns []. Datagrams that are not the server's are dropped."""
        for datagram in datagrams:
            try:
                self._receive(datagram, source, now, local)
            except (Malformed, AuthenticationFailed):
                # A joiner has no counters to show; it is over in seconds.
                continue
        return []

    def datagrams_to_send(self, now: float) -> list[Transmit]:
        return self._link.datagrams_to_send()

    def get_timer(self) -> float | None:
        if self.is_done:
            return None
        times = [self._link.session.get_timer(), self._next_at, self._silence_noticed_at()]
        times.append(self._transport.get_timer())
        return earliest(times)

    def handle_timer(self, now: float) -> None:
        if self.is_done:
            return
        self._transport.handle_timer(now)
        self._link.session.handle_timer(now)
        if not self._link.session.is_established(now):
            self._link.session.initiate(now)  # Begins anew where an attempt was given up.
        silence = self._silence_noticed_at()
        if silence is not None and now >= silence:
            self.obstacle = "the server does not answer"
        if self._next_at is not None and now >= self._next_at:
            self._ask(now)

    def _silence_noticed_at(self) -> float | None:
        if self._link.endpoint is not None or self.obstacle is not None:
            return None
        return self._started_at + SERVER_TIMEOUT

    def _ask(self, now: float) -> None:
        self._link.send(Redeem(self._request_id, self._join.inviter, self._request), now)
        self._next_at = now + RETRY[min(self._tries, len(RETRY) - 1)]
        self._tries += 1
        if self._tries > PATIENCE and self.obstacle is None:
            self.obstacle = "no answer yet from the machine that invited you"
        self._unheard += 1
        if self._unheard > SUSPECT_KEYS_AFTER:
            self._unheard = 0
            self._link.session.restart_handshake(now)
            self._transport.follow(now, is_connected=False, is_doubtful=True)

    def _receive(self, datagram: bytes, source: Endpoint, now: float, local: int) -> None:
        kind = datagram[0] if datagram else 0
        if self.is_done or not self._link.is_server(source, local):
            return
        if kind == RESPONSE:
            self._link.receive_response(parse_response(datagram), source, now, local)
            self._transport.note_handshake(now)
            self.obstacle = None
            self._ask(now)
        elif kind == COOKIE_REPLY:
            self._link.receive_cookie(parse_cookie_reply(datagram), now, local)
        elif kind == TRANSPORT:
            message = self._link.open(datagram, now)
            self._unheard = 0
            if local == self._link.local:
                self._transport.follow(now, is_connected=True, is_doubtful=False)
            if isinstance(message, Kept) and message.request == self._request_id:
                self.obstacle = (
                    "the machine that invited you is not online: the server keeps your request for "
                    "it, and you may stop here and run the same command again later"
                )
                self._next_at = now + KEPT_RETRY
            elif isinstance(message, Refused) and message.request == self._request_id:
                if message.reason is RefusalReason.INVITER_OFFLINE:
                    self.obstacle = "the machine that invited you is not online"
            elif isinstance(message, Challenge):
                self._link.send(Proof(message.token), now)
            elif isinstance(message, Granted) and message.request == self._request_id:
                # Only what is for this process: what is acknowledged, the server forgets.
                self._link.send(Acknowledge(message.serial), now)
                self._receive_answer(message.sealed)

    def _receive_answer(self, sealed: bytes) -> None:
        answer = parse_join_answer(sealed)
        opened = open_join_answer(answer, self._static, self._inviter, self._join.token)
        if isinstance(opened, JoinStatus):
            self.refusal = opened
            return
        identity = NetworkIdentity(VerifyKey(opened.network_key), opened.network_secret)
        certificate = identity.verify(opened.certificate, self._wall_clock())
        if certificate.key != self._static.public_key.data:
            raise AuthenticationFailed("certificate of another node")
        self.admission = (identity, certificate, opened)
