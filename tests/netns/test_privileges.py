"""What the running programs may still do, by /proc, and that all that comes later works without
the rest."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tunnel.drivers.control import request

from .lab import Lab
from .process import Process
from .wait import wait_until
from .world import PATIENCE, PUNCHTUN, Node, World

pytestmark = pytest.mark.root

NET_ADMIN = 1 << 12
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def may_do(process: Process) -> list[dict[str, int]]:
    """Capabilities and NoNewPrivs of each of its threads."""
    found = []
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        fields = dict(re.findall(r"^(\w+):\s+(\S+)", (task / "status").read_text(), re.MULTILINE))
        found.append({name: int(fields[name], 16) for name in (*SETS, "NoNewPrivs")})
    return found


def check_least(process: Process, capabilities: int) -> None:
    least = dict.fromkeys(SETS, 0) | {"CapPrm": capabilities, "CapEff": capabilities}
    for thread in may_do(process):
        assert thread == least | {"NoNewPrivs": 1}
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
    assert is_closed(process)


def is_closed(process: Process) -> bool:
    """Whether the same user with the same capabilities may not read its environment, nor, by the
    same rule, its memory: as of a process that may not be dumped (ptrace(2))."""
    same = ["setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin"]
    argv = [*same, "cat", f"/proc/{process.pid}/environ"]
    read = subprocess.run(argv, capture_output=True, text=True)
    return read.returncode != 0 and "Permission denied" in read.stderr


def receive_buffer(node: Node) -> tuple[int, int]:
    """The node's UDP port, and the bytes that may wait there (twice what was asked for)."""
    port = node.status()["node"]["listen_port"]
    shown = node.host.run(["ss", "-Huanm", f"sport = :{port}"]).stdout
    (size,) = re.findall(r"skmem:\(r\d+,rb(\d+)", shown)
    return port, int(size)


def test_nothing_but_the_interface_and_all_works_still(lab: Lab, world: World) -> None:
    home = lab.home_router("homeA", public="198.51.100.7")
    carrier = lab.carrier("cgn", public="192.0.2.33")
    attic = world.node("attic", home.host("a"))
    camera = world.node("camera", carrier.host("b"))
    for host in (attic.host, camera.host):
        # A name is looked up by a thread: it is there before the node is.
        host.name_hosts({"vps.example": [world.vps.ip4]})
    attic.up("--server", world.server_url("vps.example"), "--name", "attic").wait()
    camera.up(attic.invite("camera"))
    world.wait_direct(attic, camera)
    check_least(world.server, 0)
    for node in (attic, camera):
        check_least(node.process, NET_ADMIN)
    attic.host.run(["ping", "-c1", camera.ip4])
    attic.host.run(["ping", "-c1", camera.ip6])
    # The interface was set up afterwards, /proc/sys included.
    shown = attic.host.run(["ip", "-6", "address", "show", "dev", attic.interface]).stdout
    assert "fe80" not in shown

    # Files
    peers = attic.state / "peers.json"
    wait_until(lambda: peers.exists() and '"camera"' in peers.read_text(), timeout=PATIENCE)
    assert '"camera"' in (attic.state / "ledger.json").read_text()

    # Another port, with buffers that need the capability
    before = receive_buffer(attic)
    next(request(attic.state / "control.sock", {"command": "drill"}))
    after = receive_buffer(attic)
    assert after[0] != before[0]
    assert after[1] == before[1] == 2 * (4 << 20)
    world.wait_direct(attic, camera)

    # Another network
    carrier.flush_mappings()
    camera.host.attach(lab.home_router("homeB", public="198.51.100.8"))
    wait_until(
        lambda: attic.host.run(["ping", "-c1", "-W1", camera.ip4], check=False).returncode == 0,
        timeout=PATIENCE,
    )
    camera.wait("attic", direct=True)
    for process in (world.server, attic.process, camera.process):
        assert process.stderr.count("privileges") == 0
        assert "refuses" not in process.stderr

    # Their ends
    camera.run("down")
    assert camera.process.wait() == 0
    assert camera.leftovers() == []
    assert attic.stop() == 0
    assert attic.leftovers() == []
    assert f'"listen_port": {port_of(attic)}' in (attic.state / "peers.json").read_text()


