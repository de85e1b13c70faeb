"""docs/protocol/handshake.md and frames.md."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from tests.protocol.second.primitives import (
    AEGIS128L,
    CHACHA,
    XCHACHA,
    Refused,
    derive_key,
    exchange,
    hash_of,
    kdf,
    mac_of,
    open_sealed,
    public_of,
    seal,
)

NAME = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
FIRST = bytes(12)
AEGIS = 1


@dataclass(frozen=True)
class Use:
    """One line of the table of "Keys and messages"."""

    identifier: bytes
    preshared: bytes
    label: bytes = b"mac1----"


def between_nodes(secret: bytes) -> Use:
    return Use(b"punchtun v1 tunnel", derive_key("session", secret))


def with_server(token: bytes) -> Use:
    label = derive_key("server mac1", token)[:8]
    return Use(b"punchtun v1 rendezvous", derive_key("server access", token), label)


@dataclass
class Keys:
    """What a handshake ends in: seals and opens frames."""

    choice: int
    sending: bytes
    receiving: bytes
    receiver: bytes
    """Index that our frames name."""
    counter: int = 0
    seen: set[int] = field(default_factory=set)

    def seal(self, payload: bytes, place: int = 0) -> bytes:
        header = bytes([4, place, 0, 0]) + self.receiver + self.counter.to_bytes(8, "little")
        self.counter += 1
        if self.choice == AEGIS:
            return header + seal(AEGIS128L, self.sending, header, payload)
        return header + seal(CHACHA, self.sending, header[4:], payload, header[:4])

    def open(self, frame: bytes) -> bytes:
        header, sealed = frame[:16], frame[16:]
        if self.choice == AEGIS:
            payload = open_sealed(AEGIS128L, self.receiving, header, sealed)
        else:
            payload = open_sealed(CHACHA, self.receiving, header[4:], sealed, header[:4])
        counter = int.from_bytes(header[8:], "little")
        if counter in self.seen or counter <= max(self.seen, default=0) - 8192:
            raise Refused("counter")
        self.seen.add(counter)
        return payload


class _Transcript:
    def __init__(self, use: Use, responder: bytes) -> None:
        self.ck = hash_of(NAME)
        self.h = hash_of(hash_of(self.ck + use.identifier) + responder)
        self.key = b""

    def mix_hash(self, data: bytes) -> bytes:
        self.h = hash_of(self.h + data)
        return data

    def mix_key(self, data: bytes) -> None:
        self.ck, self.key = kdf(2, self.ck, data)

    def mix_preshared(self, preshared: bytes) -> None:
        self.ck, t, self.key = kdf(3, self.ck, preshared)
        self.mix_hash(t)

    def seal(self, plaintext: bytes) -> bytes:
        return self.mix_hash(seal(CHACHA, self.key, FIRST, plaintext, self.h))

    def open(self, sealed: bytes) -> bytes:
        plaintext = open_sealed(CHACHA, self.key, FIRST, sealed, self.h)
        self.mix_hash(sealed)
        return plaintext

    def frame_keys(self, offer: int, choice: int) -> list[bytes]:
        """To the responder, to the initiator."""
        length = 16 if choice == AEGIS else 32
        agreed = bytes([offer, choice])
        return [derive_key("frames", agreed, key)[:length] for key in kdf(2, self.ck, b"")]


def add_macs(message: bytes, use: Use, receiver: bytes, cookie: bytes = b"") -> bytes:
    message += mac_of(hash_of(use.label + receiver), message)
    return message + (mac_of(cookie, message) if cookie else bytes(16))


def has_mac1(datagram: bytes, use: Use, own: bytes) -> bool:
    return mac_of(hash_of(use.label + own), datagram[:-32]) == datagram[-32:-16]


class Initiation:
    """`datagram` is to be sent; `finish` takes the response."""

    def __init__(
        self, use: Use, private: bytes, peer: bytes, ephemeral: bytes, index: bytes,
        timestamp: bytes, offer: int = 0, cookie: bytes = b"",
    ) -> None:  # fmt: skip
        self._use, self._private, self._ephemeral = use, private, ephemeral
        self._offer, self._index, self._peer = offer, index, peer
        state = self._state = _Transcript(use, peer)
        public = state.mix_hash(public_of(ephemeral))
        state.mix_key(public)
        state.mix_key(exchange(ephemeral, peer))
        static = state.seal(public_of(private))
        state.mix_key(exchange(private, peer))
        body = bytes([1, offer, 0, 0]) + index + public + static + state.seal(timestamp)
        self.datagram = add_macs(body, use, peer, cookie)

    def finish(self, response: bytes) -> Keys:
        choice, index, receiver = response[1], response[4:8], response[8:12]
        public, empty = response[12:44], response[44:60]
        if len(response) != 92 or response[0] != 2 or receiver != self._index:
            raise Refused("response")
        if not has_mac1(response, self._use, public_of(self._private)):
            raise Refused("mac1")
        if choice not in (0, AEGIS & self._offer):
            raise Refused("choice")
        state = self._state
        state.mix_key(state.mix_hash(public))
        state.mix_key(exchange(self._ephemeral, public))
        state.mix_key(exchange(self._private, public))
        state.mix_preshared(self._use.preshared)
        state.open(empty)
        sending, receiving = state.frame_keys(self._offer, choice)
        return Keys(choice, sending, receiving, index)

    def open_cookie(self, reply: bytes) -> bytes:
        mac1 = self.datagram[-32:-16]
        key = hash_of(b"cookie--" + self._peer)
        return open_sealed(XCHACHA, key, reply[8:32], reply[32:], mac1)


def respond(
    use: Use, private: bytes, datagram: bytes, ephemeral: bytes, index: bytes, offer: int = 0
) -> tuple[bytes, bytes, bytes, Keys]:
    """Whose initiation it is, its timestamp, the response and the keys."""
    own = public_of(private)
    if len(datagram) != 148 or datagram[0] != 1 or not has_mac1(datagram, use, own):
        raise Refused("initiation")
    theirs, sender, public = datagram[1], datagram[4:8], datagram[8:40]
    state = _Transcript(use, own)
    state.mix_key(state.mix_hash(public))
    state.mix_key(exchange(private, public))
    initiator = state.open(datagram[40:88])
    state.mix_key(exchange(private, initiator))
    timestamp = state.open(datagram[88:116])
    choice = AEGIS & theirs & offer
    ours = state.mix_hash(public_of(ephemeral))
    state.mix_key(ours)
    state.mix_key(exchange(ephemeral, public))
    state.mix_key(exchange(ephemeral, initiator))
    state.mix_preshared(use.preshared)
    body = bytes([2, choice, 0, 0]) + index + sender + ours + state.seal(b"")
    receiving, sending = state.frame_keys(theirs, choice)
    response = add_macs(body, use, initiator)
    return initiator, timestamp, response, Keys(choice, sending, receiving, sender)


def tai64n(unix_seconds: float) -> bytes:
    seconds, fraction = divmod(unix_seconds, 1)
    nanoseconds = int(fraction * 1e9) & ~0xFFFFFF
    return struct.pack(">QI", 2**62 + 10 + int(seconds), nanoseconds)
