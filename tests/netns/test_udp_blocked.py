"""A network that lets no UDP through: the same datagrams go to the server over TCP, or over a
WebSocket on 443 where only that passes; and over UDP again when it does."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from .host import Host
from .lab import Lab
from .router import Router
from .traffic import FileServer, accepts, ping_reaches, ping_stream
from .wait import wait_until
from .web import WebServer, make_certificate
from .world import PATIENCE, PORT, PUNCHTUN, Node, World

pytestmark = pytest.mark.root

MEGABYTE = 1_000_000


class Office:
    """A host behind a router that may block, and one at home."""

    def __init__(self, lab: Lab) -> None:
        self.router: Router = lab.home_router("office", public="198.51.100.7")
        self.inside: Host = self.router.host("desk")
        self.outside: Host = lab.home_router("home", public="192.0.2.33").host("pi")


@pytest.fixture
def office(lab: Lab) -> Office:
    return Office(lab)


def wait_for_transport(node: Node, transport: str) -> None:
    def is_so() -> bool:
        server = node.status()["server"]
        return bool(server["state"] == "connected" and server["transport"] == transport)

    wait_until(is_so, timeout=PATIENCE, interval=0.1, what=f"{node.name} on {transport}")


def test_joining_and_traffic_over_tcp(
    lab: Lab, world: World, office: Office, tmp_path: Path
) -> None:
    pi = world.found("pi", office.outside)
    office.router.block_udp()
    desk = world.join("desk", office.inside, pi)
    wait_for_transport(desk, "tcp")
    desk.wait("pi")
    assert desk.peer("pi")["state"] == "relayed"
    assert pi.status()["server"]["transport"] == "udp"
    files = FileServer(pi.host, pi.ip4, tmp_path / "files", size=5 * MEGABYTE)
    assert files.fetch(desk.host) == 5 * MEGABYTE
    assert ping_reaches(pi.host, desk.ip4)
    # Where the server sees the stream is told to nobody.
    assert pi.status()["server"]["observed"]
    assert desk.status()["server"]["observed"] == []
    office.router.unblock()
    wait_for_transport(desk, "udp")
    world.wait_direct(pi, desk)
    assert [e["after"] for e in desk.events("transport_changed")] == ["tcp", "udp"]


def test_udp_blocked_under_traffic(lab: Lab, world: World, office: Office) -> None:
    desk, pi = world.pair(office.inside, office.outside)
    stream = ping_stream(desk.host, pi.ip4, interval=0.05)
    office.router.block_udp()
    wait_for_transport(desk, "tcp")
    desk.wait_for_state("camera", "relayed")
    before = desk.peer("camera")["rx_packets"]
    wait_until(lambda: desk.peer("camera")["rx_packets"] > before + 40, what="pings by the relay")
    office.router.unblock()
    wait_for_transport(desk, "udp")
    world.wait_direct(desk, pi)
    result = stream.stop()
    print(result)
    assert result.received > 40


def test_server_restarts_while_a_node_is_on_tcp(world: World, office: Office) -> None:
    office.router.block_udp()
    desk = world.found("desk", office.inside)
    wait_for_transport(desk, "tcp")
    world.server.send_signal(signal.SIGKILL)
    world.server.wait()
    wait_until(
        lambda: desk.status()["server"]["state"] == "unreachable", timeout=PATIENCE, what="the loss"
    )
    world.start_server()
    wait_for_transport(desk, "tcp")


def test_tcp_on_another_port(lab: Lab, office: Office, tmp_path: Path) -> None:
    """Named in the URL, and so in join strings; the UDP port's number is not tried."""
    world = World(lab, tmp_path)
    vps = lab.public_host("vps", "203.0.113.10", ipv6="2001:db8::10")
    world.start_server("--tcp", "443", host=vps)
    world.url += "?tcp=443"
    pi = world.found("pi", office.outside)
    office.router.allow_only_tcp(443)
    desk = world.join("desk", office.inside, pi)
    wait_for_transport(desk, "tcp")
    assert ping_reaches(desk.host, pi.ip4)
    world.close()


def test_the_tcp_port_is_taken(lab: Lab, tmp_path: Path) -> None:
    """By default that costs a line in the log; asked for, it is an error."""
    world = World(lab, tmp_path)
    vps = lab.public_host("vps", "203.0.113.10")
    taken = vps.popen(["socat", f"TCP-LISTEN:{PORT},fork", "EXEC:cat"])
    wait_until(lambda: accepts(vps, "203.0.113.10", PORT), what="socat")
    world.start_server(host=vps)
    assert f"TCP port {PORT} is in use" in world.server.stderr
    assert "TCP" not in world.server.stderr.rpartition("ready")[2]
    state = str(tmp_path / "other")
    argv = [PUNCHTUN, "server", "run", "--listen", "12400", "--tcp", str(PORT)]
    refused = vps.run([*argv, "--state-dir", state], check=False)
    assert refused.returncode == 1
    assert "--tcp" in refused.stderr
    world.close()
    taken.stop()


def test_server_url_with_options(lab: Lab, tmp_path: Path) -> None:
    vps = lab.public_host("vps", "203.0.113.10")
    argv = [PUNCHTUN, "server", "url", "--host", "203.0.113.10", "--state-dir", str(tmp_path)]
    options = ["--tcp", "443", "--websocket", "wss://vpn.example.org/punchtun"]
    url = vps.run([*argv, *options]).stdout.strip()
    assert url.endswith("?tcp=443&ws=wss%3A%2F%2Fvpn.example.org%2Fpunchtun")
    for wrong in (["--tcp", "0"], ["--websocket", "https://a"]):
        assert vps.run([*argv, *wrong], check=False).returncode == 2
    for wrong in (["--tls-cert", "a"], ["--tls-cert", "a", "--tls-key", "b"]):
        run = [PUNCHTUN, "server", "run", *wrong, "--state-dir", str(tmp_path)]
        assert vps.run(run, check=False).returncode == 2


@pytest.mark.parametrize("is_behind_nginx", [True, False])
def test_only_https_passes(lab: Lab, office: Office, tmp_path: Path, is_behind_nginx: bool) -> None:
    world = World(lab, tmp_path)
    vps = lab.public_host("vps", "203.0.113.10", ipv6="2001:db8::10")
    if is_behind_nginx:
        world.start_server("--http", "127.0.0.1:8443", host=vps)
        certificate = WebServer(vps, tmp_path / "web", 8443).certificate
    else:
        folder = tmp_path / "tls"
        folder.mkdir()
        make_certificate(folder, vps.ip4)
        certificate = folder / "cert.pem"
        files = ["--tls-cert", str(certificate), "--tls-key", str(folder / "key.pem")]
        world.start_server("--http", "[::]:443", *files, host=vps)
    pi = world.found("pi", office.outside)
    office.router.allow_only_tcp(443)
    desk = world.node("desk", office.inside)
    # The office's machine trusts the certificate; the name in it is the address of the URL.
    argv = [PUNCHTUN, "up", pi.invite("desk"), "--state-dir", str(desk.state)]
    desk.processes.append(desk.host.popen(argv, env={"SSL_CERT_FILE": str(certificate)}))
    desk.wait_until_up()
    wait_for_transport(desk, "websocket")
    desk.wait("pi")
    files_ = FileServer(pi.host, pi.ip4, tmp_path / "files", size=5 * MEGABYTE)
    assert files_.fetch(desk.host) == 5 * MEGABYTE
    assert world.server_status()["streams"] == 1
    office.router.unblock()
    wait_for_transport(desk, "udp")
    world.wait_direct(pi, desk)
    assert PORT == 12345
    world.close()
