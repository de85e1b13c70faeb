"""The TUN interface, through python-pytun."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
from collections import Counter
from collections.abc import Iterable

import pytun

from tunnel.core.machine import Buffer
from tunnel.errors import OperatorError, UsageError

_FIRST_FREE = "punchtun%d"
"""The kernel puts in the lowest number that is free."""
_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,15}")
_PACKET = 65_535
_DROPPED = (errno.EAGAIN, errno.EINVAL, errno.EIO, errno.ENOBUFS, errno.ENOMEM, errno.EMSGSIZE)


class TunDevice:
    """An interface of our own, gone when it is closed or the process ends. Non-blocking, watched
    by its `fileno()`; packets are IPv4 or IPv6 without any header before them."""

    def __init__(self, name: str | None = None) -> None:
        """None: the first free punchtunN. Raises OperatorError if it cannot be created, also if
        there is an interface of that name."""
        if name is not None and not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot name an interface: use up to 15 letters, digits, '-', '_' or '.'"
            )
        flags = pytun.IFF_TUN | pytun.IFF_NO_PI | pytun.IFF_TUN_EXCL
        try:
            self._device = pytun.TunTapDevice(name=name or _FIRST_FREE, flags=flags)
        except OSError as error:
            raise _explained(error, name) from error
        self.name: str = self._device.name
        self.index = socket.if_nametoindex(self.name)
        """What the kernel calls it, also in netlink messages."""
        self.drops: Counter[str] = Counter()
        """Packets the kernel did not take, by errno name."""
        self._file: int = self._device.fileno()
        os.set_blocking(self._file, False)
        os.set_inheritable(self._file, False)

    def read(self, budget: int) -> list[bytes]:
        """The packets the kernel routed here, `budget` at most. Raises OperatorError if somebody
        deleted the interface."""
        packets: list[bytes] = []
        try:
            while len(packets) < budget:
                packets.append(os.read(self._file, _PACKET))
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno == errno.EBADFD:
                raise OperatorError(
                    f"interface {self.name} was deleted while punchtun used it: start it again"
                ) from error
            self.drops[errno.errorcode.get(error.errno or 0, "EOTHER")] += 1
        return packets

    def write(self, packets: Iterable[Buffer]) -> int:
        """Hands packets to the kernel as received. How many it took; the others (interface down,
        not an IP packet, no memory) are dropped and counted."""
        taken = 0
        for packet in packets:
            try:
                os.write(self._file, packet)
                taken += 1
            except OSError as error:
                if error.errno not in (*_DROPPED, errno.EBADFD):  # EBADFD: read() reports it
                    raise
                self.drops[errno.errorcode[error.errno]] += 1
        return taken

    def fileno(self) -> int:
        return self._file

    def close(self) -> None:
        """The interface, its addresses and its routes are gone. A second time is harmless."""
        with contextlib.suppress(OSError):
            self._device.close()
        self._file = -1


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
