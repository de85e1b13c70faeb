from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel.errors import AuthenticationFailed, Malformed
from tunnel.noise.frame_cipher import (
    AEGIS_128L,
    CHACHA20_POLY1305,
    WIREGUARD_FRAMES,
    FrameCipher,
)
from tunnel.noise.keypair import (
    MAX_WAITING,
    REJECT_AFTER_MESSAGES,
    REKEY_AFTER_MESSAGES,
    Keypair,
    Keypairs,
)
from tunnel.noise.primitives import Buffer
from tunnel.wire.transport import HEADER_LENGTH, pack_header, parse_header, parse_place

CIPHERS = [AEGIS_128L, CHACHA20_POLY1305, WIREGUARD_FRAMES]
each_cipher = pytest.mark.parametrize("cipher", CIPHERS, ids=["aegis", "chacha", "wireguard"])


def make_pair(cipher: FrameCipher = CHACHA20_POLY1305) -> tuple[Keypair, Keypair]:
    """Both ends of one keypair."""
    a, b = b"a" * cipher.key_length, b"b" * cipher.key_length
    ours = Keypair(
        cipher=cipher,
        sending_key=a,
        receiving_key=b,
        local_index=1,
        remote_index=2,
        created_at=5.0,
        is_initiator=True,
    )
    theirs = Keypair(
        cipher=cipher,
        sending_key=b,
        receiving_key=a,
        local_index=2,
        remote_index=1,
        created_at=5.5,
        is_initiator=False,
    )
    return ours, theirs


@each_cipher
@settings(deadline=None)
@given(payload=st.binary(max_size=1500))
def test_what_is_sealed_opens(cipher: FrameCipher, payload: bytes) -> None:
    ours, theirs = make_pair(cipher)
    for expected in range(3):
        datagram = ours.seal(payload)
        receiver, counter = parse_header(datagram)
        assert (receiver, counter) == (2, expected)
        assert len(datagram) == HEADER_LENGTH + len(payload) + cipher.tag_length
        assert theirs.open(counter, datagram) == payload
    assert ours.sending_counter == 3
    assert theirs.sending_counter == 0


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_taken(kind: type[Buffer]) -> None:
    ours, theirs = make_pair()
    datagram = ours.seal(kind(b"payload"))
    payload = theirs.open(0, kind(datagram))
    assert type(payload) is bytes
    assert payload == b"payload"


def test_the_place_in_a_train_goes_with_the_frame() -> None:
    ours, theirs = make_pair()
    datagram = ours.seal(b"payload", place=200)
    assert parse_place(datagram) == 200
    assert theirs.open(0, datagram) == b"payload"


@each_cipher
def test_every_byte_counts(cipher: FrameCipher) -> None:
    """The type is refused by the parser, the receiver finds other keys or none, the rest fails."""
    ours, theirs = make_pair(cipher)
    datagram = ours.seal(b"payload")
    for position in range(len(datagram)):
        changed = bytearray(datagram)
        changed[position] ^= 0x10
        try:
            receiver, counter = parse_header(bytes(changed))
        except Malformed:
            assert position < 4
            continue
        if 4 <= position < 8:
            assert receiver != theirs.local_index
            continue
        with pytest.raises(AuthenticationFailed, match=r"^tag$"):
            theirs.open(counter, changed)
    assert theirs.open(0, datagram) == b"payload"


def test_replay_is_refused_and_a_forgery_does_not_move_the_window() -> None:
    ours, theirs = make_pair()
    first, second = ours.seal(b"first"), ours.seal(b"second")
    forged = pack_header(2, 2**63) + bytes(40)
    with pytest.raises(AuthenticationFailed, match=r"^tag$"):
        theirs.open(2**63, forged)
    assert theirs.open(1, second) == b"second"
    assert theirs.open(0, first) == b"first"
    for counter, datagram in enumerate((first, second)):
        with pytest.raises(AuthenticationFailed, match=r"^replay$"):
            theirs.open(counter, datagram)


def test_the_last_counters() -> None:
    ours, theirs = make_pair()
    ours.sending_counter = REJECT_AFTER_MESSAGES - 1
    datagram = ours.seal(b"last")
    assert theirs.open(REJECT_AFTER_MESSAGES - 1, datagram) == b"last"
    with pytest.raises(OverflowError):
        ours.seal(b"one more")
    assert ours.sending_counter == REJECT_AFTER_MESSAGES

    header = pack_header(2, REJECT_AFTER_MESSAGES)
    past = header + ours.cipher.seal(b"a" * 32, header, b"")
    with pytest.raises(AuthenticationFailed, match=r"^replay$"):
        theirs.open(REJECT_AFTER_MESSAGES, past)
    assert REKEY_AFTER_MESSAGES < REJECT_AFTER_MESSAGES < 2**64


