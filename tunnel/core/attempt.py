"""One attempt to meet a peer at ports that are predicted or guessed, while it is under way."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from tunnel.core.checks import Outgoing
from tunnel.core.peer import Peer
from tunnel.core.prediction import PortRange


class GuessState(enum.Enum):
    IDLE = "idle"
    SAMPLING = "sampling"
    ASKING = "asking"
    STRIKING = "striking"


class Message(NamedTuple):
    to: Peer
    check: Outgoing


@dataclass
class Attempt:
    peer: Peer
    number: int
    """Names the attempt; drawn by who asks."""
    is_asker: bool
    locals: list[int]
    distrusts_steady: bool = False
    wish: int = 0
    is_suspicion: bool = False
    """Whether our range rests on distrust alone."""
    ours: PortRange | None = None
    theirs: PortRange | None = None
    their_sockets: int = 1
    transaction: int = 0
    tries: int = 0
    ends_at: float = 0.0
    strikes: deque[tuple[float, Outgoing]] = field(default_factory=deque)
