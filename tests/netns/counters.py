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
        return self._read("received")

    def sent(self) -> Count:
        """What was sent from the port."""
        return self._read("sent")

    def _read(self, name: str) -> Count:
        listing = run_tool(
            ["nft", "-j", "list", "counter", "inet", self._table, name], namespace=self._namespace
        ).stdout
        for item in json.loads(listing)["nftables"]:
            if "counter" in item:
                return Count(item["counter"]["packets"], item["counter"]["bytes"])
        raise LabError(f"no counter {name} in {self._namespace}: {listing}")


def read_interface_counters(interface: str) -> InterfaceCounters:
    """Of the calling thread's namespace."""
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        name, _, fields = line.partition(":")
        if name.strip() == interface:
            values = [int(field) for field in fields.split()]
            return InterfaceCounters(values[0 + 1], values[0], values[8 + 1], values[8])
    raise LabError(f"no interface {interface}")