def test_repr_does_not_show_keys() -> None:
    shown = repr(make_pair()[0])
    assert "aaaa" not in shown
    assert "bbbb" not in shown
    assert "local_index=0x1" in shown
    assert "cipher=ChaCha20-Poly1305" in shown


def keypair(name: str, *, is_initiator: bool = False) -> Keypair:
    index = ord(name)
    return Keypair(
        cipher=CHACHA20_POLY1305,
        sending_key=bytes(32),
        receiving_key=bytes(32),
        local_index=index,
        remote_index=index,
        created_at=0.0,
        is_initiator=is_initiator,
    )


# Slots as "current previous next", "-" for an empty one. Before; what happens; after; dropped.
# "I" and "R": a keypair N comes, made as initiator or as responder. Another letter: a frame opened
# under the keypair of that name. wireguard-go: BeginSymmetricSession and ReceivedWithKeypair; but
# an unconfirmed next is not dropped for a newer one: it waits, see below.
ROTATION = [
    ("---", "I", "N--", ""),
    ("C--", "I", "NC-", ""),
    ("CP-", "I", "NC-", "P"),
    ("--X", "I", "NX-", ""),
    ("C-X", "I", "NX-", "C"),
    ("CPX", "I", "NX-", "CP"),
    ("---", "R", "--N", ""),
    ("C--", "R", "C-N", ""),
    ("CP-", "R", "C-N", "P"),
    ("C-X", "R", "C-N", ""),
    ("--X", "R", "--N", ""),
    ("CPX", "R", "C-N", "P"),
    ("--X", "X", "X--", ""),
    ("C-X", "X", "XC-", ""),
    ("CPX", "X", "XC-", "P"),
    ("CPX", "C", "CPX", ""),
    ("CPX", "P", "CPX", ""),
    ("CP-", "C", "CP-", ""),
]


@pytest.mark.parametrize(("before", "event", "after", "dropped"), ROTATION)
def test_rotation(before: str, event: str, after: str, dropped: str) -> None:
    known = {name: keypair(name) for name in "CPX"}
    known["N"] = keypair("N", is_initiator=event == "I")
    keypairs = Keypairs()
    current, previous, next_ = (known.get(name) for name in before)
    keypairs.current, keypairs.previous, keypairs.next = current, previous, next_

    out = keypairs.add(known["N"]) if event in "IR" else keypairs.received_with(known[event])

    assert [chr(each.local_index) for each in out] == list(dropped)
    slots = (keypairs.current, keypairs.previous, keypairs.next)
    assert "".join(chr(each.local_index) if each else "-" for each in slots) == after


@given(st.lists(st.tuples(st.sampled_from("IRF"), st.integers(0, 2)), max_size=30))
def test_every_keypair_is_held_or_was_dropped_once(events: list[tuple[str, int]]) -> None:
    keypairs = Keypairs()
    made: list[Keypair] = []
    dropped: list[Keypair] = []
    for event, which in events:
        held = list(keypairs)
        if event != "F":
            made.append(keypair("N", is_initiator=event == "I"))
            dropped += keypairs.add(made[-1])
        elif held:
            dropped += keypairs.received_with(held[which % len(held)])
        assert len(list(keypairs)) <= 3 + MAX_WAITING
        assert {*map(id, keypairs), *map(id, dropped)} == set(map(id, made))
        assert len(list(keypairs)) + len(dropped) == len(made)
    dropped += keypairs.drop_all()
    assert not list(keypairs)
    assert sorted(map(id, dropped)) == sorted(map(id, made))


def test_an_earlier_response_may_be_the_one_taken() -> None:
    """The path is slower than the initiator repeats itself: it takes the response to its first
    initiation when the responder has answered its fourth. MAX_WAITING of them are kept."""
    keypairs = Keypairs()
    made = [keypair(name) for name in "12345"]
    dropped = [each for one in made for each in keypairs.add(one)]
    assert dropped == made[:1]
    assert set(map(id, keypairs)) == set(map(id, made[1:]))
    dropped = keypairs.received_with(made[2])
    assert keypairs.current is made[2]
    assert keypairs.next is None
    assert sorted(map(id, dropped)) == sorted(map(id, [made[1], made[3], made[4]]))


def test_both_ends_initiating_at_once_end_with_keypairs_that_open() -> None:
    """Each ends up sealing with its own handshake's keypair, and holds the other's as previous."""
    ours, theirs = Keypairs(), Keypairs()
    ours.add(keypair("B"))
    theirs.add(keypair("A"))
    ours.add(keypair("A", is_initiator=True))
    theirs.add(keypair("B", is_initiator=True))
    for sender, receiver in ((ours, theirs), (theirs, ours)):
        assert sender.current
        assert sender.current.local_index in {each.local_index for each in receiver}
