"""fastd: two peers that know each other's key and address."""

from __future__ import annotations

from pathlib import Path

from benchmarks.outage.rivals.rival import LEFT, RIGHT, Rival
from tests.netns.host import Host

from .contender import LEFT6, RIGHT6

_PORT = 10000


class Fastd(Rival):
    """The method is the one its manual recommends; the MTU, of its first example."""

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
        for host, peer, address, address6 in (
            (left, right, LEFT, LEFT6),
            (right, left, RIGHT, RIGHT6),
        ):
            script = folder / f"{host.name}-up"
            script.write_text(
                "#!/bin/sh\n"
                'ip link set "$INTERFACE" up\n'
                f'ip addr add {address}/24 dev "$INTERFACE"\n'
                f'ip addr add {address6}/64 dev "$INTERFACE" nodad\n'
            )
            script.chmod(0o755)
            file = folder / f"{host.name}.conf"
            file.write_text(f"""
                mode tun;
                interface "fastd";
                method "salsa2012+umac";
                mtu 1426;
                bind {host.ip4}:{_PORT};
                secret "{secrets[host]}";
                on up "{script}";
                peer "{peer.name}" {{
                    key "{publics[peer]}";
                    remote {peer.ip4}:{_PORT};
                }}
            """)
            self._run_node(host, [program, "--config", str(file)])

    def addresses6(self) -> tuple[str, str]:
        return LEFT6, RIGHT6
