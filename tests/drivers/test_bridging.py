"""From interface to interface, over any network: what comes out is what went in, and the plain way
is the judge of it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.drivers.bridged import Bridged, datagrams_of
from tests.wire.superpackets import TCP, UDP, Superpacket, superpackets
from tunnel.core.machine import Transmit
from tunnel.wire.checksum import checksum
from tunnel.wire.relay import RELAY_HEADER_LENGTH
from tunnel.wire.segment import cut_superpacket
from tunnel.wire.train import TRAIN_OVERHEAD
from tunnel.wire.virtio import CHECKSUM_LEFT, GSO_NONE, NO_VIRTIO, Virtio

Given = tuple[bytes, bytes]
"""Virtio header and packet, as the interface gives them."""


def readdressed(packet: bytes, source: bytes, destination: bytes) -> bytes:
    """With these addresses, and the pseudo-header sum that goes with them."""
    changed = bytearray(packet)
    is_ipv4 = packet[0] >> 4 == 4
    at = 12 if is_ipv4 else 8
    changed[at : at + 2 * len(source)] = source + destination
    if is_ipv4:
        end = (packet[0] & 15) * 4
        changed[10:12] = b"\0\0"
        changed[10:12] = checksum(changed[:end]).to_bytes(2, "big")
    return bytes(changed)


def from_kernel(
    superpacket: Superpacket, bridged: Bridged, source: str = "a", destination: str = "b"
) -> Given:
    """What the kernel of node a gives for node b: a superpacket, or a packet if it is only one."""
    s = superpacket
    addresses = [bridged.address(name, s.version) for name in (source, destination)]
    packet = bytearray(readdressed(s.packet, *addresses))
    transport = len(packet) - s.start
    pseudo = b"".join(addresses) + transport.to_bytes(4, "big") + bytes((0, 0, 0, s.protocol))
    total = ~checksum(pseudo) & 0xFFFF
    packet[s.field : s.field + 2] = total.to_bytes(2, "big")
    if len(s.payload) > s.size:
        return s.virtio, bytes(packet)
    virtio = Virtio(CHECKSUM_LEFT, GSO_NONE, 0, 0, s.start, s.field - s.start)
    return virtio.pack(), bytes(packet)


def cut(packets: list[Given]) -> list[bytes]:
    return [one for virtio, packet in packets for one in cut_superpacket(virtio, packet)]


def normal(packets: list[bytes]) -> list[bytes]:
    """Without what datagrams that may not be fragmented need not keep (RFC 6864)."""
    return [
        p[:4] + p[6:10] + p[12:] if p[0] >> 4 == 4 and p[9] == UDP and p[6] == 0x40 else p
        for p in packets
    ]


def arrive(bridged: Bridged, transmits: list[Transmit], gap: int = 0) -> None:
    bridged.receive([(datagrams_of(t), bridged.source) for t in transmits], gap)


@pytest.fixture(params=["AEGIS-128L", "ChaCha20-Poly1305"])
def bridged(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bridged:
    pair = Bridged(monkeypatch, aegis=request.param == "AEGIS-128L")
    cipher = pair.peer("a").session.cipher
    assert cipher is not None
    assert cipher.name == request.param
    return pair


BULK = Superpacket(4, TCP, 1348, Random(7).randbytes(45 * 1348), tcp_options=bytes(12))


def test_a_superpacket_is_one_call_and_one_write(bridged: Bridged) -> None:
    given = from_kernel(BULK, bridged)
    (transmit,) = bridged.send([given])
    arrive(bridged, [transmit])
    assert bridged.interfaces["b"].received == cut([given])
    assert bridged.interfaces["b"].writes == 1
    assert bridged.peer("b").counters.rx_packets == 45
    assert bridged.peer("a").counters.tx_packets == 45


def test_small_packets_are_bundled_and_merged(bridged: Bridged) -> None:
    given = [from_kernel(Superpacket(4, UDP, 999, bytes([i]) * 64), bridged) for i in range(100)]
    transmits = bridged.send(given)
    assert len(transmits) == 1
    assert len(datagrams_of(transmits[0])) == 7
    arrive(bridged, transmits)
    assert normal(bridged.interfaces["b"].received) == normal(cut(given))
    assert bridged.interfaces["b"].writes == 3  # of 16 to a frame: four frames, two, and the last
    assert bridged.peer("b").counters.rx_packets == 100


def test_a_turn_of_full_packets_is_sealed_at_once_and_merged(bridged: Bridged) -> None:
    given = [from_kernel(Superpacket(6, UDP, 1300, bytes([i]) * 1300), bridged) for i in range(60)]
    transmits = bridged.send(given)
    assert [len(datagrams_of(t)) > 45 for t in transmits] == [True, False], "64 KiB and the others"
    arrive(bridged, transmits)
    assert bridged.interfaces["b"].received == cut(given)
    assert bridged.interfaces["b"].writes == 2


runs_of_packets = st.tuples(
    st.sampled_from([4, 6]), st.sampled_from([0, 9, 64, 64, 700, 1300]), st.integers(1, 150)
)


@settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(runs_of_packets, max_size=5), st.booleans(), st.integers(0, 2))
def test_all_small_packets_arrive(
    bridged: Bridged, runs: list[tuple[int, int, int]], has_others: bool, gap: int
) -> None:
    """Of few flows and in any number, some of them with another hop limit or for nobody."""
    given = [
        from_kernel(Superpacket(version, UDP, 1400, bytes([i]) * size), bridged)
        for version, size, count in runs
        for i in range(count)
    ]
    if has_others:
        for i in range(7, len(given), 9):
            virtio, packet = given[i]
            given[i] = virtio, with_hop_limit(packet, 9)
    received = bridged.interfaces["b"].received
    received.clear()
    before = bridged.peer("b").counters.rx_packets
    arrive(bridged, bridged.send(given), gap)
    assert normal(received) == normal(cut(given))
    assert bridged.peer("b").counters.rx_packets == before + len(given)


def with_hop_limit(packet: bytes, limit: int) -> bytes:
    changed = bytearray(packet)
    if packet[0] >> 4 == 6:
        changed[7] = limit
        return bytes(changed)
    changed[8] = limit
    changed[10:12] = b"\0\0"
    changed[10:12] = checksum(changed[:20]).to_bytes(2, "big")
    return bytes(changed)


def test_packets_for_several_peers_by_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call for each of them; more than there is room for are sent in between."""
    for others, calls in (("c", 2), ("cdefghij", 9 + 9)):
        bridged = Bridged(monkeypatch, others=others)
        given = {
            name: [
                from_kernel(Superpacket(4, UDP, 999, bytes([i]) * 64), bridged, "a", name)
                for i in range(2)
            ]
            for name in bridged.names[1:]
        }
        transmits = bridged.send([one[i] for i in range(2) for one in given.values()])
        assert len(transmits) == calls
        bridged.deliver(transmits)
        for name, packets in given.items():
            assert bridged.interfaces[name].received == cut(packets)


