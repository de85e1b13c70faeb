from __future__ import annotations

import itertools

import pytest

from tests.noise import vectors
from tunnel.errors import AuthenticationFailed
from tunnel.noise.handshake import (
    PUNCHTUN,
    PUNCHTUN_SERVER,
    WIREGUARD,
    Construction,
    HandshakeState,
    Initiator,
    ReceivedInitiation,
    SymmetricState,
    consume_initiation,
)
from tunnel.noise.keys import PresharedKey, PrivateKey, PublicKey
from tunnel.noise.primitives import open_, seal
from tunnel.noise.tai64n import timestamp
from tunnel.wire.handshake import Initiation, parse_initiation, parse_response

OURS, THEIRS, STRANGER = (PrivateKey(letter * 32) for letter in (b"i", b"r", b"s"))
PRESHARED = PresharedKey(b"p" * 32)
NOW = timestamp(1_700_000_000.0)
LOW_ORDER = PublicKey(bytes(32))


def initiator(construction: Construction = PUNCHTUN) -> Initiator:
    return Initiator(construction, OURS, THEIRS.public_key, PRESHARED)


def ephemeral(number: int) -> PrivateKey:
    return PrivateKey(bytes([number]) * 32)


def initiate(end: Initiator, sender: int = 11) -> Initiation:
    return end.create_initiation(sender=sender, ephemeral=ephemeral(sender), timestamp=NOW)


def receive(initiation: Initiation, construction: Construction = PUNCHTUN) -> ReceivedInitiation:
    return consume_initiation(construction, THEIRS, initiation)


