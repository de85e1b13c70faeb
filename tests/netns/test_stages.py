"""The three stages of the project's first notes, each with the real program and real NATs.

1. A device behind a carrier's NAT contacts the server, and is reachable from there.
2. Two devices behind NATs are introduced by the server and then talk directly; the addresses they
   exchange are protected; errors are handled and retried.
3. Keep-alives, and reconnection by itself, without restart, when the mapping is gone; one side may
   only receive.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from .capture import Capture
from .conntrack import Mapping
from .host import Host
from .lab import Lab
from .link import has_netem
from .router import Router
from .traffic import Download, FileServer, Shell, ping_reaches, ping_stream, run_iperf
from .wait import wait_until
from .world import PORT, Node, World, growing

pytestmark = pytest.mark.root

MEGABYTE = 1_000_000


class Sites:
    """A home router with a host, and a home router behind a carrier's NAT with another."""

    def __init__(self, lab: Lab) -> None:
        self.home = lab.home_router("homeA", public="198.51.100.7")
        self.carrier = lab.carrier("cgn", public="192.0.2.33")
        self.lte = self.carrier.home_router("lteR", lan="192.168.8.0/24")
        self.a: Host = self.home.host("a")
        self.b: Host = self.lte.host("b")


@pytest.fixture
def sites(lab: Lab) -> Sites:
    return Sites(lab)


# Stage 1


def test_stage_1_a_device_behind_cgnat_is_reachable_from_the_server(
    lab: Lab, world: World, tmp_path: Path
) -> None:
    modem = lab.carrier("cgn", public="192.0.2.33").host("modem")
    vps = world.found("vps", world.vps)
    device = world.join("device", modem, vps)
    vps.wait("device")
    for address in (device.ip4, device.ip6):
        assert ping_reaches(world.vps, address)
    for address in (vps.ip4, vps.ip6):
        assert ping_reaches(modem, address)
    files = FileServer(modem, device.ip4, tmp_path / "www", size=MEGABYTE)
    assert files.fetch(world.vps) == MEGABYTE
    world.wait_direct(vps, device)
    shell = Shell(modem, device.ip4, world.vps)
    assert shell.ask("echo $((6 * 7))") == "42"
    shell.close()


# Stage 2


def test_stage_2_two_devices_behind_nats_are_introduced_and_talk_directly(
    world: World, sites: Sites, tmp_path: Path
) -> None:
    attic, camera = world.pair(sites.a, sites.b)
    assert attic.peer("camera")["path"]["remote"].startswith("192.0.2.33:")
    assert camera.peer("attic")["path"]["remote"].startswith("198.51.100.7:")
    files = FileServer(sites.b, camera.ip4, tmp_path / "www", size=5 * MEGABYTE)
    counters = [world.vps.count_udp(PORT), world.vps.count_udp(PORT + 1)]
    before, sent_before = world.vps.interface_counters(), attic.peer("camera")["rx_bytes"]
    assert files.fetch(sites.a) == 5 * MEGABYTE
    run_iperf(sites.b, sites.a, camera.ip4)
    passed = sum(counter.received().bytes + counter.sent().bytes for counter in counters)
    after = world.vps.interface_counters()
    transferred = attic.peer("camera")["rx_bytes"] + attic.peer("camera")["tx_bytes"] - sent_before
    # An echo that is late because both ends are busy has small packets take the relay as well.
    assert passed < 50_000 + transferred / 100
    assert after.rx_bytes - before.rx_bytes < 100_000 + transferred / 100
    for target in (camera.ip4, camera.ip6):
        assert ping_reaches(sites.a, target)
    for target in (attic.ip4, attic.ip6):
        assert ping_reaches(sites.b, target)


