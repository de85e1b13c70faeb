"""One side of the stream: sends numbered packets on a schedule, notes what arrives and when.

Run as a program of its own on each host; imports nothing of this package. SIGTERM makes it write
what it saw, as JSON, and end. Times are CLOCK_MONOTONIC in nanoseconds, which all namespaces of a
machine share: a difference between two hosts is a one-way delay.
"""

from __future__ import annotations

import argparse
import json
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path

SIZE = 64
MAGIC = b"outage"
_HEADER = struct.Struct("!6sxxI")


class Stream:
    """A bound UDP socket, and lists of what went out and came in."""

    def __init__(self, local: str, remote: str, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.setblocking(False)
        self._socket.bind((local, port))
        self._target = (remote, port)
        self.sent: list[tuple[int, int]] = []
        """Number, time."""
        self.received: list[tuple[int, int]] = []
        """Number, time."""
        self.errors: dict[str, int] = {}
        """Of sending; such a packet counts as sent all the same."""

    def run(self, interval: float | None) -> None:
        """Until a signal raises. Without an `interval` it only listens.

        Packet n is due n intervals after the start. Slots that passed while the machine was busy
        or the process stopped are left out: no burst makes up for them.
        """
        began, last = time.monotonic_ns(), -1
        step = round(interval * 1e9) if interval else 0
        while True:
            now = time.monotonic_ns()
            if step and (slot := (now - began) // step) > last:
                self._send(slot)
                last = slot
            due = began + (last + 1) * step
            timeout = max(0.0, (due - time.monotonic_ns()) / 1e9) if step else None
            if select.select([self._socket], [], [], timeout)[0]:
                self._receive()

    def _send(self, number: int) -> None:
        packet = _HEADER.pack(MAGIC, number).ljust(SIZE, b"\0")
        self.sent.append((number, time.monotonic_ns()))
        try:
            self._socket.sendto(packet, self._target)
        except OSError as error:
            reason = type(error).__name__ if error.strerror is None else error.strerror
            self.errors[reason] = self.errors.get(reason, 0) + 1

    def _receive(self) -> None:
        while True:
            try:
                data = self._socket.recv(2048)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error of an earlier packet
                continue
            if len(data) == SIZE and data.startswith(MAGIC):
                self.received.append((_HEADER.unpack_from(data)[1], time.monotonic_ns()))


def _raise_exit(number: int, frame: object) -> None:
    sys.exit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("local")
    parser.add_argument("remote")
    parser.add_argument("port", type=int)
    parser.add_argument("log", type=Path)
    parser.add_argument("--interval", type=float)
    options = parser.parse_args()
    stream = Stream(options.local, options.remote, options.port)
    signal.signal(signal.SIGTERM, _raise_exit)
    print("ready", flush=True)
    try:
        stream.run(options.interval)
    finally:
        seen = {"sent": stream.sent, "received": stream.received, "errors": stream.errors}
        options.log.write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
