"""The translator of routers in software, packet by packet, without a network."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.nat import Filtering, Mapping, Nat
from tests.sim.ports import Allocation
from tunnel.wire.endpoint import Endpoint

from .packet import ICMP, TIME_EXCEEDED, UDP, Packet, checksum, icmp_error, pack_host, quoted_packet
from .translator import MALFORMED, NO_MAPPING, Translator

PUBLIC, GATEWAY = "198.51.100.7", "192.168.1.1"
INSIDE, NEIGHBOUR = Endpoint("192.168.1.2", 5000), Endpoint("192.168.1.3", 6000)
REMOTE, STRANGER = Endpoint("203.0.113.10", 3478), Endpoint("203.0.113.11", 3478)


def udp(source: Endpoint, to: Endpoint, payload: bytes = b"payload", ttl: int = 64) -> bytes:
    """A packet that may not be fragmented."""
    length = 8 + len(payload)
    addresses = pack_host(source.host) + pack_host(to.host)
    pseudo = addresses + struct.pack(">HH", UDP, length)
    datagram = struct.pack(">HHHH", source.port, to.port, length, 0) + payload
    sum_ = checksum(pseudo + datagram) or 0xFFFF
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 7, 0x4000, ttl, UDP, 0) + addresses
    header = header[:10] + checksum(header).to_bytes(2, "big") + header[12:]
    return header + datagram[:6] + sum_.to_bytes(2, "big") + payload


class Router:
    """A translator, and what came out of it."""

    def __init__(self, **options: object) -> None:
        options = {"allocation": Allocation.PRESERVING, "addresses": [PUBLIC], **options}
        self.forwarded: list[bytes] = []
        self.answers: list[bytes] = []
        self.translator = Translator(
            Nat(**options),  # type: ignore[arg-type]
            gateway=GATEWAY,
            forward=lambda data: self.forwarded.append(bytes(data)),
            answer=lambda data: self.answers.append(bytes(data)),
            inside_mtu=lambda: 1400,
            outside_mtu=lambda: 1300,
        )

    def out(self, packet: bytes | bytearray) -> bytes | None:
        return self._feed(self.translator.receive_from_inside, packet)

    def back(self, packet: bytes | bytearray) -> bytes | None:
        return self._feed(self.translator.receive_from_outside, packet)

    def _feed(self, receive: object, packet: bytes | bytearray) -> bytes | None:
        before = len(self.forwarded)
        receive(bytearray(packet), 0.0)  # type: ignore[operator]
        return self.forwarded[-1] if len(self.forwarded) > before else None


@settings(deadline=None)
@given(
    payload=st.binary(max_size=40),
    port=st.integers(1, 65535),
    ttl=st.integers(2, 255),
    reboots=st.integers(0, 2),
)
def test_translated_packets_are_those_the_nat_itself_would_send(
    payload: bytes, port: int, ttl: int, reboots: int
) -> None:
    """Checksums and all."""
    router = Router()
    for _ in range(reboots):
        router.translator.nat.reboot()
    inside = INSIDE._replace(port=port)
    out = router.out(udp(inside, REMOTE, payload, ttl))
    external = router.translator.nat.find_external(inside, REMOTE)
    assert external is not None
    assert out == udp(external, REMOTE, payload, ttl)
    assert router.back(udp(REMOTE, external, payload, ttl)) == udp(REMOTE, inside, payload, ttl)


def test_a_datagram_without_checksum_keeps_none() -> None:
    packet = bytearray(udp(INSIDE, REMOTE))
    packet[26:28] = b"\0\0"
    out = Router().out(packet)
    assert out is not None
    assert out[26:28] == b"\0\0"


@pytest.mark.parametrize("inward", [False, True])
def test_time_exceeded_here(inward: bool) -> None:
    router = Router()
    router.out(udp(INSIDE, REMOTE))
    packet = udp(REMOTE, Endpoint(PUBLIC, 5000), ttl=1) if inward else udp(INSIDE, REMOTE, ttl=1)
    assert (router.back if inward else router.out)(packet) is None
    [answer] = router.answers
    error = Packet(bytearray(answer))
    assert (error.protocol, answer[20:22]) == (ICMP, bytes([TIME_EXCEEDED, 0]))
    assert answer[12:16] == pack_host(PUBLIC if inward else GATEWAY)
    assert answer[16:20] == packet[12:16]
    assert answer[28:] == packet
    assert checksum(answer[:20]) == checksum(answer[20:]) == 0


def test_time_exceeded_elsewhere_is_told_to_the_host() -> None:
    router = Router()
    out = router.out(udp(INSIDE, REMOTE, ttl=3))
    assert out is not None
    told = router.back(icmp_error(out, "192.0.2.1", TIME_EXCEEDED, 0))
    assert told == icmp_error(udp(INSIDE, REMOTE, ttl=3), "192.0.2.1", TIME_EXCEEDED, 0)
    # Eight bytes of UDP are all that some quote, and nothing of what a stranger says is believed.
    assert router.back(icmp_error(out[:28], "192.0.2.1", TIME_EXCEEDED, 0)) is not None
    strange = icmp_error(udp(Endpoint(PUBLIC, 5001), REMOTE), "192.0.2.1", TIME_EXCEEDED, 0)
    assert router.back(strange) is None
    assert router.translator.counters[NO_MAPPING] == 1


def test_an_error_from_inside_shows_the_external_endpoint() -> None:
    router = Router()
    router.translator.nat.reboot()
    router.out(udp(INSIDE, REMOTE))
    external = router.translator.nat.find_external(INSIDE, REMOTE)
    assert external is not None
    came = router.back(udp(REMOTE, external))
    assert came is not None
    told = router.out(icmp_error(came, INSIDE.host, 3, 3))
    assert told == icmp_error(udp(REMOTE, external), PUBLIC, 3, 3)


@pytest.mark.parametrize(("inward", "mtu"), [(False, 1300), (True, 1400)])
def test_too_big(inward: bool, mtu: int) -> None:
    router = Router()
    router.out(udp(INSIDE, REMOTE))
    pair = (REMOTE, Endpoint(PUBLIC, 5000)) if inward else (INSIDE, REMOTE)
    send = router.back if inward else router.out
    assert send(udp(*pair, bytes(mtu - 28))) is not None
    packet = bytearray(udp(*pair, bytes(mtu - 27)))
    assert send(packet) is None
    [answer] = router.answers
    assert answer[20:22] == bytes([3, 4])
    assert int.from_bytes(answer[26:28], "big") == mtu
    packet[6] = 0
    assert send(packet) is not None, "to be fragmented by the kernel"


def test_hairpin_shows_external_endpoints() -> None:
    router = Router(hairpin=True, mapping=Mapping.ENDPOINT_INDEPENDENT)
    router.translator.nat.reboot()
    for inside in (INSIDE, NEIGHBOUR):
        router.out(udp(inside, REMOTE))
    one, two = (router.translator.nat.find_external(i, REMOTE) for i in (INSIDE, NEIGHBOUR))
    assert one is not None
    assert two is not None
    assert router.out(udp(INSIDE, two)) is None
    assert router.out(udp(NEIGHBOUR, one)) == udp(two, INSIDE)
    assert router.out(udp(INSIDE, two)) == udp(one, NEIGHBOUR)
    assert Router().out(udp(INSIDE, Endpoint(PUBLIC, 6000))) is None


def fragments(packet: bytes, size: int) -> list[bytearray]:
    """`packet` cut after every `size` bytes, a multiple of 8."""
    parts = []
    for at in range(0, len(packet) - 20, size):
        part = bytearray(packet[:20] + packet[20 + at : 20 + at + size])
        part[2:4] = len(part).to_bytes(2, "big")
        more = 0x2000 if 20 + at + size < len(packet) else 0
        part[6:8] = (more | at // 8).to_bytes(2, "big")
        parts.append(part)
    return parts


@given(order=st.permutations(range(5)), twice=st.integers(0, 4))
def test_fragments_are_joined_in_any_order(order: list[int], twice: int) -> None:
    router = Router()
    whole = udp(INSIDE, REMOTE, bytes(range(33)))
    parts = fragments(whole, 8)
    assert len(parts) == 6
    for number in [5, twice, *order]:
        router.out(parts[number])
    [sent] = router.forwarded
    assert sent[20:] == udp(Endpoint(PUBLIC, 5000), REMOTE, bytes(range(33)))[20:]
    assert sent[6:8] == b"\0\0"


def test_pieces_of_packets_that_never_come_whole_are_forgotten() -> None:
    router = Router()
    for number in range(1000):
        piece = fragments(udp(INSIDE, REMOTE, bytes(40)), 8)[0]
        piece[4:6] = number.to_bytes(2, "big")
        router.out(piece)
    assert len(router.translator._fragments._pending) <= 64


@settings(deadline=None)
@given(data=st.binary(max_size=80), start=st.sampled_from([b"", b"\x45", b"\x46"]))
def test_no_bytes_make_it_raise(data: bytes, start: bytes) -> None:
    router = Router(filtering=Filtering.ENDPOINT_INDEPENDENT, hairpin=True)
    for receive in (router.out, router.back):
        receive(start + data)
        for protocol in (ICMP, UDP):
            changed = bytearray(start + data)
            if len(changed) > 9:
                changed[9] = protocol
            receive(changed)


def test_other_protocols_are_none_of_its_business() -> None:
    router = Router()
    packet = bytearray(udp(INSIDE, REMOTE))
    packet[9] = 6
    assert router.out(packet) is None
    assert router.translator.counters == {MALFORMED: 1}


def test_only_errors_about_udp_are_looked_into() -> None:
    packet = bytearray(udp(INSIDE, REMOTE))
    packet[9] = 6
    assert quoted_packet(Packet(bytearray(icmp_error(packet, GATEWAY, 3, 3)))) is None
    echo = bytearray(icmp_error(udp(INSIDE, REMOTE), GATEWAY, 8, 0))
    assert quoted_packet(Packet(echo)) is None