def test_stage_2_what_passes_the_server_is_sealed(lab: Lab, world: World, tmp_path: Path) -> None:
    """Names, tunnel addresses, private addresses and relayed traffic: nothing of it is readable."""
    varying = "address-and-port-dependent"  # On both sides: all traffic goes through the relay.
    a = lab.home_router("homeA", public="198.51.100.7", mapping=varying).host("a")
    carrier = lab.carrier("cgn", public="192.0.2.33", mapping=varying)
    lte = carrier.home_router("lteR", lan="192.168.8.0/24")
    b = lte.host("b")
    capture = Capture(world.vps, "any", tmp_path / "server.pcap", "udp")
    attic = world.found("distillery-attic", a)
    camera = world.join("distillery-camera", b, attic)
    attic.wait(camera.name)
    listener = b.udp_socket(7000, address=camera.ip4)
    sender = a.udp_socket(address=attic.ip4)
    secret = b"the vault opens at nine"
    sender.sendto(secret, (camera.ip4, 7000))
    assert listener.recv(100) == secret
    assert world.server_status()["relayed_bytes"] > len(secret)
    camera.stop()
    attic.stop()
    captured = b"".join(capture.stop())
    for seen in ("198.51.100.7", "192.0.2.33"):  # What the server does see: the capture is good.
        assert ipaddress.ip_address(seen).packed in captured
    for text in (b"distillery", b"attic", b"camera", secret):
        assert text not in captured
    inside = [a.ip4, b.ip4, lte.ip4, attic.ip4, attic.ip6, camera.ip4, camera.ip6]
    for address in inside:
        assert ipaddress.ip_address(address).packed not in captured, address
        assert address.encode() not in captured, address


def test_stage_2_loss_on_the_way_is_overcome(world: World, sites: Sites, tmp_path: Path) -> None:
    """A quarter of all packets is lost on each side: retries do it."""
    attic = world.found("attic", sites.a)
    for router in (sites.home, sites.carrier):
        router.shape(loss_percent=25)
    camera = world.join("camera", sites.b, attic)
    world.wait_direct(attic, camera)
    for router in (sites.home, sites.carrier):
        router.shape()
    assert FileServer(sites.b, camera.ip4, tmp_path / "www", size=1000).fetch(sites.a) == 1000


def test_stage_2_works_over_slow_and_distant_links(world: World, sites: Sites) -> None:
    """Where the kernel cannot delay packets (no sch_netem), narrow links do."""
    if has_netem(sites.a.link.near):
        sites.home.shape(delay_ms=20)
        sites.carrier.shape(delay_ms=60)
    else:
        sites.home.shape(rate="256kbit")
        sites.carrier.shape(rate="256kbit")
    attic, camera = world.pair(sites.a, sites.b)
    assert ping_reaches(sites.a, camera.ip6)
    assert ping_reaches(sites.b, attic.ip4)


# Stage 3

DISTURBANCES: dict[str, list[Callable[[Sites], None]]] = {
    "forgotten": [
        lambda sites: flush(sites.home),
        lambda sites: flush(sites.lte),
        lambda sites: flush(sites.carrier),
        lambda sites: flush(sites.home, sites.lte, sites.carrier),
    ],
    "rebooted": [
        lambda sites: reboot(sites.home),
        lambda sites: reboot(sites.carrier),
        lambda sites: reboot(sites.home, sites.lte, sites.carrier),
    ],
    "readdressed": [
        lambda sites: sites.home.change_public_address("198.51.100.99"),
        lambda sites: sites.carrier.change_public_address("192.0.2.99"),
        lambda sites: change_addresses(sites),
    ],
}
"""What happens to the NATs, one after the other."""


def flush(*routers: Router) -> None:
    for router in routers:
        router.flush_mappings()


def reboot(*routers: Router) -> None:
    for router in routers:
        router.reboot()


def change_addresses(sites: Sites) -> None:
    sites.home.change_public_address("198.51.100.98")
    sites.carrier.change_public_address("192.0.2.98")


@contextlib.contextmanager
def same_processes(*nodes: Node) -> Iterator[None]:
    """Nobody restarts anything."""
    pids = [node.process.pid for node in nodes]
    yield
    assert [node.process.pid for node in nodes] == pids
    assert all(node.is_running for node in nodes)


def packets_in(node: Node) -> Callable[[], int]:
    interface = node.interface
    return lambda: node.host.interface_counters(interface).rx_packets


@pytest.mark.parametrize("what", DISTURBANCES)
def test_stage_3_traffic_goes_on(world: World, sites: Sites, what: str) -> None:
    attic, camera = world.pair(sites.a, sites.b)
    arriving = packets_in(attic)
    with same_processes(attic, camera):
        stream = ping_stream(sites.a, camera.ip4)
        growing(arriving, 20)
        for disturb in DISTURBANCES[what]:
            disturb(sites)
            growing(arriving, 50)
            world.wait_direct(attic, camera)
            growing(arriving, 20)
        result = stream.stop()
    assert result.received > 200


