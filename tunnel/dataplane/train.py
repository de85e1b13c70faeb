"""Trains: datagrams of one size for one endpoint, back to back, sent by one system call.

::

      join ──────────>                                       <────────── split
    +-----------+      +-----------+-----------+-----+      +-----------+
    | datagram  |      | datagram  | datagram  | dat |      | datagram  |
    +-----------+      +-----------+-----------+-----+      +-----------+
    +-----------+      '<- size ─->'<- size ─->'<≤size      +-----------+
    | datagram  |                                           | datagram  |
    +-----------+       data, segment_size = size           +-----------+
    +-----+              Linux: UDP_SEGMENT out,            +-----+
    | dat |                     UDP_GRO in                  | dat |
    +-----+                                                 +-----+

All are equally long but the last, which may be shorter and so ends the train. The kernel cuts it
as late as it can, on loopback and most cards not at all before the wire.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

Buffer = bytes | bytearray | memoryview
Sliceable = TypeVar("Sliceable", bytes, bytearray, memoryview)

TRAIN_SEGMENTS = 64
"""Linux: UDP_MAX_SEGMENTS, 128 since 6.9; what is longer, EINVAL."""
TRAIN_LENGTH = 65_535 - 14 - 48
"""Payload bytes. A datagram of 65,507 (IPv4) or 65,527 (IPv6) would fit into IP, but the kernel
counts Ethernet (14), IPv6 (40) and UDP (8) against the device's gso_max_size of 65,536 and cuts in
software, before the device, what is not smaller (netif_skb_features; measured on 6.18: 65,493 over
IPv4 and 65,473 over IPv6 still arrive in one piece)."""


class Sendable(Protocol):
    """What `join` joins: core's Transmit, or any NamedTuple with these fields."""

    @property
    def data(self) -> Buffer: ...
    @property
    def endpoint(self) -> tuple[str, int]: ...
    @property
    def segment_size(self) -> int | None: ...
    @property
    def local(self) -> int: ...
    @property
    def ttl(self) -> int | None: ...
    @property
    def dont_fragment(self) -> bool: ...

    def _replace(self, *, data: Buffer, segment_size: int | None) -> Any: ...


AnySendable = TypeVar("AnySendable", bound=Sendable)


def join(transmits: Iterable[AnySendable]) -> list[AnySendable]:
    """The same datagrams in as few transmits as the limits allow.

    Datagrams for one endpoint keep their order. Those for different endpoints may change places:
    a train leaves when its first datagram would have. What stands alone, or is a train already,
    is returned as it came, without a copy; the data of new trains is new and the caller's.
    """
    trains: list[list[AnySendable]] = []
    last_of: dict[tuple[str, int], _Open] = {}
    for transmit in transmits:
        last = last_of.get(transmit.endpoint)
        if last is not None and last.takes(transmit):
            last.add(transmit)
            continue
        cars = [transmit]
        trains.append(cars)
        last_of[transmit.endpoint] = _Open(cars)
    return [cars[0] if len(cars) == 1 else _coupled(cars) for cars in trains]


def split(buffer: Sliceable, segment_size: int | None) -> list[Sliceable]:
    """The datagrams of `buffer`, each `segment_size` bytes but the last.

    Slices, so views stay views into `buffer` and bytes are copied. None: one datagram.
    ValueError for a segment size below 1.
    """
    if segment_size is None:
        return [buffer]
    if segment_size < 1:
        raise ValueError(f"a segment of {segment_size} bytes")
    if not buffer:
        return [buffer]
    return [buffer[i : i + segment_size] for i in range(0, len(buffer), segment_size)]


class _Open:
    """The latest train for one endpoint, and what it still takes."""

    __slots__ = ("cars", "length", "segment_size")

    def __init__(self, cars: list[Any]) -> None:
        self.cars = cars
        self.length = self.segment_size = len(cars[0].data)
        if cars[0].segment_size is not None:
            self.segment_size = 0  # a train already: takes nothing

    def takes(self, transmit: Sendable) -> bool:
        first, size = self.cars[0], len(transmit.data)
        return (
            # An empty datagram has no place in a train. A shorter one was the end of it.
            0 < size <= self.segment_size
            and self.length == len(self.cars) * self.segment_size
            and self.length + size <= TRAIN_LENGTH
            and len(self.cars) < TRAIN_SEGMENTS
            and transmit.segment_size is None
            and transmit.local == first.local
            and transmit.ttl == first.ttl
            # The kernel refuses a train whole for one datagram that is too large.
            and not transmit.dont_fragment
            and not first.dont_fragment
        )

    def add(self, transmit: Sendable) -> None:
        self.cars.append(transmit)
        self.length += len(transmit.data)


def _coupled(cars: list[AnySendable]) -> AnySendable:
    first = cars[0]
    data = b"".join([car.data for car in cars])
    train: AnySendable = first._replace(data=data, segment_size=len(first.data))
    return train
