"""``punchtun doctor`` without a peer: what was found on this machine, judged point by point.

Pure: `MachineFacts` in, findings with their cures out. What is a problem stops something from
working and can be mended; a note is worth knowing, or makes direct paths rarer.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tunnel.core.diagnosis import CLOCK_TOLERANCE
from tunnel.core.examination import Way

SMALL_MTU = 1280
"""Bytes of a datagram, below which IPv6 through the tunnel goes in fragments."""
SHORT_LIFETIME = 20.0
"""Seconds. Mappings that are forgotten sooner cost traffic when idle."""


class Level(enum.Enum):
    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


class Finding(NamedTuple):
    name: str
    """For programs: server, nat, …"""
    level: Level
    text: str
    cure: str = ""

    def describe(self) -> dict[str, str | None]:
        level = self.level.value
        return {"name": self.name, "level": level, "text": self.text, "cure": self.cure or None}


@dataclass(frozen=True)
class MachineFacts:
    server: str
    """Its URL, without key and token."""
    is_resolved: bool = True
    ways: Sequence[Way] = ()
    """Those to the server, as tried just now."""
    is_node_running: bool = False
    is_node_connected: bool = False
    refusal: Mapping[str, Any] | None = None
    """Why the server does not register it: ``server.refusal`` of ``punchtun status --json``."""
    relay_refusal: Mapping[str, Any] | None = None
    is_revoked: bool = False
    """Whether the running node is a member no more; then it is not connected, either."""
    transport: str = "udp"
    """That the running node uses."""
    nat: Mapping[str, Any] = field(default_factory=dict)
    """``nat`` of ``punchtun status --json``, as far as it is known."""
    path_mtu: int | None = None
    """Bytes of the largest datagram that reached the server whole."""
    wall_time: float = 0.0
    """Ours, in seconds since the Unix epoch."""
    clock_offset: float | None = None
    """Seconds that our clock is ahead of the server's."""
    has_ipv6: bool = False
    """Whether there is a public IPv6 address."""
    has_tun: bool = True
    may_administer: bool = True
    """Whether this user could create the interface."""
    is_forwarding: bool | None = None
    clash: str = ""
    """What the tunnel's prefix clashes with."""
    listen_port: int | None = None
    has_fixed_port: bool = False
    peers: Sequence[Mapping[str, Any]] = ()
    """``peers`` of ``punchtun status --json``."""

    @property
    def is_reached_by_udp(self) -> bool:
        return any(way.is_reached for way in self.ways if way.name.startswith("UDP"))

    @property
    def is_reached(self) -> bool:
        return self.is_node_connected or any(way.is_reached for way in self.ways)


class Report(NamedTuple):
    verdict: str
    exit_code: int
    """0 all well, 1 a problem, 5 the server is not reached."""
    findings: tuple[Finding, ...]

    def describe(self) -> dict[str, Any]:
        """``punchtun doctor --json``."""
        findings = [finding.describe() for finding in self.findings]
        return {"verdict": self.verdict, "exit_code": self.exit_code, "findings": findings}


def examine(facts: MachineFacts) -> Report:
    if facts.is_revoked:
        revoked = Finding(
            "membership",
            Level.PROBLEM,
            "this machine has been revoked: it is a member of its network no more",
            "stop the node, and join with a new invitation: `punchtun up 'punchtun-join:…'`",
        )
        return Report("This machine has been revoked.", 1, (revoked,))
    findings = (
        *_judge_server(facts),
        *_judge_relay(facts),
        *_judge_clock(facts),
        *_judge_mtu(facts),
        *_judge_nat(facts),
        *_judge_port_mapping(facts),
        *_judge_ipv6(facts),
        *_judge_machine(facts),
        *_judge_peers(facts),
    )
    problems = [finding for finding in findings if finding.level is Level.PROBLEM]
    if not facts.is_reached:
        return Report(f"The server {facts.server} is not reached.", 5, findings)
    if problems:
        also = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        return Report(f"There is a problem: {problems[0].text}{also}.", 1, findings)
    relayed = [peer["name"] for peer in facts.peers if peer["state"] == "relayed"]
    if relayed:
        who = ", ".join(relayed)
        return Report(f"All works here; relayed instead of direct: {who}.", 0, findings)
    return Report("All is well here.", 0, findings)


def _judge_relay(facts: MachineFacts) -> Iterator[Finding]:
    refusal = facts.relay_refusal
    if refusal is None:
        return
    level = Level.NOTE if refusal["code"] == "relay-rate" else Level.PROBLEM
    text = refusal["reason"]
    if refusal["until"] is not None:
        hours = max(0.0, refusal["until"] - facts.wall_time) / 3600
        text += f"; it begins anew in {hours:.1f} hours"
    yield Finding("relay", level, text, refusal["fix"])


