"""The kernel as the judge of what becomes of a superpacket, and as a source of real ones.

::

    Cutter        write ─> ptx0 ──(forwarded)──> pty0 ─> read           ptx0 takes superpackets,
                                                                        pty0 gives packets
    Conversation  socket ─> pta0 ─> record ─> ptb0 ─> socket            both take and give them
                  socket <─ pta0 <─────────── ptb0 <─ socket

Each in network namespaces of its own, which end with the process: call from a process that may lose
its own, see `tests.drivers.conftest.run_in_namespace`.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from tests.drivers.conftest import CLONE_NEWNET
from tests.wire.superpackets import add_words
from tunnel.drivers.network import configure_interface
from tunnel.drivers.tun import TunDevice
from tunnel.wire.virtio import NO_VIRTIO, VIRTIO_LENGTH

_PATIENCE = 10.0
"""Seconds without anything at all."""
_RTF_LOCAL = 0x80000000
_MARKER = bytes([10, 9, 0, 99])
ADDRESSES = {4: ("10.7.0.1", "10.7.0.2"), 6: ("fd07::1", "fd07::2")}


def enter_new_namespace(sysctls: dict[str, int]) -> None:
    """`sysctls`: below net, as "ipv4/ip_forward"."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    for name, value in sysctls.items():
        (Path("/proc/sys/net") / name).write_text(str(value))


class Cutter:
    """Packets from 10.8.0.0/24 or anywhere, for 10.7.0.0/24 or 10.9.0.0/24; IPv6 as well, in
    fd08::, fd07:: and fd09::."""

    def __init__(self) -> None:
        enter_new_namespace(
            {
                "ipv4/ip_forward": 1,
                "ipv6/conf/all/forwarding": 1,
                "ipv4/conf/all/rp_filter": 0,
                "ipv4/conf/default/rp_filter": 0,
            }
        )
        self._into = TunDevice("ptx0")
        self._out = TunDevice("pty0", offload=False)
        assert self._into.has_uso
        configure_interface("ptx0", ["10.8.0.1/24", "fd08::1/64"], 65_535)
        given = ["10.7.0.9/24", "10.9.0.1/24", "fd07::9/64", "fd09::1/64"]
        configure_interface("pty0", given, 65_535)

    def cut(self, virtio: bytes, packet: bytes) -> list[bytes] | None:
        """The packets that leave, with the hop limit they came with. None: refused."""
        if not self._into.write_packet(virtio + packet):
            return None
        marker = _packet_to_marker(os.urandom(8))
        assert self._into.write_packet(NO_VIRTIO + marker)
        at = 16 if packet[0] >> 4 == 4 else 24
        wanted = packet[at : at + (4 if at == 16 else 16)]
        packets: list[bytes] = []
        while True:
            assert select.select([self._out], [], [], _PATIENCE)[0]
            for cut in self._out.read(1000):
                if cut[20:] == marker[20:]:
                    return packets
                # The kernel's own, of neighbour discovery and the like, are for others.
                if cut[at : at + len(wanted)] == wanted:
                    packets.append(_before_forwarding(cut))


def _packet_to_marker(content: bytes) -> bytes:
    udp = struct.pack(">HHHH", 7, 7, 8 + len(content), 0) + content
    ip = bytearray(struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 9, 17, 0))
    ip += bytes([10, 8, 0, 9]) + _MARKER
    ip[10:12] = (~add_words(ip) & 0xFFFF).to_bytes(2, "big")
    return bytes(ip) + udp


def _before_forwarding(packet: bytes) -> bytes:
    whole = bytearray(packet)
    if whole[0] >> 4 == 6:
        whole[7] += 1
        return bytes(whole)
    whole[8] += 1
    return _with_checksum(whole)


def _with_checksum(packet: bytearray) -> bytes:
    """The IPv4 header's."""
    header = (packet[0] & 15) * 4
    packet[10:12] = b"\0\0"
    packet[10:12] = (~add_words(packet[:header]) & 0xFFFF).to_bytes(2, "big")
    return bytes(packet)


class Conversation:
    """Sockets on both sides of two TUN interfaces; what passes from the first to the second is
    recorded, with the virtio header before it."""

    def __init__(self, sysctls: dict[str, int] | None = None, mtu: int = 1400) -> None:
        self.recorded: list[tuple[bytes, bytes]] = []
        self.mark_congestion = False
        """The next superpacket meets congestion (RFC 3168), once."""
        self.answers: list[bytes] = []
        """What passes the other way."""
        self._tuns = []
        self._namespaces = []
        for number, name in enumerate(("pta0", "ptb0")):
            enter_new_namespace(sysctls or {})
            tun = TunDevice(name)
            assert tun.has_uso
            given = [f"{ADDRESSES[4][number]}/24", f"{ADDRESSES[6][number]}/64"]
            configure_interface(name, given, mtu)
            _wait_until_local(ADDRESSES[6][number])
            self._tuns.append(tun)
            self._namespaces.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        self._area = bytearray(VIRTIO_LENGTH + 65_535)

    def socket(self, side: int, version: int, kind: socket.SocketKind) -> socket.socket:
        """Side 0 is recorded, 1 is the other; bound to its address, not blocking."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(self._namespaces[side], CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        opened = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, kind)
        opened.setblocking(False)
        opened.bind((ADDRESSES[version][side], 0))
        return opened

    def pump(self, until: Callable[[], bool]) -> None:
        """Carry packets both ways until that is so."""
        while not until():
            readable, _, _ = select.select(self._tuns, [], [], 0.01)
            for tun in readable:
                self._carry(tun)

    def _carry(self, tun: TunDevice) -> None:
        while (length := tun.read_packet(self._area)) >= 0:
            packet = bytes(self._area[VIRTIO_LENGTH : VIRTIO_LENGTH + length])
            virtio = bytes(self._area[:VIRTIO_LENGTH])
            if tun is self._tuns[0]:
                self.recorded.append((virtio, packet))
                if self.mark_congestion and virtio[1]:
                    self.mark_congestion = False
                    packet = _congested(bytearray(packet))
                self._tuns[1].write_packet(virtio + packet)
            else:
                self.answers.append(packet)
                self._tuns[0].write_packet(virtio + packet)


def _congested(packet: bytearray) -> bytes:
    if packet[0] >> 4 == 4:
        packet[1] |= 3
        return _with_checksum(packet)
    packet[1] |= 0x30
    return bytes(packet)


def _wait_until_local(address: str) -> None:
    """The kernel takes a moment until it knows an IPv6 address for its own."""
    packed = socket.inet_pton(socket.AF_INET6, address).hex()
    while True:
        for line in Path("/proc/thread-self/net/ipv6_route").read_text().splitlines():
            destination, length, *_, flags, _ = line.split()
            if (destination, length) == (packed, "80") and int(flags, 16) & _RTF_LOCAL:
                return
        time.sleep(0.001)
