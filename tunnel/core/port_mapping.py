"""Having the home router forward a UDP port to us: PCP, else NAT-PMP, else UPnP-IGD.

A machine of its own, beside the node, with a socket of its own: it is told the router and our port,
and `external` is where peers may send. What it asks of an IGD are operations (`take_operations`)
that the driver carries out and reports (`receive_result`).

    =========  ===========================================  ========================================
    state      meaning                                      left by
    =========  ===========================================  ========================================
    IDLE       there is no router to ask                    ``set_network`` → ASKING
    ASKING     the protocols are tried, one after another   granted → MAPPED; none is left → WAITING
    MAPPED     the router forwards                          half the lifetime, a router that started
                                                            again, ``check`` → RENEWING
    RENEWING   MAPPED, and asked for again                  granted → MAPPED; silence → MAPPED until
                                                            half of what is left; refused, or over
                                                            → ASKING
    WAITING    every protocol failed                        time, a router that started, ``check``
                                                            → ASKING
    CLOSING    the mapping is being given up                answered, or time → CLOSED
    CLOSED     nothing is left to do
    =========  ===========================================  ========================================

``set_network`` with another router, address or port leads to ASKING from anywhere, and ``close``
to CLOSING. A mapping to an external address that is private is kept and renewed all the same (the
inner of two NATs then lets everybody in), but is no candidate.
"""

from __future__ import annotations

import enum
import ipaddress
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from tunnel.core.candidates import is_public
from tunnel.core.epoch import EpochCheck
from tunnel.core.events import Event, PortMapped, PortMappingLost
from tunnel.core.machine import RandomBytes, Transmit, earliest
from tunnel.core.mapping_lease import Lease, find_fault, make_lease
from tunnel.core.mapping_request import (
    Granted,
    NatPmpRequest,
    Parsed,
    PcpRequest,
    Refused,
    Request,
    UpnpRequest,
    Verdict,
)
from tunnel.core.upnp_operations import (
    Internal,
    OperationQueue,
    UpnpMap,
    UpnpOperation,
    UpnpResult,
)
from tunnel.errors import Malformed
from tunnel.noise.keys import PrivateKey
from tunnel.noise.primitives import mac
from tunnel.wire import natpmp, pcp
from tunnel.wire.endpoint import Endpoint

SERVICE_PORT = 5351
"""Of PCP and NAT-PMP at the router (RFC 6887 §19.1)."""
RESEND_DELAYS = (0.25, 0.5, 0.5)
"""Seconds until a request is sent again, and after the last one until it is given up. The router is
on our own link; RFC 6886 §3.1 would go on for a minute."""
UPNP_PATIENCE = 30.0
"""Seconds for one operation. Discovery alone may take eight."""
RETRY_DELAYS = (60.0, 300.0, 900.0, 3600.0)
"""Seconds from a vain search to the next: a router's owner may change its settings."""
LONGEST_REFUSAL = 3600
"""Seconds for which a router may forbid to ask again."""
CHECK_SPACING = 10.0
"""Seconds between renewals for a reason that anybody on the LAN can forge."""
CHECK_SPREAD = 0.5
"""Seconds within which the nodes of a LAN ask a router that has started again."""
CLOSE_PATIENCE = 3.0
"""Seconds that leaving may take."""

_PROTOCOLS = {"pcp": "PCP", "nat-pmp": "NAT-PMP", "upnp": "UPnP"}
"""In the order in which they are tried."""
_ANY = Endpoint("0.0.0.0", 0)


class MapperState(enum.Enum):
    IDLE = "idle"
    ASKING = "asking"
    MAPPED = "mapped"
    RENEWING = "renewing"
    WAITING = "waiting"
    CLOSING = "closing"
    CLOSED = "closed"