def test_bulk_for_one_peer_leaves_the_bundle_of_another_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bridged = Bridged(monkeypatch, others="c")
    small = {
        name: [
            from_kernel(Superpacket(4, UDP, 999, bytes([i]) * 64), bridged, "a", name)
            for i in range(3)
        ]
        for name in "bc"
    }
    bulk = from_kernel(BULK, bridged)
    given = [small["b"][0], small["c"][0], bulk, small["c"][1], small["b"][1], small["b"][2], bulk]
    transmits = bridged.send(given)
    counts = [len(datagrams_of(transmit)) for transmit in transmits]
    assert counts == [1, 45, 1, 45, 1], "all for b, and c's at the end"
    bridged.deliver(transmits)
    assert bridged.interfaces["b"].received == cut([small["b"][0], bulk, *small["b"][1:], bulk])
    assert bridged.interfaces["c"].received == cut(small["c"][:2])


def test_an_acknowledgement_rides(bridged: Bridged) -> None:
    given = [from_kernel(BULK, bridged), from_kernel(Superpacket(4, TCP, 1348), bridged)]
    (transmit,) = bridged.send(given)
    assert len(datagrams_of(transmit)) == 46
    arrive(bridged, [transmit])
    assert bridged.interfaces["b"].received == cut(given)
    assert bridged.interfaces["b"].writes == 2


