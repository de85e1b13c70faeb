"""`cut_superpacket` against the kernel: of the same superpackets it makes the same bytes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from random import Random

import pytest

from tests.dataplane.arrivals import Receiver, arrive
from tests.dataplane.ciphers import CIPHERS, Cipher
from tests.dataplane.test_opening import normal
from tests.drivers.conftest import run_in_namespace
from tests.netns.gso import Conversation, Cutter
from tests.netns.namespace import check_available
from tests.wire.superpackets import ACK, CWR, ECE, FIN, PSH, SEEDS, TCP, UDP, URG, Superpacket
from tests.wire.test_segment import GOLDEN
from tunnel.dataplane.train import split
from tunnel.errors import Malformed
from tunnel.wire.segment import cut_superpacket, transport_of
from tunnel.wire.train import MAX_SEGMENTS, packet_of
from tunnel.wire.virtio import GSO_ECN, GSO_NONE, parse_virtio

pytestmark = pytest.mark.root
SO_SNDBUFFORCE, UDP_SEGMENT = 32, 103
IPV6_DSTOPTS = 59


@pytest.fixture
def in_namespaces() -> Callable[[Callable[[], None]], None]:
    check_available()
    return run_in_namespace


InNamespaces = Callable[[Callable[[], None]], None]


def compare(recorded: list[tuple[bytes, bytes]]) -> None:
    """What was recorded, cut by the kernel and by us."""
    cutter = Cutter()
    for virtio, packet in recorded:
        assert cut_superpacket(virtio, packet) == cutter.cut(virtio, packet), parse_virtio(virtio)


def superpackets_of(conversation: Conversation) -> list[tuple[bytes, bytes]]:
    return [one for one in conversation.recorded if parse_virtio(one[0]).gso_type != GSO_NONE]


def flags_of(packet: bytes) -> int:
    protocol, start, _ = transport_of(packet)
    assert protocol == TCP
    return packet[start + 13]


# What TCP and UDP sockets make


def transfer(
    conversation: Conversation,
    version: int,
    option: tuple[int, int, bytes] | None = None,
    *,
    has_ecn: bool = False,
) -> None:
    """A megabyte by TCP, in writes of many sizes; with ECN it meets congestion once."""
    client, server = connect(conversation, version, option)
    content = Random(1).randbytes(1_000_000)
    sent, received = 0, bytearray()

    def has_arrived() -> bool:
        receive_into(received, server)
        return len(received) >= sent

    for size in (1, 5000, 60_001, 2803, 100_000, 7777, 20_000, 100_000):
        conversation.mark_congestion = has_ecn and size == 20_000
        client.sendall(content[sent : sent + size])
        sent += size
        conversation.pump(has_arrived)
        if has_ecn and size == 20_000:
            # The next data then says that the sender has heard of it.
            conversation.pump(lambda: bool(flags_of(conversation.answers[-1]) & ECE))
    client.sendall(content[sent:])
    sent = len(content)
    conversation.pump(has_arrived)
    assert received == content


def transfer_to_the_end(conversation: Conversation, version: int) -> None:
    """5000 bytes leave together with the connection's end: both wait for an acknowledgement of as
    much as may be under way at first (RFC 6928: ten segments), and this lets at least four go."""
    client, server = connect(conversation, version)
    window = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) * 10
    content, received = Random(1).randbytes(window + 5000), bytearray()
    client.sendall(content[:window])
    client.sendall(content[window:])
    client.shutdown(socket.SHUT_WR)

    def has_arrived() -> bool:
        receive_into(received, server)
        return len(received) == len(content)

    conversation.pump(has_arrived)
    assert received == content


def connect(
    conversation: Conversation, version: int, option: tuple[int, int, bytes] | None = None
) -> tuple[socket.socket, socket.socket]:
    """A client on the recorded side and the server's socket for it; neither blocks."""
    listener = conversation.socket(1, version, socket.SOCK_STREAM)
    listener.listen()
    client = conversation.socket(0, version, socket.SOCK_STREAM)
    if option is not None:
        client.setsockopt(*option)
    client.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 4_000_000)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.connect_ex(listener.getsockname())
    accepted: list[socket.socket] = []

    def is_accepted() -> bool:
        try:
            accepted.append(listener.accept()[0])
        except BlockingIOError:
            return False
        return True

    conversation.pump(is_accepted)
    accepted[0].setblocking(False)
    return client, accepted[0]


