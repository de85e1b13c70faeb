"""What other people's tools make of a NAT: stun-client (RFC 3489) and coturn's (RFC 5780).

They ask a coturn server, which needs two addresses for that.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from .host import Host
from .process import Process
from .wait import wait_until

PATIENCE = 60.0
"""Seconds: what is filtered is waited for, three seconds at a time."""

_WORDS = {
    "Endpoint Independent": "endpoint-independent",
    "Address Dependent": "address-dependent",
    "Address and Port Dependent": "address-and-port-dependent",
}


class Verdict(NamedTuple):
    """In RFC 4787's words; None where a tool does not say."""

    mapping: str | None
    filtering: str | None


def start_coturn(host: Host, addresses: list[str], folder: Path) -> Process:
    """A STUN server on port 3478 (and 3479) of these addresses; until it answers."""
    listening = [word for address in addresses for word in ("-L", address)]
    options = ["-n", "-S", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout"]
    files = ["--pidfile", str(folder / "turn.pid"), "--userdb", str(folder / "turn.db")]
    process = host.popen(["turnserver", *options, *files, *listening])
    ask = ["timeout", "1", "turnutils_natdiscovery", "-m", addresses[0]]
    wait_until(
        lambda: "Mapping!" in host.run(ask, check=False).stdout or "No NAT" in process.stdout,
        timeout=PATIENCE,
        what="coturn to answer",
    )
    return process


class Discovery:
    """Both tools, running side by side on one host."""

    def __init__(self, host: Host, server: str) -> None:
        self._rfc5780 = host.popen(["turnutils_natdiscovery", "-m", "-f", server])
        self._rfc3489 = host.popen(["stun", server])

    def rfc5780(self) -> Verdict:
        """What ``turnutils_natdiscovery`` says."""
        self._rfc5780.wait(PATIENCE)
        return Verdict(
            *(
                _WORDS[found[1]] if found else None
                for found in (
                    re.search(rf"NAT with (.*) {what}!", self._rfc5780.stdout)
                    for what in ("Mapping", "Filtering")
                )
            )
        )

    def rfc3489(self) -> str:
        """The line that ``stun`` prints."""
        self._rfc3489.wait(PATIENCE)
        found = re.search(r"Primary: (.*)", self._rfc3489.stdout)
        assert found, self._rfc3489.tail()
        return found[1].strip()


def mapped_address(host: Host, server: str, port: int) -> str:
    """Where ``turnutils_stunclient`` says that a STUN server sees the host: its address.

    It neither repeats its request nor gives up: a NAT that hashes ports drops one now and then.
    """
    ask = ["timeout", "3", "turnutils_stunclient", "-p", str(port), server]
    for _ in range(5):
        said = host.run(ask, check=False).stdout
        found = re.search(r"UDP reflexive addr: (\S+):\d+", said)
        if found:
            return found[1]
    raise AssertionError(f"{host.name}: no answer from {server}:{port}: {said}")