def test_order_is_kept(bridged: Bridged) -> None:
    small = [from_kernel(Superpacket(4, UDP, 99, bytes([i]) * 9), bridged) for i in range(9)]
    short = from_kernel(Superpacket(6, TCP, 500, bytes(2001)), bridged)
    given = [*small[:3], short, *small[3:], short, short]
    transmits = bridged.send(given)
    arrive(bridged, transmits)
    assert normal(bridged.interfaces["b"].received) == normal(cut(given))


kinds = st.one_of(
    superpackets(most=8, sizes=st.integers(200, 1300)),
    st.builds(
        lambda version, size: Superpacket(version, UDP, 1300, bytes(size)),
        st.sampled_from([4, 6]),
        st.integers(0, 200),
    ),
)
any_fate = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@any_fate
@given(st.lists(kinds, max_size=12), st.sampled_from([0, 1, 100]))
def test_all_arrives(bridged: Bridged, several: list[Superpacket], gap: int) -> None:
    received = bridged.interfaces["b"].received
    received.clear()
    given = [from_kernel(one, bridged) for one in several]
    arrive(bridged, bridged.send(given), gap)
    assert normal(received) == normal(cut(given))


@any_fate
@given(st.lists(kinds, max_size=8), st.lists(st.integers(0, 999), max_size=60))
def test_lost_reordered_and_repeated(
    bridged: Bridged, several: list[Superpacket], numbers: list[int]
) -> None:
    """Every packet that comes out is one that went in, and as often at most; all of them if each
    frame came."""
    given = [from_kernel(one, bridged) for one in several]
    frames = [frame for transmit in bridged.send(given) for frame in datagrams_of(transmit)]
    # How many frames there are depends on those before, too: the pair is the same in all examples.
    chosen = [number % len(frames) for number in numbers] if frames else []
    received = bridged.interfaces["b"].received
    received.clear()
    bridged.receive([([frames[i]], bridged.source) for i in chosen])
    once = list(dict.fromkeys(chosen))
    sent = normal(cut(given))
    for packet in normal(received):
        assert packet in sent
        sent.remove(packet)
    if len(once) == len(frames):
        assert not sent


def test_relayed(monkeypatch: pytest.MonkeyPatch) -> None:
    bridged = Bridged(monkeypatch, relayed=True)
    small = [from_kernel(Superpacket(4, UDP, 99, bytes([i]) * 64), bridged) for i in range(30)]
    given = [from_kernel(BULK, bridged), *small]
    transmits = bridged.send(given)
    server = bridged.world.server_host.endpoint()
    assert {t.endpoint for t in transmits} == {server}
    channel = bridged.peer("b").channel
    envelope = bytes([5, 0, 0, 0]) + channel.to_bytes(4, "little")
    relayed = [
        [envelope + frame[RELAY_HEADER_LENGTH:] for frame in datagrams_of(t)] for t in transmits
    ]
    bridged.receive([(datagrams, server) for datagrams in relayed])
    assert normal(bridged.interfaces["b"].received) == normal(cut(given))
    assert bridged.interfaces["b"].writes < 10
    # The same from anybody else is nothing.
    bridged.interfaces["b"].received.clear()
    transmits = bridged.send(given)
    relayed = [
        [envelope + frame[RELAY_HEADER_LENGTH:] for frame in datagrams_of(t)] for t in transmits
    ]
    bridged.receive([(datagrams, bridged.host("a").endpoint()) for datagrams in relayed])
    assert bridged.interfaces["b"].received == []


