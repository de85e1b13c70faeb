"""What strangers can make: noise, all messages in good form under wrong keys, good ones spoiled."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator

from tunnel.core.server_session import server_construction
from tunnel.noise.cookie import CookieGenerator
from tunnel.noise.handshake import PUNCHTUN, Construction, Initiator
from tunnel.noise.keys import PresharedKey, PrivateKey, PublicKey
from tunnel.noise.tai64n import timestamp
from tunnel.wire.feeler import HAIRPIN
from tunnel.wire.handshake import CookieReply, Initiation, Response
from tunnel.wire.relay import pack_relay
from tunnel.wire.transport import TRANSPORT

SIZES = (0, 1, 2, 4, 8, 16, 19, 20, 32, 60, 92, 120, 148, 149, 300, 1200, 1472)


def strange_datagrams(chance: random.Random) -> Iterator[bytes]:
    """For ever: noise, then one of each type, and again. None of them makes sense to anybody, and
    none is a STUN request."""
    nobody = PrivateKey.generate(chance.randbytes).public_key
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: (b"\xff" + chance.randbytes(chance.choice(SIZES)))[:1472],
        lambda: (bytes([chance.randrange(8, 256)]) + bytes(chance.choice(SIZES)))[:1472],
        lambda: b"",
        lambda: _initiation_in_form(chance),
        lambda: make_initiation(PUNCHTUN, nobody, chance),
        lambda: make_initiation(server_construction(chance.randbytes(16)), nobody, chance),
        lambda: _response_in_form(chance),
        lambda: CookieReply(_number(chance), chance.randbytes(24), chance.randbytes(32)).pack(),
        lambda: make_frame(chance, chance.randrange(0, 1400)),
        lambda: make_frame(chance, 16),
        lambda: pack_relay(_number(chance), make_frame(chance, 100)),
        lambda: pack_relay(_number(chance), pack_relay(1, make_frame(chance, 100))),
        lambda: bytes([HAIRPIN, 0, 0, 0]) + chance.randbytes(16),
        lambda: b"\7",
    )
    while True:
        for make in kinds:
            yield make()


def make_frame(chance: random.Random, payload: int) -> bytes:
    """With a tag of noise. Its receiver is anybody's guess."""
    head = struct.pack("<BBHIQ", TRANSPORT, 0, 0, _number(chance), chance.randrange(1 << 20))
    return head + chance.randbytes(payload + 32)


def make_initiation(
    construction: Construction, responder: PublicKey, chance: random.Random
) -> bytes:
    """By a key of the moment, and else without a fault: who reads it learns that key, which is a
    stranger's."""
    initiator = Initiator(
        construction, PrivateKey.generate(chance.randbytes), responder, PresharedKey(bytes(32))
    )
    initiation = initiator.create_initiation(
        sender=_number(chance),
        ephemeral=PrivateKey.generate(chance.randbytes),
        timestamp=timestamp(1.7e9 + chance.random()),
    )
    return CookieGenerator(construction, responder).stamp(initiation.pack(), 0.0)


def forge_initiation(
    construction: Construction, responder: PublicKey, chance: random.Random
) -> bytes:
    """Noise with a valid mac1: costs its sender least, and its receiver an X25519 if it has no
    cookies."""
    return CookieGenerator(construction, responder).stamp(_initiation_in_form(chance), 0.0)


def one_bit_changed(datagram: bytes) -> Iterator[bytes]:
    """Once for every bit."""
    for bit in range(8 * len(datagram)):
        changed = bytearray(datagram)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def cut_short(datagram: bytes) -> Iterator[bytes]:
    """At every length."""
    for length in range(len(datagram)):
        yield datagram[:length]


def _initiation_in_form(chance: random.Random) -> bytes:
    random_bytes = chance.randbytes
    return Initiation(
        *(_number(chance), random_bytes(32), random_bytes(48), random_bytes(28)),
        *(random_bytes(16), random_bytes(16)),
    ).pack()


def _response_in_form(chance: random.Random) -> bytes:
    random_bytes = chance.randbytes
    return Response(
        *(_number(chance), _number(chance), random_bytes(32), random_bytes(16)),
        *(random_bytes(16), random_bytes(16)),
    ).pack()


def _number(chance: random.Random) -> int:
    return chance.randrange(1, 1 << 32)
