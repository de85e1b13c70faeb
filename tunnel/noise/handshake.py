"""Initiation and response (WireGuard white paper §5.4.2, §5.4.3, §5.4.5).

mac1 and mac2 are not looked at here, and are zero in the messages made: ``cookie.py`` has them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunnel.errors import AuthenticationFailed
from tunnel.noise.frame_cipher import (
    WIREGUARD_FRAMES,
    FrameCipher,
    FrameKeys,
    choose_cipher,
    derive_frame_key,
    find_chosen,
)
from tunnel.noise.ikpsk2 import SEALED_STATIC_LENGTH, HandshakeState
from tunnel.noise.keys import PresharedKey, PrivateKey, PublicKey
from tunnel.noise.primitives import KEY_LENGTH
from tunnel.noise.symmetric import SymmetricState
from tunnel.noise.tai64n import TIMESTAMP_LENGTH
from tunnel.wire.handshake import Initiation, Response

__all__ = [
    "PUNCHTUN",
    "PUNCHTUN_SERVER",
    "WIREGUARD",
    "Construction",
    "FrameKeys",
    "HandshakeState",
    "Initiator",
    "ReceivedInitiation",
    "SymmetricState",
    "consume_initiation",
]


@dataclass(frozen=True, slots=True)
class Construction:
    """What tells one use of the handshake from another, so that no message passes for another's."""

    identifier: bytes
    """The Noise prologue (white paper §5.4: Identifier)."""
    mac1_label: bytes = b"mac1----"
    cookie_label: bytes = b"cookie--"
    only_cipher: FrameCipher | None = None
    """For frames, with Noise's own keys; offer and choice stay 0. None: the two ends agree on one,
    and the keys are derived from Noise's."""


WIREGUARD = Construction(b"WireGuard v1 zx2c4 Jason@zx2c4.com", only_cipher=WIREGUARD_FRAMES)
"""Exactly WireGuard."""
PUNCHTUN = Construction(b"punchtun v1 tunnel")
"""Node to node."""
PUNCHTUN_SERVER = Construction(b"punchtun v1 rendezvous")
"""Node to rendezvous server."""


class Initiator:
    """The initiating end of the handshakes with one responder, one at a time."""

    def __init__(
        self,
        construction: Construction,
        static: PrivateKey,
        remote_static: PublicKey,
        preshared: PresharedKey,
        offer: int = 0,
    ) -> None:
        """`offer`: the ciphers that frames may use, by their bits in ``wire/handshake.py``."""
        self._construction = construction
        self._static = static
        self._remote_static = remote_static
        self._preshared = preshared
        self._offer = 0 if construction.only_cipher else offer
        self._sender = 0
        self._state: HandshakeState | None = None

    def create_initiation(
        self, *, sender: int, ephemeral: PrivateKey, timestamp: bytes
    ) -> Initiation:
        """Begin a handshake; one that was waiting for its response is given up.

        `sender` is the index the response will name, `ephemeral` a key never used before,
        `timestamp` 12 bytes and greater than the last. AuthenticationFailed only if the responder's
        key is of low order.
        """
        if len(timestamp) != TIMESTAMP_LENGTH:
            raise ValueError(f"a timestamp has {TIMESTAMP_LENGTH} bytes")
        state = HandshakeState(
            prologue=self._construction.identifier,
            static=self._static,
            remote_static=self._remote_static,
        )
        message = state.write_message_1(ephemeral, timestamp)
        self._sender, self._state = sender, state
        sealed_timestamp = KEY_LENGTH + SEALED_STATIC_LENGTH
        return Initiation(
            sender,
            message[:KEY_LENGTH],
            message[KEY_LENGTH:sealed_timestamp],
            message[sealed_timestamp:],
            offer=self._offer,
        )

    def consume_response(self, response: Response) -> FrameKeys:
        """Cipher and keys for frames. The handshake is over: a second call fails.

        Raises AuthenticationFailed("response") for one that is not the answer to the last
        initiation, or chooses what was not offered; the true one can still come. Of one whose
        choice was changed to another that was offered the keys match nothing.
        """
        # Only once: keys derived twice would be used from counter 0 twice.
        if self._state is None or response.receiver != self._sender:
            raise AuthenticationFailed("response")
        try:
            cipher = _chosen(self._construction, response.choice, self._offer)
            # The payload is empty by its length on the wire.
            self._state.read_message_2(response.ephemeral + response.empty, self._preshared)
        except AuthenticationFailed:
            raise AuthenticationFailed("response") from None
        sending_key, receiving_key = self._state.split()
        self._state = None
        return _frame_keys(self._construction, cipher, self._offer, sending_key, receiving_key)


class ReceivedInitiation:
    """An initiation that came from the holder of `remote_static`, maybe long ago: whether its
    timestamp is greater than that key's last one is for the caller to see to."""

    __slots__ = ("_construction", "_offer", "_state", "remote_static", "sender", "timestamp")

    def __init__(
        self,
        construction: Construction,
        state: HandshakeState,
        sender: int,
        timestamp: bytes,
        offer: int,
    ) -> None:
        self._construction = construction
        self._state = state
        self._offer = offer
        self.remote_static = state.remote_static
        self.timestamp = timestamp
        """12 bytes TAI64N; they compare as the times do."""
        self.sender = sender
        """The initiator's index: the receiver of the response."""

    def create_response(
        self, *, sender: int, ephemeral: PrivateKey, preshared: PresharedKey, offer: int = 0
    ) -> tuple[Response, FrameKeys]:
        """The response, and cipher and keys for frames. To be called once.

        `sender` is the index that frames for us will name, `ephemeral` a key never used before,
        `offer` what we would offer: the cipher is one of both.
        """
        message = self._state.write_message_2(ephemeral, preshared, b"")
        receiving_key, sending_key = self._state.split()
        construction = self._construction
        cipher = construction.only_cipher or choose_cipher(self._offer, offer)
        response = Response(
            sender,
            self.sender,
            message[:KEY_LENGTH],
            message[KEY_LENGTH:],
            choice=cipher.choice,
        )
        return response, _frame_keys(construction, cipher, self._offer, sending_key, receiving_key)


def consume_initiation(
    construction: Construction, static: PrivateKey, initiation: Initiation
) -> ReceivedInitiation:
    """Learn who wants to talk to the owner of `static`. About 0.1 ms, most of it X25519.

    Raises AuthenticationFailed("initiation").
    """
    state = HandshakeState(prologue=construction.identifier, static=static)
    message = initiation.ephemeral + initiation.static + initiation.timestamp
    if construction.only_cipher and initiation.offer:
        raise AuthenticationFailed("initiation")
    try:
        timestamp = state.read_message_1(message)
    except AuthenticationFailed:
        raise AuthenticationFailed("initiation") from None
    return ReceivedInitiation(construction, state, initiation.sender, timestamp, initiation.offer)


def _chosen(construction: Construction, choice: int, offer: int) -> FrameCipher:
    only = construction.only_cipher
    if only is None:
        return find_chosen(choice, offer)
    if choice != only.choice:
        raise AuthenticationFailed("choice")
    return only


def _frame_keys(
    construction: Construction, cipher: FrameCipher, offer: int, sending: bytes, receiving: bytes
) -> FrameKeys:
    if construction.only_cipher:
        return FrameKeys(cipher, sending, receiving)
    return FrameKeys(
        cipher,
        derive_frame_key(cipher, offer, sending),
        derive_frame_key(cipher, offer, receiving),
    )
