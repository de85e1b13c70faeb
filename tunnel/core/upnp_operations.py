"""What the driver is to do at the router's IGD, and what has become of it."""

from __future__ import annotations

from typing import NamedTuple

from tunnel.wire.endpoint import Endpoint

MAX_OPERATIONS = 8
"""Not reported yet. More means that they hang: the driver has one thread for them."""


class Internal(NamedTuple):
    """Where a mapping shall lead, and which router makes it. IPv4 addresses."""

    gateway: str
    host: str
    """Our address, as the router sees it."""
    port: int


class UpnpFind(NamedTuple):
    """Find the IGD at the router's address. It takes seconds, and changes nothing."""

    serial: int
    internal: Internal


class UpnpMap(NamedTuple):
    """Add the UDP mapping at the IGD found last, and learn the external address."""

    serial: int
    internal: Internal
    external_port: int
    lifetime: int
    """Seconds; 0: for ever, where a router knows nothing else."""


class UpnpUnmap(NamedTuple):
    """Delete the UDP mapping at the IGD found last."""

    serial: int
    internal: Internal
    external_port: int


UpnpOperation = UpnpFind | UpnpMap | UpnpUnmap


class UpnpResult(NamedTuple):
    serial: int
    external_host: str = ""
    """After UpnpMap: the external address, as the router says."""
    error: str = ""
    """Empty: done. Otherwise what went wrong; the router's words as miniupnpc has them."""
    is_silence: bool = False
    """Whether nobody answered, rather than said no."""


class OperationQueue:
    """To be carried out one after the other, in order."""

    def __init__(self) -> None:
        self._serial = 0
        self._pending: dict[int, UpnpOperation] = {}
        self._fresh: list[UpnpOperation] = []

    @property
    def is_changing(self) -> bool:
        """Whether something that has an effect is not reported yet."""
        return any(not isinstance(o, UpnpFind) for o in self._pending.values())

    @property
    def is_full(self) -> bool:
        return len(self._pending) >= MAX_OPERATIONS

    def find(self, internal: Internal) -> int:
        """The operation's serial."""
        self._serial += 1
        self._add(UpnpFind(self._serial, internal))
        return self._serial

    def map(self, internal: Internal, external: Endpoint, lifetime: int) -> int:
        """The operation's serial."""
        self._serial += 1
        self._add(UpnpMap(self._serial, internal, external.port, lifetime))
        return self._serial

    def unmap(self, internal: Internal, external_port: int) -> None:
        """Nothing happens when too much is waiting: the lease ends by itself."""
        if not self.is_full:
            self._serial += 1
            self._add(UpnpUnmap(self._serial, internal, external_port))

    def take(self) -> list[UpnpOperation]:
        fresh, self._fresh = self._fresh, []
        return fresh

    def end(self, result: UpnpResult) -> UpnpOperation | None:
        """The operation that it is the result of."""
        return self._pending.pop(result.serial, None)

    def _add(self, operation: UpnpOperation) -> None:
        self._pending[operation.serial] = operation
        self._fresh.append(operation)
