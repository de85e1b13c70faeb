"""Routers with a NAT: at home, and the carrier's."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from . import conntrack
from .cleanup import Cleanup
from .entries import EntryCounter
from .host import Attachment, Host
from .namespace import ip_batch, write_sysctls
from .nat import Nat

_SYSCTLS = {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1}


class Router(Host):
    """A NAT for IPv4 and a stateful firewall for IPv6, between `wan` and a LAN of its own.

    Its own address is the LAN's first. `isolated`: hosts of the LAN can't reach each other.
    """

    def __init__(
        self,
        name: str,
        cleanup: Cleanup,
        *,
        lan: str,
        lan6: str | None = None,
        nat: Nat,
        isolated: bool = False,
    ) -> None:
        super().__init__(name, cleanup, uplink="wan", sysctls=_SYSCTLS)
        self.lan = ipaddress.IPv4Network(lan)
        self.lan6 = None if lan6 is None else ipaddress.IPv6Network(lan6)
        self._isolated = isolated
        self._free: Iterator[ipaddress.IPv4Address] = self.lan.hosts()
        self._gateway = str(next(self._free))
        self._generation = 0
        self._entry_counter: EntryCounter | None = None
        lines = [
            "link add lan type bridge forward_delay 0 mcast_snooping 0",
            "link set lan up",
            f"addr add {self._gateway}/{self.lan.prefixlen} dev lan",
        ]
        if self.lan6:
            lines.append(f"addr add {self.lan6[1]}/{self.lan6.prefixlen} dev lan nodad")
        ip_batch(lines, namespace=self.namespace)
        # Frames between two hosts of the LAN are no business of the router's firewall.
        bridge = {f"bridge/bridge-nf-call-{table}tables": 0 for table in ("ip", "ip6", "arp")}
        write_sysctls(self.namespace, bridge)
        self.set_nat(nat)

    def host(self, name: str, address: str | None = None) -> Host:
        """A new host on the LAN, at the LAN's next free address unless one is given."""
        host = Host(name, self._cleanup)
        host.attach(self, address)
        return host

    def home_router(self, name: str, *, lan: str, **nat: Any) -> Router:
        """A router whose WAN side is in this LAN: double NAT. IPv4 only. With `software=True` the
        options are the fields of `SoftwareNat`."""
        router = make_router(name, self._cleanup, lan=lan, **nat)
        router.attach(self)
        return router

    # What it does to the mappings

    def set_nat(self, nat: Nat) -> None:
        """Behave differently from now on; flows that exist keep their mapping."""
        self.nat = nat
        self._apply(nat)

    def mappings(self) -> list[conntrack.Mapping]:
        """The UDP flows it tracks: translated ones, its own, and unsolicited ones it took in."""
        return conntrack.list_udp(self.namespace)

    def flush_mappings(self, *, protocol: str | None = None) -> None:
        """Forget all mappings and openings, or those of one protocol ("udp").

        An endpoint-independent NAT gives the same port again, if the inside sends first.
        """
        self.nft("flush map inet router open_to_all\nflush map inet router open_to_address\n")
        conntrack.flush(self.namespace, protocol=protocol)

    def reboot(self) -> None:
        """Forget all mappings and give out other ports than before. Links stay up."""
        self._generation += 1
        self._apply(self.nat.after_reboot(self._generation))
        conntrack.flush(self.namespace)

    def change_public_address(self, address: str) -> None:
        """Get another WAN address; mappings of the old one are gone, as after a reconnect."""
        self.change_address(address)
        self.flush_mappings()

    def count_entries(self) -> None:
        """Begin to watch the size of its table; see `peak_entries`."""
        if self._entry_counter is None:
            self._entry_counter = EntryCounter(self.namespace)
            self._cleanup.sockets.append(self._entry_counter)

    def entries(self) -> int:
        """Entries of its table at this moment, of all protocols and both families."""
        self.count_entries()
        assert self._entry_counter is not None
        return self._entry_counter.now()

    def peak_entries(self) -> int:
        """The most entries since `count_entries` (looking every 50 ms)."""
        self.count_entries()
        assert self._entry_counter is not None
        return self._entry_counter.peak()

    def forward_udp(self, port: int, host: Host, inside_port: int | None = None) -> None:
        """Open an external port for a host, as UPnP or an owner would."""
        element = f"{port} : {host.ip4} . {inside_port or port}"
        self.nft(f"add element inet router forwards {{ {element} }}")

    # What it lets through

    def block_udp(self) -> None:
        """Drop forwarded UDP, also of flows that exist, until `unblock`."""
        self._block("meta l4proto udp drop")

    def allow_only_tcp(self, *ports: int) -> None:
        """Let only TCP to these ports out (and its answers in), until `unblock`."""
        allowed = ", ".join(str(port) for port in ports)
        rules = f"tcp dport {{ {allowed} }} accept\ntcp sport {{ {allowed} }} accept\ndrop"
        self._block(rules)

    def unblock(self) -> None:
        """Undo `block_udp` and `allow_only_tcp`."""
        self._block("")

    # What a network does (see host.Network)

    def plug_in(self, host: Host, address: str | None, address6: str | None) -> Attachment:
        chosen = address or str(next(self._free))
        isolated = "on" if self._isolated else "off"
        ip_batch(
            [
                (
                    f"link add name {host.name} type veth"
                    f" peer name {host.uplink} netns {host.namespace}"
                ),
                f"link set dev {host.name} master lan up",
                f"link set dev {host.name} type bridge_slave isolated {isolated}",
            ],
            namespace=self.namespace,
        )
        attachment = self._attachment(chosen)
        return attachment._replace(ip6=address6) if address6 else attachment

    def unplug(self, host: Host) -> None:
        """Nothing but the cable ties a host to its LAN."""

    def readdress(self, host: Host, address: str) -> Attachment:
        return self._attachment(address)

    def _attachment(self, address: str) -> Attachment:
        lan4, lan6 = self.lan.prefixlen, self.lan6
        if lan6 is None:
            return Attachment(address, lan4, self._gateway, None, 128, None)
        # The host's place in the LAN is the same in both: 192.168.1.2 is ::2.
        place = int(ipaddress.IPv4Address(address)) - int(self.lan.network_address)
        ip6 = str(lan6[place])
        return Attachment(address, lan4, self._gateway, ip6, lan6.prefixlen, str(lan6[1]))

    def _apply(self, nat: Nat) -> None:
        timeouts = {
            "netfilter/nf_conntrack_udp_timeout": nat.udp_timeout,
            "netfilter/nf_conntrack_udp_timeout_stream": nat.udp_timeout_stream,
        }
        write_sysctls(self.namespace, timeouts)
        self.nft(nat.ruleset(isolated=self._isolated, seed=self._generation + 1))

    def _block(self, rules: str) -> None:
        self.nft(f"""
            table inet block {{}}
            delete table inet block
            table inet block {{
                chain forward {{
                    type filter hook forward priority filter - 10
                    {rules}
                }}
            }}""")


def make_router(
    name: str,
    cleanup: Cleanup,
    *,
    lan: str,
    lan6: str | None = None,
    isolated: bool = False,
    software: bool = False,
    **nat: Any,
) -> Router:
    """A router not plugged in yet; `nat` are the fields of `Nat`, or with `software` those of
    `SoftwareNat`."""
    if not software:
        return Router(name, cleanup, lan=lan, lan6=lan6, nat=Nat(**nat), isolated=isolated)
    from .soft_nat import SoftwareNat
    from .soft_router import SoftRouter  # which is a Router itself

    options = SoftwareNat(**nat)
    return SoftRouter(name, cleanup, lan=lan, lan6=lan6, nat=options, isolated=isolated)
