"""The cable between two machines: a veth pair with loss, rate, delay and MTU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .namespace import LabUnavailable, ip_batch, run_tool


class End(NamedTuple):
    """One end of a link: an interface of a namespace."""

    namespace: str
    interface: str


@dataclass(frozen=True, slots=True)
class Link:
    """A veth pair. Its offloads are veth's own (TSO and UDP segmentation on, GRO off); while it
    has a loss, all of them are off."""

    near: End
    """On the machine whose uplink this is."""
    far: End
    """On the machine it is plugged into."""

    def shape(
        self, *, delay_ms: float = 0.0, loss_percent: float = 0.0, rate: str | None = None
    ) -> None:
        """Make the link slow or lossy in each direction alike; replaces earlier shaping.

        `rate` is as `tc` writes it ("20mbit"). A delay needs the kernel's sch_netem; without it
        this raises `LabUnavailable` and leaves the link as it was.
        """
        if delay_ms and not has_netem(self.near):
            raise LabUnavailable("delay on a link needs sch_netem, which this kernel lacks")
        for end in (self.near, self.far):
            _shape_queue(end, delay_ms, rate)
            _shape_loss(end, loss_percent)

    def set_mtu(self, mtu: int, *, too_big_answered: bool = True) -> None:
        """Set the MTU of both ends.

        With `too_big_answered=False` neither machine tells anyone (ICMP) that a packet was too
        big, on any of its links: a black hole, as behind many carriers.
        """
        for end in (self.near, self.far):
            ip_batch([f"link set dev {end.interface} mtu {mtu}"], namespace=end.namespace)
            rules = "table inet blackhole {}\ndelete table inet blackhole\n"
            if not too_big_answered:
                rules += """
                    table inet blackhole {
                        chain output {
                            type filter hook output priority 0;
                            icmp type destination-unreachable icmp code frag-needed drop
                            icmpv6 type packet-too-big drop
                        }
                    }"""
            run_tool(["nft", "-f", "-"], namespace=end.namespace, text=rules)

    def drop_larger_than(self, size: int) -> None:
        """From now on drop, without a word, what the near end sends if it is longer than `size`
        bytes, and all fragments of IP: a narrow path in one direction."""
        _segment(self.near, "off")  # Else whole trains are met here.
        table = f"narrow-{self.far.interface}"
        rules = f"""
            table netdev {table} {{
                chain arriving {{
                    type filter hook ingress device "{self.far.interface}" priority 0;
                    ip length > {size} drop
                    ip frag-off & 0x3fff != 0 drop
                    ip6 length > {size - 40} drop
                    ip6 nexthdr 44 drop
                }}
            }}"""
        run_tool(["nft", "-f", "-"], namespace=self.far.namespace, text=rules)


def has_netem(end: End) -> bool:
    """Whether this kernel can delay packets; asked by trying, without lasting effect."""
    arguments = ["dev", "lo", "root", "netem", "delay", "1ms"]
    tried = run_tool(["tc", "-n", end.namespace, "qdisc", "add", *arguments], check=False)
    if tried.returncode == 0:
        run_tool(["tc", "-n", end.namespace, "qdisc", "del", "dev", "lo", "root"])
    return tried.returncode == 0


def _shape_queue(end: End, delay_ms: float, rate: str | None) -> None:
    qdisc = ["tc", "-n", end.namespace, "qdisc"]
    run_tool([*qdisc, "del", "dev", end.interface, "root"], check=False)
    if delay_ms:
        limit = ["rate", rate] if rate else []
        netem = ["netem", "delay", f"{delay_ms}ms", "limit", "20000", *limit]
        run_tool([*qdisc, "add", "dev", end.interface, "root", *netem])
    elif rate:
        bucket = ["tbf", "rate", rate, "burst", "64kb", "latency", "100ms"]
        run_tool([*qdisc, "add", "dev", end.interface, "root", *bucket])


def _segment(end: End, state: str) -> None:
    """Whether the interface takes packets larger than its MTU, to be cut by whoever must."""
    features = ["tso", state, "tx-udp-segmentation", state, "gro", "off"]
    run_tool(["ethtool", "-K", end.interface, *features], namespace=end.namespace)


def _shape_loss(end: End, percent: float) -> None:
    """Drop on arrival, where every packet on the wire is met on its own: offloads go off."""
    table = f"loss-{end.interface}"
    listed = ["nft", "list", "table", "netdev", table]
    had_loss = run_tool(listed, namespace=end.namespace, check=False).returncode == 0
    if percent or had_loss:
        _segment(end, "off" if percent else "on")
    rules = f"table netdev {table} {{}}\ndelete table netdev {table}\n"
    if percent:
        rules += f"""
            table netdev {table} {{
                chain arriving {{
                    type filter hook ingress device "{end.interface}" priority 0;
                    ether type arp accept
                    numgen random mod 1000000 < {round(percent * 10_000)} drop
                }}
            }}"""
    run_tool(["nft", "-f", "-"], namespace=end.namespace, text=rules)
