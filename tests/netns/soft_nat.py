"""NAT behaviours that a process of the lab provides, because the kernel can't: all combinations."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from tests.sim import nat as sim
from tests.sim.ports import Allocation

from .nat import Behaviour


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftwareNat:
    """How a router with `software=True` translates UDP: the simulator's NAT, in this lab's words.

    Other protocols and IPv6 are the kernel's, as in a plain home router.
    """

    mapping: Behaviour = "endpoint-independent"
    filtering: Behaviour = "address-and-port-dependent"
    allocation: Literal["preserving", "sequential", "random", "random-in-block"] = "random"
    """Of external ports, 1024 to 65535."""
    block_size: int = 512
    """Ports of each inside host with "random-in-block"."""
    hairpin: bool = False
    """Whether hosts inside reach each other by their external endpoints."""
    unsolicited: Literal["drop", "track"] = "drop"
    """`track`: an inbound packet without a mapping occupies its port towards its source (NATs as
    measured, 2). Nobody is told of it by ICMP."""
    shares_ports: bool = False
    """An external port is unique per remote only, as in the kernel (NATs as measured, 6)."""
    inbound_refresh: bool = True
    """Whether inbound packets keep a mapping alive, as in the kernel."""
    udp_timeout: float = 30
    udp_timeout_stream: float = 120
    max_mappings: int = 65536
    """Entries of the table; what would need one more is dropped."""
    answers_ttl: bool = True
    """Whether it tells (ICMP) of packets whose time to live it ended."""
    seed: int = 0
    """Of its random choices; 0: other ones each time."""

    def __post_init__(self) -> None:
        if self.unsolicited not in ("drop", "track"):
            raise ValueError(f"unsolicited={self.unsolicited!r}: must be drop or track")
        self.simulated()

    def simulated(self, *addresses: str) -> sim.Nat:
        """The same for the simulator, with these external addresses. ValueError names an option
        that is wrong."""
        return sim.Nat(
            sim.Mapping(_member("mapping", self.mapping, sim.Mapping)),
            sim.Filtering(_member("filtering", self.filtering, sim.Filtering)),
            Allocation(_member("allocation", self.allocation, Allocation)),
            block_size=self.block_size,
            mapping_timeout=self.udp_timeout,
            stream_timeout=self.udp_timeout_stream,
            inbound_refresh=self.inbound_refresh,
            hairpin=self.hairpin,
            tracks_unsolicited=self.unsolicited == "track",
            shares_ports=self.shares_ports,
            max_mappings=self.max_mappings,
            answers_ttl=self.answers_ttl,
            addresses=addresses,
            seed=self.seed,
        )

    def fields(self) -> dict[str, Any]:
        """Its fields, for another process: `SoftwareNat(**fields)`."""
        return asdict(self)


def _member(option: str, value: str, enum: Any) -> Any:
    for member in enum:
        if member.name.lower().replace("_", "-") == value:
            return member
    raise ValueError(f"{option}={value!r}: no such behaviour")
