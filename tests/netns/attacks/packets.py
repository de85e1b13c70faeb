"""IPv4 and IPv6 packets from any source, sent many with one system call by a raw socket."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from tunnel.wire.endpoint import Endpoint

_HEADER = struct.Struct(">BBHHHBBH4s4sHHHH")
IP_AND_UDP = _HEADER.size
"""Bytes before the payload."""
_HEADER6 = struct.Struct(">IHBB16s16sHHHH")
IP6_AND_UDP = _HEADER6.size
BATCH = 1024
"""Packets a system call, at most: more is more than the kernel takes (UIO_MAXIOV)."""


def udp_packet(source: Endpoint, destination: Endpoint, payload: bytes) -> bytes:
    """By IPv4 without a UDP checksum, which that allows (RFC 768): the source can be overwritten.
    By IPv6 with one (RFC 8200 §8.1)."""
    if source.is_ipv6:
        return _udp6_packet(source, destination, payload)
    udp_length = 8 + len(payload)
    head = _HEADER.pack(
        *(0x45, 0, 20 + udp_length, 0, 0, 64, socket.IPPROTO_UDP, 0),  # The kernel sums it.
        *(socket.inet_aton(source.host), socket.inet_aton(destination.host)),
        *(source.port, destination.port, udp_length, 0),
    )
    return head + payload


def _udp6_packet(source: Endpoint, destination: Endpoint, payload: bytes) -> bytes:
    addresses = [socket.inet_pton(socket.AF_INET6, end.host) for end in (source, destination)]
    length = 8 + len(payload)

    def pack(checksum: int) -> bytes:
        return _HEADER6.pack(
            *(6 << 28, length, socket.IPPROTO_UDP, 64, *addresses),
            *(source.port, destination.port, length, checksum),
        )

    pseudo = b"".join(addresses) + struct.pack(">II", length, socket.IPPROTO_UDP)
    checksum = add_checksum(pseudo + pack(0)[40:] + payload)
    return pack(~checksum & 0xFFFF or 0xFFFF) + payload


def add_checksum(data: bytes) -> int:
    """The Internet checksum's sum (RFC 1071), not inverted."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data[: len(data) // 2 * 2]))
    if len(data) % 2:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


class Sent(NamedTuple):
    datagrams: int
    bytes: int
    """UDP payloads."""
    seconds: float


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """``struct mmsghdr``."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vector", ctypes.c_void_p),
        ("vector_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("padding", ctypes.c_int),
        ("length", ctypes.c_uint64),
    )


class Burst:
    """Packets of one family held ready, to be sent again and again. `data` are they, back to back:
    what is written there goes out with the next `send`."""

    def __init__(self, packets: Sequence[bytes]) -> None:
        if not 0 < len(packets) <= BATCH:
            raise ValueError(f"{len(packets)} packets, at most {BATCH}")
        self.data = bytearray(b"".join(packets))
        self.is_ipv6 = self.data[0] >> 4 == 6
        self.size = len(self.data) - (IP6_AND_UDP if self.is_ipv6 else IP_AND_UDP) * len(packets)
        """Bytes of UDP payloads."""
        width = 28 if self.is_ipv6 else 16
        self._names = bytearray(width * len(packets))
        data_at, names_at = map(_address, (self.data, self._names))
        self._vectors = (_Iovec * len(packets))()
        self._messages = (_Message * len(packets))()
        at = 0
        for number, packet in enumerate(packets):
            name = _pack_name(packet)
            self._names[width * number : width * number + len(name)] = name
            vector = self._vectors[number]
            vector.base, vector.length = data_at + at, len(packet)
            message = self._messages[number]
            message.name, message.name_length = names_at + width * number, width
            message.vector, message.vector_length = ctypes.addressof(vector), 1
            at += len(packet)

    def __len__(self) -> int:
        return len(self._messages)

    def send(self, raw: socket.socket) -> int:
        """How many were sent, the first of them. What the kernel refuses, for want of buffers or
        of a route, is not sent."""
        sent: int = _libc.sendmmsg(raw.fileno(), self._messages, len(self._messages), 0)
        return max(0, sent)


def _pack_name(packet: bytes) -> bytes:
    """``struct sockaddr_in`` or ``sockaddr_in6`` of where a packet goes."""
    if packet[0] >> 4 == 6:
        return socket.AF_INET6.to_bytes(2, sys.byteorder) + bytes(6) + packet[24:40]
    return socket.AF_INET.to_bytes(2, sys.byteorder) + bytes(2) + packet[16:20]


def open_raw(*, is_ipv6: bool = False) -> socket.socket:
    """Where whole packets can be sent from, in the caller's namespace. It receives nothing."""
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
    return opened


def send_slowly(packets: Iterable[bytes], *, batch: int = 32, pause: float = 0.004) -> Sent:
    """All of them, of one family, no faster than they are read at the other end: it is not about
    overload."""
    began = time.monotonic()
    datagrams = size = 0
    with ExitStack() as stack:
        waiting: list[bytes] = []
        raw: socket.socket | None = None

        def flush() -> None:
            nonlocal datagrams, size, raw
            burst = Burst(waiting)
            raw = raw or stack.enter_context(open_raw(is_ipv6=burst.is_ipv6))
            if burst.send(raw) != len(burst):
                raise OSError(ctypes.get_errno(), "the kernel did not take all")
            datagrams += len(burst)
            size += burst.size
            waiting.clear()
            time.sleep(pause)

        for packet in packets:
            waiting.append(packet)
            if len(waiting) == batch:
                flush()
        if waiting:
            flush()
    return Sent(datagrams, size, time.monotonic() - began)


def _address(buffer: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


_libc = ctypes.CDLL(None, use_errno=True)
