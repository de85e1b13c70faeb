"""punchtun killed, restarted and stopped; servers that go and come; joining in all weathers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from .lab import Lab
from .router import Router
from .traffic import FileServer, ping_reaches, ping_stream
from .wait import wait_until
from .world import PATIENCE, PORT, PUNCHTUN, Node, World, growing

pytestmark = pytest.mark.root

VARYING = "address-and-port-dependent"


@pytest.fixture
def home(lab: Lab) -> Router:
    return lab.home_router("homeA", public="198.51.100.7")


@pytest.fixture
def carrier(lab: Lab) -> Router:
    return lab.carrier("cgn", public="192.0.2.33")


def said(node: Node, text: str) -> None:
    """Wait for the node's process to say it on stderr."""
    node.process.wait_for(text, timeout=PATIENCE)


# The server's death and return


def test_the_server_is_killed_and_returns(world: World, home: Router, carrier: Router) -> None:
    """The tunnel lives on meanwhile; the nodes register again; others can still join."""
    attic, camera = world.pair(home.host("a"), carrier.host("b"))
    tun = attic.interface
    stream = ping_stream(attic.host, camera.ip4, interval=0.05)

    def arrived() -> int:
        return attic.host.interface_counters(tun).rx_packets

    growing(arrived, 5)
    world.server.send_signal(9)
    world.server.wait()
    growing(arrived, 40)
    home.flush_mappings()  # A pair repairs itself without the server.
    carrier.flush_mappings()
    growing(arrived, 20)
    world.start_server()
    wait_until(
        lambda: world.server_status()["nodes"] == 2,
        timeout=60.0,
        interval=0.2,
        what="both nodes registered again",
    )
    laptop = world.join("laptop", home.host("c"), attic)
    laptop.wait("camera", direct=True)
    result = stream.stop()
    assert result.received > 60
    assert result.longest_gap < 5.0, "the tunnel blinked"


def test_a_node_starts_before_its_server(world: World, home: Router) -> None:
    world.server.send_signal(15)
    world.server.wait()
    attic = world.node("attic", home.host("a"))
    attic.up("--server", world.url, "--name", "attic")
    unreachable = attic.run("wait", "--timeout", "0.1", check=False)
    assert (unreachable.returncode, unreachable.stdout) == (5, "unreachable\n")
    assert attic.status()["server"]["state"] == "unreachable"
    world.start_server()
    attic.wait()
    assert attic.status()["server"]["state"] == "connected"


# A node's death and return


def test_a_node_is_killed_and_started_again(world: World, home: Router, carrier: Router) -> None:
    """Plain `punchtun up` is enough, on the founder and on a member."""
    attic, camera = world.pair(home.host("a"), carrier.host("b"))
    addresses = [camera.ip4, camera.ip6]
    for node, other in ((camera, attic), (attic, camera)):
        node.kill()
        assert node.run("status", check=False).returncode == 6
        node.up()
        world.wait_direct(attic, camera)
        assert ping_reaches(other.host, node.ip4)
        assert ping_reaches(node.host, other.ip6)
    status = camera.status()
    assert status["node"]["addresses"] == addresses
    assert [peer["name"] for peer in status["peers"]] == ["attic"]


def test_a_node_returns_while_the_server_is_away(world: World, home: Router, lab: Lab) -> None:
    """Known peers are tried at the endpoints remembered."""
    public = lab.public_host("root", "203.0.113.20")
    attic, camera = world.pair(home.host("a"), public)
    remembered = attic.state / "peers.json"
    wait_until(remembered.exists, what="endpoints on disk")
    wait_until(lambda: "203.0.113.20" in remembered.read_text(), what="the camera's endpoint")
    world.server.send_signal(9)
    world.server.wait()
    attic.kill()
    attic.up()
    attic.wait("camera", direct=True)
    assert ping_reaches(attic.host, camera.ip4)


def by_command(node: Node) -> None:
    assert node.run("down").returncode == 0


def by_sigterm(node: Node) -> None:
    assert node.stop() == 0


def by_sigint(node: Node) -> None:
    node.process.send_signal(2)
    assert node.process.wait() == 0


def test_stopping_leaves_nothing_and_the_peer_knows(
    world: World, home: Router, carrier: Router
) -> None:
    attic, camera = world.pair(home.host("a"), carrier.host("b"))
    for end in (by_command, by_sigterm, by_sigint):
        if not attic.is_running:
            attic.up()
            world.wait_direct(attic, camera)
        assert attic.leftovers() != []  # The question finds what is there.
        end(attic)
        assert attic.process.wait() == 0
        assert attic.leftovers() == []
        camera.wait_for_state("attic", "offline")
    offline = camera.run("wait", "--peer", "attic", "--timeout", "0.1", check=False)
    assert (offline.returncode, offline.stdout) == (4, "offline\n")
    assert camera.run("ping", "attic", "-c", "1", check=False).returncode == 4
    assert attic.run("down", check=False).returncode == 6


# More than two


