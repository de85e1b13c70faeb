"""What passes an interface, recorded by tcpdump."""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterator
from pathlib import Path

from .host import Host


class Capture:
    """Of `interface`, to `file`, from now until `stop`. `what` is tcpdump's: options, filter."""

    def __init__(self, host: Host, interface: str, file: Path, *what: str) -> None:
        self._file = file
        # Without immediate mode the kernel hands packets over once a second. With it, there is room
        # for so many of the longest: 1000 in 64 MiB.
        room = ["--immediate-mode", "-B", "65536", "-s", "65535"]
        argv = ["tcpdump", *room, "-U", "-Z", "root", "-i", interface, "-w", str(file), *what]
        self._process = host.popen(argv)
        self._process.wait_for("listening on")

    def stop(self) -> list[bytes]:
        """All frames, with the link's header if it has one."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        assert "\n0 packets dropped by kernel" in self._process.stderr, self._process.tail()
        return list(_frames(self._file.read_bytes()))


def udp_payloads(frames: list[bytes]) -> list[bytes]:
    """Of UDP in IPv4 in Ethernet."""
    return [
        frame[14 + 4 * (frame[14] & 15) + 8 :] for frame in frames if frame[12:14] == b"\x08\x00"
    ]


def _frames(pcap: bytes) -> Iterator[bytes]:
    """Of a little-endian file."""
    at = 24
    while at + 16 <= len(pcap):
        length = struct.unpack_from("<I", pcap, at + 8)[0]
        yield pcap[at + 16 : at + 16 + length]
        at += 16 + length
