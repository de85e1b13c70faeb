"""A host: addresses, sockets, and a machine driven exactly as the real driver does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from tests.sim.attention import check_attention
from tests.sim.topology import Link, Router, Segment
from tests.wire.bpf import run
from tunnel.core.events import SocketsReleased
from tunnel.core.machine import Buffer, Transmit, is_stream
from tunnel.core.sieve import EVERYTHING, Admitted
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.sieve import Instruction, assemble

if TYPE_CHECKING:
    from tests.sim.network import VirtualInternet
    from tests.sim.streams import VirtualStreams

T = TypeVar("T")
FIRST_EPHEMERAL_PORT, LAST_EPHEMERAL_PORT = 32768, 60999
START_OF_2026 = 1767225600.0


class HostMachine(Protocol):
    """What a host runs. It may also have ``next_event() -> object | None`` and
    ``send_packets(packets, now) -> Sequence[bytes] | None``, answers for whoever sent them."""

    def receive_datagrams(
        self, datagrams: Any, source: Endpoint, now: float, local: int, /
    ) -> Sequence[Buffer] | None: ...

    def datagrams_to_send(self, now: float, /) -> Sequence[Transmit]: ...

    def get_timer(self) -> float | None: ...

    def handle_timer(self, now: float, /) -> None: ...


@dataclass(slots=True, eq=False)
class Interface:
    """An address of a host and where it is plugged in."""

    host: Host
    address: str
    segment: Segment
    link: Link
    up: bool = True
    is_temporary: bool = False
    is_deprecated: bool = False


@dataclass(frozen=True, slots=True)
class IcmpError:
    """What became of a datagram, as the sending host hears of it."""

    endpoint: Endpoint
    """Where the datagram was going."""
    mtu: int = 0
    """Of the link it was too big for."""
    kind: Literal["packet too big", "time exceeded"] = "packet too big"
    router: str = ""
    """The address of the router whose hop was one too many: on the side the datagram came from."""
    port: int = 0
    """Of ours, from which the datagram was sent."""


class Host:
    """Made by :meth:`VirtualInternet.add_host`. Its clock is monotonic and its own: it stands still
    while the host is suspended."""

    def __init__(self, internet: VirtualInternet, name: str, ports: Sequence[int] | None) -> None:
        self.name = name
        self.interfaces: list[Interface] = []
        self.routes: list[str] = []
        """Prefixes it has routes to, beside the default route and those of its interfaces."""
        self.sockets: dict[int, int] = {}
        """Port by `local` index."""
        self.bound: dict[int, str] = {}
        """Address by `local` index, of sockets that do not take all addresses of the host."""
        self.machine: Any = None
        self.is_suspended = False
        self.is_examined = True
        """Whether its node is asked after every input whether it has forgotten anybody."""
        self.udp_blocked = False
        self.opens_sockets = False
        """Open a socket for a `Transmit.local` that has none, rather than raise LookupError."""
        self.hears_icmp = False
        """Tell the machine of ICMP errors: ``receive_error(endpoint, mtu, now)``, and if it has
        that ``receive_time_exceeded(endpoint, router_address, now, local)``."""
        self.lends_buffers = False
        """Hand the machine memoryviews, overwritten after the call, as a driver may (contract,
        clause 5)."""
        self.sieve_share: float | None = None
        """What its node's sieve lets through, from now on and without a flood, of what names no
        number of the node's. None: as the node says."""
        self._admitted = EVERYTHING
        self._program: list[Instruction] | None = None
        """By which datagrams are read; None: all are."""
        self.streams: VirtualStreams | None = None
        """What opens and carries streams; without it none can be opened."""
        self.wall_clock_error = 0.0
        self.packets_received: list[tuple[float, bytes]] = []
        """(internet's time, packet)."""
        self.events: list[tuple[float, object]] = []
        """(internet's time, event)."""
        self.icmp_errors: list[tuple[float, IcmpError]] = []
        self.on_packet: Callable[[bytes], None] | None = None
        self.on_event: Callable[[Any], None] | None = None
        self.on_icmp: Callable[[IcmpError], None] | None = None
        """Called when one arrives; use :meth:`call` to tell the machine."""
        self._internet = internet
        self._random = Random(internet.random.random())
        self._fixed_ports = None if ports is None else tuple(ports)
        self._offset = 0.0
        self._suspended_at = 0.0
        self._last_now = 0.0
        self._armed: float | None = None

    # Life of the process and the machine it runs on.

    def start(self, machine: HostMachine) -> None:
        """Runs `machine` (again): on the fixed ports, or one socket on a random port."""
        self.stop()
        self.machine = machine
        if self._fixed_ports is None:
            self.sockets = {0: self._free_port()}
        else:
            self.sockets = dict(enumerate(self._fixed_ports))
        self.settle()

    def stop(self) -> None:
        """The process is killed: no good-bye, sockets closed."""
        self.machine = None
        self.sockets = {}

    def suspend(self) -> None:
        """Nothing is received, no timer fires, and the clock stands still until resume()."""
        if not self.is_suspended:
            self.is_suspended, self._suspended_at = True, self._internet.now

    def resume(self) -> None:
        """Back from suspend; timers go on where they stood. Sockets and addresses are the same."""
        if self.is_suspended:
            self.is_suspended = False
            self._offset -= self._internet.now - self._suspended_at
            self._armed = None
            self._arm()

    @property
    def now(self) -> float:
        """The host's monotonic clock: what its machine is told."""
        at = self._suspended_at if self.is_suspended else self._internet.now
        self._last_now = max(self._last_now, at + self._offset)
        return self._last_now

    def wall_clock(self) -> float:
        """Like time.time, off by `wall_clock_error`; it runs on during suspend."""
        return START_OF_2026 + self._internet.now + self.wall_clock_error

    def random_bytes(self, count: int) -> bytes:
        """Like os.urandom, but from the seed."""
        return self._random.randbytes(count)

    # Addresses and sockets.

    def attach(
        self, address: str | None = None, *, behind: Router | None = None, link: Link | None = None
    ) -> Interface:
        """One more address, on the core or on the LAN of a router. Without `address`, one of the
        segment's."""
        return self._internet.attach(self, address, behind, link)

    def detach(self, address: str) -> None:
        """Unplugs that address; what is under way to it is lost."""
        interface = next(i for i in self.interfaces if i.address == address)
        interface.segment.leave(address)
        self.interfaces.remove(interface)

    def move(
        self, behind: Router | None = None, address: str | None = None, link: Link | None = None
    ) -> str:
        """Roams: gives up all addresses for one behind another router. Sockets stay open; the
        machine is not told (use :meth:`call`). Returns the new address."""
        for old in self.addresses:
            self.detach(old)
        return self.attach(address, behind=behind, link=link).address

    @property
    def addresses(self) -> list[str]:
        return [interface.address for interface in self.interfaces]

    @property
    def address(self) -> str:
        """The first address."""
        return self.interfaces[0].address

    @property
    def link(self) -> Link:
        """The link of the first address."""
        return self.interfaces[0].link

    def endpoint(self, local: int = 0) -> Endpoint:
        """The first address with the port of a socket."""
        return Endpoint(self.address, self.sockets[local])

    def endpoints(self, local: int = 0) -> list[Endpoint]:
        """Every address that is up with the port of a socket: the host candidates."""
        return [Endpoint(i.address, self.sockets[local]) for i in self.interfaces if i.up]

    def open_socket(self, local: int, port: int | None = None) -> int:
        """Opens socket number `local`; returns its port."""
        self.sockets[local] = self._free_port() if port is None else port
        return self.sockets[local]

    def close_socket(self, local: int) -> None:
        del self.sockets[local]

    def rebind(self, local: int = 0) -> int:
        """Socket `local` gets a new port, which is returned."""
        return self.open_socket(local)

    # Inputs. The host settles after each.

    def send_packet(self, packet: bytes) -> None:
        """A packet for the tunnel, as if read from the TUN interface."""
        self.send_packets([packet])

    def send_packets(self, packets: list[bytes]) -> None:
        self._keep(self.machine.send_packets(packets, self.now))
        self.settle()

    def call(self, command: Callable[[Any, float], T]) -> T:
        """Gives the machine a command: ``host.call(lambda node, now: node.close(now))``."""
        result = command(self.machine, self.now)
        self.settle()
        return result

    def receive(self, datagrams: list[bytes], source: Endpoint, local: int) -> None:
        """Datagrams that arrived together from one source at one socket."""
        if (program := self._program) is not None:
            chance = self._random.getrandbits
            datagrams = [each for each in datagrams if run(program, each, chance(32))]
            if not datagrams:
                return
        if self.lends_buffers:
            lent = [bytearray(datagram) for datagram in datagrams]
            views: list[Buffer] = [memoryview(buffer) for buffer in lent]
            packets = self.machine.receive_datagrams(views, source, self.now, local)
            self._keep(packets)
            for buffer in lent:
                buffer[:] = b"\xdd" * len(buffer)
        else:
            packets = self.machine.receive_datagrams(list(datagrams), source, self.now, local)
            self._keep(packets)
        self.settle()

    def receive_icmp(self, error: IcmpError) -> None:
        self.icmp_errors.append((self._internet.now, error))
        if self.on_icmp is not None:
            self.on_icmp(error)
        if not self.hears_icmp or self.machine is None or self.is_suspended:
            return
        if error.kind == "packet too big":
            self.machine.receive_error(error.endpoint, error.mtu, self.now)
            self.settle()
            return
        tell = getattr(self.machine, "receive_time_exceeded", None)
        local = next((n for n, port in self.sockets.items() if port == error.port), None)
        if tell is not None and local is not None:
            tell(error.endpoint, error.router, self.now, local)
            self.settle()

    def settle(self) -> None:
        """Send, report events, re-arm: what a driver does after every input."""
        machine = self.machine
        if machine is None or self.is_suspended:
            return
        if self.is_examined:
            check_attention(machine)
        transmits = machine.datagrams_to_send(self.now)
        self._set_sieve()
        self._transmit(transmits)
        if self.streams is not None:
            self.streams.settle(self)
        next_event = getattr(machine, "next_event", None)
        while next_event is not None and (event := next_event()) is not None:
            self.events.append((self._internet.now, event))
            if isinstance(event, SocketsReleased):
                for local in event.locals:
                    self.sockets.pop(local, None)
            if self.on_event is not None:
                self.on_event(event)
        self._arm()

    def _set_sieve(self) -> None:
        sieve = getattr(self.machine, "sieve", None)
        admitted = EVERYTHING if sieve is None else sieve.take_change() or self._admitted
        if sieve is not None and self.sieve_share is not None:
            admitted = Admitted(sieve.find_numbers(), self.sieve_share)
        if admitted != self._admitted:
            self._admitted = admitted
            self._program = None if admitted == EVERYTHING else assemble(*admitted)

    def _keep(self, packets: Sequence[Buffer] | None) -> None:
        for packet in packets or ():
            self.packets_received.append((self._internet.now, bytes(packet)))
            if self.on_packet is not None:
                self.on_packet(bytes(packet))

    def _transmit(self, transmits: Sequence[Transmit]) -> None:
        for data, endpoint, segment_size, local, ttl, *_ in transmits:
            if is_stream(local):
                if self.streams is not None:
                    self.streams.carry(self, local, bytes(data))
                continue
            if local not in self.sockets:
                if not self.opens_sockets:
                    raise LookupError(f"{self.name} has no socket {local}")
                self.open_socket(local)
            whole = bytes(data)
            size = segment_size or max(len(whole), 1)
            for start in range(0, max(len(whole), 1), size):
                datagram = whole[start : start + size]
                port, address = self.sockets[local], self.bound.get(local)
                self._internet.send(self, port, endpoint, datagram, ttl, address)

    def _arm(self) -> None:
        """Sees to it that we are woken no later than the machine's timer. A wake-up that is too
        early only re-arms, so that a timer which is put off again and again costs no event."""
        if self.machine is None or self.is_suspended:
            return
        timer = self.machine.get_timer()
        if timer is None:
            return
        at = max(timer - self._offset, self._internet.now)
        if self._armed is None or at < self._armed:
            self._armed = at
            self._internet.call_at(at, self._wake, at)

    def _wake(self, at: float) -> None:
        if at != self._armed:
            return
        self._armed = None
        if self.machine is None or self.is_suspended:
            return
        timer = self.machine.get_timer()
        if timer is not None and timer - self._offset <= at:
            # Rounding must not bring us here just before the timer.
            self._last_now = max(self.now, timer)
            self.machine.handle_timer(self._last_now)
            self.settle()
        else:
            self._arm()

    def _free_port(self) -> int:
        while True:
            port = self._random.randint(FIRST_EPHEMERAL_PORT, LAST_EPHEMERAL_PORT)
            if port not in self.sockets.values():
                return port
