"""Nebula: nodes with certificates, and a lighthouse that knows where each of them is."""

from __future__ import annotations

import json
from pathlib import Path

from tests.netns.host import Host

from .rival import LEFT, RIGHT, SERVER, Rival

_PORT = 4242


class Nebula(Rival):
    """All timers are defaults."""

    name = "nebula"
    patience = 60.0
    packages = (("nebula", "nebula"), ("nebula-cert", "nebula"))
    form: tuple[str, ...] = ()
    """Options for the certificates' form."""

    def networks(self, address: str) -> tuple[str, ...]:
        """Options for the addresses of a certificate."""
        return "-ip", f"{address}/24"

    def launch(self, vps: Host, left: Host, right: Host, folder: Path) -> None:
        authority = ["-ca-crt", f"{folder}/ca.crt", "-ca-key", f"{folder}/ca.key"]
        make = ["-name", "outage", "-out-crt", f"{folder}/ca.crt", "-out-key", f"{folder}/ca.key"]
        vps.run([self._program("nebula-cert"), "ca", *self.form, *make])
        for host, name, address in (
            (vps, "server", SERVER),
            (left, "left", LEFT),
            (right, "right", RIGHT),
        ):
            certificate, key = f"{folder}/{name}.crt", f"{folder}/{name}.key"
            own = ["-name", name, *self.networks(address), "-out-crt", certificate, "-out-key", key]
            host.run([self._program("nebula-cert"), "sign", *authority, *own])
            everything = [{"port": "any", "proto": "any", "host": "any"}]
            settings = {
                "pki": {"ca": f"{folder}/ca.crt", "cert": certificate, "key": key},
                "static_host_map": {SERVER: [f"{vps.ip4}:{_PORT}"]},
                "lighthouse": {
                    "am_lighthouse": host is vps,
                    "hosts": [] if host is vps else [SERVER],
                },
                # 0, any port, "is recommended for roaming nodes" in the example configuration.
                "listen": {"host": "0.0.0.0", "port": _PORT if host is vps else 0},
                # Keeps mappings alive, and lets the other side punch back: both are what the
                # documentation has for nodes behind NAT.
                "punchy": {"punch": True, "respond": True},
                "tun": {"dev": "nebula"},
                # Without rules nothing passes.
                "firewall": {"outbound": everything, "inbound": everything},
            }
            # YAML takes JSON as it is.
            file = folder / f"{name}.yml"
            file.write_text(json.dumps(settings))
            argv = [self._program("nebula"), "-config", str(file)]
            if host is vps:
                self._run_server(host, argv).wait_for("Nebula interface is active", timeout=10)
            else:
                self._run_node(host, argv)
