"""Names → endpoints, without blocking the hub."""

from __future__ import annotations

import ipaddress
import socket

from tunnel.drivers.threads import run_in_thread
from tunnel.wire.endpoint import Endpoint


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def resolve(host: str, port: int, *, allow_ipv6: bool) -> list[Endpoint]:
    """All endpoints of `host`, in the system's order of preference; [] when it does not resolve."""
    if is_address(host):
        endpoint = Endpoint(str(ipaddress.ip_address(host)), port)
        return [endpoint] if allow_ipv6 or not endpoint.is_ipv6 else []
    try:
        found = run_in_thread(socket.getaddrinfo, host, port, socket.AF_UNSPEC, socket.SOCK_DGRAM)
    except OSError:
        # Normal at boot, when a name server may still be away: the caller says so and tries again.
        return []
    endpoints = []
    for family, _, _, _, address in found:
        if family == socket.AF_INET or (family == socket.AF_INET6 and allow_ipv6):
            host_text = str(address[0]).split("%")[0]
            endpoint = Endpoint(str(ipaddress.ip_address(host_text)), port)
            if endpoint not in endpoints:
                endpoints.append(endpoint)
    return endpoints