def receive_into(received: bytearray, server: socket.socket) -> None:
    try:
        received += server.recv(1_000_000)
    except BlockingIOError:
        return


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("timestamps", [0, 1])
@pytest.mark.parametrize("ecn", [0, 1])
def test_tcp(in_namespaces: InNamespaces, version: int, timestamps: int, ecn: int) -> None:
    def check() -> None:
        conversation = Conversation({"ipv4/tcp_timestamps": timestamps, "ipv4/tcp_ecn": ecn})
        transfer(conversation, version, has_ecn=bool(ecn))
        transfer_to_the_end(conversation, version)
        recorded = superpackets_of(conversation)
        flags = [flags_of(packet) for _, packet in recorded]
        assert len(recorded) > 5
        assert any(flag & PSH for flag in flags)
        assert flags[-1] & FIN
        header = 20 if version == 4 else 40
        assert {transport_of(p)[2] for _, p in recorded} == {header + 20 + 12 * timestamps}
        with_cwr = [virtio[1] & GSO_ECN for virtio, p in recorded if flags_of(p) & CWR]
        assert with_cwr == [GSO_ECN] * ecn
        compare(conversation.recorded)

    in_namespaces(check)


@pytest.mark.parametrize(
    ("version", "option"),
    [
        (4, (socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x01\x01\x01\x00")),
        (6, (socket.IPPROTO_IPV6, IPV6_DSTOPTS, b"\x00\x00\x01\x04\x00\x00\x00\x00")),
    ],
)
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_ip_options(
    in_namespaces: InNamespaces, version: int, option: tuple[int, int, bytes], protocol: int
) -> None:
    def check() -> None:
        conversation = Conversation()
        if protocol == TCP:
            transfer(conversation, version, option)
        else:
            send(conversation, version, [1000] * 5, option)
        recorded = superpackets_of(conversation)
        starts = {transport_of(packet)[1] for _, packet in recorded}
        if (version, protocol) == (6, UDP):
            starts.add(48)  # Linux 6.18 cuts these itself, before the interface.
        assert starts == {24 if version == 4 else 48}
        compare(conversation.recorded)

    in_namespaces(check)


def send(
    conversation: Conversation,
    version: int,
    sizes: list[int],
    option: tuple[int, int, bytes] | None = None,
) -> None:
    """Datagrams of UDP by one call; all but the last have one size."""
    server = conversation.socket(1, version, socket.SOCK_DGRAM)
    client = conversation.socket(0, version, socket.SOCK_DGRAM)
    client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, sizes[0])
    if option is not None:
        client.setsockopt(*option)
    content = Random(1).randbytes(sum(sizes))
    client.sendto(content, server.getsockname())
    received: list[bytes] = []

    def have_arrived() -> bool:
        try:
            received.append(server.recv(65_535))
        except BlockingIOError:
            return False
        return len(received) == len(sizes)

    conversation.pump(have_arrived)
    assert received == split(content, sizes[0])


@pytest.mark.parametrize("version", [4, 6])
def test_udp(in_namespaces: InNamespaces, version: int) -> None:
    def check() -> None:
        conversation = Conversation()
        for sizes in ([1000] * 20, [1000] * 40 + [1], [777] * 3 + [776], [1] * 64, [1200, 1199]):
            send(conversation, version, sizes)
        assert len(superpackets_of(conversation)) == 5
        compare(conversation.recorded)

    in_namespaces(check)


# What we make ourselves


def shapes() -> list[Superpacket]:
    """All kinds, with whatever a socket will not easily do."""
    random = Random(1)
    payload = random.randbytes(6000)
    made = [row[0] for row in GOLDEN] + SEEDS
    for version, protocol in product((4, 6), (TCP, UDP)):
        base = Superpacket(version, protocol, 1000, payload)
        made += [replace(base, size=size) for size in (999, 1001, 5999, 6000, 6001, 100)]
        made += [replace(base, payload=payload[:length]) for length in (0, 1, 1000, 1001, 2000)]
        made.append(replace(base, size=1, payload=payload[:100]))
        made.append(replace(base, size=30_000, payload=random.randbytes(65_400)))
    for version in (4, 6):
        base = Superpacket(version, TCP, 1000, payload)
        for flags in (0, FIN, PSH, ACK | CWR, ACK | ECE, URG | ACK, 0xFF, 0xFF & ~CWR):
            made.append(replace(base, flags=flags, urgent=7))
        made.append(replace(base, sequence=0xFFFFFFFF - 1500))
        made += [replace(base, tcp_options=b"\x01" * length) for length in (4, 12, 40)]
    for protocol in (TCP, UDP):
        base = Superpacket(4, protocol, 1000, payload)
        made += [replace(base, identification=number) for number in (0xFFFF, 0xFFFD, 1)]
        made += [replace(base, options=b"\x01" * length) for length in (4, 40)]
        base = Superpacket(6, protocol, 1000, payload)
        made.append(replace(base, options=bytes([protocol, 0, 1, 4, 0, 0, 0, 0])))
        long = bytes([60, 1, 1, 12, *bytes(12)]) + bytes([protocol, 0, 1, 4, 0, 0, 0, 0])
        made.append(replace(base, options=long))
    return made


def test_made_up_superpackets(in_namespaces: InNamespaces) -> None:
    def check() -> None:
        cutter = Cutter()
        for made in shapes():
            expected = cut_superpacket(made.virtio, made.packet)
            assert cutter.cut(made.virtio, made.packet) == expected, made

    in_namespaces(check)


def test_checksums_that_are_zero(in_namespaces: InNamespaces) -> None:
    def check() -> None:
        cutter = Cutter()
        found = set()
        for version, protocol, length in product((4, 6), (TCP, UDP), (1000, 1500)):
            s = Superpacket(version, protocol, 1000, bytes(length))
            first = cut_superpacket(s.virtio, s.packet)[0]
            s = replace(s, payload=first[s.field : s.field + 2] + bytes(length - 2))
            packets = cutter.cut(s.virtio, s.packet)
            assert packets == cut_superpacket(s.virtio, s.packet)
            assert packets is not None
            found.add((protocol, len(packets), packets[0][s.field : s.field + 2].hex()))
        assert found == {(TCP, 1, "ffff"), (TCP, 2, "0000"), (UDP, 1, "ffff"), (UDP, 2, "ffff")}

    in_namespaces(check)


@pytest.mark.parametrize("version", [4, 6])
def test_a_checksum_that_nobody_began(in_namespaces: InNamespaces, version: int) -> None:
    def check() -> None:
        cutter = Cutter()
        s = Superpacket(version, TCP, 1000, bytes(2500))
        packet = s.packet[: s.field] + b"\x12\x34" + s.packet[s.field + 2 :]
        virtio = b"\0" + s.virtio[1:]
        assert cutter.cut(virtio, packet) == cut_superpacket(virtio, packet)
        assert cutter.cut(s.virtio, packet) == cut_superpacket(s.virtio, packet)

    in_namespaces(check)


def test_what_is_no_superpacket(in_namespaces: InNamespaces) -> None:
    """Malformed to us; the kernel refuses it, or lets nothing of it through."""

    def check() -> None:
        cutter = Cutter()
        for version, protocol in product((4, 6), (TCP, UDP)):
            s = Superpacket(version, protocol, 1000, bytes(2500))
            for kind in (1, 4, 5, 0x81, 0x84, 0x85):
                if kind & ~GSO_ECN == s.gso_type and not (kind & GSO_ECN and protocol == UDP):
                    continue
                virtio = s.virtio[:1] + bytes([kind]) + s.virtio[2:]
                with pytest.raises(Malformed):
                    cut_superpacket(virtio, s.packet)
                assert not cutter.cut(virtio, s.packet), (kind, version, protocol)
            at = 2 if version == 4 else 4
            shorter = s.packet[:at] + b"\x03\xe8" + s.packet[at + 2 :]
            with pytest.raises(Malformed):
                cut_superpacket(s.virtio, shorter)
            assert not cutter.cut(s.virtio, shorter)

    in_namespaces(check)


@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)
def test_what_was_put_together_again(in_namespaces: InNamespaces, cipher: Cipher) -> None:
    """Of trains that lost frames on the way: the kernel cuts what the others stand for."""

    def check() -> None:
        cutter, random, receiver = Cutter(), Random(1), Receiver(cipher)
        for made in shapes():
            if not made.payload or made.last >= MAX_SEGMENTS:
                continue
            found: list[bytes] = []
            frames = [cipher.seal(n, n, payload) for n, payload in enumerate(made.frames)]
            kept = [n for n in range(len(frames)) if n % 4 == 3 or random.random() < 0.7]
            for arrival in arrive([frames[n] for n in kept]):
                for opened in receiver.receive(arrival):
                    assert opened.superpackets is not None
                    for virtio, packet in opened.superpackets:
                        found += cutter.cut(virtio, packet) or []
            expected = [packet_of(made.frames[n], n) for n in kept]
            assert normal(found) == normal(expected), made

    in_namespaces(check)