def _judge_server(facts: MachineFacts) -> Iterator[Finding]:
    if not facts.is_resolved:
        cure = "check the name in the server's URL, and this machine's name servers"
        yield Finding("server", Level.PROBLEM, "the server's name does not resolve", cure)
        return
    cure = (
        "open UDP 12345 and 12346 and TCP 12345 (or the URL's ports) in the server's firewall, "
        "at its provider too; see that `punchtun server run` runs there, and that the URL is whole"
    )
    if not facts.is_reached:
        text = f"the server {facts.server} answers by no way"
        yield Finding("server", Level.PROBLEM, text, cure)
    elif facts.refusal is not None:
        text = f"the server refuses the running node: {facts.refusal['reason']}"
        yield Finding("server", Level.PROBLEM, text, facts.refusal["fix"])
    elif facts.is_node_running and not facts.is_node_connected:
        text = "the server answers, but the running node is not registered there"
        yield Finding("server", Level.PROBLEM, text, "wait a minute; else restart the node")
    else:
        yield Finding("server", Level.OK, f"the server {facts.server} answers")
    has_udp = facts.is_reached_by_udp or (
        facts.is_node_connected and facts.transport == "udp" and not facts.ways
    )
    if facts.is_reached and not has_udp:
        yield Finding(
            "udp",
            Level.PROBLEM,
            "UDP to the server is blocked, so every peer is relayed",
            "allow outbound UDP in the firewall or router of this network; if it fails from every "
            "network, open the server's UDP ports",
        )
    for way in facts.ways:
        yield from _judge_way(way, facts, has_udp=has_udp)


def _judge_way(way: Way, facts: MachineFacts, *, has_udp: bool) -> Iterator[Finding]:
    if way.is_reached is None:
        return
    name = way.name.lower().replace(" ", "-")
    if way.is_reached:
        rtt = "" if way.rtt is None else f" in {way.rtt * 1000:.0f} ms"
        yield Finding(name, Level.OK, f"{way.name}: answers{rtt}")
        return
    reason = f": {way.reason}" if way.reason else ""
    # Others stand in for it; what matters is judged above.
    text = f"{way.name}: no answer{reason}"
    is_minor = way.name.startswith("WebSocket") and facts.is_reached
    cure = "" if is_minor or not has_udp else "needed only where UDP is blocked; see server --tcp"
    if way.name.startswith("UDP"):
        cure = ""
    yield Finding(name, Level.NOTE, text, cure)


def _judge_clock(facts: MachineFacts) -> Iterator[Finding]:
    offset = facts.clock_offset
    if offset is None:
        return
    if abs(offset) <= CLOCK_TOLERANCE:
        yield Finding("clock", Level.OK, f"the clock agrees with the server's ({offset:+.1f} s)")
        return
    way = "ahead of" if offset > 0 else "behind"
    yield Finding(
        "clock",
        Level.PROBLEM,
        f"this machine's clock is {abs(offset):.0f} s {way} the server's, and handshakes with a "
        "time before the last one's are refused",
        "set it, for example with `timedatectl set-ntp true`",
    )


def _judge_mtu(facts: MachineFacts) -> Iterator[Finding]:
    if facts.path_mtu is None:
        return
    text = f"datagrams of {facts.path_mtu} bytes reach the server whole"
    if facts.path_mtu < SMALL_MTU:
        cure = "nothing need be done: packets are cut to fit; larger ones would be faster"
        yield Finding("mtu", Level.NOTE, text, cure)
    else:
        yield Finding("mtu", Level.OK, text)


def _judge_nat(facts: MachineFacts) -> Iterator[Finding]:
    nat = facts.nat
    mapping, filtering = nat.get("mapping"), nat.get("filtering")
    if nat.get("present") is False:
        words = f"; its firewall filters {filtering}" if filtering else ""
        yield Finding("nat", Level.OK, f"no NAT: the server sees an address of our own{words}")
    elif mapping is None:
        if facts.is_reached:
            yield Finding("nat", Level.NOTE, "what the NAT does is not known yet")
    else:
        text = f"NAT: mapping {mapping}, filtering {filtering or 'not known yet'}"
        if nat.get("hairpin") is not None:
            text += ", hairpins" if nat["hairpin"] else ", does not hairpin"
        if mapping == "endpoint-independent":
            yield Finding("nat", Level.OK, text)
        else:
            cure = (
                "with another such NAT, or one that filters by address and port, a pair needs "
                "guessed ports or the relay; port mapping, or a forwarded UDP port with "
                "--listen-port, helps"
            )
            yield Finding("nat", Level.NOTE, f"{text}: every destination gets another port", cure)
    lifetime = nat.get("mapping_lifetime_s")
    if lifetime is not None:
        level = Level.OK if lifetime >= SHORT_LIFETIME else Level.NOTE
        text = f"mappings last {lifetime:.0f} s or longer; kept every {nat['keepalive_s']:.0f} s"
        yield Finding("lifetime", level, text)
    yield from _judge_routers(nat)


