"""A router whose NAT for UDP is a process of the lab.

::

    lan ──mark──> from-lan ══╗                ╔══> wan      marked by nftables, routed by the mark
                             ║  translator    ║             into a TUN device; what the process
    wan ──mark──> from-wan ══╝   process      ╚══> lan      writes the kernel forwards as usual

The process has the simulator's table (`tests.sim.nat.Nat`), so that simulator and lab share one
definition of every behaviour. The kernel keeps TCP, ICMP echo and IPv6.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import sys
from pathlib import Path
from typing import Any

from . import conntrack
from .cleanup import Cleanup
from .host import Host, Network
from .namespace import LabError, ip_batch, write_sysctls
from .nat import Nat
from .process import Process
from .router import Router
from .soft_nat import SoftwareNat
from .translator_process import FROM_INSIDE, FROM_OUTSIDE, UNDECREMENTED, Configuration

_ROOT = Path(__file__).parents[2]
_MARK, _TABLE_INSIDE, _TABLE_OUTSIDE = 0x50, 501, 502
_QUEUE = 10_000
"""Packets a TUN device holds for the process: a burst of checks must not be lost here."""


class SoftRouter(Router):
    """A `Router` with a `SoftwareNat`: any mapping, filtering and allocation, hairpin or not."""

    def __init__(
        self,
        name: str,
        cleanup: Cleanup,
        *,
        lan: str,
        lan6: str | None = None,
        nat: SoftwareNat,
        isolated: bool = False,
    ) -> None:
        self.soft_nat = nat
        self._process: Process | None = None
        super().__init__(name, cleanup, lan=lan, lan6=lan6, nat=Nat(), isolated=isolated)
        self._control = cleanup.files / f"translator-{name}"
        devices = (FROM_INSIDE, FROM_OUTSIDE)
        ip_batch([f"tuntap add dev {name} mode tun" for name in devices], namespace=self.namespace)
        write_sysctls(
            self.namespace,
            {
                # What the process writes towards outside has this router's own address as source.
                f"ipv4/conf/{FROM_INSIDE}/accept_local": 1,
                # Else the kernel asks for IPv6 routers on them.
                **{f"ipv6/conf/{name}/disable_ipv6": 1 for name in devices},
            },
        )
        ip_batch(
            [
                *(f"link set dev {name} mtu 65535 txqueuelen {_QUEUE} up" for name in devices),
                f"route add default dev {FROM_INSIDE} table {_TABLE_INSIDE}",
                f"route add default dev {FROM_OUTSIDE} table {_TABLE_OUTSIDE}",
                f"rule add pref 1 fwmark {_MARK} iif lan lookup {_TABLE_INSIDE}",
                f"rule add pref 2 fwmark {_MARK} iif wan lookup {_TABLE_OUTSIDE}",
                "rule add pref 10 lookup local",
                "rule del pref 0",
            ],
            namespace=self.namespace,
        )
        self.nft(_picking(self.lan))

    @property
    def process(self) -> Process:
        if self._process is None:
            raise LabError(f"{self.name} is not plugged into any network yet")
        return self._process

    def attach(self, network: Network, address: str | None = None, ipv6: str | None = None) -> None:
        super().attach(network, address, ipv6)
        if self._process is None:
            self._start()
        else:
            self._ask("readdress", address=self.ip4)

    def change_address(self, address: str) -> None:
        """Get another IPv4 address in the same network; all mappings are gone with the old one."""
        super().change_address(address)
        self._ask("readdress", address=self.ip4)

    # What it does to the mappings

    def set_software_nat(self, nat: SoftwareNat) -> None:
        """Behave differently from now on; all mappings are forgotten."""
        self.soft_nat = nat
        self._ask("replace", nat=nat.fields())

    def mappings(self) -> list[conntrack.Mapping]:
        """Its UDP sessions, the unsolicited packets it tracks not among them."""
        found = []
        for inside, external, remote, expires, replied, assured in self._ask("list"):
            found.append(
                conntrack.Mapping(
                    source=_endpoint(inside),
                    destination=_endpoint(remote),
                    remote=_endpoint(remote),
                    external=_endpoint(external),
                    expires=int(expires),
                    replied=replied,
                    assured=assured,
                )
            )
        return found

    def flush_mappings(self, *, protocol: str | None = None) -> None:
        super().flush_mappings(protocol=protocol)
        if protocol in (None, "udp"):
            self._ask("flush")

    def reboot(self) -> None:
        conntrack.flush(self.namespace)
        self._ask("reboot")

    def forward_udp(self, port: int, host: Host, inside_port: int | None = None) -> None:
        self._ask("forward", port=port, host=host.ip4, inside_port=inside_port or port)

    # What it counts

    def count_entries(self) -> None:
        """Nothing: its table always counts."""

    def entries(self) -> int:
        """Of its table of UDP, at this moment."""
        return int(self._ask("read")["entries"])

    def peak_entries(self) -> int:
        """The most its table ever had; exact."""
        return int(self._ask("read")["peak_entries"])

    def packets(self) -> dict[str, int]:
        """Packets by what became of them; the words are those of `Translator.counters`."""
        return dict(self._ask("read")["packets"])

    def _apply(self, nat: Nat) -> None:
        super()._apply(nat)
        devices = f"{{ {FROM_INSIDE}, {FROM_OUTSIDE} }}"
        self.nft(
            f"insert rule inet router forward iifname {devices} accept\n"
            f"insert rule inet router forward oifname {devices} accept\n"
        )

    def _start(self) -> None:
        configuration = Configuration(
            nat=self.soft_nat.fields(),
            gateway=self._gateway,
            external=self.ip4,
            control=str(self._control),
        )
        argv = [sys.executable, "-m", "tests.netns.translator_process"]
        self._process = self.popen([*argv, json.dumps(configuration._asdict())], cwd=_ROOT)
        self._process.wait_for("ready")

    def _ask(self, do: str, **arguments: Any) -> Any:
        if self.process.returncode is not None:
            raise LabError(f"the translator of {self.name} has ended\n{self.process.tail()}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.settimeout(5.0)
            control.connect(str(self._control))
            control.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
            with control.makefile("r") as lines:
                answer = json.loads(lines.readline())
        if "error" in answer:
            raise LabError(f"{self.name}: {do}: {answer['error']}")
        return answer["answer"]


def _picking(lan: ipaddress.IPv4Network) -> str:
    """Rules that mark what goes to the process. Errors about its flows are those the kernel can't
    attribute, because it does not track UDP here."""
    errors = "icmp type { destination-unreachable, time-exceeded } ct state invalid"
    return f"""
        table ip software {{
            chain untracked {{
                type filter hook prerouting priority raw
                iifname {{ lan, wan, {FROM_INSIDE}, {FROM_OUTSIDE} }} meta l4proto udp notrack
            }}
            chain pick {{
                type filter hook prerouting priority dstnat + 10
                iifname wan meta l4proto udp fib daddr type local meta mark set {_MARK}
                iifname wan {errors} fib daddr type local meta mark set {_MARK}
                iifname lan meta l4proto udp jump from_lan
                iifname lan {errors} jump from_lan
                meta mark {_MARK} ip ttl 255 ip ttl set {UNDECREMENTED}
                meta mark {_MARK} ip ttl 1 ip ttl set {UNDECREMENTED + 1}
            }}
            chain from_lan {{
                fib daddr . iif type local return
                fib daddr type {{ broadcast, multicast }} return
                ip daddr {lan} return
                meta mark set {_MARK}
            }}
        }}"""


def _endpoint(pair: list[Any]) -> conntrack.Endpoint:
    return pair[0], pair[1]
