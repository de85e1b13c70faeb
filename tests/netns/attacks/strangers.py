"""Off-path strangers: noise, messages under wrong keys, borrowed addresses. Nobody answers."""

from __future__ import annotations

from pathlib import Path

from tests.netns.lab import Lab
from tests.netns.world import PORT, World

from .site import Attacker, Result, Watch

STUN_PER_SECOND, STUN_BURST = 10, 30
"""Answers to one source address (docs/security.md)."""


def attack_as_stranger(
    lab: Lab, folder: Path, count: int, *, is_ipv6: bool = False
) -> list[Result]:
    """`count` datagrams of noise and wrong keys, a tenth as many handshakes, and STUN requests that
    seem to come from somebody else."""
    world = World(lab, folder)
    world.start_server()
    office = lab.public_host("office", "203.0.113.20", ipv6="2001:db8::20")
    home = lab.home_router("homeA", public="198.51.100.7")
    attic, _ = world.pair(office, home.host("b"))
    mallory = Attacker(lab)
    at_office, at_vps = (host.ip6 if is_ipv6 else host.ip4 for host in (office, world.vps))
    node = [at_office, attic.status()["node"]["listen_port"]]
    server, second = [at_vps, PORT], [at_vps, PORT + 1]
    mapped = camera_endpoint(world)
    by = " (IPv6)" if is_ipv6 else ""
    results = []

    watch, before = Watch(world, world.nodes), mallory.answered()
    sessions = world.server_status()["sessions"]
    # camera has no IPv6.
    targets = [server, node, second, *([] if is_ipv6 else [mapped])]
    sent = mallory.run("strange", targets=targets, count=count, seed=1)
    dropped = watch.dropped(attic, server=True).total() + filtered(count, targets, mapped)
    gained = world.server_status()["sessions"] - sessions
    results.append(
        Result(
            "a stranger: noise, and every message under wrong keys, to server and nodes" + by,
            sent["datagrams"],
            max(sent["datagrams"] - dropped, gained),
            sent["bytes"],
            mallory.answered() - before,
            watch.noticed(),
        )
    )

    watch, before = Watch(world, world.nodes), mallory.answered()
    key = attic.status()["node"]["public_key"]
    sent = mallory.run("non_member", target=node, key=key, count=count // 10, seed=2)
    results.append(
        Result(
            "a stranger who knows a node's key: handshakes without a fault" + by,
            sent["datagrams"],
            sent["datagrams"] - watch.dropped(attic).total(),
            sent["bytes"],
            mallory.answered() - before,
            watch.noticed(),
        )
    )

    watch, before = Watch(world, world.nodes), mallory.answered()
    answers = world.server_status()["stun_answers"]
    victim = ["2001:db8:f::1" if is_ipv6 else "198.18.0.1", 53]
    sent = mallory.run("stun", target=server, victim=victim, count=count)
    answers = world.server_status()["stun_answers"] - answers
    bound = STUN_BURST + STUN_PER_SECOND * (sent["seconds"] + 1)
    results.append(
        Result(
            "STUN requests with a victim's address" + by,
            sent["datagrams"],
            max(0, answers - int(bound)),
            sent["bytes"],
            mallory.answered() - before,
            f"{answers} answers to the victim, of {int(bound)} that are allowed",
        )
    )
    world.close()
    return results


def camera_endpoint(world: World) -> list[object]:
    """Where the camera's router has its mapping."""
    remote = world.nodes[0].peer("camera")["path"]["remote"]
    host, port = remote.rsplit(":", 1)
    return [host, int(port)]


def filtered(count: int, targets: list[list[object]], mapped: list[object]) -> int:
    """Those that the camera's router let nobody see: it lets in only whom the camera asked."""
    if mapped not in targets:
        return 0
    return len(range(targets.index(mapped), count, len(targets)))
