"""Counters that let a test prove which way traffic went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from .namespace import LabError, run_tool


class InterfaceCounters(NamedTuple):
    """Since the interface was made. A GSO superpacket counts as one packet."""

    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int


class Count(NamedTuple):
    """IP headers are counted in `bytes`."""

    packets: int
    bytes: int


class UdpCounter:
    """nftables counters of one UDP port of one machine, IPv4 and IPv6, from zero."""

    def __init__(self, namespace: str, port: int) -> None:
        self._namespace = namespace
        self._table = f"count-{port}"
        rules = f"""
            table inet {self._table} {{}}
            delete table inet {self._table}
            table inet {self._table} {{
                counter received {{}}
                counter sent {{}}
                chain prerouting {{
                    type filter hook prerouting priority raw;
                    udp dport {port} counter name received
                }}
                chain output {{
                    type filter hook output priority raw;
                    udp sport {port} counter name sent
                }}
            }}"""
        run_tool(["nft", "-f", "-"], namespace=namespace, text=rules)

    def received(self) -> Count:
        """What arrived for the port."""
        return read_counter(self._namespace, self._table, "received")

    def sent(self) -> Count:
        """What was sent from the port."""
        return read_counter(self._namespace, self._table, "sent")


class PrivateCounter:
    """nftables counter of what one machine sends, other than through a tunnel or to itself, to
    addresses that are private, link-local or shared (RFC 1918, 4193, 6598), from zero."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        run_tool(
            ["nft", "-f", "-"],
            namespace=namespace,
            text="""
            table inet private {
                counter sent {}
                chain output {
                    type filter hook output priority raw;
                    oifname { "lo", "punchtun*" } accept
                    ip daddr { 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, \
                        169.254.0.0/16 } counter name sent
                    ip6 daddr fc00::/7 counter name sent
                }
            }""",
        )

    def sent(self) -> Count:
        return read_counter(self._namespace, "private", "sent")


def read_interface_counters(interface: str) -> InterfaceCounters:
    """Of the calling thread's namespace."""
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        name, _, fields = line.partition(":")
        if name.strip() == interface:
            values = [int(field) for field in fields.split()]
            return InterfaceCounters(values[0 + 1], values[0], values[8 + 1], values[8])
    raise LabError(f"no interface {interface}")


def read_counter(namespace: str, table: str, name: str) -> Count:
    """A named nftables counter of an inet table."""
    argv = ["nft", "-j", "list", "counter", "inet", table, name]
    listing = run_tool(argv, namespace=namespace).stdout
    for item in json.loads(listing)["nftables"]:
        if "counter" in item:
            return Count(item["counter"]["packets"], item["counter"]["bytes"])
    raise LabError(f"no counter {name} in {namespace}: {listing}")
