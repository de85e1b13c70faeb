"""The lab itself: its topology, links, counters, processes, and that nothing of it is left."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from . import namespace
from .cleanup import pids_inside, remove_stale
from .lab import Lab, LabError, LabUnavailable
from .link import has_netem
from .machine import CommandError
from .namespace import NAMESPACES
from .probes import arrives, home_with_host, is_dropped, make_servers, seen, where
from .wait import wait_until

pytestmark = pytest.mark.root

SO_RCVBUFFORCE = 33
ROOT = Path(__file__).parents[2]


def names(prefix: str) -> list[str]:
    return [entry.name for entry in NAMESPACES.iterdir() if entry.name.startswith(prefix)]


# Topology


def test_a_carrier_gives_shared_addresses_and_translates_them(lab: Lab) -> None:
    servers = make_servers(lab)
    modem = lab.carrier("cgn", public="192.0.2.33").host("modem")
    assert ipaddress.ip_address(modem.ip4) in ipaddress.ip_network("100.64.0.0/10")
    assert seen(modem.udp_socket(5000), servers.first) == ("192.0.2.33", 5000)


def test_two_nats_in_a_row(lab: Lab) -> None:
    servers = make_servers(lab)
    carrier = lab.carrier("cgn", public="192.0.2.33", ports=(40000, 40063))
    router = carrier.home_router("lteR", lan="192.168.8.0/24")
    camera = router.host("camera")
    inside = camera.udp_socket(5000)
    external = seen(inside, servers.first)
    assert external[0] == "192.0.2.33"
    assert 40000 <= external[1] <= 40063
    assert seen(inside, servers.other_host) == external
    assert arrives(servers.first, external, inside)
    assert router.mappings()[0]["external"] == (router.ip4, 5000)
    assert carrier.mappings()[0]["source"] == (router.ip4, 5000)


@pytest.mark.parametrize("isolated", [True, False])
def test_subscribers_of_a_carrier(lab: Lab, isolated: bool) -> None:
    carrier = lab.carrier("cgn", public="192.0.2.33", isolated=isolated)
    one, two = (carrier.host(name).udp_socket(5000) for name in ("one", "two"))
    expected = is_dropped if isolated else arrives
    assert expected(one, ("100.64.0.3", 5000), two)


def test_private_addresses_are_not_reachable_from_outside(lab: Lab) -> None:
    servers = make_servers(lab)
    _, pi = home_with_host(lab)
    assert is_dropped(servers.first, (pi.ip4, 5000), pi.udp_socket(5000))


def test_ipv6_lan_has_a_firewall_and_no_nat(lab: Lab) -> None:
    vps = lab.public_host("vps", "203.0.113.10", ipv6="2001:db8::10")
    home = lab.home_router(
        "homeA", public="198.51.100.7", public6="2001:db8:a::1", lan6="2001:db8:a:1::/64"
    )
    pi = home.host("pi")
    assert vps.ip6
    assert pi.ip6 == "2001:db8:a:1::2"
    outside = vps.udp_socket(3478, address=vps.ip6)
    inside = pi.udp_socket(5000, address=pi.ip6)
    assert is_dropped(outside, (pi.ip6, 5000), inside)
    assert seen(inside, outside) == (pi.ip6, 5000)
    assert arrives(outside, (pi.ip6, 5000), inside)


def test_a_small_ttl_dies_behind_the_own_nat(lab: Lab) -> None:
    """The low-TTL opener (measured, 3): makes a mapping, does not reach the other side's NAT."""
    servers = make_servers(lab)
    home, pi = home_with_host(lab)
    inside = pi.udp_socket(5000)
    inside.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 2)
    assert is_dropped(inside, where(servers.first), servers.first)
    assert len(home.mappings()) == 1
    assert arrives(servers.first, ("198.51.100.7", 5000), inside)


def test_roaming_from_home_to_the_carrier(lab: Lab) -> None:
    servers = make_servers(lab)
    _, pi = home_with_host(lab)
    carrier = lab.carrier("cgn", public="192.0.2.33")
    inside = pi.udp_socket(5000)
    assert seen(inside, servers.first)[0] == "198.51.100.7"
    pi.attach(carrier)
    assert pi.ip4.startswith("100.64.")
    assert seen(inside, servers.first)[0] == "192.0.2.33"
    pi.detach()
    with pytest.raises(OSError, match="unreachable"):
        inside.sendto(b"probe", where(servers.first))