def test_three_nodes_all_reach_each_other(
    world: World, home: Router, carrier: Router, lab: Lab
) -> None:
    nodes = [world.found("attic", home.host("a"))]
    for name, host in (
        ("camera", carrier.host("b")),
        ("office", lab.home_router("homeC", public="198.51.100.20").host("c")),
    ):
        nodes.append(world.join(name, host, nodes[0]))
    for node in nodes:
        for peer in nodes:
            if peer is not node:
                node.wait(peer.name, direct=True)
                assert ping_reaches(node.host, peer.ip4)
                assert ping_reaches(node.host, peer.ip6)
    assert len({node.ip4 for node in nodes}) == 3


def test_two_hosts_of_one_lan_connect_inside_it(world: World, home: Router, tmp_path: Path) -> None:
    """The router does not hairpin; and nothing of it should leave the LAN."""
    attic, camera = world.pair(home.host("a"), home.host("b"))
    for node, other in ((attic, camera), (camera, attic)):
        path = node.peer(other.name)["path"]
        assert path["kind"] == "host"
        assert path["remote"].startswith(f"{other.host.ip4}:")
    before = home.interface_counters("wan")
    size = 1_000_000
    assert (
        FileServer(camera.host, camera.ip4, tmp_path / "www", size=size).fetch(attic.host) == size
    )
    after = home.interface_counters("wan")
    assert after.tx_bytes + after.rx_bytes - before.tx_bytes - before.rx_bytes < 50_000


# Where no direct path can be


def test_a_pair_that_cannot_punch_is_relayed_and_says_so(
    world: World, lab: Lab, tmp_path: Path
) -> None:
    """Both NATs map every destination to another random port."""
    a = lab.home_router("homeA", public="198.51.100.7", mapping=VARYING).host("a")
    b = lab.carrier("cgn", public="192.0.2.33", mapping=VARYING).host("b")
    attic = world.found("attic", a)
    camera = world.join("camera", b, attic)
    attic.wait("camera")
    size = 1_000_000
    count = world.vps.count_udp(PORT)
    assert FileServer(b, camera.ip4, tmp_path / "www", size=size).fetch(a) == size
    assert count.sent().bytes > size
    direct = attic.run("wait", "--peer", "camera", "--direct", "--timeout", "0.2", check=False)
    assert (direct.returncode, direct.stdout) == (3, "relayed\n")
    assert attic.run("wait", "--direct", "--timeout", "0.2", check=False).returncode == 3
    peer = attic.peer("camera")
    assert peer["state"] == "relayed"
    assert peer["path"]["kind"] == "relayed"
    assert peer["path"]["remote"] == "relay"
    assert set(peer["why_not_direct"]) == {"code", "reason", "evidence", "fix"}
    assert attic.status()["nat"]["mapping"] == VARYING
    assert "relay" in attic.run("ping", "camera", "-c", "1").stdout


def test_the_relay_takes_over_where_udp_between_the_pair_is_cut(
    world: World, home: Router, carrier: Router
) -> None:
    """And when the way is free again, so is the direct path."""
    attic, camera = world.pair(home.host("a"), carrier.host("b"))
    tun = attic.interface
    stream = ping_stream(attic.host, camera.ip4, interval=0.05)

    def arrived() -> int:
        return attic.host.interface_counters(tun).rx_packets

    growing(arrived, 5)
    cut = "ip saddr 192.0.2.33 ip daddr 198.51.100.7 drop"
    world.lab.internet().nft(
        "table inet cut { chain forward { type filter hook forward priority 0; " + cut + "; }; }"
    )
    growing(arrived, 30)
    attic.wait_for_state("camera", "relayed")
    world.lab.internet().nft("delete table inet cut")
    world.wait_direct(attic, camera)
    growing(arrived, 5)
    assert stream.stop().received > 40


def test_without_a_relay_the_server_only_introduces(
    lab: Lab, tmp_path: Path, home: Router, carrier: Router
) -> None:
    world = World(lab, tmp_path)
    world.start_server("--no-relay")
    attic, camera = world.pair(home.host("a"), carrier.host("b"))
    assert ping_reaches(attic.host, camera.ip4)
    assert world.server_status()["relayed_datagrams"] == 0
    world.close()


def test_ipv6_is_used_where_ipv4_finds_no_way(world: World, lab: Lab, tmp_path: Path) -> None:
    """Both sites have IPv6 behind a firewall, and NATs that cannot be punched."""
    sites = [
        lab.home_router(
            f"home{n}",
            public=f"198.51.100.{n}",
            public6=f"2001:db8:{n}::1",
            lan6=f"2001:db8:{n}:1::/64",
            mapping=VARYING,
        )
        for n in (7, 8)
    ]
    attic, camera = world.pair(sites[0].host("a"), sites[1].host("b"))
    assert attic.peer("camera")["path"]["remote"].startswith("[2001:db8:8:1::")
    size = 1_000_000
    files = FileServer(camera.host, camera.ip4, tmp_path / "www", size=size)
    assert files.fetch(attic.host) == size


