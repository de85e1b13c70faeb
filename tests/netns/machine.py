"""What every namespace of the lab can do: run programs, open sockets, count."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .cleanup import ETC, Cleanup
from .counters import InterfaceCounters, PrivateCounter, UdpCounter, read_interface_counters
from .namespace import LabError, inside, ip_batch, run_tool, write_sysctls
from .process import Process

T = TypeVar("T")

_SYSCTLS = {
    "ipv4/conf/all/rp_filter": 0,
    "ipv4/conf/default/rp_filter": 0,
    "ipv4/conf/all/send_redirects": 0,
    "ipv4/conf/default/send_redirects": 0,
    "ipv4/conf/all/accept_redirects": 0,
    "ipv4/conf/default/promote_secondaries": 1,
    "ipv4/icmp_ratelimit": 0,
    "ipv4/ping_group_range": "0 2147483647",
    "ipv6/conf/all/accept_dad": 0,
    "ipv6/conf/default/accept_dad": 0,
    "ipv6/conf/default/accept_ra": 0,
    "ipv6/conf/all/keep_addr_on_down": 1,
    "ipv6/conf/default/keep_addr_on_down": 1,
    "ipv6/conf/default/router_solicitations": 0,
    "ipv6/icmp/ratelimit": 0,
}


class CommandError(LabError):
    """A command ended with an exit code other than 0; the message has its output."""


class Machine:
    """A namespace with its loopback up. `name` is at most 12 letters, digits or hyphens."""

    def __init__(self, name: str, cleanup: Cleanup, *, sysctls: Mapping[str, Any] | None = None):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,11}", name):
            raise ValueError(f"{name!r}: a name is 1 to 12 letters, digits or hyphens")
        self.name = name
        self.namespace = cleanup.prefix + name
        self._cleanup = cleanup
        ip_batch([f"netns add {self.namespace}"])
        write_sysctls(self.namespace, {**_SYSCTLS, **(sysctls or {})})
        # What runs here must never write that of the real machine.
        self.name_hosts({"localhost": ["127.0.0.1", "::1"]})

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        timeout: float = 60.0,
        text: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; `CommandError` with its output if `check` and it fails."""
        argv = ["ip", "netns", "exec", self.namespace, *argv]
        if env is not None:
            argv[0:0] = ["env", *(f"{key}={value}" for key, value in env.items())]
        completed = subprocess.run(
            argv, input=text or "", capture_output=True, text=True, timeout=timeout
        )
        if check and completed.returncode != 0:
            raise CommandError(
                f"{self.name}: {' '.join(argv)} ended with {completed.returncode}\n"
                f"{completed.stdout}\n{completed.stderr}"
            )
        return completed

    def popen(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> Process:
        """Start a program; the lab ends it at the latest when the lab itself ends."""
        processes = self._cleanup.processes
        process = Process(
            argv,
            namespace=self.namespace,
            machine=self.name,
            files=self._cleanup.files / f"{len(processes)}-{self.name}",
            env=env,
            cwd=cwd,
        )
        processes.append(process)
        return process

    def inside(self, function: Callable[[], T]) -> T:
        """What `function` returns when called in a thread inside this machine's namespace."""
        return inside(self.namespace, function)

    def udp_socket(
        self, port: int = 0, *, address: str = "0.0.0.0", timeout: float = 20.0
    ) -> socket.socket:
        """A bound UDP socket of this machine, usable from the calling process.

        `address` may be IPv6. Receiving raises `TimeoutError` after `timeout`. The lab closes it.
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        opened = self.inside(lambda: socket.socket(family, socket.SOCK_DGRAM))
        self._cleanup.sockets.append(opened)
        opened.settimeout(timeout)
        opened.bind((address, port))
        return opened

    @property
    def hosts_file(self) -> Path:
        """What programs started here have as /etc/hosts."""
        return ETC / self.namespace / "hosts"

    def name_hosts(self, names: Mapping[str, Sequence[str]]) -> None:
        """The whole content of that /etc/hosts: name → addresses."""
        self.hosts_file.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{address} {name}\n" for name, all_of in names.items() for address in all_of]
        self.hosts_file.write_text("".join(lines))

    def count_private(self) -> PrivateCounter:
        """Begin to count what this machine sends to private IPv4 addresses and ULA."""
        return PrivateCounter(self.namespace)

    def interface_counters(self, interface: str) -> InterfaceCounters:
        """Packets and bytes an interface received and sent since it was made."""
        return self.inside(lambda: read_interface_counters(interface))

    def count_udp(self, port: int) -> UdpCounter:
        """Begin to count UDP packets from and to a port of this machine, whoever listens."""
        return UdpCounter(self.namespace, port)

    def nft(self, ruleset: str) -> None:
        """Apply an nftables ruleset on this machine, all of it or nothing."""
        run_tool(["nft", "-f", "-"], namespace=self.namespace, text=ruleset)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"
