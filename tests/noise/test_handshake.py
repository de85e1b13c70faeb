from __future__ import annotations

import itertools

import pytest

from tests.noise import vectors
from tunnel.errors import AuthenticationFailed
from tunnel.noise.frame_cipher import AEGIS_128L, CHACHA20_POLY1305, WIREGUARD_FRAMES
from tunnel.noise.handshake import (
    PUNCHTUN,
    PUNCHTUN_SERVER,
    WIREGUARD,
    Construction,
    FrameKeys,
    HandshakeState,
    Initiator,
    ReceivedInitiation,
    SymmetricState,
    consume_initiation,
)
from tunnel.noise.keys import PresharedKey, PrivateKey, PublicKey
from tunnel.noise.primitives import open_, seal
from tunnel.noise.tai64n import timestamp
from tunnel.wire.handshake import OFFER_AEGIS, Initiation, parse_initiation, parse_response

OURS, THEIRS, STRANGER = (PrivateKey(letter * 32) for letter in (b"i", b"r", b"s"))
PRESHARED = PresharedKey(b"p" * 32)
NOW = timestamp(1_700_000_000.0)
LOW_ORDER = PublicKey(bytes(32))


def initiator(construction: Construction = PUNCHTUN, offer: int = 0) -> Initiator:
    return Initiator(construction, OURS, THEIRS.public_key, PRESHARED, offer)


def mirrored(keys: FrameKeys) -> FrameKeys:
    """The same keys as the other end has them."""
    return FrameKeys(keys.cipher, keys.receiving, keys.sending)


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

    response, theirs = received.create_response(
        sender=22, ephemeral=ephemeral(99), preshared=PRESHARED
    )
    response = parse_response(response.pack())
    assert (response.sender, response.receiver) == (22, 11)
    assert response.mac1 == response.mac2 == bytes(16)
    assert ours.consume_response(response) == mirrored(theirs)
    assert theirs.sending != theirs.receiving


@pytest.mark.parametrize(
    ("made", "read"), list(itertools.permutations([WIREGUARD, PUNCHTUN, PUNCHTUN_SERVER], 2))
)
def test_constructions_do_not_mix(made: Construction, read: Construction) -> None:
    with pytest.raises(AuthenticationFailed, match=r"^initiation$"):
        receive(initiate(initiator(made)), read)


def test_every_byte_of_an_initiation_counts() -> None:
    """But type, offer and sender, which mac1 covers, and the macs: see test_cookie. The offer goes
    into the keys, too: see below."""
    datagram = initiate(initiator()).pack()
    for position in range(8, len(datagram) - 32):
        changed = bytearray(datagram)
        changed[position] ^= 0x04
        with pytest.raises(AuthenticationFailed, match=r"^initiation$"):
            receive(parse_initiation(bytes(changed)))


def test_every_byte_of_a_response_counts_and_the_true_one_still_comes() -> None:
    """But type, choice and sender, which mac1 covers, and the macs: see test_cookie. The choice
    goes into the keys, too: see below."""
    ours = initiator()
    received = receive(initiate(ours))
    response, theirs = received.create_response(
        sender=22, ephemeral=ephemeral(99), preshared=PRESHARED
    )
    datagram = response.pack()
    for position in range(8, len(datagram) - 32):
        changed = bytearray(datagram)
        changed[position] ^= 0x04
        with pytest.raises(AuthenticationFailed, match=r"^response$"):
            ours.consume_response(parse_response(bytes(changed)))
    assert ours.consume_response(response) == mirrored(theirs)