def test_hosts_without_ipv4_reach_server_and_each_other_by_ipv6(world: World, lab: Lab) -> None:
    hosts = []
    for n in (1, 2):
        host = lab.public_host(f"six{n}", f"203.0.113.{20 + n}", ipv6=f"2001:db8::2{n}")
        host.run(["ip", "-4", "route", "flush", "table", "main"])
        host.run(["ip", "-4", "address", "flush", "dev", "eth0"])
        hosts.append(host)
    world.url = world.server_url(str(world.vps.ip6))
    assert "[2001:db8::10]" in world.url
    attic, camera = world.pair(hosts[0], hosts[1])
    for address in (camera.ip4, camera.ip6):
        assert ping_reaches(attic.host, address)


# Joining


def test_joining_waits_for_the_inviter_and_survives_being_killed(
    world: World, home: Router, carrier: Router
) -> None:
    """The same command again continues where it was, and later counts as plain `up`."""
    attic = world.found("attic", home.host("a"))
    invitation = attic.invite("camera")
    assert attic.stop() == 0
    camera = world.node("camera", carrier.host("b"))
    camera.start(invitation)
    said(camera, "the machine that invited you is not online: the server keeps your request")
    camera.kill()
    camera.start(invitation)
    said(camera, "trying on")
    attic.up()
    camera.wait_until_up()
    address = camera.ip4
    camera.stop()
    camera.up(invitation)
    world.wait_direct(attic, camera)
    assert camera.ip4 == address


def test_joining_while_one_of_the_two_is_always_away(
    world: World, home: Router, carrier: Router
) -> None:
    """The request waits at the server for the inviter, and the answer for the joiner."""
    attic = world.found("attic", home.host("a"))
    invitation = attic.invite("camera")
    assert attic.stop() == 0
    camera = world.node("camera", carrier.host("b"))
    camera.start(invitation)
    said(camera, "you may stop here and run the same command again later; trying on")
    assert camera.stop() == 0
    assert "the same command goes on from here" in camera.process.stderr
    attic.up()
    said(attic, "camera has joined")
    assert attic.stop() == 0
    camera.up(invitation)
    attic.up()
    world.wait_direct(attic, camera)


def test_an_invitation_lets_one_machine_in(world: World, home: Router, carrier: Router) -> None:
    attic = world.found("attic", home.host("a"))
    invitation = attic.invite("camera")
    camera = world.node("camera", carrier.host("b")).up(invitation)
    other = world.node("other", carrier.host("c"))
    expect_refusal(world, other, invitation, "this invitation has been used already")
    attic.wait(camera.name)


def test_an_invitation_for_several(world: World, home: Router, carrier: Router) -> None:
    attic = world.found("attic", home.host("a"))
    made = attic.json("invite", "camera", "--uses", "2")
    assert (made["name"], made["uses"]) == ("camera", 2)
    assert abs(made["expires"] - time.time() - 24 * 3600) < 600
    told = attic.run("invite", "lamp", "--uses", "2")
    assert len(told.stdout.splitlines()) == 1
    assert "good for 2 machines, to be called lamp-1, lamp-2" in told.stderr
    first = world.node("first", carrier.host("b")).up(made["join"])
    porch = world.node("porch", carrier.host("c")).up(made["join"], "--name", "porch")
    assert first.status()["node"]["name"] == "camera-1"
    assert porch.status()["node"]["name"] == "porch"
    for name in ("camera-1", "porch"):
        attic.wait(name)
    other = world.node("other", carrier.host("d"))
    expect_refusal(world, other, made["join"], "has been used")


def test_an_invitation_expires(world: World, home: Router, carrier: Router) -> None:
    attic = world.found("attic", home.host("a"))
    began = time.time()
    invitation = attic.invite("camera", "--expires", "1s")
    wait_until(lambda: time.time() >= began + 2.0, what="expiry")
    camera = world.node("camera", carrier.host("b"))
    expect_refusal(world, camera, invitation, "this invitation has expired")


def expect_refusal(world: World, node: Node, invitation: str, text: str) -> None:
    process = node.start(invitation)
    world.expected_to_fail.append(process)
    assert process.wait(PATIENCE) == 1
    assert text in process.stderr
    assert "punchtun invite" in process.stderr  # the cure
    assert node.leftovers() == []
    assert node.run("status", check=False).returncode == 6


def test_a_join_string_may_come_from_a_file_or_from_standard_input(
    world: World, home: Router, carrier: Router, tmp_path: Path
) -> None:
    attic = world.found("attic", home.host("a"))
    file = tmp_path / "join"
    file.write_text(attic.invite("camera") + "\n")
    camera = world.node("camera", carrier.host("b")).up(str(file))
    piped = tmp_path / "piped"
    piped.write_text(attic.invite("laptop"))
    laptop = world.node("laptop", carrier.host("c"))
    script = f"exec {PUNCHTUN} up - --state-dir {laptop.state} < {piped}"
    laptop.processes.append(laptop.host.popen(["sh", "-c", script]))
    laptop.wait_until_up()
    for node in (camera, laptop):
        node.wait("attic")
