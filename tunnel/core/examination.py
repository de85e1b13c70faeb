"""What stands between this machine and a server, found out without a node: by which ways the server
answers, what our NAT does, how large a datagram passes, and whether the clocks agree.

It registers nothing: its keys are its own and nobody is told of it. All ways are tried at once,
WebSockets only if UDP or TCP does not answer; over the IPv4 socket that is answered the NAT is
examined with the same parts that a node uses. Whatever is not known after ``PATIENCE`` stays so.

    ==========  ===================================  ============================================
    state       meaning                              left by
    ==========  ===================================  ============================================
    waiting     the server's endpoints are not known ``set_server_endpoints`` → asking; none, or
                                                     time → done
    asking      trials and questions are under way   all answered, or ``PATIENCE`` → done
    done        ``ways`` and the rest hold what was
                found
    ==========  ===================================  ============================================
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tunnel.core.candidates import is_public
from tunnel.core.hops import HopDiscovery
from tunnel.core.machine import FIRST_STREAM, RandomBytes, Transmit, WallClock, earliest
from tunnel.core.nat_filtering import FilteringDiscovery
from tunnel.core.nat_hairpin import HairpinDiscovery
from tunnel.core.nat_mapping import INDEPENDENT, Mapping, Observation, classify_mapping
from tunnel.core.server_trial import ServerTrial, TrialState
from tunnel.core.size_probe import SizeProbe
from tunnel.core.transport import Opening, stream_routes
from tunnel.errors import AuthenticationFailed, Malformed
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.feeler import HAIRPIN, parse_hairpin
from tunnel.wire.invitation import ServerUrl
from tunnel.wire.rendezvous import Echoed, Probe

PATIENCE = 6.0
"""Seconds for everything. A person waits."""
WEBSOCKETS_AFTER = 1.5
"""Seconds without an answer over UDP, or TCP, after which WebSockets are tried."""
ASK_DELAYS = (0.0, 0.5, 1.5)
"""Seconds after the handshake at which each of the server's ports is asked where it sees us."""
IPV4_SOCKET, FILTERING_SOCKET, HOP_SOCKET, IPV6_SOCKET = 0, 2, 3, 4


class Way(NamedTuple):
    """One of the ways to the server."""

    name: str
    is_reached: bool | None
    """None: not tried."""
    rtt: float | None
    reason: str


