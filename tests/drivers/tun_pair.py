"""Two TUN devices, each in a network namespace of its own, and a TCP transfer from one to the
other."""

from __future__ import annotations

import contextlib
import ctypes
import socket
from collections import Counter
from pathlib import Path

from tests.drivers.conftest import CLONE_NEWNET
from tunnel.drivers.network import configure_interface
from tunnel.drivers.tun import TunDevice
from tunnel.wire.virtio import VIRTIO_LENGTH, parse_virtio

ADDRESSES = {4: ("10.9.0.1", "10.9.0.2"), 6: ("fd09::1", "fd09::2")}
_BUDGET = 16


class TunPair:
    """To be made in a process that may leave its network namespace. `offload`, `gso_max_size`: of
    both devices. What one gives is written to the other."""

    def __init__(
        self,
        mtu: int,
        *,
        offload: bool = True,
        gso_max_size: int | None = None,
        timestamps: bool = True,
    ) -> None:
        self.tuns: list[TunDevice] = []
        self.superpackets: Counter[tuple[int, int, int]] = Counter()
        """From the first device: how many segments, bytes of one, bytes of the headers."""
        self._buffer = memoryview(bytearray(VIRTIO_LENGTH + 65_535))
        self._header, self._packet = self._buffer[:VIRTIO_LENGTH], self._buffer[VIRTIO_LENGTH:]
        libc = ctypes.CDLL(None, use_errno=True)
        for i in range(2):
            if libc.unshare(CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            Path("/proc/sys/net/ipv4/tcp_timestamps").write_text(str(int(timestamps)))
            self.tuns.append(TunDevice("pt0", offload=offload))
            addresses = [f"{ADDRESSES[4][i]}/24"]
            if mtu >= 1280:
                addresses.append(f"{ADDRESSES[6][i]}/64")
            configure_interface("pt0", addresses, mtu, gso_max_size=gso_max_size)
            if i == 0:
                self._near = {family: socket.socket(family) for family in _FAMILIES.values()}

    def transfer(self, data: bytes, version: int) -> bytes:
        """What arrives of `data` at the second device's side over TCP."""
        family, (_, far) = _FAMILIES[version], ADDRESSES[version]
        listener, sender = socket.socket(family), self._near[family]
        listener.bind((far, 5))
        listener.listen(1)
        receiver: socket.socket | None = None
        for each in (listener, sender):
            each.setblocking(False)
        sender.connect_ex((far, 5))
        received, sent = bytearray(), 0
        while len(received) < len(data):
            self.pass_packets()
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                sent += sender.send(data[sent : sent + (1 << 18)])
            if receiver is None:
                try:
                    receiver, _ = listener.accept()
                    receiver.setblocking(False)
                except BlockingIOError:
                    continue
            with contextlib.suppress(BlockingIOError):
                received += receiver.recv(1 << 20)
        return bytes(received)

    def pass_packets(self) -> None:
        for source, sink in (self.tuns, self.tuns[::-1]):
            into = self._buffer if source.has_header else self._packet
            for _ in range(_BUDGET):
                length = source.read_packet(into)
                if length < 0:
                    break
                if source is self.tuns[0] and source.has_header:
                    self._count(length)
                packet = bytes(self._packet[:length])
                assert sink.write_packet(
                    bytes(self._header) + packet if sink.has_header else packet
                )

    def _count(self, length: int) -> None:
        virtio = parse_virtio(self._header)
        if virtio.gso_type:
            segments = -(-(length - virtio.headers) // virtio.segment)
            self.superpackets[segments, virtio.segment, virtio.headers] += 1


_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
