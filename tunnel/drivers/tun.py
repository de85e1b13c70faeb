"""The TUN interface, through python-pytun.

With offloads every packet has a virtio header before it (`wire.virtio`), and one read brings up to
64 KiB, a superpacket, its checksum left to us: what TCP, or UDP with UDP_SEGMENT, would otherwise
send as many packets of one size. The kernel takes such packets as well.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import logging
import os
import re
import socket
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytun

from tunnel.core.machine import Buffer
from tunnel.errors import Malformed, OperatorError, UsageError
from tunnel.wire.segment import cut_superpacket
from tunnel.wire.virtio import NO_VIRTIO, VIRTIO_LENGTH

log = logging.getLogger(__name__)

# <linux/if_tun.h>: not in pytun
_TUNSETOFFLOAD = 0x400454D0
_CHECKSUM, _TSO4, _TSO6, _TSO_ECN, _USO4, _USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
_TCP = _CHECKSUM | _TSO4 | _TSO6 | _TSO_ECN
_TCP_AND_UDP = _TCP | _USO4 | _USO6

_FIRST_FREE = "punchtun%d"
"""The kernel puts in the lowest number that is free."""
_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,15}")
_PACKET = 65_535
_AREA = memoryview(bytearray(VIRTIO_LENGTH + _PACKET))
"""What `read` reads is copied out of it at once."""
_DROPPED = (errno.EAGAIN, errno.EINVAL, errno.EIO, errno.ENOBUFS, errno.ENOMEM, errno.EMSGSIZE)


class TunDevice:
    """An interface of our own, gone when it is closed or the process ends. Non-blocking, watched
    by its `fileno()`. `read` and `write` deal in packets as they are, IPv4 or IPv6, `read_packet`
    and `write_packet` in what the kernel has, superpackets too."""

    def __init__(self, name: str | None = None, *, offload: bool = True, uso: bool = True) -> None:
        """None: the first free punchtunN. `offload` False: no virtio header, no superpackets;
        `uso` False: none of UDP. What the kernel does not have is logged and done without. Raises
        OperatorError if it cannot be created, also if there is an interface of that name."""
        if name is not None and not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot name an interface: use up to 15 letters, digits, '-', '_' or '.'"
            )
        try:
            offloads, device = _open_with_offloads(name, uso) if offload else (0, None)
            self._device = _open(name, 0) if device is None else device
        except OSError as error:
            raise _explained(error, name) from error
        self.has_header = offloads != 0
        """Whether `read_packet` and `write_packet` have a virtio header before the packet."""
        self.has_uso = offloads == _TCP_AND_UDP
        """Whether it may bring superpackets of UDP."""
        self._header = VIRTIO_LENGTH if self.has_header else 0
        self.name: str = self._device.name
        self.index = socket.if_nametoindex(self.name)
        """What the kernel calls it, also in netlink messages."""
        if offload and not self.has_header:
            log.info("interface %s does without superpackets: not in this kernel", self.name)
        elif uso and offload and not self.has_uso:
            log.info("interface %s does without UDP superpackets: not in this kernel", self.name)
        self.drops: Counter[str] = Counter()
        """Packets the kernel did not take, by errno name."""
        self._file: int = self._device.fileno()
        os.set_blocking(self._file, False)
        os.set_inheritable(self._file, False)
        self._reader = io.FileIO(self._file, closefd=False)

    def read(self, budget: int) -> list[bytes]:
        """The packets the kernel routed here, of `budget` reads at most; superpackets come as the
        packets they stand for. Raises OperatorError if somebody deleted the interface."""
        packets: list[bytes] = []
        for _ in range(budget):
            length = self.read_packet(_AREA)
            if length < 0:
                break
            packet = bytes(_AREA[self._header : self._header + length])
            try:
                virtio = _AREA[: self._header]
                packets += cut_superpacket(virtio, packet) if self.has_header else [packet]
            except Malformed as error:
                self.drops[str(error)] += 1
        return packets

    def write(self, packets: Iterable[Buffer]) -> int:
        """Hands packets to the kernel as received. How many it took; the others (interface down,
        not an IP packet, no memory) are dropped and counted."""
        if self.has_header:
            packets = [NO_VIRTIO + packet for packet in packets]
        return sum([self.write_packet(packet) for packet in packets])

    def read_packet(self, buffer: bytearray | memoryview) -> int:
        """The next packet, which may be a superpacket, into `buffer`: a header of VIRTIO_LENGTH
        bytes if `has_header`, then up to 65,535 bytes. Its length without the header; -1: nothing
        is there, or it was lost and counted. Raises OperatorError if somebody deleted the
        interface."""
        try:
            # One buffer, and None instead of an exception: 0.5 µs less than os.readv of two.
            length = self._reader.readinto(buffer)
        except OSError as error:
            self._note_read_error(error)
            return -1
        return -1 if length is None else length - self._header

    def write_packet(self, packet: Buffer) -> bool:
        """Hands a packet to the kernel as received, its virtio header before it if `has_header`.
        False if it was dropped and counted, see `write`."""
        try:
            os.write(self._file, packet)
            return True
        except OSError as error:
            if error.errno not in (*_DROPPED, errno.EBADFD):  # EBADFD: reading reports it
                raise
            self.drops[errno.errorcode[error.errno]] += 1
            return False

    def fileno(self) -> int:
        return self._file

    def close(self) -> None:
        """The interface, its addresses and its routes are gone. A second time is harmless."""
        with contextlib.suppress(OSError):
            self._device.close()
        self._file = -1

    def _note_read_error(self, error: OSError) -> None:
        if error.errno == errno.EBADFD:
            raise OperatorError(
                f"interface {self.name} was deleted while punchtun used it: start it again"
            ) from error
        self.drops[errno.errorcode.get(error.errno or 0, "EOTHER")] += 1


def _open(name: str | None, flags: int) -> Any:
    flags |= pytun.IFF_TUN | pytun.IFF_NO_PI | pytun.IFF_TUN_EXCL
    return pytun.TunTapDevice(name=name or _FIRST_FREE, flags=flags)


def _open_with_offloads(name: str | None, uso: bool) -> tuple[int, Any]:
    """With the most that the kernel has. Nothing and None if it has none."""
    try:
        device = _open(name, pytun.IFF_VNET_HDR)
    except OSError as error:
        if error.errno == errno.EINVAL:  # the flag, or the name: without the flag we shall know
            return 0, None
        raise
    for offloads in (_TCP_AND_UDP, _TCP) if uso else (_TCP,):
        with contextlib.suppress(OSError):
            fcntl.ioctl(device.fileno(), _TUNSETOFFLOAD, offloads)
            return offloads, device
    device.close()
    return 0, None


def _explained(error: OSError, name: str | None) -> OperatorError:
    if error.errno == errno.EBUSY or (error.errno == errno.EINVAL and name is not None):
        text = (
            f"there is an interface {name} already: choose another name with --interface, or "
            f"remove it with `ip link delete {name}` if nothing needs it"
        )
    elif error.errno in (errno.EPERM, errno.EACCES):
        text = (
            "creating a network interface needs root or CAP_NET_ADMIN: run it with sudo, or as a "
            "service (`punchtun service install node`); in a container, add --cap-add NET_ADMIN"
        )
    elif error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        text = (
            "this machine has no /dev/net/tun: load it with `modprobe tun`; "
            "in a container, add --device /dev/net/tun"
        )
    else:
        text = f"cannot create interface {name or 'punchtunN'}: {error}"
    return OperatorError(text)