def port_of(node: Node) -> int:
    found = re.findall(r'"listen_port": (\d+)', (node.state / "peers.json").read_text())
    return int(found[0])


def test_systemd_is_told_and_a_privileged_port_is_served(
    lab: Lab, world: World, tmp_path: Path
) -> None:
    """A port below 1024 is bound before, and supervision reaches a socket of root's."""
    world.server.send_signal(15)
    assert world.server.wait() == 0
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(name)
        os.chmod(name, 0o600)
        supervisor.settimeout(PATIENCE)
        host = lab.public_host("low", "203.0.113.30")
        environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "200000"}
        state = ["--state-dir", str(tmp_path / "low")]
        server = host.popen(
            [PUNCHTUN, "server", "run", "--listen", "203.0.113.30:443", *state], env=environment
        )
        assert supervisor.recv(4096).startswith(b"READY=1")
        assert supervisor.recv(4096) == b"WATCHDOG=1"
        check_least(server, 0)
        server.send_signal(15)
        assert server.wait() == 0
        node = world.node("island", host)
        up = [PUNCHTUN, "up", "--server", world.url, "--listen-port", "500"]
        node.processes.append(
            host.popen([*up, "--state-dir", str(node.state)], env={"NOTIFY_SOCKET": name})
        )
        node.wait_until_up()
        told = [supervisor.recv(4096) for _ in range(2)]
        while not any(each.startswith(b"READY=1") for each in told):
            told.append(supervisor.recv(4096))
        check_least(node.process, NET_ADMIN)
        assert node.stop() == 0


PROBE = """#!{python}
import signal, sys, gevent
def attempt():
    for place in ({outside!r}, {inside!r}):
        try:
            open(place, "w").close()
            print("written to", place, file=sys.stderr, flush=True)
        except OSError as error:
            print(error.strerror, "at", place, file=sys.stderr, flush=True)
gevent.signal_handler(signal.SIGUSR1, attempt)
from tunnel.cli import main
sys.exit(main())
"""
"""The command, and by SIGUSR1 what somebody would do who has taken it over."""


@pytest.mark.skipif(
    ctypes.CDLL(None).syscall(444, None, 0, 1) < 1, reason="this kernel has no Landlock"
)
def test_root_writes_nowhere_else(lab: Lab, world: World, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("content")

    def probe(state: Path) -> str:
        file = state.with_suffix(".py")
        inside, python = str(state / "mine"), sys.executable
        file.write_text(PROBE.format(outside=str(outside), inside=inside, python=python))
        file.chmod(0o755)
        return str(file)

    def check(process: Process, state: Path) -> None:
        process.send_signal(signal.SIGUSR1)
        process.wait_for(f"Permission denied at {outside}")
        process.wait_for(f"written to {state / 'mine'}")

    world.server.send_signal(15)
    assert world.server.wait() == 0
    state = world.folder / "server"
    server = world.vps.popen([probe(state), "server", "run", "--state-dir", str(state)])
    world.server_processes.append(server)
    server.wait_for("ready", timeout=PATIENCE)
    check(server, state)
    node = world.node("attic", lab.public_host("island", "203.0.113.20"))
    node.program = probe(node.state)
    node.up("--server", world.url, "--name", "attic").wait()
    check(node.process, node.state)
    assert outside.read_text() == "content"


def test_a_state_directory_in_the_home_of_somebody_else(lab: Lab, world: World) -> None:
    """`sudo punchtun up --state-dir ~/pt`: root alone may not even enter it."""
    home = world.folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    node = world.node("attic", lab.public_host("island", "203.0.113.20"))
    node.state = home / "state"
    node.up("--server", world.url, "--name", "attic").wait()
    check_least(node.process, NET_ADMIN | 1 << 2)
    assert "can be read only with CAP_DAC_READ_SEARCH" in node.process.stderr
    node.invite("camera")
    assert '"camera"' in (node.state / "ledger.json").read_text()
    assert node.stop() == 0
    assert node.leftovers() == []
