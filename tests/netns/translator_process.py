"""The process behind a router in software: two TUN devices, a control socket, a `Translator`.

    python -m tests.netns.translator_process CONFIGURATION

Runs in the router's namespace, where `SoftRouter` has made the devices. What comes from the LAN it
reads from one of them, what comes from outside from the other; what it writes the kernel routes.
On its control socket it answers one line of JSON with another.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from tunnel.wire.endpoint import Endpoint

from .packet import host
from .soft_nat import SoftwareNat
from .translator import Translator

FROM_INSIDE, FROM_OUTSIDE = "from-lan", "from-wan"
"""The devices."""
UNDECREMENTED = 254
"""Packets with a time to live of 1 the kernel would not forward to us: its rules (see `SoftRouter`)
make it 255, from which the kernel takes one. All others arrive lowered by one."""
_BUDGET = 64
"""Packets of one device in a turn."""
_MTU_KEPT = 0.02
"""Seconds for which the MTU of an interface is believed."""
_LONGEST = 65535
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI, _SIOCGIFMTU = 0x400454CA, 0x0001, 0x1000, 0x8921


class Configuration(NamedTuple):
    """What the process is told at its start, as JSON."""

    nat: dict[str, Any]
    """Fields of `SoftwareNat`."""
    gateway: str
    """The router's address inside."""
    external: str
    control: str
    """Path of the socket."""


class TranslatorProcess:
    def __init__(self, configuration: Configuration) -> None:
        self._raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.translator = Translator(
            self._make_nat(configuration.nat, configuration.external),
            gateway=configuration.gateway,
            forward=self._write,
            answer=self._answer,
            inside_mtu=self._mtu_of("lan"),
            outside_mtu=self._mtu_of("wan"),
        )
        self._inside, self._outside = _open_tun(FROM_INSIDE), _open_tun(FROM_OUTSIDE)
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control.bind(configuration.control)
        self._control.listen()
        self._ended = False

    def run(self) -> None:
        """Until SIGTERM."""
        wake, waker = os.pipe2(os.O_NONBLOCK)

        def end(number: int, frame: FrameType | None) -> None:
            self._ended = True

        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        poll = select.epoll()
        for descriptor in (self._inside, self._outside, self._control.fileno(), wake):
            poll.register(descriptor, select.EPOLLIN)
        print("ready", flush=True)
        while not self._ended:
            for descriptor, _ in poll.poll():
                if descriptor == self._inside:
                    self._drain(descriptor, self.translator.receive_from_inside)
                elif descriptor == self._outside:
                    self._drain(descriptor, self.translator.receive_from_outside)
                elif descriptor == self._control.fileno():
                    self._serve()

    def _drain(self, descriptor: int, receive: Callable[[bytearray, float], None]) -> None:
        now = time.monotonic()
        for _ in range(_BUDGET):
            try:
                data = bytearray(os.read(descriptor, _LONGEST))
            except BlockingIOError:
                return
            if len(data) > 8:
                data[8] = 1 if data[8] == UNDECREMENTED else data[8] + 1
            receive(data, now)

    def _write(self, data: bytes | bytearray) -> None:
        os.write(self._inside, data)

    def _answer(self, data: bytes | bytearray) -> None:
        # By way of the output hook, where a link may be a black hole for such (Link.set_mtu).
        with contextlib.suppress(PermissionError):
            self._raw.sendto(data, (host(bytes(data[16:20])), 0))

    def _mtu_of(self, interface: str) -> Callable[[], int]:
        request = struct.pack("16sI12x", interface.encode(), 0)
        known, until = 0, 0.0

        def mtu() -> int:
            nonlocal known, until
            now = time.monotonic()
            if now >= until:
                answer = fcntl.ioctl(self._raw, _SIOCGIFMTU, request)
                known, until = struct.unpack_from("16xI", answer)[0], now + _MTU_KEPT
            return known

        return mtu

    # Control

    def _serve(self) -> None:
        connection, _ = self._control.accept()
        with connection, connection.makefile("rw") as lines:
            asked = json.loads(lines.readline())
            try:
                answer = {"answer": getattr(self, f"do_{asked.pop('do')}")(**asked)}
            except (TypeError, ValueError, AttributeError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            lines.write(json.dumps(answer) + "\n")

    def do_read(self) -> dict[str, Any]:
        nat = self.translator.nat
        nat.sessions(time.monotonic())  # forgets what has expired
        return {
            "packets": dict(self.translator.counters),
            "entries": nat.entries,
            "peak_entries": nat.peak_entries,
        }

    def do_list(self) -> list[Any]:
        return self.translator.nat.describe_sessions(time.monotonic())

    def do_flush(self) -> None:
        self.translator.nat.flush()

    def do_reboot(self) -> None:
        self.translator.nat.reboot()

    def do_readdress(self, address: str) -> None:
        self.translator.nat.change_address(address)

    def do_replace(self, nat: dict[str, Any]) -> None:
        self.translator.nat = self._make_nat(nat, self.translator.nat.addresses[0])

    def do_forward(self, port: int, host: str, inside_port: int) -> None:
        self.translator.nat.forward(port, Endpoint(host, inside_port))

    def _make_nat(self, fields: dict[str, Any], external: str) -> Any:
        fields = {**fields, "seed": fields["seed"] or int.from_bytes(os.urandom(6), "big")}
        return SoftwareNat(**fields).simulated(external)


def _open_tun(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(
        descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
    )
    return descriptor


def main() -> None:
    configuration = Configuration(**json.loads(sys.argv[1]))
    Path(configuration.control).unlink(missing_ok=True)
    TranslatorProcess(configuration).run()


if __name__ == "__main__":
    main()