@pytest.mark.parametrize("vector", vectors.noise())
def test_published_vector(vector: dict[str, object]) -> None:
    def data(name: str) -> bytes:
        return bytes.fromhex(str(vector[name]))

    assert vector["protocol_name"] == "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
    assert isinstance(vector["messages"], list)
    assert isinstance(vector["init_psks"], list)
    messages = [
        (bytes.fromhex(message["payload"]), bytes.fromhex(message["ciphertext"]))
        for message in vector["messages"]
    ]
    preshared = PresharedKey(bytes.fromhex(vector["init_psks"][0]))
    assert vector["resp_psks"] == vector["init_psks"]
    ours = HandshakeState(
        prologue=data("init_prologue"),
        static=PrivateKey(data("init_static")),
        remote_static=PublicKey(data("init_remote_static")),
    )
    theirs = HandshakeState(prologue=data("resp_prologue"), static=PrivateKey(data("resp_static")))

    payload, ciphertext = messages[0]
    assert ours.write_message_1(PrivateKey(data("init_ephemeral")), payload) == ciphertext
    assert theirs.read_message_1(ciphertext) == payload
    assert theirs.remote_static == PrivateKey(data("init_static")).public_key
    payload, ciphertext = messages[1]
    written = theirs.write_message_2(PrivateKey(data("resp_ephemeral")), preshared, payload)
    assert written == ciphertext
    assert ours.read_message_2(ciphertext, preshared) == payload

    assert ours.handshake_hash == theirs.handshake_hash == data("handshake_hash")
    keys = ours.split()
    assert theirs.split() == keys
    assert len(messages) > 2
    for number, (payload, ciphertext) in enumerate(messages[2:]):
        assert seal(keys[number % 2], number // 2, payload) == ciphertext
        assert open_(keys[number % 2], number // 2, ciphertext) == payload


@pytest.mark.parametrize("construction", [WIREGUARD, PUNCHTUN, PUNCHTUN_SERVER])
def test_both_ends_agree(construction: Construction) -> None:
    ours = initiator(construction)
    initiation = parse_initiation(initiate(ours).pack())
    assert initiation.mac1 == initiation.mac2 == bytes(16)
    received = receive(initiation, construction)
    assert received.remote_static == OURS.public_key
    assert received.timestamp == NOW
    assert received.sender == 11

    response, their_sending, their_receiving = received.create_response(
        sender=22, ephemeral=ephemeral(99), preshared=PRESHARED
    )
    response = parse_response(response.pack())
    assert (response.sender, response.receiver) == (22, 11)
    assert response.mac1 == response.mac2 == bytes(16)
    assert ours.consume_response(response) == (their_receiving, their_sending)
    assert their_sending != their_receiving


@pytest.mark.parametrize(
    ("made", "read"), list(itertools.permutations([WIREGUARD, PUNCHTUN, PUNCHTUN_SERVER], 2))
)
def test_constructions_do_not_mix(made: Construction, read: Construction) -> None:
    with pytest.raises(AuthenticationFailed, match=r"^initiation$"):
        receive(initiate(initiator(made)), read)


def test_every_byte_of_an_initiation_counts() -> None:
    """But type and sender, which mac1 covers, and the macs: see test_cookie."""
    datagram = initiate(initiator()).pack()
    for position in range(8, len(datagram) - 32):
        changed = bytearray(datagram)
        changed[position] ^= 0x04
        with pytest.raises(AuthenticationFailed, match=r"^initiation$"):
            receive(parse_initiation(bytes(changed)))


def test_every_byte_of_a_response_counts_and_the_true_one_still_comes() -> None:
    """But type and sender, which mac1 covers, and the macs: see test_cookie."""
    ours = initiator()
    received = receive(initiate(ours))
    response, sending, receiving = received.create_response(
        sender=22, ephemeral=ephemeral(99), preshared=PRESHARED
    )
    datagram = response.pack()
    for position in range(8, len(datagram) - 32):
        changed = bytearray(datagram)
        changed[position] ^= 0x04
        with pytest.raises(AuthenticationFailed, match=r"^response$"):
            ours.consume_response(parse_response(bytes(changed)))
    assert ours.consume_response(response) == (receiving, sending)


def test_a_response_serves_once() -> None:
    ours = initiator()
    response, _, _ = receive(initiate(ours)).create_response(
        sender=22, ephemeral=ephemeral(99), preshared=PRESHARED
    )
    with pytest.raises(AuthenticationFailed):
        initiator().consume_response(response)
    ours.consume_response(response)
    with pytest.raises(AuthenticationFailed):
        ours.consume_response(response)


def test_the_last_initiation_is_the_one_that_counts() -> None:
    ours = initiator()
    first, second = initiate(ours, sender=11), initiate(ours, sender=12)
    late, _, _ = receive(first).create_response(
        sender=22, ephemeral=ephemeral(98), preshared=PRESHARED
    )
    with pytest.raises(AuthenticationFailed):
        ours.consume_response(late)
    with pytest.raises(AuthenticationFailed):
        ours.consume_response(late._replace(receiver=12))
    response, sending, receiving = receive(second).create_response(
        sender=23, ephemeral=ephemeral(99), preshared=PRESHARED
    )
    assert ours.consume_response(response) == (receiving, sending)


def test_another_preshared_key_is_refused() -> None:
    ours = initiator()
    response, _, _ = receive(initiate(ours)).create_response(
        sender=22, ephemeral=ephemeral(99), preshared=PresharedKey(bytes(32))
    )
    with pytest.raises(AuthenticationFailed):
        ours.consume_response(response)


def test_only_the_responder_meant_can_read() -> None:
    with pytest.raises(AuthenticationFailed):
        consume_initiation(PUNCHTUN, STRANGER, initiate(initiator()))


def test_another_responder_cannot_answer() -> None:
    ours = initiator()
    initiation = initiate(ours)
    for_stranger = Initiator(PUNCHTUN, OURS, STRANGER.public_key, PRESHARED)
    other = for_stranger.create_initiation(sender=11, ephemeral=ephemeral(11), timestamp=NOW)
    assert other.ephemeral == initiation.ephemeral
    response, _, _ = consume_initiation(PUNCHTUN, STRANGER, other).create_response(
        sender=22, ephemeral=ephemeral(99), preshared=PRESHARED
    )
    with pytest.raises(AuthenticationFailed):
        ours.consume_response(response)


def test_low_order_keys_are_refused() -> None:
    initiation = initiate(initiator())
    with pytest.raises(AuthenticationFailed, match=r"^initiation$"):
        receive(initiation._replace(ephemeral=LOW_ORDER.data))
    with pytest.raises(AuthenticationFailed, match="low-order"):
        initiate(Initiator(PUNCHTUN, OURS, LOW_ORDER, PRESHARED))

    ours = initiator()
    response, _, _ = receive(initiate(ours)).create_response(
        sender=22, ephemeral=ephemeral(99), preshared=PRESHARED
    )
    with pytest.raises(AuthenticationFailed, match=r"^response$"):
        ours.consume_response(response._replace(ephemeral=LOW_ORDER.data))


@pytest.mark.parametrize("length", [0, 11, 13])
def test_timestamp_of_another_length_is_a_local_mistake(length: int) -> None:
    with pytest.raises(ValueError, match="12 bytes"):
        initiator().create_initiation(sender=1, ephemeral=ephemeral(1), timestamp=bytes(length))


@pytest.mark.parametrize("length", [0, 31, 32, 79, 80, 95])
def test_short_messages_are_refused(length: int) -> None:
    theirs = HandshakeState(prologue=b"", static=THEIRS)
    with pytest.raises(AuthenticationFailed):
        theirs.read_message_1((b"\x09" * 100)[:length])


def test_symmetric_state_before_and_after_a_key() -> None:
    """Noise §5.2: no key, no encryption; the nonce counts up; a failure changes nothing."""
    ours, theirs = SymmetricState(b"short name"), SymmetricState(b"short name")
    assert ours.handshake_hash == b"short name".ljust(32, b"\0")
    assert ours.encrypt_and_hash(b"clear") == b"clear"
    assert theirs.decrypt_and_hash(b"clear") == b"clear"
    for state in (ours, theirs):
        state.mix_key(b"secret")
    for _ in range(2):
        sealed = ours.encrypt_and_hash(b"text")
        before = theirs.handshake_hash
        with pytest.raises(AuthenticationFailed):
            theirs.decrypt_and_hash(sealed[:-1] + bytes([sealed[-1] ^ 1]))
        assert theirs.handshake_hash == before
        assert theirs.decrypt_and_hash(sealed) == b"text"
    assert ours.handshake_hash == theirs.handshake_hash
    assert ours.split() == theirs.split()
