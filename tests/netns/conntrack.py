"""The kernel's table of UDP flows in one namespace."""

from __future__ import annotations

import re
from typing import TypedDict

from .namespace import run_tool

Endpoint = tuple[str, int]

_FLOW = re.compile(r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)")


class Mapping(TypedDict):
    """One conntrack entry. In a flow that began inside, `external` is the translated endpoint."""

    source: Endpoint
    """Of the flow's first packet, before translation."""
    destination: Endpoint
    """Of the flow's first packet, before translation."""
    remote: Endpoint
    """Who answers: where replies come from."""
    external: Endpoint
    """Where replies are sent to."""
    expires: int
    """Seconds left."""
    replied: bool
    assured: bool
    """The long timeout applies."""


def list_udp(namespace: str) -> list[Mapping]:
    """All UDP entries, IPv4 and IPv6."""
    mappings = []
    for family in ("ipv4", "ipv6"):
        argv = ["conntrack", "-L", "-f", family, "-p", "udp"]
        for line in run_tool(argv, namespace=namespace).stdout.splitlines():
            there, back = _FLOW.findall(line)
            mappings.append(
                Mapping(
                    source=(there[0], int(there[2])),
                    destination=(there[1], int(there[3])),
                    remote=(back[0], int(back[2])),
                    external=(back[1], int(back[3])),
                    expires=int(line.split()[2]),
                    replied="[UNREPLIED]" not in line,
                    assured="[ASSURED]" in line,
                )
            )
    return mappings


def flush(namespace: str, *, protocol: str | None = None) -> None:
    """Forget all flows, or those of one protocol ("udp")."""
    if protocol is None:
        run_tool(["conntrack", "-F"], namespace=namespace)
        return
    for family in ("ipv4", "ipv6"):
        # Its exit code is 1 when there was nothing to delete.
        argv = ["conntrack", "-D", "-f", family, "-p", protocol]
        run_tool(argv, namespace=namespace, check=False)
