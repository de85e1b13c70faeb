"""Other tunnels, as Debian packages them, measured as this one is.

On Debian: ``apt install tinc n2n nebula wireguard-go wireguard-tools``. Each runs in the foreground
inside the lab's namespaces, with its default timers; what is set differs in no other way from what
its own documentation tells someone behind a NAT to set.
"""

from __future__ import annotations

from ..contender import Contender
from .n2n import N2n
from .nebula import Nebula
from .tinc import Tinc
from .wireguard import WireguardGo

__all__ = ["RIVALS", "N2n", "Nebula", "Tinc", "WireguardGo"]

RIVALS: tuple[type[Contender], ...] = (Tinc, N2n, Nebula, WireguardGo)