class Examination:
    def __init__(
        self,
        url: ServerUrl,
        own_hosts: Iterable[str],
        *,
        now: float,
        random_bytes: RandomBytes,
        wall_clock: WallClock,
        with_nat: bool = True,
    ) -> None:
        """`own_hosts`: this machine's addresses. Without `with_nat` a running node knows better
        what the NAT does, and only the ways and sizes are tried."""
        self.hops = HopDiscovery(HOP_SOCKET)
        self.filtering = FilteringDiscovery(random_bytes)
        self.hairpin = HairpinDiscovery(random_bytes)
        self.clock_offset: float | None = None
        """Seconds that our clock is ahead of the server's."""
        self.is_done = False
        self._own_hosts = set(own_hosts)
        self._with_nat = with_nat
        self._random_bytes = random_bytes
        self._wall_clock = wall_clock
        self._server: Endpoint | None = None
        self._ipv4 = ServerTrial("UDP over IPv4", url, IPV4_SOCKET, random_bytes, wall_clock)
        self._ipv6 = ServerTrial("UDP over IPv6", url, IPV6_SOCKET, random_bytes, wall_clock)
        self._streams = [
            ServerTrial(_name(route.kind, number), url, number, random_bytes, wall_clock, route)
            for number, route in enumerate(stream_routes(url), FIRST_STREAM)
        ]
        self._sizes = {trial.local: SizeProbe(random_bytes) for trial in self._udp}
        self._asked: dict[int, Endpoint] = {}
        self._seen: dict[Endpoint, Endpoint] = {}
        self._asks = 0
        self._ask_at: float | None = None
        self._websockets_at: float | None = None
        self._has_started = False
        self._has_asked_hairpin = False
        self._ends_at = now + PATIENCE
        self._openings: list[Opening] = []
        self._closings: list[int] = []

    # What the owner asks

    @property
    def ways(self) -> list[Way]:
        return [
            Way(
                trial.way,
                None if trial.state is TrialState.IDLE else trial.state is TrialState.REACHED,
                trial.rtt,
                trial.reason,
            )
            for trial in (*self._udp, *self._streams)
        ]

    @property
    def path_mtu(self) -> int | None:
        """Bytes of the largest IPv4 datagram, or else IPv6 one, that the server answered."""
        found = [self._sizes[trial.local].largest for trial in self._udp]
        return next((size for size in found if size is not None), None)

    @property
    def observed(self) -> Endpoint | None:
        """Where the server sees our IPv4 socket."""
        return None if self._server is None else self._seen.get(self._server)

    def present(self) -> bool | None:
        """Whether there is a NAT."""
        return None if self.observed is None else self.observed.host not in self._own_hosts

    def mapping(self) -> Mapping:
        found = [Observation(asked, seen) for asked, seen in self._seen.items()]
        mapping = classify_mapping(found)
        if self.present() is False:
            return Mapping(INDEPENDENT, (*mapping.evidence, "that is our own address: no NAT"))
        return mapping

    def evidence(self) -> list[str]:
        return [*self.mapping().evidence, *self.filtering.evidence, *self.hops.evidence()]

    def take_openings(self) -> list[Opening]:
        openings, self._openings = self._openings, []
        return openings

    def take_closings(self) -> list[int]:
        closings, self._closings = self._closings, []
        return closings

    # Commands

    def set_server_endpoints(self, endpoints: Sequence[Endpoint], now: float) -> None:
        """Where the server's name points to; [] if it does not resolve."""
        for trial, is_ipv6 in ((self._ipv4, False), (self._ipv6, True)):
            usable = [endpoint for endpoint in endpoints if endpoint.is_ipv6 is is_ipv6]
            if usable and trial.state is TrialState.IDLE:
                trial.start(usable, now)
        self._open(self._streams[:1])
        self._websockets_at = now + WEBSOCKETS_AFTER
        self._has_started = True
        self._check_end(now)

    def stream_opened(self, number: int, endpoint: Endpoint, now: float) -> None:
        trial = self._stream(number)
        if trial is not None:
            trial.stream_opened(endpoint, now)

    def stream_closed(self, number: int, reason: str, now: float) -> None:
        trial = self._stream(number)
        if trial is not None:
            trial.fail(reason)
            self._check_end(now)

    # From the network

    def receive_datagrams(
        self, datagrams: Sequence[bytes], source: Endpoint, now: float, local: int = 0
    ) -> list[bytes]:
        """Always returns []. What is not the server's is dropped."""
        for datagram in datagrams:
            try:
                self._receive(datagram, source, now, local)
            except (Malformed, AuthenticationFailed):
                continue  # Strangers' datagrams are of no interest to an examination.
        self._check_end(now)
        return []

    def receive_time_exceeded(
        self, endpoint: Endpoint, router: str, now: float, local: int
    ) -> None:
        self.hops.receive(endpoint, router, now, local)
        self._check_end(now)

    def datagrams_to_send(self, now: float) -> list[Transmit]:
        if self.is_done:
            return []
        for probe in self.filtering.take_probes():
            self._ipv4.link.send(probe, now, self._server, FILTERING_SOCKET)
        transmits = self.hops.take_transmits() + self.hairpin.take_transmits()
        for trial in self._udp:
            endpoint = trial.link.endpoint
            if endpoint is not None:
                sizes = self._sizes[trial.local]
                transmits += sizes.take_transmits(trial.link.session, endpoint, trial.local, now)
        for trial in (*self._udp, *self._streams):
            transmits += trial.take_transmits()
        return transmits

    # The clock

    def get_timer(self) -> float | None:
        if self.is_done:
            return None
        times = [trial.get_timer() for trial in (*self._udp, *self._streams)]
        times += [part.get_timer() for part in (self.hops, self.filtering, self.hairpin)]
        times += [sizes.get_timer() for sizes in self._sizes.values()]
        return earliest((*times, self._ask_at, self._websockets_at, self._ends_at))

    def handle_timer(self, now: float) -> None:
        if self.is_done:
            return
        for trial in (*self._udp, *self._streams):
            trial.handle_timer(now)
        for part in (self.hops, self.filtering, self.hairpin):
            part.handle_timer(now)
        for sizes in self._sizes.values():
            sizes.handle_timer(now)
        if self._ask_at is not None and now >= self._ask_at:
            self._ask(now)
        if self._websockets_at is not None and now >= self._websockets_at:
            self._websockets_at = None
            is_udp_fine = any(trial.state is TrialState.REACHED for trial in self._udp)
            if not is_udp_fine or self._streams[0].state is not TrialState.REACHED:
                self._open(self._streams[1:])
        self._check_end(now)

    # Inside

    @property
    def _udp(self) -> tuple[ServerTrial, ServerTrial]:
        return self._ipv4, self._ipv6

    def _stream(self, number: int) -> ServerTrial | None:
        return next((trial for trial in self._streams if trial.local == number), None)

    def _open(self, trials: Iterable[ServerTrial]) -> None:
        for trial in trials:
            if trial.route is not None and trial.state is TrialState.IDLE:
                trial.state = TrialState.TRYING
                self._openings.append(Opening(trial.local, trial.route))

    def _receive(self, datagram: bytes, source: Endpoint, now: float, local: int) -> None:
        if datagram[:1] == bytes([HAIRPIN]):
            self.hairpin.receive(parse_hairpin(datagram).token)
            return
        trial = self._ipv6 if local == IPV6_SOCKET else self._stream(local) or self._ipv4
        was_reached = trial.state is TrialState.REACHED
        message = trial.receive(datagram, source, now)
        if trial.state is TrialState.REACHED and not was_reached:
            self._begin(trial, now)
        if isinstance(message, Echoed):
            self._receive_echoed(message, trial, source, now)

    def _begin(self, trial: ServerTrial, now: float) -> None:
        """The server has answered this way."""
        if trial.route is not None:
            self._closings.append(trial.local)
            return
        self._sizes[trial.local].start(now)
        if trial is self._ipv4 and trial.link.endpoint is not None:
            self._server = trial.link.endpoint
            self._ask(now)
            if self._with_nat:
                self.hops.restart(self._server, now)
                self.filtering.start(self._server, now, has_alternate=False)

    def _ask(self, now: float) -> None:
        """Both ports of the server where they see us."""
        assert self._server is not None
        self._ask_at = None
        ports = [self._server, Endpoint(self._server.host, self._server.port + 1)]
        for endpoint in ports if self._with_nat else ports[:1]:
            if endpoint not in self._seen:
                transaction = int.from_bytes(self._random_bytes(8), "little")
                self._asked[transaction] = endpoint
                self._ipv4.link.send(Probe(transaction, 0), now, endpoint, IPV4_SOCKET)
        self._asks += 1
        if self._asks < len(ASK_DELAYS):
            self._ask_at = now + ASK_DELAYS[self._asks] - ASK_DELAYS[self._asks - 1]

    def _receive_echoed(
        self, message: Echoed, trial: ServerTrial, source: Endpoint, now: float
    ) -> None:
        if message.wall_time is not None:
            self.clock_offset = self._wall_clock() - message.wall_time / 1e6
        if trial.local in self._sizes and self._sizes[trial.local].receive(message.transaction):
            return
        if self.filtering.receive(message, source, now):
            return
        asked = self._asked.pop(message.transaction, None)
        if asked is not None:
            self._seen[asked] = message.observed

    def _check_end(self, now: float) -> None:
        ours, observed = self.filtering.observed, self.observed
        may_hairpin = self._with_nat and not self._has_asked_hairpin and self.present()
        if may_hairpin and ours and observed and not self.filtering.is_running:
            self._has_asked_hairpin = True
            if _is_public(ours) and _is_public(observed):
                self.hairpin.start((IPV4_SOCKET, observed), (FILTERING_SOCKET, ours), now)
        if now >= self._ends_at or (self._has_started and not self._is_busy()):
            self._end()

    def _is_busy(self) -> bool:
        is_trying = any(trial.state is TrialState.TRYING for trial in (*self._udp, *self._streams))
        are_sizes_open = any(sizes.get_timer() is not None for sizes in self._sizes.values())
        is_tracing = self.hops.get_timer() is not None
        is_asking = self._ask_at is not None and len(self._seen) < 1 + self._with_nat
        return (
            is_trying
            or are_sizes_open
            or is_tracing
            or is_asking
            or self.filtering.is_running
            or self.hairpin.is_running
            or self._must_wait_for_websockets()
        )

    def _must_wait_for_websockets(self) -> bool:
        is_udp_fine = any(trial.state is TrialState.REACHED for trial in self._udp)
        is_tcp_fine = self._streams[0].state is TrialState.REACHED
        return self._websockets_at is not None and not (is_udp_fine and is_tcp_fine)

    def _end(self) -> None:
        if self.is_done:
            return
        self.is_done = True
        for trial in (*self._udp, *self._streams):
            if trial.state is TrialState.TRYING:
                trial.fail("no answer")
                if trial.route is not None:
                    self._closings.append(trial.local)


def _name(kind: str, number: int) -> str:
    if kind == "tcp":
        return "TCP"
    return "WebSocket" if number == FIRST_STREAM + 1 else "WebSocket without TLS"


def _is_public(endpoint: Endpoint) -> bool:
    return is_public(ipaddress.ip_address(endpoint.host))
