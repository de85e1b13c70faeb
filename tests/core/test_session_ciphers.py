"""Two sessions agree on the cipher of their frames, whoever begins and whatever is on the way."""

from __future__ import annotations

import pytest

from tests.core.ends import ACCESS, SERVER_KEY, ScriptedNode, Town, key, seeded
from tests.core.test_session import End, Pair
from tunnel.constants import REKEY_AFTER_TIME
from tunnel.core.indices import IndexTable
from tunnel.core.server_session import server_construction, server_preshared_key
from tunnel.core.session import Session
from tunnel.noise.cookie import CookieGenerator
from tunnel.noise.frame_cipher import AEGIS_128L, CHACHA20_POLY1305, FrameCipher
from tunnel.noise.handshake import PUNCHTUN
from tunnel.wire.handshake import INITIATION, RESPONSE, parse_initiation, parse_response

MIXED = [
    (True, True, AEGIS_128L),
    (True, False, CHACHA20_POLY1305),
    (False, True, CHACHA20_POLY1305),
    (False, False, CHACHA20_POLY1305),
]


def mixed(a: bool, b: bool) -> Pair:
    return Pair(a_may_use_aegis=a, may_use_aegis=b)


def ciphers(pair: Pair) -> list[FrameCipher | None]:
    return [pair.a.session.cipher, pair.b.session.cipher]


@pytest.mark.parametrize("begins", ["a", "b"])
@pytest.mark.parametrize(("a", "b", "cipher"), MIXED)
def test_aegis_where_both_may(a: bool, b: bool, cipher: FrameCipher, begins: str) -> None:
    pair = mixed(a, b)
    assert ciphers(pair) == [None, None]
    (pair.a if begins == "a" else pair.b).session.initiate(pair.clock.now)
    pair.run(1)
    assert ciphers(pair) == [cipher, cipher]
    assert pair.carries(pair.a)
    assert pair.carries(pair.b)
    assert pair.a.drops == pair.b.drops == []


@pytest.mark.parametrize(("a", "b", "cipher"), MIXED)
def test_both_at_once(a: bool, b: bool, cipher: FrameCipher) -> None:
    pair = mixed(a, b)
    pair.a.session.initiate(pair.clock.now)
    pair.b.session.initiate(pair.clock.now)
    pair.run(1)
    assert ciphers(pair) == [cipher, cipher]
    assert pair.carries(pair.a)
    assert pair.carries(pair.b)


@pytest.mark.parametrize(("a", "b", "cipher"), MIXED)
def test_a_rekey_agrees_again(a: bool, b: bool, cipher: FrameCipher) -> None:
    pair = mixed(a, b)
    pair.handshake()
    for number in (2, 3):
        pair.run(REKEY_AFTER_TIME)
        assert pair.carries(pair.a)
        pair.run(1)
        assert pair.a.session.handshakes == pair.b.session.handshakes == number
        assert ciphers(pair) == [cipher, cipher]
        assert pair.carries(pair.b)


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True)])
def test_the_next_handshake_may_agree_on_another(before: bool, after: bool) -> None:
    """B restarts with the switch thrown, and frames of the old keys are still opened by A."""
    pair = mixed(True, before)
    pair.handshake()
    old = pair.b.session.seal(b"late", pair.clock.now)
    pair.b = End(pair.clock, 2, 1, may_use_aegis=after)
    pair.b.session.initiate(pair.clock.now)
    pair.run(1)
    expected = AEGIS_128L if after else CHACHA20_POLY1305
    assert ciphers(pair) == [expected, expected]
    assert pair.carries(pair.a)
    assert pair.carries(pair.b)
    assert old is not None
    pair.a.receive(old, pair.b.endpoint)
    assert pair.a.payloads[-1] == b"late"


class Meddled(Pair):
    """Somebody on the way writes `value` into byte 1 of messages of `kind`, once or for ever.

    He knows both public keys, so that mac1 is right.
    """

    def __init__(self, kind: int, value: int, **b: object) -> None:
        super().__init__(**b)  # type: ignore[arg-type]
        self.kind: int | None = kind
        self.value = value

    def send(self, end: End, datagram: bytes) -> None:
        if datagram[0] == self.kind:
            number = 2 if end is self.a else 1
            changed = datagram[:1] + bytes([self.value]) + datagram[2:]
            generator = CookieGenerator(PUNCHTUN, key(number).public_key)
            datagram = generator.stamp(changed, self.clock.now)
        super().send(end, datagram)


@pytest.mark.parametrize(
    ("kind", "value", "b_may"),
    [
        (INITIATION, 0, True),
        (INITIATION, 0, False),
        (INITIATION, 0x81, True),
        (RESPONSE, 0, True),
        (RESPONSE, 1, False),
    ],
)
def test_who_changes_a_byte_gets_no_frame_through_in_any_cipher(
    kind: int, value: int, b_may: bool
) -> None:
    pair = Meddled(kind, value, may_use_aegis=b_may)
    pair.a.session.initiate(pair.clock.now)
    pair.run(2)
    assert pair.b.payloads == []
    assert set(pair.b.drops) == {"tag"}
    assert not pair.b.session.is_established(pair.clock.now)
    assert not pair.carries(pair.a)

    pair.kind = None
    pair.a.session.restart_handshake(pair.clock.now)
    pair.run(1)
    assert ciphers(pair) == [AEGIS_128L if b_may else CHACHA20_POLY1305] * 2
    assert pair.carries(pair.a)
    assert pair.carries(pair.b)


@pytest.mark.parametrize("value", [2, 255])
def test_a_choice_of_what_nobody_offered_is_as_if_the_response_was_lost(value: int) -> None:
    pair = Meddled(RESPONSE, value)
    pair.a.session.initiate(pair.clock.now)
    pair.run(0.2)
    assert pair.a.drops == ["response"]
    assert pair.a.session.is_initiating
    pair.kind = None
    pair.run(1)
    assert ciphers(pair) == [AEGIS_128L, AEGIS_128L]
    assert pair.carries(pair.a)


def test_the_session_with_the_server_offers_nothing_and_the_server_chooses_nothing_else() -> None:
    """Control traffic: what two nodes could win is not at stake there."""
    town = Town()
    node = ScriptedNode(town, 1)
    node.link.session.initiate(town.clock.now)
    (transmit,) = node.link.datagrams_to_send()
    assert parse_initiation(bytes(transmit.data)).offer == 0
    offering = Session(
        construction=server_construction(ACCESS),
        static=key(2),
        remote_static=SERVER_KEY.public_key,
        preshared=server_preshared_key(ACCESS),
        indices=IndexTable(seeded(2)),
        random_bytes=seeded(3),
        wall_clock=town.clock.wall,
        may_use_aegis=True,
    )
    offering.initiate(town.clock.now)
    (initiation,) = offering.take_datagrams()
    town.server.receive_datagrams([initiation], node.endpoint, town.clock.now)
    (answer,) = town.server.datagrams_to_send(town.clock.now)
    offering.receive_response(parse_response(bytes(answer.data)), town.clock.now)
    assert offering.cipher is CHACHA20_POLY1305
