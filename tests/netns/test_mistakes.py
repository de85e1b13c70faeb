"""What a machine lacks or a person does wrong, where it takes root to see it: one line with cause
and cure, the right exit code, nothing half-created. The rest is in tests/cli."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import ANY

import pytest

from tests.privileges import as_nobody
from tunnel.wire.invitation import ServerUrl

from .host import Host
from .lab import Lab
from .wait import wait_until
from .world import PATIENCE, PUNCHTUN, Node, World

pytestmark = pytest.mark.root

NOWHERE = ServerUrl("203.0.113.99", 12345, bytes(range(32)), bytes(16)).text


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.public_host("island", "203.0.113.20")


@pytest.fixture
def node(host: Host, tmp_path: Path) -> Node:
    return Node("island", host, tmp_path / "state")


def refused(node: Node, code: int, *words: str, arguments: tuple[str, ...] = ()) -> None:
    """`up` ends with this code and one line, with these words; no interface is left."""
    argv = [PUNCHTUN, "up", *arguments, "--state-dir", str(node.state)]
    check_refusal(node, argv, code, *words)


def check_refusal(node: Node, argv: list[str], code: int, *words: str) -> None:
    before = links(node.host)
    result = node.host.run(argv, check=False, timeout=PATIENCE)
    assert result.returncode == code, result
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr
    assert links(node.host) == before
    assert not list(node.state.glob("*.sock"))


def links(host: Host) -> set[str]:
    return {line.split(":")[1] for line in host.run(["ip", "-o", "link"]).stdout.splitlines()}


def kept(node: Node) -> set[str]:
    """The files in the state directory."""
    return {path.name for path in node.state.glob("*")} - {"lock"}


def founded(node: Node, *arguments: str) -> Node:
    """A node of a new network whose server never answers, running."""
    return node.up("--server", NOWHERE, "--name", node.name, *arguments)


# What the machine lacks


def test_root_without_cap_net_admin(node: Node) -> None:
    without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    argv = [*without, PUNCHTUN, "up", "--server", NOWHERE, "--state-dir", str(node.state)]
    check_refusal(node, argv, 1, "needs root or CAP_NET_ADMIN", "sudo", "--cap-add NET_ADMIN")
    assert not node.state.exists()


def test_a_user_with_cap_net_admin_is_enough(node: Node) -> None:
    """As under systemd: another user, and this one capability."""
    node.state.mkdir()
    os.chown(node.state, 65534, 65534)
    for folder in (node.state.parent, node.state.parent.parent, node.state.parent.parent.parent):
        folder.chmod(folder.stat().st_mode | 0o011)
    up = f"{PUNCHTUN} up --server {NOWHERE} --state-dir {node.state}"
    tun = "mount -t tmpfs none /dev/net; mknod /dev/net/tun c 10 200; chmod 666 /dev/net/tun"
    capable = " ".join(as_nobody("net_admin"))
    argv = ["unshare", "-m", "sh", "-c", f"{tun}; exec {capable} {up}"]
    node.processes.append(node.host.popen(argv))
    node.process.wait_for(" on interface ", timeout=PATIENCE)
    status = node.host.run(
        [*as_nobody(), PUNCHTUN, "status", "--json", "--state-dir", str(node.state)]
    )
    assert json.loads(status.stdout)["server"]["state"] == "unreachable"
    assert node.stop() == 0
    assert node.leftovers() == []


def test_no_dev_net_tun(node: Node) -> None:
    up = f"{PUNCHTUN} up --server {NOWHERE} --state-dir {node.state}"
    script = f"mount -t tmpfs none /dev/net && exec {up}"
    argv = ["unshare", "-m", "sh", "-c", script]
    check_refusal(node, argv, 1, "no /dev/net/tun", "modprobe tun", "--device /dev/net/tun")
    assert not node.state.exists()


def test_a_machine_without_ipv6(node: Node) -> None:
    node.host.run(["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"])
    node.host.run(["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"])
    founded(node)
    assert "gets no IPv6 address" in node.process.stderr
    assert node.stop() == 0


# What the network says


def test_a_server_name_that_does_not_resolve(node: Node) -> None:
    url = NOWHERE.replace("203.0.113.99", "vps.invalid")
    node.up("--server", url)
    node.process.wait_for("vps.invalid does not resolve; trying on", timeout=PATIENCE)
    unreachable = node.run("wait", "--timeout", "0.1", check=False)
    assert (unreachable.returncode, unreachable.stdout) == (5, "unreachable\n")
    assert node.is_running
    assert node.stop() == 0
    assert node.process.stderr.count("does not resolve") == 1


def test_joining_through_a_server_name_that_does_not_resolve(node: Node, world: World) -> None:
    world.url = world.server_url("vps.invalid")
    founder = world.node("founder", world.vps).up("--server", world.url, "--name", "founder")
    process = node.start(founder.invite("island"))
    process.wait_for("vps.invalid does not resolve; trying on", timeout=PATIENCE)
    assert node.stop() == 0
    assert node.leftovers() == []


def test_a_wrong_server_key_meets_silence(node: Node, world: World) -> None:
    wrong = ServerUrl(world.vps.ip4, 12345, bytes(range(32)), bytes(16))
    node.up("--server", wrong.text)
    counter = world.vps.count_udp(12345)
    wait_until(lambda: counter.received().packets >= 2, what="the node trying again")
    assert counter.sent().packets == 0
    assert node.run("wait", "--timeout", "0.1", check=False).returncode == 5
    assert world.server_status()["drops"] == {"mac1": ANY}
    assert node.stop() == 0


def test_a_wrong_access_token_lets_nobody_in(node: Node, world: World) -> None:
    wrong = world.url[:-6] + ("AAAAAA" if not world.url.endswith("AAAAAA") else "BBBBBB")
    node.up("--server", wrong)
    counter = world.vps.count_udp(12345)
    wait_until(lambda: counter.received().packets >= 2, what="the node trying again")
    assert world.server_status()["nodes"] == 0
    assert world.server_status()["sessions"] == 0
    assert counter.sent().packets == 0
    assert node.run("wait", "--timeout", "0.1", check=False).returncode == 5
    assert node.stop() == 0


# What is in the way


def test_the_prefix_clashes_with_a_route(node: Node) -> None:
    node.host.run(["ip", "link", "add", "office0", "type", "bridge"])
    node.host.run(["ip", "link", "set", "office0", "up"])
    node.host.run(["ip", "route", "add", "10.99.0.0/16", "dev", "office0"])
    asked = ("--server", NOWHERE, "--ip", "10.99.3.1/24")
    refused(node, 1, "10.99.3.0/24", "10.99.0.0/16", "office0", "--ip", arguments=asked)
    assert kept(node) == set()
    founded(node, "--ip", "10.98.3.1/24")
    assert node.ip4 == "10.98.3.1"
    assert node.status()["network"]["cidr"] == "10.98.3.0/24"
    node.stop()
    node.host.run(["ip", "route", "add", "10.98.3.0/25", "dev", "office0"])
    refused(node, 1, "10.98.3.0/24", "10.98.3.0/25", "office0")
    node.host.run(["ip", "route", "del", "10.98.3.0/25", "dev", "office0"])
    node.up()
    assert node.ip4 == "10.98.3.1"
    node.stop()


def test_a_new_network_avoids_the_routes_there_are(node: Node) -> None:
    """All of 10/8 but one /9 is taken: the prefix chosen is in that."""
    node.host.run(["ip", "link", "add", "office0", "type", "bridge"])
    node.host.run(["ip", "link", "set", "office0", "up"])
    node.host.run(["ip", "route", "add", "10.0.0.0/9", "dev", "office0"])
    founded(node)
    assert int(node.ip4.split(".")[1]) >= 128
    node.stop()


def test_the_interface_name_is_taken(node: Node) -> None:
    for name in ("eth0", "other0"):
        if name == "other0":
            node.host.run(["ip", "link", "add", name, "type", "bridge"])
        asked = ("--server", NOWHERE, "--interface", name)
        refused(node, 1, f"an interface {name} already", "--interface", arguments=asked)
    assert not node.state.exists()
    founded(node, "--interface", "vpn0")
    assert node.interface == "vpn0"
    node.stop()


def test_the_port_is_in_use(node: Node) -> None:
    taken = node.host.udp_socket(4000)
    asked = ("--server", NOWHERE, "--listen-port", "4000")
    refused(node, 1, "port 4000 is in use", "--listen-port", arguments=asked)
    assert kept(node) == set()
    taken.close()
    founded(node, "--listen-port", "4000")
    assert node.status()["node"]["listen_port"] == 4000
    node.stop()


def test_the_port_of_last_time(node: Node) -> None:
    """It is used again; if it is in use, another is as good."""
    founded(node).stop()
    remembered = node.state / "peers.json"
    remembered.write_text(json.dumps({"peers": [], "listen_port": 40404}))
    remembered.chmod(0o600)
    node.up()
    assert node.status()["node"]["listen_port"] == 40404
    node.stop()
    taken = node.host.udp_socket(40404)
    node.up()
    assert node.status()["node"]["listen_port"] != 40404
    assert "port 40404 of last time is in use" in node.process.stderr
    node.stop()
    taken.close()


def test_a_second_up_on_the_same_directory(node: Node) -> None:
    founded(node)
    pid = str(node.process.pid)
    argv = [PUNCHTUN, "up", "--state-dir", str(node.state)]
    result = node.host.run(argv, check=False, timeout=PATIENCE)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    for word in ("already running", pid, str(node.state), "--state-dir"):
        assert word in result.stderr
    assert node.run("status").returncode == 0  # The first one is not disturbed.
    assert links(node.host) >= {f" {node.interface}"}
    node.stop()


# What is on the disk


def test_no_network_yet(node: Node) -> None:
    refused(node, 2, "in no network yet", "punchtun up --server URL", "punchtun-join:")
    assert kept(node) == set()


DAMAGES: dict[str, list[Callable[[Path], object]]] = {
    "node.json": [
        lambda file: file.write_text(""),
        lambda file: file.write_text(file.read_text()[:100]),
        lambda file: file.write_text("[]"),
        lambda file: file.write_text("{}"),
        lambda file: file.write_bytes(os.urandom(300)),
    ],
    "ledger.json": [lambda file: file.write_text('{"issued": ["x"], "invitations": []}')],
    "peers.json": [lambda file: file.write_text('{"peers": [{}]}')],
}


def test_damaged_and_unsafe_state_files(node: Node) -> None:
    founded(node)
    public_key = node.status()["node"]["public_key"]
    node.stop()
    peers = node.state / "peers.json"
    peers.write_text('{"peers": []}')
    peers.chmod(0o600)
    for name, damages in DAMAGES.items():
        file = node.state / name
        good = file.read_bytes()
        for spoil in damages:
            spoil(file)
            spoiled = file.read_bytes()
            refused(node, 1, name, "damaged")
            assert file.read_bytes() == spoiled  # Nothing was made up in its place.
        file.write_bytes(good)
    file = node.state / "node.json"
    file.chmod(0o644)
    refused(node, 1, f"chmod 600 {file}")
    file.chmod(0o600)
    os.chown(file, 65534, 65534)
    refused(node, 1, "belongs to user 65534", f"chown 0 {file}")
    os.chown(file, 0, 0)
    os.chown(node.state, 65534, 65534)
    refused(node, 1, str(node.state), "belongs to user 65534", "chown")
    os.chown(node.state, 0, 0)
    node.up()
    assert node.status()["node"]["public_key"] == public_key
    node.stop()


def test_a_certificate_that_is_not_this_networks(node: Node, tmp_path: Path) -> None:
    """node.json put together from two: said at the start, not found out by silence."""
    founded(node).stop()
    other = Node("other", node.host, tmp_path / "other")
    founded(other).stop()
    mine = json.loads((node.state / "node.json").read_text())
    foreign = json.loads((other.state / "node.json").read_text())
    mine["certificate"] = foreign["certificate"]
    (node.state / "node.json").write_text(json.dumps(mine))
    refused(node, 1, "node.json", "backup")
    mine["network_key"] = foreign["network_key"]
    (node.state / "node.json").write_text(json.dumps(mine))
    refused(node, 1, "node.json", "its certificate is for another key")


def test_a_lost_ledger(node: Node) -> None:
    founded(node).stop()
    (node.state / "ledger.json").unlink()
    refused(node, 1, "ledger.json is missing", "backup")


def test_name_and_address_cannot_change_later(node: Node) -> None:
    founded(node).stop()
    refused(node, 2, "--name other", "island", arguments=("--name", "other"))
    refused(node, 2, "--ip 10.1.2.3", arguments=("--ip", "10.1.2.3"))
    node.up("--name", "island").stop()


def test_a_member_of_a_network_cannot_join_another(node: Node, world: World) -> None:
    founder = world.found("founder", world.vps)
    founded(node).stop()
    join = founder.invite("island")
    refused(node, 1, "in a network already", "island", "--state-dir", arguments=(join,))
    node.up().stop()


# What people ask of a node that runs


def test_questions_with_no_good_answer(node: Node) -> None:
    founded(node, "--ip", "10.99.0.1/30")

    def answer(code: int, *asked: str) -> str:
        result = node.run(*asked, check=False)
        assert result.returncode == code, result
        assert result.stdout == "" or code == 4
        assert len(result.stderr.splitlines()) <= 1
        return result.stderr or result.stdout

    assert "no peer is called nobody" in answer(4, "ping", "nobody")
    assert "no peer is called nobody" in answer(4, "events", "nobody")
    assert "offline" in answer(4, "wait", "--peer", "nobody", "--timeout", "0.1")
    assert "offline" in answer(4, "wait", "--direct", "--timeout", "0.1")
    assert "exists already" in answer(2, "invite", "island")
    assert "hyphens" in answer(2, "invite", "My Pi")
    assert "10.98.0.1 is not in" in answer(2, "invite", "pi", "--ip", "10.98.0.1")
    assert "belongs to another" in answer(2, "invite", "pi", "--ip", "10.99.0.1")
    assert "no IPv4 address" in answer(2, "invite", "pi", "--ip", "10.99.0.1/24")
    several = answer(2, "invite", "pi", "--uses", "3", "--ip", "10.99.0.2")
    assert "leave --ip out, or invite them one by one" in several
    assert node.run("invite", "pi").returncode == 0
    assert "no address is free in 10.99.0.0/30" in answer(1, "invite", "second")
    assert node.run("invite", "pi").returncode == 0  # Replaces the former for the same name.
    node.stop()


def test_the_addresses_of_the_network_itself_are_nobodys(node: Node) -> None:
    founded(node, "--ip", "10.99.0.1/30")
    for number in (0, 3):
        result = node.run("invite", "pi", "--ip", f"10.99.0.{number}", check=False)
        assert (result.returncode, result.stdout) == (2, "")


def test_only_the_founder_invites(world: World, lab: Lab) -> None:
    founder = world.found("founder", world.vps)
    member = world.join("member", lab.public_host("b", "203.0.113.21"), founder)
    result = member.run("invite", "third", check=False)
    assert result.returncode == 1
    assert "holds no signing key" in result.stderr


# What programs read


def test_json_outputs_have_what_is_documented(world: World, lab: Lab) -> None:
    one = lab.home_router("homeA", public="198.51.100.7").host("a")
    two = lab.public_host("b", "203.0.113.21")
    attic, camera = world.pair(one, two)
    status = attic.status()
    assert status["node"].keys() >= {
        *("name", "public_key", "addresses", "interface", "mtu", "version")
    }
    assert status["node"]["name"] == "attic"
    assert status["network"].keys() >= {"id", "cidr"}
    server = status["server"]
    assert server.keys() >= {"url", "state", "rtt_ms", "transport", "endpoints"}
    assert server["url"] == "punchtun://203.0.113.10:12345"  # without key and token
    assert (server["state"], server["transport"]) == ("connected", "udp")
    assert server["endpoints"] == ["203.0.113.10:12345"]
    assert 0 < server["rtt_ms"] < 1000
    assert status["nat"].keys() >= {
        *("mapping", "filtering", "hairpin", "port_mapping", "mapping_lifetime_s", "keepalive_s")
    }
    assert status["nat"]["mapping"] == "endpoint-independent"
    (peer,) = status["peers"]
    assert peer.keys() >= {
        *("name", "public_key", "addresses", "state", "path", "why_not_direct", "outages"),
        *("handshake_age_s", "rx_bytes", "tx_bytes", "rx_packets", "tx_packets"),
        "duplicates_dropped",
    }
    assert peer["public_key"] == camera.status()["node"]["public_key"]
    assert peer["addresses"] == camera.status()["node"]["addresses"]
    assert peer["state"] == "direct"
    assert peer["why_not_direct"] is None
    assert peer["path"].keys() >= {"kind", "local", "remote", "rtt_ms", "mtu", "since_s"}
    assert peer["path"]["remote"].startswith("203.0.113.21:")
    assert attic.json("peers").keys() == {"peers"}
    assert attic.json("peers")["peers"][0]["name"] == "camera"
    assert check_ping(attic.json("ping", "camera", "-c", "2"), 2) == "direct"
    names = {event["event"] for event in attic.events()}
    assert names >= {"server_registered", "session_established", "path_changed", "peer_introduced"}
    assert all(isinstance(event["time"], float) for event in attic.events())
    changed = attic.events("path_changed")[0]
    assert changed.keys() == {"time", "event", "peer", "before", "after", "cause"}
    lines = attic.run("events", "camera", "--json").stdout.splitlines()
    assert {json.loads(line).get("peer") for line in lines} == {"camera"}
    count_of_packets(attic, camera)


def check_ping(answer: dict[str, object], count: int) -> object:
    assert answer.keys() == {"peer", "sent", "received", "state", "answers"}
    assert (answer["sent"], answer["received"]) == (count, count)
    answers = answer["answers"]
    assert isinstance(answers, list)
    for one in answers:
        assert one.keys() == {"sequence", "peer", "rtt_ms", "way", "state"}
    return answer["state"]


def count_of_packets(attic: Node, camera: Node) -> None:
    before = attic.peer("camera")
    attic.host.run(["ping", "-c", "3", "-i", "0.05", "-s", "100", camera.ip4])
    after = attic.peer("camera")
    for direction in ("rx", "tx"):
        assert after[f"{direction}_packets"] - before[f"{direction}_packets"] == 3
        assert after[f"{direction}_bytes"] - before[f"{direction}_bytes"] == 3 * 128
