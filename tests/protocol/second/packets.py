"""docs/protocol/frames.md: payloads of frames back into IP packets."""

from __future__ import annotations

from tests.protocol.second.primitives import Refused

Buffer = bytes | bytearray
TCP, UDP = 6, 17
FIN_PSH, CWR = 0x09, 0x80


def sum_words(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _put(packet: bytearray, at: int, size: int, number: int) -> None:
    packet[at : at + size] = (number % 256**size).to_bytes(size, "big")


def _get(packet: Buffer, at: int, size: int = 2) -> int:
    return int.from_bytes(packet[at : at + size], "big")


def _length(packet: Buffer) -> int:
    if packet[0] >> 4 == 4:
        return _get(packet, 2)
    return 40 + _get(packet, 4)


def _transport(packet: Buffer) -> tuple[int, int, int]:
    """Protocol, where its header begins, where its payload does."""
    if packet[0] >> 4 == 4:
        start, protocol = (packet[0] & 15) * 4, packet[9]
    else:
        start, protocol = 40, packet[6]
        while protocol in (0, 43, 60):
            protocol, start = packet[start], start + 8 + 8 * packet[start + 1]
    if protocol not in (TCP, UDP):
        raise Refused("neither TCP nor UDP")
    return protocol, start, start + (8 if protocol == UDP else (packet[start + 12] >> 4) * 4)


def _complete(packet: bytearray, protocol: int, start: int, *, may_be_zero: bool = False) -> None:
    value = ~sum_words(bytes(packet[start:])) & 0xFFFF
    if not value and not may_be_zero:
        value = 0xFFFF
    _put(packet, start + (16 if protocol == TCP else 6), 2, value)


def split_bundle(payload: bytes) -> list[bytes]:
    packets, at = [], 0
    while at < len(payload) and payload[at]:
        packet = bytearray(payload[at:])
        is_left = packet[0] & 0x80
        packet[0] &= 0x7F
        length = _length(packet)
        if not 20 <= length <= len(packet):
            raise Refused("length")
        del packet[length:]
        if is_left:
            _complete(packet, *_transport(packet)[:2])
        packets.append(bytes(packet))
        at += length
    return packets


def packet_of_segment(payload: bytes, place: int) -> bytes:
    last, size = payload[1], _get(payload, 2)
    packet = bytearray(payload[4:])
    packet[0] &= 0x7F
    protocol, start, end = _transport(packet)
    whole = _length(packet) - end
    expected = size if place < last else whole - last * size
    if place > last or not last * size < whole <= (last + 1) * size:
        raise Refused("place")
    if len(packet) - end != expected:
        raise Refused("segment")
    longer = whole + end - len(packet)
    if packet[0] >> 4 == 4:
        _put(packet, 2, 2, len(packet))
        _put(packet, 4, 2, _get(packet, 4) + place)
        _put(packet, 10, 2, 0)
        _put(packet, 10, 2, ~sum_words(bytes(packet[:start])))
    else:
        _put(packet, 4, 2, len(packet) - 40)
    field = start + 16
    if protocol == TCP:
        _put(packet, start + 4, 4, _get(packet, start + 4, 4) + place * size)
        packet[start + 13] &= ~(FIN_PSH if place < last else 0)
        packet[start + 13] &= ~(CWR if place else 0)
    else:
        field = start + 6
        _put(packet, start + 4, 2, len(packet) - start)
    # One's complement: to take away is to add the inverse.
    corrected = _get(packet, field).to_bytes(2, "big") + (~longer & 0xFFFF).to_bytes(2, "big")
    _put(packet, field, 2, sum_words(corrected))
    _complete(packet, protocol, start, may_be_zero=protocol == TCP and last > 0)
    return bytes(packet)


class Fragments:
    """Of one peer; without the bounds."""

    def __init__(self) -> None:
        self._parts: dict[bytes, dict[int, bytes]] = {}

    def add(self, payload: bytes) -> bytes | None:
        parts = self._parts.setdefault(payload[4:8], {})
        parts[payload[1]] = payload[8:]
        last = max(parts)
        if last < 0x80 or len(parts) != (last & 0x7F) + 1:
            return None
        del self._parts[payload[4:8]]
        return b"".join(parts[number] for number in sorted(parts))
