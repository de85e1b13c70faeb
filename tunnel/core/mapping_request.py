"""One request for a port mapping, in each of the three protocols: what to ask, and what an answer
means. When to ask, and again, is the business of ``PortMapper``."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from tunnel.core.machine import RandomBytes
from tunnel.core.upnp_operations import Internal, UpnpResult
from tunnel.errors import Malformed
from tunnel.noise.primitives import constant_time_equal
from tunnel.wire import natpmp, pcp
from tunnel.wire.endpoint import Endpoint

MAPPING_LIFETIME = 7200
"""Seconds asked for: what RFC 6886 §3.3 recommends."""
UPNP_TRIES = 4
"""Operations for one mapping: routers object to a port, a lifetime, or both."""
FIRST_PORT = 1024
"""Routers refuse to map the ports below."""


class Granted(NamedTuple):
    external: Endpoint
    lifetime: int
    """Seconds, as the router says; not yet believed."""


class Refused(NamedTuple):
    reason: str
    retry_after: int = 0
    """Seconds for which the router says that asking again is of no use."""
    is_silence: bool = False
    """Whether nobody answered, rather than said no."""


Verdict = Granted | Refused
Parsed = natpmp.Response | pcp.Response


class PcpRequest:
    """MAP, lifetime 0 to give the mapping up (RFC 6887 §11, §15)."""

    protocol: ClassVar[str] = "pcp"

    def __init__(
        self, internal: Internal, nonce: bytes, wish: Endpoint, lifetime: int = MAPPING_LIFETIME
    ) -> None:
        self._internal = internal
        self._nonce = nonce
        self._packed = pcp.MapRequest(internal.host, nonce, internal.port, wish, lifetime).pack()

    def datagrams(self) -> list[bytes]:
        """What is still to be answered, to be sent (again)."""
        return [self._packed]

    def receive(self, message: Parsed) -> Verdict | None:
        """None: not all is known yet. Raises Malformed for what is no answer to this."""
        if isinstance(message, natpmp.ErrorResponse):
            if message.result != natpmp.UNSUPPORTED_VERSION:
                raise Malformed("port mapping: not what was asked")
            return Refused("not spoken by the router", is_silence=True)
        if isinstance(message, pcp.BareError):
            return Refused(message.reason)
        if not isinstance(message, pcp.MapResponse):
            raise Malformed("port mapping: not what was asked")
        asked = (pcp.UDP, self._internal.port)
        is_ours = constant_time_equal(message.nonce, self._nonce)
        if not is_ours or (message.protocol, message.internal_port) != asked:
            raise Malformed("port mapping: of another request")
        if message.result != pcp.SUCCESS:
            return Refused(message.reason, message.lifetime)
        return Granted(message.external, message.lifetime)


class NatPmpRequest:
    """Address and mapping, asked for at once; without the address to give the mapping up."""

    protocol: ClassVar[str] = "nat-pmp"

    def __init__(
        self, internal: Internal, wish: Endpoint, lifetime: int = MAPPING_LIFETIME
    ) -> None:
        self._port = internal.port
        # RFC 6886 §3.4: who gives up asks for port 0.
        wished = wish.port if lifetime else 0
        self._map = natpmp.MapRequest(internal.port, wished, lifetime).pack()
        self._address = None if lifetime else "0.0.0.0"
        self._mapping: natpmp.MapResponse | None = None

    def datagrams(self) -> list[bytes]:
        """What is still to be answered, to be sent (again)."""
        datagrams = [natpmp.AddressRequest().pack()] if self._address is None else []
        return datagrams + ([self._map] if self._mapping is None else [])

    def receive(self, message: Parsed) -> Verdict | None:
        """None: not all is known yet. Raises Malformed for what is no answer to this."""
        if isinstance(message, natpmp.ErrorResponse):
            if message.result == natpmp.UNSUPPORTED_VERSION:
                # There is no version but ours: a second answer to a PCP request.
                raise Malformed("port mapping: of another request")
            return Refused(message.reason)
        if isinstance(message, natpmp.AddressResponse):
            self._address = message.address
        elif isinstance(message, natpmp.MapResponse):
            if message.internal_port != self._port:
                raise Malformed("port mapping: of another request")
            self._mapping = message
        else:
            raise Malformed("port mapping: not what was asked")
        if self._address is None or self._mapping is None:
            return None
        external = Endpoint(self._address, self._mapping.external_port)
        return Granted(external, self._mapping.lifetime)


class UpnpRequest:
    """AddPortMapping (WANIPConnection:1 §2.4.16), with what a router objects to changed."""

    protocol: ClassVar[str] = "upnp"

    def __init__(
        self, internal: Internal, wish: Endpoint, random_bytes: RandomBytes, *, is_found: bool
    ) -> None:
        self.must_find = not is_found
        """Whether the router's IGD is to be found next, before anything can be asked of it."""
        self.external = Endpoint("", wish.port or internal.port)
        """The port to ask for next."""
        self.lifetime = MAPPING_LIFETIME
        """To ask for next."""
        self._random_bytes = random_bytes
        self._tries = 0

    def receive(self, result: UpnpResult) -> Verdict | None:
        """None: go on, with what is to be done next."""
        self._tries += 1
        if self.must_find and not result.error:
            self.must_find = False
            return None
        if not result.error:
            # An IGD does not say what it granted: what was not refused counts.
            lifetime = self.lifetime or MAPPING_LIFETIME
            return Granted(Endpoint(result.external_host, self.external.port), lifetime)
        if self._tries == 1 and result.is_silence and not self.must_find:
            self.must_find = True  # A router that has started again listens on another port.
            return None
        if self._tries <= UPNP_TRIES and not result.is_silence:
            if result.error in ("ConflictInMappingEntry", "Action Failed"):
                # Another machine has that port; some call the conflict so.
                number = int.from_bytes(self._random_bytes(2), "big")
                self.external = Endpoint("", FIRST_PORT + number % (65536 - FIRST_PORT))
                return None
            if result.error in ("OnlyPermanentLeasesSupported", "Invalid Args") and self.lifetime:
                self.lifetime = 0
                return None
        return Refused(result.error, is_silence=result.is_silence)


Request = PcpRequest | NatPmpRequest | UpnpRequest