def _judge_routers(nat: Mapping[str, Any]) -> Iterator[Finding]:
    routers = [router for router in nat.get("routers") or () if router]
    way = f" ({', '.join(routers)})" if routers else ""
    beyond = [s for s in nat.get("evidence") or () if "a second NAT" in s]
    if nat.get("carrier_nat"):
        cure = (
            "a port forwarded at home does not reach this machine: ask the carrier for a public "
            "IPv4 address, or for IPv6"
        )
        yield Finding("routers", Level.NOTE, f"a carrier-grade NAT is on the way{way}", cure)
    elif beyond:
        cure = "put one of the two routers into bridge mode"
        text = f"two routers before the internet, double NAT{way}"
        yield Finding("routers", Level.NOTE, text, cure)


def _judge_port_mapping(facts: MachineFacts) -> Iterator[Finding]:
    if facts.nat.get("present") is False or "port_mapping" not in facts.nat:
        return
    mapping = facts.nat["port_mapping"]
    name = "port-mapping"
    if mapping is None:
        cure = "leave out --no-port-mapping, and `port_mapping = false` in the configuration"
        yield Finding(name, Level.NOTE, "port mapping is switched off", cure)
        return
    state, reason = mapping["state"], mapping["reason"] or ""
    said = f" ({reason})" if reason else ""
    if state == "mapped":
        where = f"{mapping['external']} by {mapping['protocol']}"
        yield Finding(name, Level.OK, f"the router forwards a port: {where}")
    elif state == "double-nat":
        cure = "put one of the two routers into bridge mode, or forward the port in both"
        yield Finding(name, Level.NOTE, f"the router maps a port, but is behind a NAT{said}", cure)
    elif state in ("refused", "unavailable"):
        cure = (
            "switch on UPnP, NAT-PMP or PCP in the router, or forward a UDP port there and start "
            "with --listen-port"
        )
        yield Finding(name, Level.NOTE, f"no router maps a port{said}", cure)
    else:
        yield Finding(name, Level.NOTE, f"port mapping: {state}{said}")


def _judge_ipv6(facts: MachineFacts) -> Iterator[Finding]:
    way = next((way for way in facts.ways if way.name == "UDP over IPv6"), None)
    if not facts.has_ipv6:
        cure = "with IPv6 on both sides a pair does without NAT: see whether the provider has it"
        yield Finding("ipv6", Level.NOTE, "no public IPv6 address", cure)
    elif way is not None and way.is_reached is False:
        cure = "see whether the router's firewall lets UDP out by IPv6, and whether IPv6 works"
        yield Finding("ipv6", Level.NOTE, "an IPv6 address, but no answer by it", cure)
    elif way is not None and way.is_reached:
        yield Finding("ipv6", Level.OK, "a public IPv6 address, and the server answers by it")
    else:
        yield Finding("ipv6", Level.OK, "a public IPv6 address (the server was not tried by it)")


def _judge_machine(facts: MachineFacts) -> Iterator[Finding]:
    if not facts.has_tun:
        cure = "load it with `modprobe tun`; in a container, add --device /dev/net/tun"
        yield Finding("tun", Level.PROBLEM, "this machine has no /dev/net/tun", cure)
    elif facts.is_node_running or facts.may_administer:
        yield Finding("privileges", Level.OK, "the interface may be created")
    else:
        text = "this user may not create the interface"
        yield Finding("privileges", Level.NOTE, text, "run `punchtun up` with sudo")
    if facts.clash:
        cure = "remove that route, or create the network with another prefix (--ip 10.99.0.1/24)"
        yield Finding("routes", Level.PROBLEM, facts.clash, cure)
    elif facts.is_node_running:
        yield Finding("routes", Level.OK, "no other route overlaps the tunnel's prefix")
    if facts.listen_port is not None:
        how = "fixed" if facts.has_fixed_port else "the same again after a restart, if it is free"
        yield Finding("port", Level.OK, f"UDP port {facts.listen_port}, {how}")
    if facts.is_forwarding is False:
        text = "IP forwarding is off: this machine is no way to others behind it"
        yield Finding("forwarding", Level.OK, text)
    elif facts.is_forwarding:
        text = "IP forwarding is on: packets between tunnel and other networks pass"
        yield Finding("forwarding", Level.NOTE, text)


def _judge_peers(facts: MachineFacts) -> Iterator[Finding]:
    for peer in facts.peers:
        name, why, path = peer["name"], peer["why_not_direct"], peer["path"]
        if why is None:
            rtt = path and path.get("rtt_ms")
            took = "" if rtt is None else f", {rtt:.1f} ms"
            via = f" via {path['remote']}" if path else ""
            size = f", packets of {path['mtu']} bytes whole" if path and "mtu" in path else ""
            yield Finding(f"peer {name}", Level.OK, f"{name}: direct{via}{took}{size}")
        else:
            text = f"{name}: {peer['state']}: {why['reason']}"
            yield Finding(f"peer {name}", Level.NOTE, text, why["fix"])