def test_link_down_and_up(lab: Lab) -> None:
    servers = make_servers(lab)
    _, pi = home_with_host(lab)
    inside = pi.udp_socket(5000)
    pi.set_link_up(False)
    with pytest.raises(OSError, match="unreachable"):
        inside.sendto(b"probe", where(servers.first))
    pi.set_link_up(True)
    assert seen(inside, servers.first)[0] == "198.51.100.7"


# Links and counters


def test_loss(lab: Lab) -> None:
    servers = make_servers(lab)
    _, pi = home_with_host(lab)
    inside = pi.udp_socket(5000)
    seen(inside, servers.first)
    counter = pi.count_udp(5000)
    pi.shape(loss_percent=25)
    for _ in range(2000):
        servers.first.sendto(b"probe", ("198.51.100.7", 5000))
    wait_until(lambda: counter.received().packets > 1300, what="three quarters of the datagrams")
    time.sleep(0.05)
    assert 1350 < counter.received().packets < 1650
    pi.shape()
    other = pi.udp_socket()
    for _ in range(30):
        seen(other, servers.other_host)


def test_rate(lab: Lab) -> None:
    servers = make_servers(lab)
    _, pi = home_with_host(lab)
    inside = pi.udp_socket(5000)
    external = seen(inside, servers.first)
    pi.shape(rate="8mbit")  # 1000 bytes a millisecond
    inside.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
    started = time.monotonic()
    for _ in range(150):
        servers.first.sendto(bytes(958), external)
    for _ in range(150):
        inside.recv(2000)
    # A burst of 64 kB goes at once; the other 86 packets take a millisecond each.
    assert time.monotonic() - started > 0.07


def test_delay_or_a_clear_error(lab: Lab) -> None:
    servers = make_servers(lab)
    _, pi = home_with_host(lab)
    inside = pi.udp_socket(5000)
    seen(inside, servers.first)
    if not has_netem(pi.link.near):
        with pytest.raises(LabUnavailable, match="sch_netem"):
            pi.shape(delay_ms=50)
        return
    pi.shape(delay_ms=50)
    started = time.monotonic()
    seen(inside, servers.first)
    assert 0.05 <= time.monotonic() - started < 0.09


def test_mtu_with_and_without_an_answer(lab: Lab) -> None:
    vps = lab.public_host("vps", "203.0.113.10")
    home, pi = home_with_host(lab)
    ping = ["ping", "-c1", "-W1", "-M", "do", "-s", "1400", vps.ip4]
    assert pi.run(ping).returncode == 0
    home.set_mtu(1280, too_big_answered=False)
    silent = pi.run(ping, check=False)
    assert silent.returncode == 1
    assert "needed" not in silent.stdout + silent.stderr
    home.set_mtu(1280)
    assert "mtu = 1280" in pi.run(ping, check=False).stdout


def test_counters(lab: Lab) -> None:
    vps = lab.public_host("vps", "203.0.113.10")
    _, pi = home_with_host(lab)
    server = vps.udp_socket(12345, address=vps.ip4)
    counter = vps.count_udp(12345)
    before = vps.interface_counters()
    inside = pi.udp_socket(5000)
    for _ in range(10):
        inside.sendto(bytes(100), (vps.ip4, 12345))
        server.sendto(bytes(50), server.recvfrom(200)[1])
        inside.recv(200)
    assert counter.received() == (10, 10 * 128)
    assert counter.sent() == (10, 10 * 78)
    after = vps.interface_counters()
    assert 10 <= after.rx_packets - before.rx_packets < 20
    assert 10 * 142 <= after.rx_bytes - before.rx_bytes < 10 * 142 + 500
    assert 10 <= after.tx_packets - before.tx_packets < 20


def test_traffic_between_two_homes_does_not_touch_the_server(lab: Lab) -> None:
    servers = make_servers(lab)
    _, pi = home_with_host(lab)
    q = lab.home_router("homeB", public="198.51.100.8", lan="192.168.2.0/24").host("q")
    one, two = pi.udp_socket(5000), q.udp_socket(6000)
    external_one, external_two = seen(one, servers.first), seen(two, servers.first)
    assert is_dropped(one, external_two, two)
    assert arrives(two, external_one, one)
    assert arrives(one, external_two, two)


# Programs


