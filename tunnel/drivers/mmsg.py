"""Many datagrams with one system call: recvmmsg(2) and sendmmsg(2), through ctypes.

All structures are made once. Those of a call are an array of ``struct mmsghdr``, whose fields are
read and written through memoryviews: a ctypes object for each would cost more than it saves.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from mmap import mmap
from typing import Any, Literal

MESSAGES = 64
"""Sent by one call at most."""
_OUTGOING = 65_536
_NAME, _CONTROL = 28, 64
"""Bytes for an address, a ``sockaddr_in6``, and for control messages."""

_WORD = struct.calcsize("P")
_CMSG_HEADER = _WORD + 8
"""``struct cmsghdr``, before its data."""


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """``struct msghdr``."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vector", ctypes.c_void_p),
        ("vector_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """``struct mmsghdr``."""

    _anonymous_ = ("header",)
    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


_SIZE = ctypes.sizeof(_Message)


class Incoming:
    """Slots for datagrams: the one with number i is received to `area` from i × `stride` on, at
    most `width` bytes of it. Sources are `name_length` bytes each."""

    def __init__(
        self,
        area: bytearray | mmap,
        count: int,
        width: int,
        stride: int,
        name_length: int,
        *,
        has_control: bool,
    ) -> None:
        """Raises OSError where the C library does not have recvmmsg."""
        self.count, self.stride = count, stride
        self._call = _function("recvmmsg")
        names, self._name_length = bytearray(count * name_length), name_length
        self._names = memoryview(names)
        control = bytearray(count * _CONTROL)
        data_at, names_at, control_at = map(_address, (area, names, control))
        self._vectors = (_Iovec * count)(
            *[_Iovec(data_at + i * stride, width) for i in range(count)]
        )
        vectors_at = ctypes.addressof(self._vectors)
        headers = bytearray(count * _SIZE)
        messages = (_Message * count).from_buffer(headers)
        for i, message in enumerate(messages):
            message.name, message.name_length = names_at + i * name_length, name_length
            message.vector, message.vector_length = vectors_at + i * 2 * _WORD, 1
            if has_control:
                message.control, message.control_length = control_at + i * _CONTROL, _CONTROL
        self._headers = memoryview(headers)
        # A call leaves the lengths of what it wrote, and only those of control messages differ.
        self._fresh = bytes(headers) if has_control else b""
        self._used = 0
        self._messages = messages
        self.lengths = _column(headers, _SIZE, _Message.length.offset, "I")
        """Bytes of each datagram."""
        self.flags = _column(headers, _SIZE, _Message.flags.offset, "I")
        """MSG_TRUNC and so on."""
        self.control_lengths = _column(headers, _SIZE, _Message.control_length.offset, "P")
        """0: no control message."""
        self.control_numbers = _column(control, _CONTROL, _CMSG_HEADER, "I")
        """What the first control message says, if it is a C int."""

    def receive(self, file: int, most: int) -> int:
        """How many datagrams have been received without waiting, of `most`, which is `count` at
        most. Raises OSError."""
        if self._fresh and self._used:
            end = self._used * _SIZE
            self._headers[:end] = self._fresh[:end]
        count: int = self._call(file, self._messages, min(most, self.count), 0, None)
        self._used = max(0, count)
        if count < 0:
            if ctypes.get_errno() == errno.EAGAIN:
                return 0
            raise _last_error()
        return count

    def name(self, i: int) -> bytes:
        """The source of datagram i, a ``sockaddr``."""
        length = self._name_length
        return bytes(self._names[i * length : (i + 1) * length])

    def names(self, count: int) -> list[bytes]:
        """The sources of the first `count`. Of 64 from one source: 1 µs; `name` of each, 12."""
        length = self._name_length
        together, first = bytes(self._names[: count * length]), self.name(0)
        if together == first * count:
            return [first] * count
        return [self.name(i) for i in range(count)]


class Outgoing:
    """Datagrams of one size, the last maybe shorter, to one address."""

    def __init__(self) -> None:
        self._call = _function("sendmmsg")
        self._data, self._name = bytearray(_OUTGOING), bytearray(_NAME)
        self._vectors = bytearray(MESSAGES * 2 * _WORD)
        vectors_at = _address(self._vectors)
        headers = bytearray(MESSAGES * _SIZE)
        self._messages = (_Message * MESSAGES).from_buffer(headers)
        for i, message in enumerate(self._messages):
            message.name = _address(self._name)
            message.vector, message.vector_length = vectors_at + i * 2 * _WORD, 1
        self._name_lengths = _column(headers, _SIZE, _Message.name_length.offset, "I")
        self._lengths = _column(self._vectors, 2 * _WORD, _WORD, "P")
        self._size = 0

    def send(self, file: int, data: memoryview, size: int, name: bytes) -> int:
        """How many of the datagrams of `data`, each `size` bytes, have been sent, the first of
        them. Tried are MESSAGES or 64 KiB at most. `name` is a ``sockaddr``. Raises OSError if the
        first one cannot be sent."""
        count = min(MESSAGES, max(1, _OUTGOING // size), -(-len(data) // size))
        length = min(len(data), count * size)
        if length > _OUTGOING:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        if size != self._size:
            self._space_out(size)
        if len(name) != self._name_lengths[0]:
            for i in range(MESSAGES):
                self._name_lengths[i] = len(name)
        self._name[: len(name)] = name
        self._data[:length] = data[:length]
        self._lengths[count - 1] = length - (count - 1) * size
        try:
            sent: int = self._call(file, self._messages, count, 0)
        finally:
            self._lengths[count - 1] = size
        if sent < 0:
            raise _last_error()
        return sent

    def _space_out(self, size: int) -> None:
        at = _address(self._data)
        numbers = [number for i in range(MESSAGES) for number in (at + i * size, size)]
        struct.pack_into(f"{2 * MESSAGES}P", self._vectors, 0, *numbers)
        self._size = size


def _function(name: str) -> Any:
    """Raises OSError where the C library does not have it."""
    try:
        return getattr(_libc, name)
    except AttributeError as error:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _address(buffer: bytearray | mmap) -> int:
    """Where it is, as long as it keeps its length."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _column(rows: bytearray, width: int, offset: int, kind: Literal["I", "P"]) -> memoryview[int]:
    """One number of each row, to be read and written by the number of the row."""
    size = struct.calcsize(kind)
    return memoryview(rows).cast(kind)[offset // size :: width // size]


_libc = ctypes.CDLL(None, use_errno=True)
