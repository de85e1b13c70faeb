"""OpenVPN over UDP: two peers with TLS, which know each other by the certificates' fingerprints."""

from __future__ import annotations

from pathlib import Path

from benchmarks.outage.rivals.rival import LEFT, RIGHT, Rival
from tests.netns.host import Host

from .contender import LEFT6, RIGHT6

_PORT = 1194
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class OpenVpn(Rival):
    """All defaults of 2.6, of which AES-256-GCM is one."""

    name = "openvpn"
    packages = (("openvpn", "openvpn"), ("openssl", "openssl"))

    def launch(self, vps: Host, left: Host, right: Host, folder: Path) -> None:
        fingerprints = {host: _certify(host, folder) for host in (left, right)}
        for host, peer, address, peer_address, own6, peer6, role in (
            (left, right, LEFT, RIGHT, LEFT6, RIGHT6, "tls-client"),
            (right, left, RIGHT, LEFT, RIGHT6, LEFT6, "tls-server"),
        ):
            lines = [
                role,
                "dev tun",
                "proto udp4",
                f"local {host.ip4}",
                f"port {_PORT}",
                f"remote {peer.ip4} {_PORT}",
                f"ifconfig {address} {peer_address}",
                f"ifconfig-ipv6 {own6}/64 {peer6}",
                f"cert {folder}/{host.name}.crt",
                f"key {folder}/{host.name}.key",
                f"peer-fingerprint {fingerprints[peer]}",
                "dh none",
                "data-ciphers AES-256-GCM",
            ]
            file = folder / f"{host.name}.conf"
            file.write_text("\n".join(lines) + "\n")
            self._run_node(host, [self._program("openvpn"), "--config", str(file)])

    def addresses6(self) -> tuple[str, str]:
        return LEFT6, RIGHT6


def _certify(host: Host, folder: Path) -> str:
    """Make a key and a certificate for the host; its fingerprint."""
    certificate, key = f"{folder}/{host.name}.crt", f"{folder}/{host.name}.key"
    made = ["-keyout", key, "-out", certificate, "-subj", f"/CN={host.name}", "-days", "2"]
    host.run(["openssl", "req", "-x509", *_CURVE, *made])
    shown = host.run(["openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256"])
    return str(shown.stdout).strip().partition("=")[2]
