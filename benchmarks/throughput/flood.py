"""Floods small datagrams, or receives and counts them; run as a program of its own on each host.

    flood.py receive ADDRESS PORT
    flood.py send LOCAL REMOTE PORT --seconds S [--rate PACKETS/S]

Every datagram is sent as such (no UDP_SEGMENT), 64 of them in one sendmmsg(2), and numbered; the
receiver takes as many as wait with one recvmmsg(2) and counts the numbers it has not seen before.
It writes "ready" when it is bound, and what it saw, as a line of JSON, on SIGTERM. Imports nothing
of this package.
"""

from __future__ import annotations

import argparse
import array
import ctypes
import errno
import json
import os
import signal
import socket
import sys
import time

SIZE = 64
"""Bytes of payload."""
BATCH = 64
"""Messages in one call."""
SEND_BUFFER = 8 << 20
"""Bytes: more than a tunnel's queue holds, so that it is the tunnel that drops."""
RECEIVE_BUFFER = 2 << 20
"""Bytes: some thousand datagrams, for a receiver that waits for a processor."""
_WORDS = SIZE // 8
_MSG_WAITFORONE = 0x10000
_LONGEST_PAUSE = 0.001


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_IoVec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _MMsgHdr(ctypes.Structure):
    _fields_ = (("hdr", _MsgHdr), ("len", ctypes.c_uint32))


_libc = ctypes.CDLL(None, use_errno=True)


class Slots:
    """`BATCH` messages of `SIZE` bytes behind each other; a message's number is its first word."""

    def __init__(self) -> None:
        self._bytes = bytearray(SIZE * BATCH)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._bytes))
        self.vectors = (_IoVec * BATCH)()
        self.headers = (_MMsgHdr * BATCH)()
        for index in range(BATCH):
            self.vectors[index] = _IoVec(base + index * SIZE, SIZE)
            self.headers[index].hdr.iov = ctypes.pointer(self.vectors[index])
            self.headers[index].hdr.iovlen = 1
        self.words = memoryview(self._bytes).cast("Q")


class Sender:
    """A connected socket that sends numbered datagrams."""

    def __init__(self, local: str, remote: str, port: int) -> None:
        self._socket = _open(local)
        self._socket.bind((local, 0))
        self._socket.connect((remote, port))
        self._slots = Slots()
        self.sent = 0

    def run(self, seconds: float, rate: float) -> float:
        """Send so long, at most `rate` datagrams a second (0: as many as go); the time it took.

        What was missed while this process did not run is made up for at once.
        """
        began = now = time.monotonic()
        end = began + seconds
        while now < end:
            if rate:
                due = int((now - began) * rate) - self.sent
                if due <= 0:
                    time.sleep(min(_LONGEST_PAUSE, BATCH / 2 / rate))
                else:
                    self._send(min(due, BATCH))
            else:
                self._send(BATCH)
            now = time.monotonic()
        return now - began

    def _send(self, count: int) -> None:
        numbers = array.array("Q", range(self.sent, self.sent + count))
        self._slots.words[: count * _WORDS : _WORDS] = memoryview(numbers)
        done = _libc.sendmmsg(self._socket.fileno(), self._slots.headers, count, 0)
        if done >= 0:
            self.sent += done
        elif ctypes.get_errno() not in (errno.ECONNREFUSED, errno.ENOBUFS, errno.EINTR):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Receiver:
    """A bound socket that counts the numbers that arrive."""

    def __init__(self, local: str, port: int) -> None:
        self._socket = _open(local)
        self._socket.bind((local, port))
        # A signal that comes right before the call must not be waited for in it.
        second = (1).to_bytes(8, sys.byteorder) + bytes(8)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, second)
        self._slots = Slots()
        self._seen = bytearray(1 << 20)
        self._stopped = False
        self.datagrams = 0

    @property
    def distinct(self) -> int:
        return sum(self._seen)

    def run(self) -> None:
        """Until `stop` is called, and then what still waits."""
        while not self._stopped:
            self._receive(_MSG_WAITFORONE)
        while self._receive(socket.MSG_DONTWAIT) > 0:
            pass

    def stop(self) -> None:
        """End `run` within a second; for a signal's handler."""
        self._stopped = True

    def _receive(self, flags: int) -> int:
        descriptor, slots = self._socket.fileno(), self._slots
        count = int(_libc.recvmmsg(descriptor, slots.headers, BATCH, flags, None))
        if count > 0:
            self._note(slots.words[: count * _WORDS : _WORDS].tolist())
        return count

    def _note(self, numbers: list[int]) -> None:
        self.datagrams += len(numbers)
        while max(numbers) >= len(self._seen):
            self._seen += bytes(len(self._seen))
        seen = self._seen
        for number in numbers:
            seen[number] = 1


def _open(address: str) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    so_sndbufforce, so_rcvbufforce = 32, 33
    opened.setsockopt(socket.SOL_SOCKET, so_sndbufforce, SEND_BUFFER)
    opened.setsockopt(socket.SOL_SOCKET, so_rcvbufforce, RECEIVE_BUFFER)
    return opened


def main() -> None:
    parser = argparse.ArgumentParser()
    roles = parser.add_subparsers(dest="role", required=True)
    receive = roles.add_parser("receive")
    receive.add_argument("local")
    receive.add_argument("port", type=int)
    send = roles.add_parser("send")
    send.add_argument("local")
    send.add_argument("remote")
    send.add_argument("port", type=int)
    send.add_argument("--seconds", type=float, required=True)
    send.add_argument("--rate", type=float, default=0.0)
    options = parser.parse_args()
    if options.role == "send":
        sender = Sender(options.local, options.remote, options.port)
        took = sender.run(options.seconds, options.rate)
        print(json.dumps({"sent": sender.sent, "seconds": took}))
        return
    receiver = Receiver(options.local, options.port)
    signal.signal(signal.SIGTERM, lambda number, frame: receiver.stop())
    print("ready", flush=True)
    receiver.run()
    print(json.dumps({"datagrams": receiver.datagrams, "distinct": receiver.distinct}))


if __name__ == "__main__":
    main()
