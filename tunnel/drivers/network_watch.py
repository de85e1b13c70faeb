"""Noticing that the machine's network changed: netlink, read without any library.

::

    0          4      6       8            12       16
    +----------+------+-------+------------+--------+-----------------+  struct nlmsghdr,
    | length   | type | flags | sequence   | sender | body            |  host byte order,
    +----------+------+-------+------------+--------+-----------------+  padded to 4
    body: a struct of 16 (link), 8 (address), 12 (route) bytes, then attributes:
    +--------+------+-----------------+
    | length | type | value           |  padded to 4; length includes its own 4 bytes
    +--------+------+-----------------+
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Collection

# <linux/rtnetlink.h>
_NEWLINK, _DELLINK, _NEWADDR, _DELADDR, _NEWROUTE, _DELROUTE = 16, 17, 20, 21, 24, 25
_GROUPS = 0x1 | 0x10 | 0x100 | 0x40 | 0x400
"""RTMGRP_LINK, _IPV4_IFADDR, _IPV6_IFADDR, _IPV4_ROUTE, _IPV6_ROUTE"""
_HEADER, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")
_LINK, _ADDRESS, _ROUTE = struct.Struct("=BxHiII"), struct.Struct("=BBBBI"), struct.Struct("=8BI")
_IFF_UP_AND_CARRIER, _ALL_FLAGS = 0x1 | 0x10000, 0xFFFFFFFF
_IFA_LOCAL, _IFA_ADDRESS, _IFA_FLAGS = 2, 1, 8
_IFA_F_LASTING = 0x08 | 0x20 | 0x40
"""DADFAILED, DEPRECATED, TENTATIVE: flags that decide whether an address is of use."""
_IFLA_IFNAME = 3
_RTA_OIF, _RTA_TABLE, _MAIN = 4, 15, 254
_LINK_SCOPE = 253
_MESSAGE = 65_536


class NetworkWatch:
    """Watched by its `fileno()`: readable when something, relevant or not, has changed."""

    def __init__(self, ignore: Collection[str] = ()) -> None:
        """`ignore`: names of interfaces whose changes do not matter, ours before all."""
        self._ignored_names = frozenset(ignore)
        self._ignored: set[int] = set()
        for name in ignore:
            with contextlib.suppress(OSError):
                self._ignored.add(socket.if_nametoindex(name))
        self._links: dict[int, int] = {}
        self._addresses: dict[tuple[int, bytes], int] = {}
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.bind((0, _GROUPS))

    def drain(self) -> bool:
        """Whether since last time an interface went up, down or away, an address came, went or
        changed its use, or a route of the main table changed. Renewed lifetimes do not count. True
        may come once too often: whoever cares compares `local_addresses()`."""
        has_changed = False
        while True:
            try:
                data, sender = self._socket.recvfrom(_MESSAGE)
            except BlockingIOError:
                return has_changed
            except OSError:  # ENOBUFS: messages were lost, so assume the worst
                if self.fileno() < 0:
                    return False
                has_changed = True
                continue
            if sender[0] == 0:  # from the kernel: another process may send to us as well
                has_changed = self._read(data) or has_changed

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def _read(self, data: bytes) -> bool:
        has_changed, offset = False, 0
        while offset + _HEADER.size <= len(data):
            length, kind, *_ = _HEADER.unpack_from(data, offset)
            if length < _HEADER.size:
                break
            body = data[offset + _HEADER.size : offset + length]
            offset += (length + 3) & ~3
            if kind in (_NEWLINK, _DELLINK) and len(body) >= _LINK.size:
                has_changed |= self._link(kind, body)
            elif kind in (_NEWADDR, _DELADDR) and len(body) >= _ADDRESS.size:
                has_changed |= self._address(kind, body)
            elif kind in (_NEWROUTE, _DELROUTE) and len(body) >= _ROUTE.size:
                has_changed |= self._route(body)
        return has_changed

    def _link(self, kind: int, body: bytes) -> bool:
        _, _, index, flags, mask = _LINK.unpack_from(body)
        name = (
            _attributes(body, _LINK.size)
            .get(_IFLA_IFNAME, b"")
            .rstrip(b"\0")
            .decode(errors="replace")
        )
        if name in self._ignored_names:
            self._ignored.add(index)
        is_ignored, before = index in self._ignored, self._links.get(index)
        if kind == _DELLINK:
            self._ignored.discard(index)
            self._links.pop(index, None)
            return before != 0 and not is_ignored
        now = self._links[index] = flags & _IFF_UP_AND_CARRIER
        # An interface that comes into being, down, changes nothing yet.
        is_born = before is None and now == 0 and mask == _ALL_FLAGS
        return before != now and not is_born and not is_ignored

    def _address(self, kind: int, body: bytes) -> bool:
        flags: int
        _, _, flags, scope, index = _ADDRESS.unpack_from(body)
        attributes = _attributes(body, _ADDRESS.size)
        host = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS, b"")
        if index in self._ignored or scope >= _LINK_SCOPE:
            return False
        if kind == _DELADDR:
            self._addresses.pop((index, host), None)
            return True
        if _IFA_FLAGS in attributes:
            flags = int.from_bytes(attributes[_IFA_FLAGS], sys.byteorder)
        lasting = flags & _IFA_F_LASTING
        before = self._addresses.get((index, host))
        self._addresses[index, host] = lasting
        return before != lasting

    def _route(self, body: bytes) -> bool:
        table = body[4]
        attributes = _attributes(body, _ROUTE.size)
        index = int.from_bytes(attributes.get(_RTA_OIF, b""), sys.byteorder)
        if _RTA_TABLE in attributes:
            table = int.from_bytes(attributes[_RTA_TABLE], sys.byteorder)
        return table == _MAIN and index not in self._ignored


def _attributes(body: bytes, offset: int) -> dict[int, bytes]:
    found = {}
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind] = body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found