def test_programs_run_inside_and_their_output_is_kept() -> None:
    with Lab() as lab:
        vps = lab.public_host("vps", "203.0.113.10")
        assert "203.0.113.10/32" in vps.run(["ip", "addr"]).stdout
        assert vps.run(["cat"], text="given").stdout == "given"
        with pytest.raises(CommandError, match=r"(?s)vps.*broken"):
            vps.run(["sh", "-c", "echo broken >&2; exit 3"])
        process = vps.popen(["sh", "-c", "echo ready $WORD >&2; exec sleep 60"], env={"WORD": "x"})
        process.wait_for("ready x")
        assert pids_inside(vps.namespace) == [process.pid]
        with pytest.raises(TimeoutError):
            process.wait_for("never", timeout=0.1)
        ended = vps.popen(["sh", "-c", "exit 4"])
        assert ended.wait() == 4
        with pytest.raises(EOFError):
            ended.wait_for("anything")
    assert process.returncode == -signal.SIGTERM
    assert "ready x" in lab.transcript()


def test_errors_carry_what_the_programs_wrote() -> None:
    def fail() -> None:
        with Lab() as lab:
            vps = lab.public_host("vps", "203.0.113.10")
            vps.popen(["echo", "the reason"]).wait_for("the reason")
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose") as caught:
        fail()
    if sys.version_info >= (3, 11):
        assert "the reason" in "".join(caught.value.__notes__)


# Cleaning up


def test_nothing_is_left() -> None:
    interfaces = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True).stdout
    with Lab(grace=0.5) as lab:
        _, pi = home_with_host(lab)
        stubborn = pi.popen(["sh", "-c", "trap '' TERM; echo on; while :; do sleep 0.1; done"])
        daemon = pi.popen(["sh", "-c", "setsid sleep 60 & echo $!"])
        stubborn.wait_for("on")
        daemon.wait()
        opened = pi.udp_socket()
        pids = [stubborn.pid, int(daemon.stdout)]
        assert len(names(lab.prefix)) == 3
        during = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True).stdout
    assert during == interfaces, "the machine's own network isn't touched"
    assert names(lab.prefix) == []
    assert opened.fileno() == -1
    assert [pid for pid in pids if running(pid)] == []
    assert list(Path("/tmp").glob(f"{lab.prefix}*")) == []


PROGRAM = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from tests.netns.lab import Lab
with Lab() as lab:
    sleeper = lab.public_host("vps", "203.0.113.10").popen(["sleep", "60"])
    print(lab.prefix, sleeper.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_after_a_signal(number: signal.Signals) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert program.stdout
    with program.stdout:
        prefix, sleeper = program.stdout.readline().split()
    assert names(prefix)
    program.send_signal(number)
    try:
        program.wait(10)
    finally:
        program.kill()
    if number == signal.SIGKILL:
        assert len(names(prefix)) == 2
        assert {name for name in remove_stale() if name.startswith(prefix)}
    assert names(prefix) == []
    wait_until(lambda: not running(int(sleeper)))


def running(pid: int) -> bool:
    """A killed orphan may stay a zombie where nobody reaps it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def test_labs_of_living_processes_are_not_stale(lab: Lab) -> None:
    remove_stale()
    assert names(lab.prefix)


def test_two_labs_side_by_side(lab: Lab) -> None:
    with Lab() as other:
        one = lab.public_host("vps", "203.0.113.10").udp_socket(3478)
        two = other.public_host("vps", "203.0.113.10").udp_socket(3478)
        assert is_dropped(one, ("203.0.113.10", 3478), two)
    assert names(lab.prefix)
    assert not names(other.prefix)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespace, "TOOLS", ("ip", "no-such-tool"))
    with pytest.raises(LabUnavailable, match="no-such-tool"), Lab():
        pass
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabUnavailable, match="root"), Lab():
        pass


def test_bad_names_and_failing_tools_are_reported(lab: Lab) -> None:
    with pytest.raises(ValueError, match="far-too-long-name"):
        lab.public_host("far-too-long-name", "203.0.113.10")
    with pytest.raises(LabError, match="bananas"):
        lab.internet().nft("add bananas")


def test_a_lab_comes_up_quickly() -> None:
    started = time.monotonic()
    with Lab() as lab:
        vps = lab.public_host("vps", "203.0.113.10")
        hosts = [
            lab.home_router(f"home{number}", public=f"198.51.100.{number}").host(f"h{number}")
            for number in (1, 2)
        ]
        hosts.append(lab.carrier("cgn", public="192.0.2.33").host("modem"))
        elapsed = time.monotonic() - started
        server = vps.udp_socket(3478, address=vps.ip4)
        assert len({seen(host.udp_socket(), server)[0] for host in hosts}) == 3
    print(f"server, two homes and a carrier: {elapsed:.3f} s")
    assert elapsed < 5.0, "generous: 0.2 s on an idle machine"
