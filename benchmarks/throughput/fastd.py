"""fastd: two peers that know each other's key and address."""

from __future__ import annotations

from pathlib import Path

from benchmarks.outage.rivals.rival import LEFT, RIGHT, Rival
from tests.netns.host import Host

_PORT = 10000


class Fastd(Rival):
    """The method is the one its manual recommends; so is the MTU, which has no default."""

    name = "fastd"
    packages = (("fastd", "fastd"),)

    def launch(self, vps: Host, left: Host, right: Host, folder: Path) -> None:
        program = self._program("fastd")
        secrets = {
            host: str(host.run([program, "--machine-readable", "--generate-key"]).stdout).strip()
            for host in (left, right)
        }
        publics = {}
        for host in (left, right):
            file = folder / f"{host.name}.secret"
            file.write_text(f'secret "{secrets[host]}";\n')
            shown = host.run([program, "--machine-readable", "--show-key", "--config", str(file)])
            publics[host] = str(shown.stdout).strip()
        for host, peer, address in ((left, right, LEFT), (right, left, RIGHT)):
            file = folder / f"{host.name}.conf"
            file.write_text(f"""
                mode tun;
                interface "fastd";
                method "salsa2012+umac";
                mtu 1426;
                bind {host.ip4}:{_PORT};
                secret "{secrets[host]}";
                on up "ip link set up dev $INTERFACE && ip addr add {address}/24 dev $INTERFACE";
                peer "{peer.name}" {{
                    key "{publics[peer]}";
                    remote {peer.ip4}:{_PORT};
                }}
            """)
            self._run_node(host, [program, "--config", str(file)])
