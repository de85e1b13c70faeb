"""The router's Internet Gateway Device (UPnP), through miniupnpc.

Everything here blocks, discovery for up to eight seconds: it is for the thread pool. miniupnpc is
imported there as well, when it is first needed.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from tunnel.core.upnp_operations import (
    Internal,
    UpnpFind,
    UpnpMap,
    UpnpOperation,
    UpnpResult,
)

DISCOVERY = 2000
"""Milliseconds for devices to answer; they may take as long as they are given."""
DESCRIPTION = "punchtun"
"""What the router's owner reads in its list of mappings."""
_UNHEARD = ("Miniupnpc", "HTTP", "Unknown")
"""How miniupnpc's errors begin that are not an answer of the IGD."""


class Igd:
    """Carries operations out, one at a time."""

    def __init__(self) -> None:
        self._device: Any = None

    def carry_out(self, operation: UpnpOperation) -> UpnpResult:
        """Raises nothing: what goes wrong is in the result."""
        try:
            if isinstance(operation, UpnpFind):
                self._device = _find(operation.internal)
                return UpnpResult(operation.serial)
            if self._device is None:
                raise _Unheard("no IGD is known")
            port = operation.external_port
            if isinstance(operation, UpnpMap):
                self._map(operation, port)
                return UpnpResult(operation.serial, str(self._device.externalipaddress()))
            self._device.deleteportmapping(port, "UDP")
            return UpnpResult(operation.serial)
        except ImportError:
            return UpnpResult(operation.serial, error="miniupnpc is missing", is_silence=True)
        except Exception as error:  # miniupnpc raises nothing more special.
            text = str(error) or type(error).__name__
            is_silence = isinstance(error, _Unheard) or text.startswith(_UNHEARD)
            return UpnpResult(operation.serial, error=text, is_silence=is_silence)

    def _map(self, operation: UpnpMap, port: int) -> None:
        internal, lifetime = operation.internal, operation.lifetime
        self._device.addportmapping(
            port, "UDP", internal.host, internal.port, DESCRIPTION, "", lifetime
        )


class _Unheard(Exception):
    """Nobody answered."""


def _find(internal: Internal) -> Any:
    import miniupnpc

    device = miniupnpc.UPnP(multicastif=internal.host, discoverdelay=DISCOVERY)
    try:
        device.discover()  # Raises "Success" when there is none.
        location = str(device.selectigd())
    except Exception as error:
        raise _Unheard("no IGD answers") from error
    host = urlsplit(location).hostname
    if host != internal.gateway:
        # Whatever it maps, our traffic does not go through it.
        raise _Unheard(f"an IGD answers at {host}, which is not our router")
    return device