def test_a_repeated_train_is_dropped_and_counted(bridged: Bridged) -> None:
    (transmit,) = bridged.send([from_kernel(BULK, bridged)])
    arrive(bridged, [transmit, transmit])
    assert bridged.interfaces["b"].writes == 1
    assert bridged.peer("b").counters.duplicates_dropped == 45
    half = transmit._replace(data=transmit.data[: 20 * (transmit.segment_size or 0)])
    (other,) = bridged.send([from_kernel(BULK, bridged)])
    first = other._replace(data=other.data[: 20 * (other.segment_size or 0)])
    arrive(bridged, [first, other, half])
    received = bridged.interfaces["b"].received
    assert normal(received[45:]) == normal(cut([from_kernel(BULK, bridged)]))
    assert bridged.peer("b").counters.duplicates_dropped == 45 + 20 + 20


def test_an_interface_without_offloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """At both ends: complete packets in, complete packets out."""
    bridged = Bridged(monkeypatch, has_header=False, has_uso=False)
    given = [(NO_VIRTIO, p) for p in cut([from_kernel(BULK, bridged)])]
    arrive(bridged, bridged.send(given))
    assert bridged.interfaces["b"].received == [packet for _, packet in given]


def test_only_the_far_interface_is_without(monkeypatch: pytest.MonkeyPatch) -> None:
    bridged = Bridged(monkeypatch)
    far = bridged.interfaces["b"]
    far.has_header = far.has_uso = False
    given = [
        from_kernel(BULK, bridged),
        from_kernel(Superpacket(6, UDP, 500, bytes(3000)), bridged),
        from_kernel(Superpacket(4, UDP, 500, bytes(300)), bridged),
    ]
    arrive(bridged, bridged.send(given))
    assert normal(far.received) == normal(cut(given))


def test_a_udp_train_of_more_than_the_kernel_takes(bridged: Bridged) -> None:
    given = from_kernel(Superpacket(4, UDP, 10, bytes(1001)), bridged)
    arrive(bridged, bridged.send([given]))
    assert normal(bridged.interfaces["b"].received) == normal(cut([given]))
    assert bridged.interfaces["b"].writes == 2


def test_another_source_than_the_peers(bridged: Bridged) -> None:
    """Cryptokey routing: a member can't send for another, however many packets at a time."""
    for s in (BULK, Superpacket(4, UDP, 999, b"x" * 64)):
        given = from_kernel(s, bridged, source="b")
        arrive(bridged, bridged.send([given] * 5))
    assert bridged.interfaces["b"].received == []
    assert bridged.nodes["b"].drops["inner source is not the peer's"] == 5 * 45 + 5


def test_a_packet_that_is_longer_than_it_says(bridged: Bridged) -> None:
    """What is too much stays behind, and the next is found."""
    small = [from_kernel(Superpacket(4, UDP, 99, bytes([i]) * 9), bridged) for i in range(3)]
    (_, one), *others = small
    complete = cut_superpacket(*small[0])[0]
    given = [(NO_VIRTIO, complete + b"and more"), *others]
    arrive(bridged, bridged.send(given))
    assert normal(bridged.interfaces["b"].received) == normal(cut(small))
    assert len(one) == len(complete)


def test_what_is_no_packet(bridged: Bridged) -> None:
    small = from_kernel(Superpacket(4, UDP, 99, b"x" * 9), bridged)
    for junk in (b"E", b"\0" * 40, b"\x70" + bytes(50), b"\x45" + bytes(19)):
        bridged.interfaces["b"].received.clear()
        arrive(bridged, bridged.send([small, (NO_VIRTIO, junk), small]))
        assert normal(bridged.interfaces["b"].received) == normal(cut([small] * 2))
    assert sum(bridged.nodes["a"].drops.values()) == 4


