"""``punchtun doctor``: what it finds in networks that are known to be so."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.privileges import as_nobody

from .host import Host
from .igd import Igd
from .lab import Lab
from .wait import wait_until
from .world import PATIENCE, PORT, PUNCHTUN, Json, Node, World

pytestmark = pytest.mark.root

RANDOM: dict[str, Any] = {"mapping": "address-and-port-dependent", "allocation": "random"}


def doctor(node: Node, *arguments: str) -> tuple[int, Json]:
    result = node.run("doctor", *arguments, "--json", check=False)
    assert result.stdout, result
    answer = json.loads(result.stdout)
    assert answer["exit_code"] == result.returncode
    return result.returncode, answer


def before_up(host: Host, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As an ordinary user, without a node."""
    argv = [*as_nobody(), PUNCHTUN, "doctor", "--server", url, *arguments]
    return host.run(argv, check=False, timeout=PATIENCE)


def finding(report: Json, name: str) -> Json:
    found = [entry for entry in report["findings"] if entry["name"] == name]
    assert found, report
    return dict(found[0])


def wait_for_code(node: Node, peer: str, code: str) -> Json:
    """What `doctor PEER` says once it says so."""

    def found() -> Json | None:
        _, answer = doctor(node, peer)
        why = answer["peer"]["why_not_direct"]
        return answer if why is not None and why["code"] == code else None

    answer = wait_until(found, timeout=2 * PATIENCE, interval=0.5, what=f"{node.name}: {code}")
    assert answer is not None
    status = node.peer(peer)["why_not_direct"]
    assert status["reason"] == answer["peer"]["why_not_direct"]["reason"], "the same words"
    return answer


def wait_for_evidence(node: Node, peer: str, words: str) -> None:
    wait_until(
        lambda: words in " ".join(doctor(node, peer)[1]["evidence"]),
        timeout=2 * PATIENCE,
        interval=0.5,
        what=f"{node.name}: {words}",
    )


def test_all_is_well_and_direct(lab: Lab, world: World) -> None:
    home = lab.home_router("home", public="198.51.100.7")
    other = lab.home_router("other", public="192.0.2.33")
    attic, camera = world.pair(home.host("a"), other.host("b"))
    code, report = doctor(attic)
    assert code == 0
    assert report["verdict"] == "All is well here."
    for name in ("server", "udp-over-ipv4", "tcp", "clock", "mtu", "nat", "routes", "port"):
        assert finding(report, name)["level"] == "ok", name
    assert "1500" in finding(report, "mtu")["text"]
    assert "direct via" in finding(report, "peer camera")["text"]
    code, answer = doctor(camera, "attic")
    assert code == 0
    assert answer["peer"]["state"] == "direct"
    text = camera.run("doctor", "attic").stdout
    assert text.startswith("attic is direct: ")
    assert doctor(camera, attic.ip4)[0] == 0
    missing = camera.run("doctor", "nobody", check=False)
    assert missing.returncode == 4
    assert "no peer is called nobody" in missing.stderr


def test_both_nats_random_over_the_whole_range(lab: Lab, world: World) -> None:
    home = lab.home_router("home", public="198.51.100.7", software=True, **RANDOM)
    other = lab.home_router("other", public="192.0.2.33", **RANDOM)
    attic = world.found("attic", home.host("a"))
    camera = world.join("camera", other.host("b"), attic)
    for node, peer in ((attic, "camera"), (camera, "attic")):
        wait_for_code(node, peer, "both-scattered")
        wait_for_evidence(node, peer, f"at {peer}: no router answers")
        answer = wait_for_code(node, peer, "both-scattered")
        assert answer["exit_code"] == 3
        evidence = " ".join(answer["evidence"])
        assert "here: mapping address-and-port-dependent" in evidence
        assert f"at {peer}: mapping address-and-port-dependent" in evidence
        assert "198.51.100.7" in evidence
        assert "192.0.2.33" in evidence
        fix = answer["peer"]["why_not_direct"]["fix"]
        assert "switch on UPnP, NAT-PMP or PCP in the router here" in fix
        assert f"in the router at {peer}" in fix
    code, report = doctor(attic)
    assert code == 0
    assert "relayed instead of direct: camera" in report["verdict"]
    assert finding(report, "nat")["level"] == "note"
    assert finding(report, "port-mapping")["cure"].startswith("switch on UPnP")


