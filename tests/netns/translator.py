"""What a router of the lab does in software: the simulator's table put to real IPv4 packets.

No system call is made here, so that it can be tested without root. `translator_process` feeds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tests.sim.nat import Nat
from tests.sim.trace import Why

from .packet import (
    DESTINATION_UNREACHABLE,
    FRAGMENTATION_NEEDED,
    ICMP,
    TIME_EXCEEDED,
    UDP,
    Packet,
    Reassembly,
    icmp_error,
    pack_host,
    quoted_packet,
    replace_quoted,
)

Send = Callable[[bytes | bytearray], object]
Mtu = Callable[[], int]
NO_MAPPING, MALFORMED = "no mapping for this error", "malformed"


class Translator:
    """UDP, and ICMP errors about it, between the inside and the outside of `nat`."""

    def __init__(
        self,
        nat: Nat,
        *,
        gateway: str,
        forward: Send,
        answer: Send,
        inside_mtu: Mtu,
        outside_mtu: Mtu,
    ) -> None:
        """`gateway` is the router's address inside; what it tells outside comes from the external
        address concerned. `forward` gets the packets that go on, with the time to live they came
        with; `answer` the router's own ICMP errors."""
        self.nat = nat
        self.counters: Counter[str] = Counter()
        """Packets "out", "in" and "hairpin", ICMP "errors out" and "errors in" that went on, ICMP
        "answers", and what was dropped, by reason."""
        self._gateway = gateway
        self._forward = forward
        self._answer = answer
        self._inside_mtu = inside_mtu
        self._outside_mtu = outside_mtu
        self._fragments = Reassembly()

    def receive_from_inside(self, data: bytearray, now: float) -> None:
        """A packet that a host inside sent to somewhere else than the LAN."""
        packet = self._parse(data)
        if packet is not None and packet.protocol == ICMP:
            self._error_from_inside(packet)
        elif packet is not None:
            self._udp_from_inside(packet, now)

    def receive_from_outside(self, data: bytearray, now: float) -> None:
        """A packet that came for an external address."""
        packet = self._parse(data)
        if packet is not None and packet.protocol == ICMP:
            self._error_from_outside(packet)
        elif packet is not None:
            self._udp_from_outside(packet, now)

    def _parse(self, data: bytearray) -> Packet | None:
        try:
            packet = Packet(data)
        except ValueError:
            self._drop(MALFORMED)
            return None
        if packet.protocol not in (UDP, ICMP):
            self._drop(MALFORMED)
            return None
        return self._fragments.add(packet) if packet.is_fragment else packet

    def _udp_from_inside(self, packet: Packet, now: float) -> None:
        nat, source, destination = self.nat, packet.source, packet.destination
        # As in the kernel: what the router won't forward leaves no trace in its table.
        if packet.ttl <= 1:
            return self._expire(packet, self._gateway)
        turns_back = destination.host in nat.addresses
        if turns_back and not nat.hairpin:
            return self._drop(Why.NO_HAIRPIN)
        if not turns_back and not self._fits(packet, self._outside_mtu(), self._gateway):
            return None
        external = nat.outbound(source, destination, now)
        if isinstance(external, Why):
            return self._drop(external)
        # RFC 4787 REQ-9 a: address and port of a hairpinned packet are the external ones.
        packet.replace_source(external)
        if turns_back:
            inside = nat.inbound(external, destination, now)
            if isinstance(inside, Why):
                return self._drop(inside)
            packet.replace_destination(inside)
        return self._send(packet, "hairpin" if turns_back else "out")

    def _udp_from_outside(self, packet: Packet, now: float) -> None:
        destination = packet.destination
        # What it tracks, it tracks before it looks at the time to live.
        inside = self.nat.inbound(packet.source, destination, now)
        if isinstance(inside, Why):
            return self._drop(inside)
        if packet.ttl <= 1:
            return self._expire(packet, destination.host)
        if not self._fits(packet, self._inside_mtu(), destination.host):
            return None
        packet.replace_destination(inside)
        return self._send(packet, "in")

    def _error_from_outside(self, packet: Packet) -> None:
        """About a packet that was sent from inside: it is told who sent it (RFC 5508 REQ-4)."""
        quoted = quoted_packet(packet)
        if quoted is None:
            return self._drop(MALFORMED)
        inside = self.nat.peek(quoted.destination, quoted.source)
        if inside is None:
            return self._drop(NO_MAPPING)
        quoted.replace_source(inside)
        replace_quoted(packet, quoted)
        packet.data[16:20] = pack_host(inside.host)
        return self._send(packet, "errors in")

    def _error_from_inside(self, packet: Packet) -> None:
        """About a packet that came from outside (RFC 5508 REQ-5)."""
        quoted = quoted_packet(packet)
        if quoted is None:
            return self._drop(MALFORMED)
        external = self.nat.find_external(quoted.destination, quoted.source)
        if external is None:
            return self._drop(NO_MAPPING)
        quoted.replace_destination(external)
        replace_quoted(packet, quoted)
        packet.data[12:16] = pack_host(external.host)
        if quoted.source.host in self.nat.addresses:
            return self._error_from_outside(packet)
        return self._send(packet, "errors out")

    def _fits(self, packet: Packet, mtu: int, router: str) -> bool:
        """Whether it may go on: whole, or cut by the kernel."""
        if len(packet.data) <= mtu or packet.may_be_fragmented:
            return True
        self._drop(Why.TOO_BIG)
        self._tell(packet, router, DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED, mtu)
        return False

    def _expire(self, packet: Packet, router: str) -> None:
        self._drop(Why.TTL)
        if self.nat.answers_ttl:
            self._tell(packet, router, TIME_EXCEEDED, 0)

    def _tell(self, packet: Packet, router: str, kind: int, code: int, mtu: int = 0) -> None:
        packet.finish()
        self.counters["answers"] += 1
        self._answer(icmp_error(packet.data, router, kind, code, mtu))

    def _send(self, packet: Packet, way: str) -> None:
        packet.finish()
        self.counters[way] += 1
        self._forward(packet.data)

    def _drop(self, why: Why | str) -> None:
        self.counters[why.value if isinstance(why, Why) else why] += 1
