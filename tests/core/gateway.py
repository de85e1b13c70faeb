"""A home router that can be told to be good, bad or absent, and a port mapper that asks it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.core.ends import key, seeded
from tunnel.core.events import Event
from tunnel.core.port_mapping import SERVICE_PORT, MapperState, PortMapper
from tunnel.core.upnp_operations import Internal, UpnpFind, UpnpOperation, UpnpResult, UpnpUnmap
from tunnel.wire import natpmp, pcp
from tunnel.wire.endpoint import Endpoint, unpack_endpoint

HOME = Internal("192.168.1.1", "192.168.1.2", 51820)
ROUTER = Endpoint(HOME.gateway, SERVICE_PORT)
EXTERNAL = "203.0.113.9"

Forge = Callable[[bytes], bytes | None]


@dataclass
class Gateway:
    """What is not set is as a well-behaved router has it."""

    speaks: set[str] = field(default_factory=lambda: {"pcp", "nat-pmp", "upnp"})
    address: str = EXTERNAL
    lifetime: int | None = None
    """Granted whatever is asked for; None: what is asked for."""
    port: int | None = None
    """Granted whatever is asked for; None: what is asked for."""
    result: int = 0
    error_lifetime: int = 0
    upnp_errors: list[str] = field(default_factory=list)
    """For the next operations that map."""
    started_at: float = 0.0
    answers_unknown_version: bool = True
    forge: Forge | None = None
    """What becomes of its answers on the way."""
    mappings: dict[tuple[str, str, int], int] = field(default_factory=dict)
    """(protocol, host, internal port) → external port."""
    heard: list[bytes] = field(default_factory=list)
    carried_out: list[UpnpOperation] = field(default_factory=list)

    def restart(self, now: float) -> None:
        self.mappings.clear()
        self.started_at = now

    def epoch(self, now: float) -> int:
        return int(now - self.started_at)

    def answer(self, request: bytes, now: float) -> bytes | None:
        self.heard.append(request)
        if request[0] == pcp.PCP_VERSION and "pcp" in self.speaks:
            answer = self._answer_pcp(request, now)
        elif request[0] == natpmp.NATPMP_VERSION and "nat-pmp" in self.speaks:
            answer = self._answer_natpmp(request, now)
        elif "nat-pmp" in self.speaks and self.answers_unknown_version:
            answer = natpmp.ErrorResponse(request[1], 1, self.epoch(now)).pack()
        else:
            return None
        return answer if self.forge is None else self.forge(answer)

    def carry_out(self, operation: UpnpOperation) -> UpnpResult:
        self.carried_out.append(operation)
        if "upnp" not in self.speaks:
            return UpnpResult(operation.serial, error="no IGD answers", is_silence=True)
        if isinstance(operation, UpnpFind):
            return UpnpResult(operation.serial)
        place = ("upnp", operation.internal.host, operation.internal.port)
        if isinstance(operation, UpnpUnmap):
            found = self.mappings.pop(place, None)
            return UpnpResult(operation.serial, error="" if found else "NoSuchEntryInArray")
        if self.upnp_errors:
            return UpnpResult(operation.serial, error=self.upnp_errors.pop(0))
        self.mappings[place] = operation.external_port
        return UpnpResult(operation.serial, self.address)

    def _map(self, protocol: str, internal: int, wish: int, lifetime: int) -> tuple[int, int]:
        place = (protocol, HOME.host, internal)
        if lifetime == 0:
            self.mappings.pop(place, None)
            return 0, 0
        self.mappings[place] = wish if self.port is None else self.port
        return self.mappings[place], lifetime if self.lifetime is None else self.lifetime

    def _answer_pcp(self, request: bytes, now: float) -> bytes:
        _, _, lifetime, client = struct.unpack_from(">BB2xI16s", request)
        nonce, protocol, port, external = struct.unpack_from(">12sB3xH18s", request, 24)
        assert unpack_endpoint(client + bytes(2)).host == HOME.host
        assert (len(request), protocol) == (60, 17)
        wish = int.from_bytes(external[:2], "big")
        if self.result:
            fields = (self.result, self.error_lifetime, self.epoch(now), nonce, protocol, port)
            return pcp.MapResponse(*fields, Endpoint("0.0.0.0", wish)).pack()
        granted, seconds = self._map("pcp", port, wish, lifetime)
        fields = (0, seconds, self.epoch(now), nonce, protocol, port)
        return pcp.MapResponse(*fields, Endpoint(self.address, granted)).pack()

    def _answer_natpmp(self, request: bytes, now: float) -> bytes:
        if self.result:
            return natpmp.ErrorResponse(request[1], self.result, self.epoch(now)).pack()
        if request == b"\0\0":
            return natpmp.AddressResponse(self.epoch(now), self.address).pack()
        version, operation, port, wish, lifetime = struct.unpack(">BB2xHHI", request)
        assert (version, operation) == (0, 1)
        granted, seconds = self._map("nat-pmp", port, wish, lifetime)
        return natpmp.MapResponse(self.epoch(now), port, granted, seconds).pack()


class Mapping:
    """A port mapper, its router, and virtual time."""

    def __init__(self, gateway: Gateway | None = None, *, seed: int = 1) -> None:
        self.now = 1000.0
        self.gateway = gateway or Gateway()
        self.mapper = PortMapper(key(1), seeded(seed))
        self.events: list[Event] = []
        self.sent = 0
        """Datagrams."""
        self.is_reachable = True
        """Whether the router hears us."""
        self.operations: list[UpnpOperation] = []
        """Taken, while `is_busy`."""
        self.is_busy = False
        """Whether the driver's thread hangs."""

    def start(self, internal: Internal | None = HOME) -> Mapping:
        self.mapper.set_network(internal, self.now)
        return self.settle()

    def settle(self) -> Mapping:
        """Carry to and fro until nothing is left to be said at this moment."""
        while True:
            transmits = self.mapper.datagrams_to_send(self.now)
            operations = self.mapper.take_operations()
            while (event := self.mapper.next_event()) is not None:
                self.events.append(event)
            if not transmits and not operations:
                return self
            for transmit in transmits:
                assert transmit.endpoint == ROUTER
                self.sent += 1
                answer = None
                if self.is_reachable:
                    answer = self.gateway.answer(bytes(transmit.data), self.now)
                if answer is not None:
                    self.hear(answer, settle=False)
            if self.is_busy:
                self.operations += operations
            else:
                for operation in operations:
                    self.mapper.receive_result(self.gateway.carry_out(operation), self.now)

    def hear(self, datagram: bytes, source: Endpoint = ROUTER, *, settle: bool = True) -> None:
        assert self.mapper.receive_datagrams([datagram], source, self.now) == []
        if settle:
            self.settle()

    def run(self, seconds: float) -> Mapping:
        """Let time pass; the mapper is woken when it asks to be."""
        until = self.now + seconds
        for _ in range(100_000):
            timer = self.mapper.get_timer()
            if timer is None or timer > until:
                break
            self.now = max(self.now, timer)
            self.mapper.handle_timer(self.now)
            self.settle()
        else:
            raise AssertionError("the timer stands still")
        self.now = until
        return self

    def announce(self) -> None:
        """The router says to everybody that it is there."""
        self.hear(natpmp.AddressResponse(self.gateway.epoch(self.now), self.gateway.address).pack())

    @property
    def is_closed(self) -> bool:
        return self.mapper.state is MapperState.CLOSED

    def described(self, field: str) -> object:
        return self.mapper.describe(self.now)[field]
