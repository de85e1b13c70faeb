"""The Internet checksum (RFC 1071), and what of it TCP and UDP leave to others.

A packet whose checksum is *left* holds, where the checksum belongs, the sum of the pseudo-header
alone (RFC 9293 §3.1, RFC 8200 §8.1). Linux calls that CHECKSUM_PARTIAL: whoever sends the packet
over a real wire adds the rest.
"""

from __future__ import annotations

Buffer = bytes | bytearray | memoryview


def sum_words(data: Buffer) -> int:
    """The one's complement sum of 16-bit words, an odd byte padded with zero: 0 to 0xFFFF."""
    number = int.from_bytes(data, "big")
    if len(data) % 2:
        number <<= 8
    # 2**16 is 1 modulo 0xFFFF: the remainder is the sum with its carries added back in.
    return number % 0xFFFF or (0xFFFF if number else 0)


def checksum(data: Buffer) -> int:
    """Of data whose checksum field is zero."""
    return ~sum_words(data) & 0xFFFF


def complete_checksum(
    packet: bytearray, start: int, field: int, *, may_be_zero: bool = False
) -> None:
    """Put the checksum of ``packet[start:]`` into the two bytes at `field`, which hold what was
    summed before `start`. 0 becomes 0xFFFF, as Linux has it (skb_checksum_help): to UDP 0 means
    none (RFC 768). Not so in the segments of TCP that Linux cuts: `may_be_zero`."""
    value = checksum(memoryview(packet)[start:])
    if not may_be_zero:
        value = value or 0xFFFF
    packet[field : field + 2] = value.to_bytes(2, "big")
