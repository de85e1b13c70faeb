"""The laboratory of one contender: two hosts with a cable between them, and the internet aside."""

from __future__ import annotations

import time
from pathlib import Path

from tests.netns.lab import Lab
from tests.netns.namespace import ip_batch, run_tool

from .contender import Contender, DualStack

VPS = "203.0.113.10"
LEFT, RIGHT = "198.51.100.7", "192.0.2.33"
CABLE = "cable"
LARGEST_FRAME = 1514
"""Bytes of an Ethernet frame that an MTU of 1500 allows."""
LINKS = {
    "veth": "the veth pair as it is: packets of 64 KiB may cross it",
    "nic": "as a network card: cut to the MTU on sending (GSO), put together on arrival (GRO)",
    "none": "no offload at all",
}
_SEGMENTATION = ("tso", "tx-udp-segmentation")
_PINGS = 20


class Site:
    """A lab, and the contender in it, once `start` has returned."""

    def __init__(self, lab: Lab, number: int) -> None:
        self.vps = lab.public_host("vps", VPS)
        # The number: some programs keep files named after the host outside its namespace.
        self.left = lab.public_host(f"l{number}", LEFT)
        self.right = lab.public_host(f"r{number}", RIGHT)
        lines = [f"link add name {CABLE} type veth peer name {CABLE} netns {self.right.namespace}"]
        ip_batch(lines, namespace=self.left.namespace)
        for host, other in ((self.left, self.right), (self.right, self.left)):
            own = f"src {host.ip4}"
            lines = [f"link set {CABLE} up", f"route add {other.ip4}/32 dev {CABLE} {own}"]
            ip_batch(lines, namespace=host.namespace)
            # Where what one host has for the other leaves it: its counters are the host's.
            host.uplink = CABLE
        self.addresses = ("", "")
        """Of left and right in the tunnel."""

    def start(self, contender: Contender, folder: Path, *, ipv6: bool = False) -> None:
        """Start it; what is measured goes to its IPv6 addresses if `ipv6`.

        RuntimeError if it has none, or what it carries does not cross the cable.
        """
        self.addresses = contender.start(self.vps, self.left, self.right, folder)
        if ipv6:
            if not isinstance(contender, DualStack):
                raise RuntimeError("not set up for IPv6 in the tunnel")
            self.addresses = contender.addresses6()
        before, relayed = self.left.interface_counters(), self.vps.interface_counters("eth0")
        ping = ["ping", "-n", "-c", str(_PINGS), "-i", "0.02", "-q", self.addresses[1]]
        self.left.run(ping)
        after, relayed_after = self.left.interface_counters(), self.vps.interface_counters("eth0")
        crossed = after.tx_packets - before.tx_packets
        strayed = relayed_after.rx_packets - relayed.rx_packets
        if crossed < _PINGS or strayed >= _PINGS:
            raise RuntimeError(f"{_PINGS} pings: {crossed} crossed the cable, {strayed} the server")

    def set_link(self, link: str) -> None:
        """Give the cable the offloads of that kind of link, at both ends."""
        cut = "on" if link == "veth" else "off"
        software = "off" if link == "none" else "on"
        # GRO off is how veth comes; for UDP there is more to switch than for TCP.
        joined = "on" if link == "nic" else "off"
        features = [word for name in _SEGMENTATION for word in (name, cut)]
        features += ["gso", software, "gro", joined, "rx-udp-gro-forwarding", "off"]
        for host in (self.left, self.right):
            run_tool(["ethtool", "-K", CABLE, *features], namespace=host.namespace)

    def frames_too_large(self, seconds: float) -> bool:
        """Whether left sends, within so many seconds, a frame on the cable that no network card
        would; looks at what leaves, since on arrival GRO has already been at it."""
        argv = ["tcpdump", "-n", "-i", CABLE, "-Q", "out", "-c", "1", "-w", "/dev/null"]
        watching = self.left.popen([*argv, "greater", str(LARGEST_FRAME + 1)])
        watching.wait_for("listening on")
        deadline = time.monotonic() + seconds
        while watching.returncode is None and time.monotonic() < deadline:
            time.sleep(0.02)
        found = watching.returncode == 0
        watching.stop()
        return found