def test_both_ends_count_the_same(bridged: Bridged) -> None:
    small = [from_kernel(Superpacket(4, UDP, 99, bytes([i]) * 9), bridged) for i in range(9)]
    given = [from_kernel(BULK, bridged), from_kernel(Superpacket(6, UDP, 500, bytes(999)), bridged)]
    arrive(bridged, bridged.send([*given, *small]))
    sent, received = bridged.peer("a").counters, bridged.peer("b").counters
    assert (sent.tx_packets, sent.tx_bytes) == (received.rx_packets, received.rx_bytes)
    assert sent.tx_bytes == sum(map(len, cut([*given, *small])))


def test_another_source_in_fragments(bridged: Bridged) -> None:
    best = bridged.peer("a").traversal.best
    assert best is not None
    best.mtu.limit = 1000
    wrong = from_kernel(Superpacket(4, UDP, 1300, bytes(1200)), bridged, source="b")
    right = from_kernel(Superpacket(4, UDP, 1300, bytes(100)), bridged)
    arrive(bridged, bridged.send([wrong, right]))
    assert normal(bridged.interfaces["b"].received) == normal(cut([right]))
    assert bridged.nodes["b"].drops["inner source is not the peer's"] == 1


def test_no_such_peer(bridged: Bridged) -> None:
    virtio, packet = from_kernel(BULK, bridged)
    elsewhere = readdressed(packet, bridged.address("a"), bytes([10, 77, 1, 1]))
    assert bridged.send([(virtio, elsewhere)]) == []
    assert bridged.nodes["a"].drops["sent: no route"] == 45


def test_a_checksum_nobody_else_could_find(bridged: Bridged) -> None:
    """Of another protocol, or behind extension headers: it is completed before it leaves."""
    s = Superpacket(6, UDP, 999, b"x" * 50, options=bytes([UDP, 0, 1, 4, 0, 0, 0, 0]))
    given = [from_kernel(s, bridged)] * 2
    arrive(bridged, bridged.send([from_kernel(Superpacket(4, UDP, 99, b"x" * 9), bridged)]))
    bridged.interfaces["b"].received.clear()
    arrive(bridged, bridged.send(given))
    assert bridged.interfaces["b"].received == cut(given)


def test_what_is_too_large_for_the_path_goes_in_fragments(bridged: Bridged) -> None:
    peer = bridged.peer("a")
    assert peer.traversal.best is not None
    peer.traversal.best.mtu.limit = 1000
    small = [from_kernel(Superpacket(4, UDP, 999, bytes([i]) * 64), bridged) for i in range(30)]
    given = [from_kernel(BULK, bridged), *small]
    transmits = bridged.send(given)
    assert (
        max(len(one) for t in transmits for one in datagrams_of(t))
        <= 1000 + 16 + 32 + TRAIN_OVERHEAD
    )
    arrive(bridged, transmits)
    assert normal(bridged.interfaces["b"].received) == normal(cut(given))
    assert bridged.interfaces["a"].received, "and its sender is told"


def test_other_datagrams_among_frames(bridged: Bridged) -> None:
    """They, and forged ones, are dropped with a reason, and the others arrive."""
    given = from_kernel(BULK, bridged)
    (transmit,) = bridged.send([given])
    arrive(bridged, [transmit])
    frames = datagrams_of(transmit)
    size = len(frames[0])
    forged = bytearray(frames[20])
    forged[100] ^= 1
    for noise in (bytes(forged), b"\4" + bytes(size - 1), b"\x99" * size, frames[3]):
        bridged.interfaces["b"].received.clear()
        (transmit,) = bridged.send([given])
        fresh = datagrams_of(transmit)
        bridged.receive([([*fresh[:10], noise, *fresh[10:]], bridged.source)])
        assert normal(bridged.interfaces["b"].received) == normal(cut([given]))
    assert sum(bridged.nodes["b"].drops.values()) == 3
    assert bridged.peer("b").counters.duplicates_dropped == 1