@pytest.mark.parametrize("sender", ["attic", "camera"])
def test_stage_3_an_idle_pair_recovers_at_the_first_packets(
    world: World, sites: Sites, sender: str
) -> None:
    """The NAT of the side that speaks first has lost the mapping."""
    attic, camera = world.pair(sites.a, sites.b)
    one, other = (attic, camera) if sender == "attic" else (camera, attic)
    router = sites.home if sender == "attic" else sites.carrier
    with same_processes(attic, camera):
        for disturb in (router.flush_mappings, router.reboot):
            disturb()
            assert ping_reaches(one.host, other.ip4)
            world.wait_direct(attic, camera)


def test_stage_3_an_idle_pair_recovers_when_all_mappings_are_lost(
    world: World, sites: Sites
) -> None:
    """Nothing can reach the camera before its own keep-alive, 15 s later at most."""
    attic, camera = world.pair(sites.a, sites.b)
    with same_processes(attic, camera):
        reboot(sites.home, sites.lte, sites.carrier)
        assert ping_reaches(sites.a, camera.ip4)
        world.wait_direct(attic, camera)


@pytest.mark.parametrize("receiver", ["attic", "camera"])
def test_stage_3_one_side_only_receives(world: World, sites: Sites, receiver: str) -> None:
    """UDP one way, the receiver's program never answers; the receiver's NAT forgets, then moves."""
    attic, camera = world.pair(sites.a, sites.b)
    one, other = (camera, attic) if receiver == "attic" else (attic, camera)
    router = sites.home if receiver == "attic" else sites.carrier
    target = other.host.udp_socket(7000, address=other.ip4, timeout=15.0)
    source = one.host.udp_socket(address=one.ip4)
    stopped = threading.Event()

    def send() -> None:
        while not stopped.wait(0.02):
            source.sendto(b"one way", (other.ip4, 7000))

    sending = threading.Thread(target=send)
    sending.start()
    try:
        with same_processes(attic, camera):
            receive(target, 20)
            for disturb in (router.flush_mappings, router.reboot):
                disturb()
                drain(target)
                receive(target, 50)
                world.wait_direct(attic, camera)
    finally:
        stopped.set()
        sending.join()


def receive(opened: socket.socket, count: int) -> None:
    for _ in range(count):
        assert opened.recv(100) == b"one way"


def drain(opened: socket.socket) -> None:
    """Take out what was queued before."""
    timeout = opened.gettimeout()
    opened.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            opened.recv(100)
    opened.settimeout(timeout)


def larger(download: Download, than: int) -> bool:
    return download.size > than


def test_stage_3_a_download_and_a_shell_session_survive(
    world: World, sites: Sites, tmp_path: Path
) -> None:
    attic, camera = world.pair(sites.a, sites.b)
    files = FileServer(sites.b, camera.ip4, tmp_path / "www", size=6 * MEGABYTE)
    shell = Shell(sites.b, camera.ip4, sites.a)
    with same_processes(attic, camera):
        assert shell.ask("value=kept; echo ready") == "ready"
        download = files.begin(sites.a, rate="3M")
        for number, events in enumerate(DISTURBANCES.values(), 1):
            enough = number * MEGABYTE
            wait_until(partial(larger, download, enough), what=f"{enough} bytes")
            events[-1](sites)
            assert shell.ask(f"echo $value {number}") == f"kept {number}"
        assert download.finish() == 6 * MEGABYTE
        world.wait_direct(attic, camera)
    shell.close()


def test_stage_3_mappings_are_kept_while_nobody_talks(world: World, lab: Lab) -> None:
    """Idle for longer than the mapping lasts: the keep-alive (15 s) renews it in time."""
    home = lab.home_router("homeA", public="198.51.100.7", udp_timeout=20, udp_timeout_stream=20)
    carrier = lab.carrier("cgn", public="192.0.2.33", udp_timeout=20, udp_timeout_stream=20)
    world.pair(home.host("a"), carrier.host("b"))

    def youth() -> int:
        """Seconds left of the pair's mapping; 0 if there is none."""
        return max((m["expires"] for m in home.mappings() if is_pair(m)), default=0)

    def is_pair(mapping: Mapping) -> bool:
        return mapping["remote"][0] == "192.0.2.33"

    # At first the two tell each other what they find out about their NATs.
    wait_until(lambda: 0 < youth() < 15, timeout=40.0, what="silence")
    wait_until(lambda: youth() in (0, 19, 20), interval=0.2, timeout=20.0, what="a keep-alive")
    assert youth() > 15, "the mapping was gone before it was renewed"