class PortMapper:
    def __init__(self, static: PrivateKey, random_bytes: RandomBytes) -> None:
        self.state = MapperState.IDLE
        self.drops: Counter[str] = Counter()
        """Reason → datagrams dropped for it."""
        # Of our key, not random: a node that was killed may renew, and give up, what it had.
        self._nonce_key = mac(static.data, b"punchtun port mapping")
        self._random_bytes = random_bytes
        self._internal: Internal | None = None
        self._idle_reason = "not tried yet"
        self._request: Request | None = None
        self._tries = 0
        self._lease: Lease | None = None
        self._wish = _ANY
        self._at: float | None = None
        """When the state is to be left, or something sent again."""
        self._close_by: float | None = None
        self._epochs = EpochCheck()
        self._checked_at = float("-inf")
        self._failures: dict[str, Refused] = {}
        self._searches = 0
        self._operations = OperationQueue()
        self._awaited = 0
        """Serial of the operation that is the request under way."""
        self._datagrams: list[bytes] = []
        self._events: deque[Event] = deque()

    # What the owner asks

    @property
    def external(self) -> Endpoint | None:
        """Where peers may send to reach our port."""
        lease = self._lease
        return lease.external if lease is not None and lease.is_reachable else None

    def describe(self, now: float) -> dict[str, Any]:
        """``nat.port_mapping`` of ``punchtun status --json``."""
        lease = self._lease
        return {
            "state": self._state_text(),
            "protocol": None if lease is None else lease.protocol,
            "external": None if lease is None else str(lease.external),
            "lifetime_s": None if lease is None else round(max(0.0, lease.expires_at - now), 1),
            "reason": self._reason(),
        }

    def next_event(self) -> Event | None:
        return self._events.popleft() if self._events else None

    def datagrams_to_send(self, now: float) -> list[Transmit]:
        datagrams, self._datagrams = self._datagrams, []
        if self._internal is None:
            return []
        router = Endpoint(self._internal.gateway, SERVICE_PORT)
        return [Transmit(datagram, router) for datagram in datagrams]

    def take_operations(self) -> list[UpnpOperation]:
        """To be carried out in this order, each to be reported to `receive_result`."""
        return self._operations.take()

    # Commands

    def set_network(self, internal: Internal | None, now: float, reason: str = "") -> None:
        """To be called at start and whenever the network or our port may have changed. None: there
        is no router to ask, for that `reason`."""
        if self.state in (MapperState.CLOSING, MapperState.CLOSED):
            return
        if internal is not None and is_public(ipaddress.ip_address(internal.host)):
            internal, reason = None, "not needed: this machine's own address is public"
        before = self._internal
        if internal is not None and internal == before:
            self.check(now)
            return
        if before is not None and internal is not None and before[:2] == internal[:2]:
            # In another network nobody would know what we mean.
            self._give_up()
        else:
            self._epochs = EpochCheck()
        self._drop_lease("the network has changed")
        self._internal, self._request, self._wish = internal, None, _ANY
        self._searches = 0
        self._failures = {}
        if internal is None:
            self.state, self._at, self._idle_reason = MapperState.IDLE, None, reason
        else:
            self._search(now)

    def check(self, now: float) -> None:
        """Something may have happened to the router: see whether the mapping is still there."""
        if self.state not in (MapperState.MAPPED, MapperState.WAITING):
            return
        if now - self._checked_at >= CHECK_SPACING:
            self._checked_at = now
            self._searches = 0
            self._at = now + self._random_bytes(1)[0] / 255 * CHECK_SPREAD

    def close(self, now: float) -> None:
        """Give the mapping up. Go on until the state is CLOSED."""
        if self.state in (MapperState.CLOSING, MapperState.CLOSED):
            return
        release = self._give_up()
        self.state, self._request = MapperState.CLOSING, release
        self._lease = None
        self._close_by, self._at = now + CLOSE_PATIENCE, None
        if release is not None:
            self._tries, self._at = 1, now + RESEND_DELAYS[0]
        self._end_if_done()

    # From the network, and from the driver's thread

    def receive_datagrams(
        self, datagrams: Sequence[bytes], source: Endpoint, now: float, local: int = 0
    ) -> list[bytes]:
        """From the router, also to the multicast group of announcements. Never raises for what a
        remote sent."""
        for datagram in datagrams:
            try:
                self._receive(datagram, source, now)
            except Malformed as error:
                self.drops[str(error)] += 1
        return []

    def receive_error(self, endpoint: Endpoint, mtu: int | None, now: float) -> None:
        """ICMP says that nothing listens at the router: no need to wait for silence."""
        if self.state is not MapperState.ASKING or self._internal is None or mtu is not None:
            return
        is_router = endpoint == Endpoint(self._internal.gateway, SERVICE_PORT)
        if is_router and not isinstance(self._request, UpnpRequest):
            for protocol in ("pcp", "nat-pmp"):
                self._failures.setdefault(protocol, _CLOSED_PORT)
            self._ask_next(now)

    def receive_result(self, result: UpnpResult, now: float) -> None:
        operation = self._operations.end(result)
        request = self._request
        if isinstance(request, UpnpRequest) and result.serial == self._awaited and operation:
            verdict = request.receive(result)
            if verdict is None:
                self._carry_out(request, now)
            else:
                self._judge(verdict, now)
        elif isinstance(operation, UpnpMap) and not result.error and not self._holds(operation):
            # Nobody waits for it any more, and nobody would renew it.
            self._operations.unmap(operation.internal, operation.external_port)
        self._end_if_done()

    # The clock

    def get_timer(self) -> float | None:
        return earliest([self._at, self._lease and self._lease.expires_at, self._close_by])

    def handle_timer(self, now: float) -> None:
        if self._close_by is not None and now >= self._close_by:
            self._end()
        if self._lease is not None and now >= self._lease.expires_at:
            self._drop_lease("the router did not renew it")
            self._search(now)
        if self._at is None or now < self._at:
            return
        if self.state is MapperState.MAPPED and self._lease is not None:
            self.state = MapperState.RENEWING
            self._ask(self._make_request(self._lease.protocol, self._lease.external), now)
        elif self.state is MapperState.WAITING:
            self._search(now)
        elif isinstance(self._request, (PcpRequest, NatPmpRequest)) and self._tries < len(
            RESEND_DELAYS
        ):
            self._transmit(self._request, now)
        elif self.state is MapperState.CLOSING:
            self._end()
        else:
            self._judge(_NO_ANSWER, now)

    # Asking

    def _search(self, now: float) -> None:
        self._failures = {}
        self._ask_next(now)

    def _ask_next(self, now: float) -> None:
        """The next protocol that has not failed yet."""
        for protocol in _PROTOCOLS:
            if protocol not in self._failures:
                self.state = MapperState.ASKING
                self._ask(self._make_request(protocol, self._wish), now)
                return
        self.state, self._request = MapperState.WAITING, None
        delay = RETRY_DELAYS[min(self._searches, len(RETRY_DELAYS) - 1)]
        forbidden = max(refused.retry_after for refused in self._failures.values())
        self._searches += 1
        self._at = now + max(delay, min(forbidden, LONGEST_REFUSAL))

    def _make_request(self, protocol: str, wish: Endpoint) -> Request:
        assert self._internal is not None
        wish = wish if wish.port else Endpoint(wish.host, self._internal.port)
        if protocol == "pcp":
            return PcpRequest(self._internal, self._nonce(), wish)
        if protocol == "nat-pmp":
            return NatPmpRequest(self._internal, wish)
        is_found = self._lease is not None and self._lease.protocol == "upnp"
        return UpnpRequest(self._internal, wish, self._random_bytes, is_found=is_found)

    def _nonce(self) -> bytes:
        text = " ".join(map(str, self._internal or ()))
        return mac(self._nonce_key, text.encode())[: pcp.NONCE_LENGTH]

    def _ask(self, request: Request, now: float) -> None:
        self._request, self._tries = request, 0
        if isinstance(request, UpnpRequest):
            self._carry_out(request, now)
        else:
            self._transmit(request, now)

    def _transmit(self, request: PcpRequest | NatPmpRequest, now: float) -> None:
        self._datagrams += request.datagrams()
        self._at = now + RESEND_DELAYS[self._tries]
        self._tries += 1

    def _carry_out(self, request: UpnpRequest, now: float) -> None:
        assert self._internal is not None
        if self._operations.is_full:
            self._judge(Refused("earlier operations have not ended", is_silence=True), now)
            return
        if request.must_find:
            self._awaited = self._operations.find(self._internal)
        else:
            external, lifetime = request.external, request.lifetime
            self._awaited = self._operations.map(self._internal, external, lifetime)
        self._at = now + UPNP_PATIENCE

    # Answers

    def _receive(self, datagram: bytes, source: Endpoint, now: float) -> None:
        if self._internal is None or source != Endpoint(self._internal.gateway, SERVICE_PORT):
            raise Malformed("port mapping: not from the router")
        message = _parse(datagram)
        request = self._request
        if isinstance(message, pcp.Announcement):
            self._receive_announcement(message.epoch, None, now)
            return
        if isinstance(message, natpmp.AddressResponse) and not isinstance(request, NatPmpRequest):
            self._receive_announcement(message.epoch, message.address, now)
            return
        if request is None or isinstance(request, UpnpRequest):
            raise Malformed("port mapping: nothing was asked")
        verdict = request.receive(message)
        # Of no consequence if it does not fit: this very answer made the mapping anew.
        self._epochs.note(message.epoch, now)
        if verdict is not None:
            if self.state is MapperState.CLOSING:
                self._end()
            else:
                self._judge(verdict, now)

    def _receive_announcement(self, epoch: int, address: str | None, now: float) -> None:
        """A router that has started again, or has another address, says so to everybody."""
        is_same_router = self._epochs.note(epoch, now)
        lease = self._lease
        is_same_address = lease is None or address in (None, lease.external.host)
        # An IGD has no epoch that we would have noted.
        knows_epoch = lease is not None and lease.protocol != "upnp"
        if not (is_same_router and is_same_address and knows_epoch):
            self.check(now)

    def _judge(self, verdict: Verdict, now: float) -> None:
        """What the request under way has come to."""
        assert self._request is not None
        protocol = self._request.protocol
        if isinstance(verdict, Granted):
            fault = find_fault(verdict)
            if fault is None:
                self._take(make_lease(verdict, protocol, now))
                return
            self._release(protocol, verdict.external.port)
            verdict = Refused(fault)
        if self._lease is not None and verdict.is_silence:
            self.state, self._request = MapperState.MAPPED, None
            self._at = self._lease.next_renewal(now)
            return
        if self._lease is not None:
            self._drop_lease(verdict.reason)
            self._failures = {}
        self._failures[protocol] = verdict
        self._ask_next(now)

    def _take(self, lease: Lease) -> None:
        before, self._lease = self._lease, lease
        self.state, self._request = MapperState.MAPPED, None
        self._wish = lease.external
        self._at = lease.renew_at
        self._searches = 0
        self._failures = {}
        if before is None or before.external != lease.external:
            self._events.append(PortMapped(lease.protocol, lease.external, lease.is_reachable))

    # Giving up

    def _drop_lease(self, reason: str) -> None:
        if self._lease is not None:
            self._events.append(PortMappingLost(self._lease.external, reason))
            self._lease = None

    def _give_up(self) -> PcpRequest | NatPmpRequest | None:
        """What we have, or may get by what is under way. The datagram sent for it, if any."""
        if self._lease is not None:
            return self._release(self._lease.protocol, self._lease.external.port)
        if self._request is not None and not isinstance(self._request, UpnpRequest):
            return self._release(self._request.protocol, 0)
        return None  # The result of an operation comes, and is undone then.

    def _release(self, protocol: str, external_port: int) -> PcpRequest | NatPmpRequest | None:
        if self._internal is None:
            return None
        if protocol == "upnp":
            self._operations.unmap(self._internal, external_port)
            return None
        release: PcpRequest | NatPmpRequest
        if protocol == "pcp":
            release = PcpRequest(self._internal, self._nonce(), _ANY, lifetime=0)
        else:
            release = NatPmpRequest(self._internal, _ANY, lifetime=0)
        self._datagrams += release.datagrams()
        return release

    def _holds(self, operation: UpnpMap) -> bool:
        """Whether it made, late, what we have anyhow."""
        if self._lease is None or self._lease.protocol != "upnp":
            return False
        held = (self._internal, self._lease.external.port)
        return held == (operation.internal, operation.external_port)

    def _end_if_done(self) -> None:
        is_waiting = self._request is not None or self._operations.is_changing
        if self.state is MapperState.CLOSING and not is_waiting:
            self._end()

    def _end(self) -> None:
        self.state, self._request = MapperState.CLOSED, None
        self._at = self._close_by = None

    # For people

    def _state_text(self) -> str:
        if self._lease is not None:
            return "mapped" if self._lease.is_reachable else "double-nat"
        if self.state is MapperState.WAITING:
            is_refused = any(not refused.is_silence for refused in self._failures.values())
            return "refused" if is_refused else "unavailable"
        return "searching" if self.state is MapperState.ASKING else "idle"

    def _reason(self) -> str | None:
        if self._lease is not None:
            if self._lease.is_reachable:
                return None
            return (
                f"the router maps the port, but its own address {self._lease.external.host} is "
                "private: there is another NAT before it"
            )
        if self.state is MapperState.IDLE:
            return self._idle_reason
        said = [f"{_PROTOCOLS[name]}: {no.reason}" for name, no in self._failures.items()]
        return "; ".join(said) or None


_NO_ANSWER = Refused("no answer", is_silence=True)
_CLOSED_PORT = Refused(f"UDP port {SERVICE_PORT} of the router is closed", is_silence=True)


def _parse(datagram: bytes) -> Parsed:
    if datagram[:1] == bytes([natpmp.NATPMP_VERSION]):
        return natpmp.parse_response(datagram)
    return pcp.parse_response(datagram)
