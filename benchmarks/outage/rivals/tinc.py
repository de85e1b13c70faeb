"""tinc 1.0: nodes that know a third one, which tells each the address it sees the other at."""

from __future__ import annotations

from pathlib import Path

from tests.netns.host import Host

from .rival import LEFT, RIGHT, SERVER, Rival

_PORT = 655


class Tinc(Rival):
    """All timers are defaults: PingInterval 60 s, PingTimeout 5 s, no LocalDiscovery."""

    name = "tinc"
    # It doubts a UDP path every PingInterval, and then gives it PingTimeout, before it goes
    # through the server.
    patience = 90.0
    packages = (("tincd", "tinc"),)

    def launch(self, vps: Host, left: Host, right: Host, folder: Path) -> None:
        nodes = ((vps, "server", SERVER), (left, "left", LEFT), (right, "right", RIGHT))
        for host, name, address in nodes:
            own = folder / name
            (own / "hosts").mkdir(parents=True)
            public = f"Address = {vps.ip4}\nPort = {_PORT}\n" if host is vps else ""
            (own / "hosts" / name).write_text(f"{public}Subnet = {address}/32\n")
            # Both sides know only the server: neither can be reached uninvited.
            connect = "" if host is vps else "ConnectTo = server\n"
            (own / "tinc.conf").write_text(f"Name = {name}\nInterface = tinc\n{connect}")
            script = own / "tinc-up"
            script.write_text(
                "#!/bin/sh\n"
                f'ip addr add {address}/24 dev "$INTERFACE"\n'
                'ip link set "$INTERFACE" up\n'
            )
            script.chmod(0o755)
            host.run([self._program("tincd"), "-c", str(own), "-K"])
        for _, name, _ in nodes[1:]:
            for source, target in ((name, "server"), ("server", name)):
                key = (folder / source / "hosts" / source).read_text()
                (folder / target / "hosts" / source).write_text(key)
        for host, name, _ in nodes:
            # The default files are the machine's, not the namespace's.
            pid = f"--pidfile={folder / name}.pid"
            argv = [self._program("tincd"), "-D", "-c", str(folder / name), pid]
            if host is vps:
                # A first attempt that fails is repeated only after 5 s.
                self._run_server(host, argv).wait_for("Ready", timeout=10)
            else:
                self._run_node(host, argv)
