"""NAT behaviours in RFC 4787's words, and the nftables rules that make the kernel behave so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Behaviour = Literal["endpoint-independent", "address-dependent", "address-and-port-dependent"]

_DEFAULT_BLOCK = (40000, 42047)
_REBOOT_BASE, _REBOOT_SIZE, _REBOOT_BLOCKS = 20480, 2048, 6
_TO_OURSELVES = "iifname lan meta l4proto udp fib daddr type local fib daddr . iif type != local"
_HAIRPIN_IN = f"""
                    {_TO_OURSELVES} dnat ip to udp dport map @forwards
                    {_TO_OURSELVES} dnat ip to udp dport map @open_to_all"""
# Its source becomes the address it was sent to, the router's own outside.
_HAIRPIN_OUT = """
                    iifname lan oifname lan meta l4proto udp ct status dnat \
                        snat ip to ct original ip daddr"""
_VALUES = {
    "mapping": ("endpoint-independent", "address-dependent", "address-and-port-dependent"),
    "filtering": ("endpoint-independent", "address-dependent", "address-and-port-dependent"),
    "allocation": ("preserving", "random", "sequential"),
    "unsolicited": ("drop", "track"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Nat:
    """How a router translates UDP. The defaults are those of a plain Linux home router."""

    mapping: Behaviour = "endpoint-independent"
    """On what, besides the inside endpoint, the external port depends."""
    filtering: Behaviour = "address-and-port-dependent"
    """Who may send to a mapping. Other than the default: also before any packet went there, for
    `udp_timeout` after the mapping's last outbound packet."""
    allocation: Literal["preserving", "random", "sequential"] | None = None
    """Of external ports; None is `preserving` for an endpoint-independent mapping (from `ports`
    at random if the inside port is not among them), else `random`. `sequential` counts up by one
    per new mapping. Address-dependent ports are always a hash, that is, random."""
    ports: tuple[int, int] | None = None
    """First and last external port of the block; None: any port the kernel likes."""
    unsolicited: Literal["drop", "track"] = "drop"
    """What becomes of inbound packets without a mapping. `track`: the router takes them in as its
    own, conntrack remembers them, and an outbound packet to the same endpoint then gets *another*
    external port (NATs as measured, 2); the sender gets an ICMP port unreachable."""
    hairpin: bool = False
    """Whether hosts inside reach each other by their external endpoints, and are seen at these
    (RFC 4787 REQ-9). The kernel can, if anybody is let in at a mapping."""
    udp_timeout: int = 30
    """Seconds, of a mapping that saw no answer, or that is younger than 2 s."""
    udp_timeout_stream: int = 120
    """Seconds, of a mapping that traffic went through in both directions for more than 2 s."""

    def __post_init__(self) -> None:
        for name, allowed in _VALUES.items():
            value = getattr(self, name)
            if value not in allowed and not (name == "allocation" and value is None):
                raise ValueError(f"{name}={value!r}: must be one of {', '.join(allowed)}")
        varying = self.mapping == "address-and-port-dependent"
        if self.allocation is not None and varying == (self.allocation == "preserving"):
            raise ValueError(f"mapping {self.mapping} can't have allocation {self.allocation}")
        if self.hairpin and self.filtering != "endpoint-independent":
            raise ValueError("hairpin=True needs filtering endpoint-independent, or software=True")
        if self.ports is not None and not 1 <= self.ports[0] <= self.ports[1] <= 65535:
            raise ValueError(f"ports={self.ports!r}: must be first and last port")

    def after_reboot(self, generation: int) -> Nat:
        """The same NAT, giving out other ports than in the generations before (there are six)."""
        if self.ports is None:
            if self.mapping == "address-and-port-dependent" and self.allocation != "sequential":
                return self
            first = _REBOOT_BASE + _REBOOT_SIZE * ((generation - 1) % _REBOOT_BLOCKS)
            return replace(self, ports=(first, first + _REBOOT_SIZE - 1))
        size = self.ports[1] - self.ports[0] + 1
        blocks = max(1, (65536 - 1024) // size)
        first = 1024 + (self.ports[0] - 1024 + size * generation) % (blocks * size)
        return replace(self, ports=(min(first, 65536 - size), min(first + size - 1, 65535)))

    def ruleset(self, *, isolated: bool, seed: int = 1) -> str:
        """For a router with interfaces `lan` and `wan`; replaces the former one in one step.

        `isolated`: the LAN's hosts can't reach each other. `seed` sets the hash that an
        address-dependent mapping is made of.
        """
        return f"""
            table inet router {{}}
            delete table inet router
            table inet router {{
                map forwards {{ type inet_service : ipv4_addr . inet_service; }}
                map open_to_all {{
                    type inet_service : ipv4_addr . inet_service
                    flags dynamic,timeout; timeout {self.udp_timeout}s
                }}
                map open_to_address {{
                    type inet_service . ipv4_addr : ipv4_addr . inet_service
                    flags dynamic,timeout; timeout {self.udp_timeout}s
                }}
                chain prerouting {{
                    type nat hook prerouting priority dstnat
                    iifname wan meta l4proto udp dnat ip to udp dport map @forwards
                    iifname wan meta l4proto udp dnat ip to udp dport map @open_to_all
                    iifname wan meta l4proto udp dnat ip to udp dport . ip saddr map \\
                        @open_to_address
                    {_HAIRPIN_IN if self.hairpin else ""}
                }}
                chain postrouting {{
                    type nat hook postrouting priority srcnat
                    {_HAIRPIN_OUT if self.hairpin else ""}
                    oifname wan meta nfproto ipv4 meta l4proto udp {self._masquerade(seed)}
                    oifname wan meta nfproto ipv4 masquerade
                }}
                chain learn {{
                    type filter hook postrouting priority srcnat + 50
                    {self._learn()}
                }}
                chain input {{
                    type filter hook input priority filter
                    iifname != wan accept
                    ct state established,related accept
                    meta l4proto {{ 1, 58 }} accept
                    {"drop" if self.unsolicited == "drop" else "accept"}
                }}
                chain forward {{
                    type filter hook forward priority filter; policy drop
                    ct state established,related accept
                    iifname lan oifname wan accept
                    iifname lan oifname lan {"drop" if isolated else "accept"}
                    iifname wan ct status dnat accept
                }}
            }}"""

    def _masquerade(self, seed: int) -> str:
        first, last = self.ports or _DEFAULT_BLOCK
        # `map` because the kernel would take a bare number's bytes in the wrong order.
        to_port = ", ".join(
            f"{index} : {port}" for index, port in enumerate(range(first, last + 1))
        )
        size = last - first + 1
        if self.mapping == "address-dependent":
            key = "ip saddr . udp sport . ip daddr"
            return f"masquerade to :jhash {key} mod {size} seed {seed} map {{ {to_port} }}"
        if self.allocation == "sequential":
            return f"masquerade to :numgen inc mod {size} map {{ {to_port} }}"
        block = f" to :{first}-{last}" if self.ports else ""
        if self.mapping == "address-and-port-dependent":
            return f"masquerade{block} fully-random"
        # Without `random` the kernel gives an inside endpoint the mapping it already has.
        return f"masquerade{block}"

    def _learn(self) -> str:
        """Remember each outbound mapping, under the external port conntrack chose for it."""
        if self.filtering == "address-and-port-dependent":
            return ""
        table, key = ("open_to_all", "")
        if self.filtering == "address-dependent":
            table, key = ("open_to_address", " . ip daddr")
        update = f"update @{table}"
        original = f"ct reply proto-dst{key} : ct original ip saddr . ct original proto-src"
        # An outbound packet of a flow that a remote began, through an opening.
        reply = f"ct original proto-dst{key} : ct reply ip saddr . ct reply proto-src"
        start = "oifname wan meta nfproto ipv4 meta l4proto udp ct direction"
        return f"""
                    {start} original {update} {{ {original} }}
                    {start} reply {update} {{ {reply} }}"""
