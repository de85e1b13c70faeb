"""Transport keys and their succession (WireGuard white paper §5.4.5, §5.4.6, §6.2)."""

from __future__ import annotations

from collections.abc import Iterator

from tunnel.errors import AuthenticationFailed
from tunnel.noise.frame_cipher import FrameCipher
from tunnel.noise.primitives import Buffer
from tunnel.noise.replay import ReplayFilter
from tunnel.noise.sodium import DirectKey
from tunnel.wire.confidential import Confidential
from tunnel.wire.transport import HEADER_LENGTH, pack_header

REKEY_AFTER_MESSAGES = 2**60
"""Frames sent with one keypair before its successor should be asked for (white paper §6.1)."""
REJECT_AFTER_MESSAGES = 2**64 - 2**13 - 1
"""Counters from here on are neither sent nor accepted (white paper §6.1)."""


class Keypair(Confidential):
    """A key for each direction, with the counters and the replay window that belong to them."""

    __slots__ = (
        "cipher",
        "created_at",
        "is_initiator",
        "local_index",
        "receiving",
        "receiving_key",
        "remote_index",
        "replay",
        "sending",
        "sending_counter",
        "sending_key",
    )

    def __init__(
        self,
        *,
        cipher: FrameCipher,
        sending_key: bytes,
        receiving_key: bytes,
        local_index: int,
        remote_index: int,
        created_at: float,
        is_initiator: bool,
    ) -> None:
        self.cipher = cipher
        self.sending_key = sending_key
        self.receiving_key = receiving_key
        direct = cipher.direct
        self.sending = DirectKey(direct, direct.key(sending_key)) if direct else None
        """For those that seal themselves; None: the cipher has no direct functions here."""
        self.receiving = DirectKey(direct, direct.key(receiving_key)) if direct else None
        self.local_index = local_index
        """The receiver that frames for us name."""
        self.remote_index = remote_index
        """The receiver that our frames name."""
        self.created_at = created_at
        self.is_initiator = is_initiator
        self.sending_counter = 0
        """Of the next frame."""
        self.replay = ReplayFilter()

    def seal(self, payload: Buffer, place: int = 0) -> bytes:
        """The datagram for `payload`, which is not padded here. `place`: its index in a train.

        Raises OverflowError at `REJECT_AFTER_MESSAGES`; a caller that rekeys never sees it.
        """
        counter = self.sending_counter
        if counter >= REJECT_AFTER_MESSAGES:
            raise OverflowError("keypair used up")
        # Before sealing: whatever happens there, no counter is used twice.
        self.sending_counter = counter + 1
        header = pack_header(self.remote_index, counter, place)
        return header + self.cipher.seal(self.sending_key, header, bytes(payload))

    def reserve(self, frames: int) -> int:
        """The counter of the first of so many frames that are sealed elsewhere.

        Raises OverflowError as `seal`.
        """
        counter = self.sending_counter
        if counter + frames > REJECT_AFTER_MESSAGES:
            raise OverflowError("keypair used up")
        self.sending_counter = counter + frames
        return counter

    def open(self, counter: int, datagram: Buffer) -> bytes:
        """The payload of `datagram`, whose header names this keypair's local index and `counter`.

        Raises AuthenticationFailed: "tag" if it is forged, "replay" if it is authentic but was
        opened before, is older than the window, or is past `REJECT_AFTER_MESSAGES`.
        """
        header = bytes(datagram[:HEADER_LENGTH])
        sealed = bytes(memoryview(datagram)[HEADER_LENGTH:])
        payload = self.cipher.open(self.receiving_key, header, sealed)
        if counter >= REJECT_AFTER_MESSAGES or not self.replay.accept(counter):
            raise AuthenticationFailed("replay")
        return payload

    def __repr__(self) -> str:
        return (
            f"Keypair(local_index={self.local_index:#x}, remote_index={self.remote_index:#x}, "
            f"created_at={self.created_at}, is_initiator={self.is_initiator}, "
            f"sending_counter={self.sending_counter}, cipher={self.cipher.name})"
        )


MAX_WAITING = 3


class Keypairs:
    """The keypairs held with one peer: `current` seals, each of the three opens.

    Every method that takes keypairs out returns them, for their indices to be given back.
    """

    __slots__ = ("_waiting", "current", "next", "previous")

    def __init__(self) -> None:
        self.current: Keypair | None = None
        self.previous: Keypair | None = None
        """Opens the frames that were under way when its successor came."""
        self.next: Keypair | None = None
        """Ours as responder, until a frame shows that the initiator holds it too."""
        self._waiting: list[Keypair] = []
        """Of the initiations before that one: on a path slower than the initiator repeats them, it
        is one of the earlier responses that it takes."""

    def __iter__(self) -> Iterator[Keypair]:
        held = (self.current, self.previous, self.next, *self._waiting)
        return iter([keypair for keypair in held if keypair])

    def add(self, keypair: Keypair) -> list[Keypair]:
        """Take in the keypair of a handshake just completed.

        As initiator it is current at once: the response has shown that the responder holds it. As
        responder it waits as next (wireguard-go, device/noise-protocol.go: BeginSymmetricSession).
        """
        if not keypair.is_initiator:
            dropped = self._held(self.previous)
            self._waiting += self._held(self.next)
            dropped += self._waiting[:-MAX_WAITING]
            self._waiting = self._waiting[-MAX_WAITING:]
            self.next, self.previous = keypair, None
            return dropped
        if self.next is not None:
            # Both ends initiated at once, and each answered the other. If both dropped the keypair
            # that the other now seals with, neither could open anything: it stays, as previous.
            dropped = self._held(self.current, self.previous, *self._waiting)
            self.previous = self.next
            self._waiting = []
        else:
            dropped = self._held(self.previous)
            self.previous = self.current
        self.current, self.next = keypair, None
        return dropped

    def received_with(self, keypair: Keypair) -> list[Keypair]:
        """To be called when a frame opened under `keypair`: if that is next, it becomes current."""
        waiting = self._held(self.next, *self._waiting)
        if keypair not in waiting:
            return []
        dropped = self._held(self.previous) + [other for other in waiting if other is not keypair]
        self.previous, self.current, self.next = self.current, keypair, None
        self._waiting = []
        return dropped

    def drop_all(self) -> list[Keypair]:
        dropped = list(self)
        self.current = self.previous = self.next = None
        self._waiting = []
        return dropped

    @staticmethod
    def _held(*slots: Keypair | None) -> list[Keypair]:
        return [keypair for keypair in slots if keypair is not None]
