"""What the kernel may be asked to do for many packets at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Offloads:
    """Which are wanted, or which are in use: a kernel may not have them all."""

    tun: bool = True
    """Superpackets at the TUN interface."""
    uso: bool = True
    """Those of UDP among them; nothing without `tun`."""
    gso: bool = True
    """Trains out by one call: UDP_SEGMENT."""
    gro: bool = True
    """Trains in by one call: UDP_GRO."""
