"""What peers say to each other inside a session, besides IP packets.

The first byte tells: 0x40–0x6f starts an IP packet, 0x10 a fragment of one, the kinds below a
check. An empty payload is a keep-alive.

::

    ping        | 1 | 0 0 0 | transaction (8) | padding ... |
    pong        | 2 | 0 0 0 | transaction (8) | reply (8)   | observed endpoint (18) |
    confirm     | 3 | 0 0 0 | reply (8)       |
    call-me     | 4 | 0     | start (2)       | count (1)   | candidates (19 each) ... |
    good-bye    | 5 | 0 0 0 |
    missing     | 6 | 0     | length (2) | receiver (4) | first counter (8) |
    where       | 7 | 0 0 0 | member (32) | zeros (18)        |
    seen        | 8 | 0 0 0 | member (32) | its endpoint (18) |
    prediction  | 9 | phase | kind | wish | attempt (4) | sockets (2) | start (2)
                | first endpoint (18) | last port (2) |
    nature      | 10 | see ``nature.py`` |
    revocations | 11, 12 | see ``revocation.py`` |
    rotation    | 13, 14 | see ``rotation.py`` |

A pong carries a transaction of its own (`reply`); the confirm echoes it. So three messages prove
the path to both ends. `observed` is where the ping came from, :: and port 0 when it was relayed.
`missing` names frames, by the header they were sent with, that a later one has overtaken by far:
whoever still has them may send them again. `where` asks at which endpoint the receiver hears
another member, named by its public key; it is as long as the answer, `seen`. `start` is in
milliseconds: the receiver starts punching that long after the message arrives.

`prediction` says at which external ports the sender's next mappings towards the receiver will be:
between the port of `first endpoint` and `last port`, the likeliest first (so the last may be the
smaller). Both sides say so before they try (`attempt`, drawn by the one that asks), the one that
answers names the common start. Of an answer in phase 3, declined, only `kind` counts: the reason.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from tunnel.errors import Malformed
from tunnel.wire.candidate import Candidate, pack_candidates, parse_candidates
from tunnel.wire.endpoint import ENDPOINT_LENGTH, Endpoint, pack_endpoint, unpack_endpoint
from tunnel.wire.nature import NATURE, Nature, parse_nature
from tunnel.wire.revocation import (
    REVOCATION_DIGEST,
    REVOCATION_LIST,
    RevocationDigest,
    RevocationList,
    parse_revocation_digest,
    parse_revocation_list,
)
from tunnel.wire.rotation import (
    ROTATION_ANSWER,
    ROTATION_REQUEST,
    RotationAnswer,
    RotationRequest,
    parse_rotation_answer,
    parse_rotation_request,
)

PING = 1
PONG = 2
CONFIRM = 3
CALL_ME = 4
GOOD_BYE = 5
MISSING = 6
WHERE = 7
SEEN = 8
PREDICTION = 9

PONG_LENGTH = 20 + ENDPOINT_LENGTH

_TRANSACTION = struct.Struct("<IQ")
_PONG = struct.Struct("<IQQ18s")
_MISSING = struct.Struct("<BBHIQ")
_SEEN = struct.Struct("<I32s18s")
_CALL_ME = struct.Struct("<BBH")
_PREDICTION = struct.Struct("<BBBBIHH18sH")

UNOBSERVED = Endpoint("::", 0)


class Ping(NamedTuple):
    transaction: int
    size: int = _TRANSACTION.size
    """Bytes of the payload, padding included."""

    def pack(self) -> bytes:
        return _TRANSACTION.pack(PING, self.transaction).ljust(self.size, b"\0")


class Pong(NamedTuple):
    transaction: int
    reply: int
    observed: Endpoint

    def pack(self) -> bytes:
        return _PONG.pack(PONG, self.transaction, self.reply, pack_endpoint(self.observed))


class Confirm(NamedTuple):
    reply: int

    def pack(self) -> bytes:
        return _TRANSACTION.pack(CONFIRM, self.reply)


class CallMe(NamedTuple):
    """Please punch now: these are my candidates. Only ever sent over a path that works."""

    start: int
    candidates: tuple[Candidate, ...]

    def pack(self) -> bytes:
        return _CALL_ME.pack(CALL_ME, 0, self.start) + pack_candidates(self.candidates)


class GoodBye(NamedTuple):
    def pack(self) -> bytes:
        return bytes([GOOD_BYE, 0, 0, 0])


class Missing(NamedTuple):
    """A run of frames; a sender that still has them may send them again."""

    length: int
    receiver: int
    first: int

    def pack(self) -> bytes:
        return _MISSING.pack(MISSING, 0, *self)


class Where(NamedTuple):
    """Where do you hear that member?"""

    member: bytes

    def pack(self) -> bytes:
        return _SEEN.pack(WHERE, self.member, bytes(ENDPOINT_LENGTH))


class Seen(NamedTuple):
    """I hear that member at that endpoint."""

    member: bytes
    endpoint: Endpoint

    def pack(self) -> bytes:
        return _SEEN.pack(SEEN, self.member, pack_endpoint(self.endpoint))


class Phase(enum.IntEnum):
    ASK = 1
    ANSWER = 2
    DECLINE = 3


class PredictionKind(enum.IntEnum):
    EXACT = 1
    """One port, whatever the destination."""
    SEQUENTIAL = 2
    """One after the other, counted by the NAT for all behind it."""
    SCATTERED = 3
    """Anywhere between first and last."""


class Refusal(enum.IntEnum):
    """Why an attempt is declined."""

    BUSY = 1
    """Another one is under way, or the budget is spent: later."""
    OFF = 2
    """Switched off there."""
    HOPELESS = 3
    """Ports vary on both sides, and over too wide a range."""
    UNPREDICTABLE = 4
    """No sample came back, or from several addresses."""


class Prediction(NamedTuple):
    phase: Phase
    kind: int
    """A PredictionKind; in phase DECLINE a Refusal."""
    wish: int
    """1: the receiver should not trust its mapping to be the same for all addresses."""
    attempt: int
    sockets: int
    """From how many the sender will send."""
    start: int
    """Milliseconds from the arrival of an answer to the common start."""
    first: Endpoint
    last: int

    def pack(self) -> bytes:
        *head, first, last = self
        return _PREDICTION.pack(PREDICTION, *head, pack_endpoint(first), last)

    @property
    def size(self) -> int:
        """How many ports it names."""
        return abs(self.last - self.first.port) + 1


def is_ping(payload: bytes) -> bool:
    """Whether it asks for an answer; for frames of our own, which are well-formed."""
    return payload[:1] == bytes([PING])


def is_padded_ping(payload: bytes) -> bool:
    """Whether it asks if so large a datagram passes: fragmented it would not tell."""
    return len(payload) > _TRANSACTION.size and payload[0] == PING


Check = (
    Ping
    | Pong
    | Confirm
    | CallMe
    | GoodBye
    | Missing
    | Where
    | Seen
    | Prediction
    | Nature
    | RevocationDigest
    | RevocationList
    | RotationRequest
    | RotationAnswer
)


def parse_check(payload: bytes) -> Check:
    """The check in an opened frame that is no IP packet. Longer than known is accepted."""
    if len(payload) < 4:
        raise Malformed("check length")
    kind = payload[0]
    if kind in (PING, CONFIRM) and len(payload) >= _TRANSACTION.size:
        _, transaction = _TRANSACTION.unpack_from(payload)
        return Ping(transaction, len(payload)) if kind == PING else Confirm(transaction)
    if kind == PONG and len(payload) >= _PONG.size:
        _, transaction, reply, observed = _PONG.unpack_from(payload)
        return Pong(transaction, reply, unpack_endpoint(observed))
    if kind == MISSING and len(payload) >= _MISSING.size:
        return Missing(*_MISSING.unpack_from(payload)[2:])
    if kind in (WHERE, SEEN) and len(payload) >= _SEEN.size:
        _, member, endpoint = _SEEN.unpack_from(payload)
        return Where(member) if kind == WHERE else Seen(member, unpack_endpoint(endpoint))
    if kind == PREDICTION and len(payload) >= _PREDICTION.size:
        return _parse_prediction(payload)
    if kind == NATURE:
        return parse_nature(payload)
    if kind == REVOCATION_DIGEST:
        return parse_revocation_digest(payload)
    if kind == REVOCATION_LIST:
        return parse_revocation_list(payload)
    if kind == ROTATION_REQUEST:
        return parse_rotation_request(payload)
    if kind == ROTATION_ANSWER:
        return parse_rotation_answer(payload)
    if kind == CALL_ME:
        _, _, start = _CALL_ME.unpack_from(payload)
        return CallMe(start, parse_candidates(payload[_CALL_ME.size :]))
    if kind == GOOD_BYE:
        return GoodBye()
    raise Malformed("check kind or length")


def _parse_prediction(payload: bytes) -> Prediction:
    _, phase, kind, wish, attempt, sockets, start, first, last = _PREDICTION.unpack_from(payload)
    kinds = Refusal if phase == Phase.DECLINE else PredictionKind
    if phase not in Phase._value2member_map_ or kind not in kinds._value2member_map_:
        raise Malformed("prediction phase or kind")
    endpoint = unpack_endpoint(first)
    if phase != Phase.DECLINE and (endpoint.port == 0 or last == 0 or sockets == 0):
        raise Malformed("prediction port or sockets")
    return Prediction(Phase(phase), kind, wish, attempt, sockets, start, endpoint, last)