def test_udp_is_blocked(lab: Lab, world: World) -> None:
    office = lab.home_router("office", public="198.51.100.7")
    home = lab.home_router("home", public="192.0.2.33")
    pi = world.found("pi", home.host("b"))
    office.block_udp()
    desk = world.join("desk", office.host("a"), pi)
    desk.wait("pi")
    code, report = doctor(desk)
    assert code == 1
    assert "UDP to the server is blocked" in report["verdict"]
    assert finding(report, "tcp")["level"] == "ok"
    assert finding(report, "udp-over-ipv4")["level"] == "note"
    assert doctor(desk, "pi")[0] == 3
    wait_for_code(desk, "pi", "udp-blocked")
    wait_for_code(pi, "desk", "peer-udp-blocked")

    result = before_up(office.host("c"), world.url, "--json")
    assert result.returncode == 1, result
    assert "UDP to the server is blocked" in json.loads(result.stdout)["verdict"]


def test_before_the_first_up(lab: Lab, world: World, tmp_path: Path) -> None:
    """Behind two NATs; no root, and nobody is registered."""
    carrier = lab.carrier("carrier", public="192.0.2.33")
    home = carrier.home_router("home", lan="192.168.8.0/24")
    host = home.host("pi")
    result = before_up(host, world.url, "--json")
    assert result.returncode == 0, result
    report = json.loads(result.stdout)
    assert finding(report, "server")["level"] == "ok"
    assert "endpoint-independent" in finding(report, "nat")["text"]
    assert "carrier-grade NAT" in finding(report, "routers")["text"]
    assert "ask the carrier" in finding(report, "routers")["cure"]
    assert finding(report, "clock")["level"] == "ok"
    assert finding(report, "privileges")["level"] == "note"
    assert "UDP over IPv4: the server answers" in result.stderr
    assert world.server_status()["nodes"] == 0
    text = before_up(host, world.url).stdout
    assert text.splitlines()[0] == "All is well here."

    neither = host.run(
        [PUNCHTUN, "doctor", "--state-dir", str(tmp_path / "none")], check=False, timeout=PATIENCE
    )
    assert neither.returncode == 6
    assert "--server" in neither.stderr


def test_double_nat_and_a_router_that_maps_nothing(lab: Lab, world: World, tmp_path: Path) -> None:
    carrier = lab.carrier("carrier", public="192.0.2.33", inside="10.64.0.0/16", **RANDOM)
    home = carrier.home_router("home", lan="192.168.8.0/24")
    Igd(home, tmp_path)
    attic = world.found("attic", home.host("pi"))
    wait_until(
        lambda: len(attic.status()["nat"]["routers"]) > 1 and attic.status()["nat"]["port_mapping"],
        timeout=PATIENCE,
        what="the routers",
    )
    wait_until(
        lambda: attic.status()["nat"]["port_mapping"]["state"] == "refused",
        timeout=PATIENCE,
        what="the refusal",
    )
    code, report = doctor(attic)
    assert code == 0
    assert "double NAT" in finding(report, "routers")["text"]
    assert "bridge mode" in finding(report, "routers")["cure"]
    assert "PCP:" in finding(report, "port-mapping")["text"]


def test_the_peer_is_offline_and_the_server_is_away(lab: Lab, world: World) -> None:
    home = lab.home_router("home", public="198.51.100.7")
    other = lab.home_router("other", public="192.0.2.33")
    attic, camera = world.pair(home.host("a"), other.host("b"))
    camera.stop()
    attic.wait_for_state("camera", "offline")
    code, answer = doctor(attic, "camera")
    assert code == 4
    assert answer["peer"]["why_not_direct"]["code"] == "peer-offline"
    world.server.send_signal(15)
    assert world.server.wait() == 0
    wait_until(
        lambda: attic.status()["server"]["state"] == "unreachable", timeout=60, what="the loss"
    )
    code, report = doctor(attic)
    assert code == 5
    assert "is not reached" in report["verdict"]
    assert f"UDP {PORT}" in finding(report, "server")["cure"]
    assert doctor(attic, "camera")[0] == 5
    assert before_up(home.host("c"), world.url, "--json").returncode == 5


def test_a_route_that_conflicts(lab: Lab, world: World) -> None:
    host = lab.home_router("home", public="198.51.100.7").host("a")
    attic = world.found("attic", host, "--ip", "10.99.0.1/24")
    host.run(["ip", "link", "add", "vpn0", "type", "veth", "peer", "name", "vpn1"])
    host.run(["ip", "link", "set", "vpn0", "up"])
    host.run(["ip", "route", "add", "10.99.0.0/16", "dev", "vpn0"])
    code, report = doctor(attic)
    assert code == 1
    assert "10.99.0.0/16 through vpn0" in finding(report, "routes")["text"]
    assert "--ip" in finding(report, "routes")["cure"]
    host.run(["ip", "link", "delete", "vpn0"])


def test_a_path_of_1280_bytes(lab: Lab, world: World) -> None:
    home = lab.home_router("home", public="198.51.100.7")
    home.set_mtu(1280)
    report = json.loads(before_up(home.host("a"), world.url, "--json").stdout)
    assert "1280 bytes" in finding(report, "mtu")["text"]
