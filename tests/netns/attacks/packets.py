"""IPv4 packets from any source, sent many with one system call by a raw socket."""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tunnel.wire.endpoint import Endpoint

_HEADER = struct.Struct(">BBHHHBBH4s4sHHHH")
IP_AND_UDP = _HEADER.size
"""Bytes before the payload."""
BATCH = 1024
"""Packets a system call, at most: more is more than the kernel takes (UIO_MAXIOV)."""


def udp_packet(source: Endpoint, destination: Endpoint, payload: bytes) -> bytes:
    """Without a UDP checksum, which IPv4 allows (RFC 768): the source can be overwritten."""
    udp_length = 8 + len(payload)
    head = _HEADER.pack(
        *(0x45, 0, 20 + udp_length, 0, 0, 64, socket.IPPROTO_UDP, 0),  # The kernel sums it.
        *(socket.inet_aton(source.host), socket.inet_aton(destination.host)),
        *(source.port, destination.port, udp_length, 0),
    )
    return head + payload


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
    """Packets held ready, to be sent again and again. `data` are they, back to back: what is
    written there goes out with the next `send`."""

    def __init__(self, packets: Sequence[bytes]) -> None:
        if not 0 < len(packets) <= BATCH:
            raise ValueError(f"{len(packets)} packets, at most {BATCH}")
        self.data = bytearray(b"".join(packets))
        self.size = len(self.data) - IP_AND_UDP * len(packets)
        """Bytes of UDP payloads."""
        self._names = bytearray(16 * len(packets))
        data_at, names_at = map(_address, (self.data, self._names))
        self._vectors = (_Iovec * len(packets))()
        self._messages = (_Message * len(packets))()
        at = 0
        for number, packet in enumerate(packets):
            family = socket.AF_INET.to_bytes(2, "little")
            self._names[16 * number : 16 * number + 8] = family + b"\0\0" + packet[16:20]
            vector = self._vectors[number]
            vector.base, vector.length = data_at + at, len(packet)
            message = self._messages[number]
            message.name, message.name_length = names_at + 16 * number, 16
            message.vector, message.vector_length = ctypes.addressof(vector), 1
            at += len(packet)

    def __len__(self) -> int:
        return len(self._messages)

    def send(self, raw: socket.socket) -> int:
        """How many were sent, the first of them. What the kernel refuses, for want of buffers or
        of a route, is not sent."""
        sent: int = _libc.sendmmsg(raw.fileno(), self._messages, len(self._messages), 0)
        return max(0, sent)


def open_raw() -> socket.socket:
    """Where whole IPv4 packets can be sent from, in the caller's namespace. It receives nothing."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
    return opened


def send_slowly(packets: Iterable[bytes], *, batch: int = 32, pause: float = 0.004) -> Sent:
    """All of them, no faster than they are read at the other end: it is not about overload."""
    began = time.monotonic()
    datagrams = size = 0
    with open_raw() as raw:
        waiting: list[bytes] = []

        def flush() -> None:
            nonlocal datagrams, size
            burst = Burst(waiting)
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
