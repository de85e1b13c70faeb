from __future__ import annotations

import pytest

from tunnel.errors import AuthenticationFailed
from tunnel.noise.cookie import COOKIE_REFRESH_TIME, CookieChecker, CookieGenerator
from tunnel.noise.handshake import PUNCHTUN, WIREGUARD, Construction
from tunnel.noise.keys import PrivateKey, PublicKey
from tunnel.wire.handshake import CookieReply, Initiation, parse_cookie_reply

RESPONDER = PrivateKey(b"r" * 32).public_key
SOURCE = bytes(10) + b"\xff\xff\x0a\x00\x00\x01\x12\x34"
OTHER_SOURCE = SOURCE[:-1] + b"\x35"
DATAGRAM = Initiation(0x01020304, b"e" * 32, b"s" * 48, b"t" * 28).pack()


class Random:
    """Different bytes at each call, the same in every run."""

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, length: int) -> bytes:
        self._calls += 1
        return bytes([self._calls]) * length


def make(public_key: PublicKey = RESPONDER) -> tuple[CookieGenerator, CookieChecker]:
    return CookieGenerator(WIREGUARD, RESPONDER), CookieChecker(WIREGUARD, public_key, Random())


def with_cookie(now: float) -> tuple[CookieGenerator, CookieChecker]:
    generator, checker = make()
    generator.consume_reply(checker.create_reply(generator.stamp(DATAGRAM, now), SOURCE, now), now)
    return generator, checker


def test_stamp_adds_mac1_and_no_mac2_without_a_cookie() -> None:
    generator, checker = make()
    stamped = generator.stamp(DATAGRAM, 0.0)
    assert stamped[:-32] == DATAGRAM[:-32]
    assert stamped[-16:] == bytes(16)
    assert checker.has_valid_mac1(stamped)
    assert not checker.has_valid_mac1(DATAGRAM)
    assert not checker.has_valid_mac2(stamped, SOURCE, 0.0)


def test_mac1_is_for_one_public_key_and_one_label() -> None:
    stamped = make()[0].stamp(DATAGRAM, 0.0)
    other = PrivateKey(b"o" * 32).public_key
    assert not make(other)[1].has_valid_mac1(stamped)
    relabelled = Construction(b"", mac1_label=b"mac1-+--")
    assert not CookieChecker(relabelled, RESPONDER, Random()).has_valid_mac1(stamped)
    assert CookieChecker(PUNCHTUN, RESPONDER, Random()).has_valid_mac1(stamped)


def test_every_byte_counts() -> None:
    generator, checker = with_cookie(0.0)
    stamped = generator.stamp(DATAGRAM, 1.0)
    assert checker.has_valid_mac1(stamped)
    assert checker.has_valid_mac2(stamped, SOURCE, 1.0)
    for position in range(len(stamped)):
        changed = bytearray(stamped)
        changed[position] ^= 0x01
        assert checker.has_valid_mac1(bytes(changed)) == (position >= len(stamped) - 16)
        assert not checker.has_valid_mac2(bytes(changed), SOURCE, 1.0)


@pytest.mark.parametrize("length", [0, 1, 16, 31])
def test_too_short_for_macs(length: int) -> None:
    generator, checker = with_cookie(0.0)
    assert not checker.has_valid_mac1(bytes(length))
    assert not checker.has_valid_mac2(bytes(length), SOURCE, 0.0)
    with pytest.raises(ValueError, match="no room"):
        generator.stamp(bytes(length), 0.0)


def test_cookie_reply_names_the_sender_and_is_64_bytes() -> None:
    generator, checker = make()
    reply = checker.create_reply(generator.stamp(DATAGRAM, 0.0), SOURCE, 0.0)
    assert reply.receiver == 0x01020304
    assert len(reply.pack()) == 64
    assert parse_cookie_reply(reply.pack()) == reply
    again = checker.create_reply(generator.stamp(DATAGRAM, 0.0), SOURCE, 0.0)
    assert again.nonce != reply.nonce


def test_mac2_is_valid_from_one_source_only() -> None:
    generator, checker = with_cookie(0.0)
    stamped = generator.stamp(DATAGRAM, 1.0)
    assert checker.has_valid_mac2(stamped, SOURCE, 1.0)
    assert not checker.has_valid_mac2(stamped, OTHER_SOURCE, 1.0)


def test_cookie_and_secret_age() -> None:
    generator, checker = with_cookie(1000.0)
    last, end = 1000.0 + COOKIE_REFRESH_TIME - 0.001, 1000.0 + COOKIE_REFRESH_TIME
    stamped = generator.stamp(DATAGRAM, last)
    assert checker.has_valid_mac2(stamped, SOURCE, last)
    assert not checker.has_valid_mac2(stamped, SOURCE, end)
    assert generator.stamp(DATAGRAM, end)[-16:] == bytes(16)


def test_a_new_secret_ends_old_cookies() -> None:
    generator, checker = make()
    stamped = generator.stamp(DATAGRAM, 0.0)
    generator.consume_reply(checker.create_reply(stamped, SOURCE, 0.0), 100.0)
    other = CookieGenerator(WIREGUARD, RESPONDER)
    checker.create_reply(other.stamp(DATAGRAM, 130.0), OTHER_SOURCE, 130.0)
    assert not checker.has_valid_mac2(generator.stamp(DATAGRAM, 131.0), SOURCE, 131.0)


def test_a_changed_reply_is_refused_and_the_true_one_still_comes() -> None:
    generator, checker = make()
    true = checker.create_reply(generator.stamp(DATAGRAM, 0.0), SOURCE, 0.0)
    for position in range(8, 64):  # type and receiver are the wire's and the core's to look at
        changed = bytearray(true.pack())
        changed[position] ^= 0x80
        with pytest.raises(AuthenticationFailed, match=r"^cookie reply$"):
            generator.consume_reply(parse_cookie_reply(bytes(changed)), 0.0)
    assert generator.stamp(DATAGRAM, 0.0)[-16:] == bytes(16)
    generator.consume_reply(true, 0.0)
    assert generator.stamp(DATAGRAM, 0.0)[-16:] != bytes(16)


def test_a_reply_is_for_the_last_message_and_once() -> None:
    generator, checker = make()
    first = checker.create_reply(generator.stamp(DATAGRAM, 0.0), SOURCE, 0.0)
    stamped = generator.stamp(Initiation(9, b"f" * 32, b"s" * 48, b"t" * 28).pack(), 1.0)
    with pytest.raises(AuthenticationFailed):
        generator.consume_reply(first, 1.0)
    second = checker.create_reply(stamped, SOURCE, 1.0)
    generator.consume_reply(second, 1.0)
    with pytest.raises(AuthenticationFailed):
        generator.consume_reply(second, 2.0)


def test_a_reply_nobody_asked_for() -> None:
    generator, checker = make()
    with pytest.raises(AuthenticationFailed):
        generator.consume_reply(CookieReply(1, bytes(24), bytes(32)), 0.0)
    with pytest.raises(AuthenticationFailed):
        generator.consume_reply(checker.create_reply(bytes(148), SOURCE, 0.0), 0.0)
