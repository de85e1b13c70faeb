"""The second implementation's parts that need no other end: packets, and joining."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.ends import URL, WALL, key, seeded
from tests.protocol.document import read_golden, read_vectors
from tests.protocol.meeting import NETWORK
from tests.protocol.second.joining import (
    Admission,
    JoinString,
    make_request,
    open_answer,
    parse_join_string,
)
from tests.protocol.second.packets import (
    Fragments,
    packet_of_segment,
    split_bundle,
    sum_words,
)
from tests.protocol.second.primitives import Refused
from tests.wire.superpackets import Superpacket, superpackets
from tests.wire.test_packet import ipv4, ipv6
from tests.wire.test_train import any_packet
from tunnel.wire.fragment import split_packet
from tunnel.wire.invitation import JoinString as OurJoinString
from tunnel.wire.invitation import parse_join_request
from tunnel.wire.segment import cut_superpacket

# Packets


def test_trains_and_bundles_of_the_document() -> None:
    golden = read_golden()
    for place in range(3):
        segment, packet = golden[f"train, place {place}"], golden[f"train, packet {place}"]
        assert packet_of_segment(segment, place) == packet
        assert split_bundle(packet + bytes(9)) == [packet]
    first, second, third = split_bundle(golden["bundle"])
    assert first == third
    assert golden["bundle"].endswith(second + third)
    for data, total in read_vectors()["sums"].items():
        assert sum_words(bytes.fromhex(data)) == int.from_bytes(total, "big")


@given(superpackets())
def test_trains(superpacket: Superpacket) -> None:
    packets = cut_superpacket(superpacket.virtio, superpacket.packet)
    frames = superpacket.frames
    assert [packet_of_segment(frame, place) for place, frame in enumerate(frames)] == packets
    with pytest.raises(Refused):
        packet_of_segment(frames[0], len(frames))


@given(st.lists(any_packet, max_size=8), st.integers(0, 20))
def test_bundles(packets: list[tuple[bytes, bytes]], padding: int) -> None:
    bundle = b"".join(sent for sent, _ in packets) + bytes(padding)
    assert split_bundle(bundle) == [received for _, received in packets]


@given(st.binary(min_size=1, max_size=3000), st.integers(60, 700), st.randoms())
def test_fragments(content: bytes, limit: int, random: Random) -> None:
    fragments, packets = Fragments(), [ipv4(content), ipv6(content)]
    parts = [split_packet(packet, limit, number) for number, packet in enumerate(packets)]
    mixed = [part for packet in parts for part in packet]
    random.shuffle(mixed)
    whole = [found for part in mixed if (found := fragments.add(part)) is not None]
    assert sorted(whole) == sorted(packets)


# Joining


def test_joining_of_the_document() -> None:
    v, texts = read_vectors()["joining"], read_vectors()["texts"]
    join = parse_join_string(texts["join string"].decode())
    assert join == JoinString(
        texts["inviter key"],
        texts["token"],
        texts["server key"],
        texts["access token"],
        12345,
        "203.0.113.10",
        "",
    )
    far = parse_join_string(texts["join string with options"].decode())
    assert texts["server URL with options"].decode().endswith(f"?{far.options}")
    inviter = read_vectors()["handshake"]["initiator key"]
    join = join._replace(inviter=inviter, token=v["token"])
    assert make_request(join, v["joiner private key"], v["nonce"]) == v["request"]
    assert open_answer(join, v["joiner private key"], v["answer, expired"], WALL) == 2


def test_joining() -> None:
    ledger = NETWORK.ledger()
    invitation = ledger.invite("new", WALL, seeded(1))
    text = OurJoinString(NETWORK.founder.public_key.data, invitation.token, URL).text
    join, joiner = parse_join_string(text), key(9)
    request = parse_join_request(make_request(join, joiner.data, bytes(24)))
    answer, _ = ledger.redeem(request, joiner.public_key, WALL, seeded(2))
    admission = open_answer(join, joiner.data, answer.pack(), WALL)
    assert isinstance(admission, Admission)
    assert admission.network_key == NETWORK.identity.key.data
    assert admission.network_secret == NETWORK.identity.secret
    assert (admission.inviter.name, admission.own.name) == ("founder", "new")
    assert admission.own.addresses[0] == str(invitation.addresses[0])
    # The same token in other hands.
    other = key(8)
    request = parse_join_request(make_request(join, other.data, bytes(24)))
    answer, _ = ledger.redeem(request, other.public_key, WALL, seeded(3))
    assert open_answer(join, other.data, answer.pack(), WALL) == 3