def test_a_response_serves_once() -> None:
    ours = initiator()
    response, _ = receive(initiate(ours)).create_response(
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
    late, _ = receive(first).create_response(
        sender=22, ephemeral=ephemeral(98), preshared=PRESHARED
    )
    with pytest.raises(AuthenticationFailed):
        ours.consume_response(late)
    with pytest.raises(AuthenticationFailed):
        ours.consume_response(late._replace(receiver=12))
    response, theirs = receive(second).create_response(
        sender=23, ephemeral=ephemeral(99), preshared=PRESHARED
    )
    assert ours.consume_response(response) == mirrored(theirs)


def test_another_preshared_key_is_refused() -> None:
    ours = initiator()
    response, _ = receive(initiate(ours)).create_response(
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
    response, _ = consume_initiation(PUNCHTUN, STRANGER, other).create_response(
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
    response, _ = receive(initiate(ours)).create_response(
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


# The cipher of frames


def run(
    offer: int, own: int, *, offer_seen: int | None = None, choice_seen: int | None = None
) -> tuple[FrameKeys, FrameKeys]:
    """The keys at both ends, when the two bytes arrive as said. The responder would offer `own`."""
    ours = initiator(offer=offer)
    initiation = parse_initiation(initiate(ours).pack())
    assert initiation.offer == offer
    if offer_seen is not None:
        initiation = initiation._replace(offer=offer_seen)
    response, theirs = receive(initiation).create_response(
        sender=22, ephemeral=ephemeral(99), preshared=PRESHARED, offer=own
    )
    response = parse_response(response.pack())
    if choice_seen is not None:
        response = response._replace(choice=choice_seen)
    return ours.consume_response(response), theirs


@pytest.mark.parametrize(
    ("offer", "own", "cipher"),
    [
        (OFFER_AEGIS, OFFER_AEGIS, AEGIS_128L),
        (OFFER_AEGIS, 0, CHACHA20_POLY1305),
        (0, OFFER_AEGIS, CHACHA20_POLY1305),
        (0, 0, CHACHA20_POLY1305),
        # Bits of later versions beside it, and alone.
        (0xFF, OFFER_AEGIS, AEGIS_128L),
        (0xFE, OFFER_AEGIS, CHACHA20_POLY1305),
    ],
)
def test_the_cipher_is_one_of_both(offer: int, own: int, cipher: object) -> None:
    ours, theirs = run(offer, own)
    assert ours.cipher is cipher
    assert ours == mirrored(theirs)


def test_every_agreement_has_keys_of_its_own() -> None:
    """And none are those that Noise gives, which another program may use."""
    agreements = [(0, 0), (OFFER_AEGIS, 0), (OFFER_AEGIS, OFFER_AEGIS)]
    keys = [run(*agreement)[0] for agreement in agreements]
    starts = [key[:16] for each in keys for key in (each.sending, each.receiving)]
    assert len(set(starts)) == len(starts)


@pytest.mark.parametrize("seen", [0, 0x02, 0x03, 0xFE])
@pytest.mark.parametrize("own", [0, OFFER_AEGIS])
def test_an_offer_changed_on_the_way_ends_in_keys_that_do_not_match(seen: int, own: int) -> None:
    ours, theirs = run(OFFER_AEGIS, own, offer_seen=seen)
    assert {ours.sending[:16], ours.receiving[:16]}.isdisjoint(
        {theirs.sending[:16], theirs.receiving[:16]}
    )


def test_an_offer_that_was_not_made_ends_in_nothing() -> None:
    """The responder takes AEGIS, and the initiator does not."""
    with pytest.raises(AuthenticationFailed, match=r"^response$"):
        run(0, OFFER_AEGIS, offer_seen=OFFER_AEGIS)


@pytest.mark.parametrize(("own", "seen"), [(OFFER_AEGIS, 0), (0, 1)])
def test_a_choice_changed_on_the_way_ends_in_keys_that_do_not_match(own: int, seen: int) -> None:
    ours, theirs = run(OFFER_AEGIS, own, choice_seen=seen)
    assert ours.cipher is not theirs.cipher
    assert {ours.sending[:16], ours.receiving[:16]}.isdisjoint(
        {theirs.sending[:16], theirs.receiving[:16]}
    )


def test_a_choice_of_what_was_not_offered_is_refused_and_the_true_response_still_comes() -> None:
    ours = initiator()
    response, theirs = receive(initiate(ours)).create_response(
        sender=22, ephemeral=ephemeral(99), preshared=PRESHARED
    )
    for choice in (1, 2, 255):
        with pytest.raises(AuthenticationFailed, match=r"^response$"):
            ours.consume_response(response._replace(choice=choice))
    assert ours.consume_response(response) == mirrored(theirs)


def test_with_wireguard_there_is_nothing_to_agree_on() -> None:
    """Both bytes are zero, and the keys are Noise's."""
    ours = initiator(WIREGUARD, OFFER_AEGIS)
    initiation = initiate(ours)
    assert initiation.offer == 0
    response, theirs = receive(initiation, WIREGUARD).create_response(
        sender=22, ephemeral=ephemeral(99), preshared=PRESHARED, offer=OFFER_AEGIS
    )
    assert response.choice == 0
    with pytest.raises(AuthenticationFailed, match=r"^response$"):
        ours.consume_response(response._replace(choice=1))
    keys = ours.consume_response(response)
    assert keys == mirrored(theirs)
    assert keys.cipher is WIREGUARD_FRAMES
    assert keys.sending == noise_key()
    with pytest.raises(AuthenticationFailed, match=r"^initiation$"):
        receive(initiation._replace(offer=OFFER_AEGIS), WIREGUARD)


def noise_key() -> bytes:
    """The initiator's, by the pattern alone."""
    ours = HandshakeState(
        prologue=WIREGUARD.identifier, static=OURS, remote_static=THEIRS.public_key
    )
    theirs = HandshakeState(prologue=WIREGUARD.identifier, static=THEIRS)
    theirs.read_message_1(ours.write_message_1(ephemeral(11), NOW))
    ours.read_message_2(theirs.write_message_2(ephemeral(99), PRESHARED, b""), PRESHARED)
    return ours.split()[0]
