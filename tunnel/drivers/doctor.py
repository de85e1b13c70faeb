"""Gathering what ``punchtun doctor`` judges: from the running node, from the system, and by asking
the server from sockets of our own."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event

from tunnel.config import read_server_url
from tunnel.core.candidates import is_public
from tunnel.core.checkup import MachineFacts, Report, examine
from tunnel.core.examination import PATIENCE, Examination
from tunnel.drivers import clock
from tunnel.drivers.control import request
from tunnel.drivers.files import StateDirectory
from tunnel.drivers.loop import MachineLoop
from tunnel.drivers.network import find_clash, local_addresses
from tunnel.drivers.places import Places
from tunnel.drivers.resolve import resolve
from tunnel.drivers.streams import Streams
from tunnel.drivers.udp import UdpSocket
from tunnel.errors import NotRunning, OperatorError
from tunnel.noise.keys import PrivateKey
from tunnel.state import NODE_FILE, parse_node_state
from tunnel.wire.invitation import ServerUrl

Body = dict[str, Any]
Tell = Callable[[str], None]

GRACE = 1.0
"""Seconds beyond the examination's own patience until it is given up."""
_CAP_NET_ADMIN = 12
_TUN = Path("/dev/net/tun")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


def check_machine(places: Places, server: str | None, tell: Tell) -> Report:
    """Everything on this machine, whether a node runs or not. `server`: examine that one, as
    before the first `up`. Raises OperatorError; NotRunning if there is neither node nor URL."""
    status = None if server is not None else _ask_status(places)
    url = read_server_url(server) if server is not None else _read_url(places, status)
    interface = status["node"]["interface"] if status is not None else None
    hosts = [address.host for address in local_addresses([interface] if interface else [])]
    system = _look_around(status, interface) | {"has_ipv6": any(map(_is_public_ipv6, hosts))}
    if url is None:
        assert status is not None
        facts = MachineFacts(server=status["server"]["url"], **_of_status(status), **system)
        return examine(facts)
    tell(f"asking {url.location}; {PATIENCE:.0f} s at most")
    mapping = gevent.spawn(_ask_router) if status is None else None
    examined, is_resolved = _examine(url, hosts, tell, with_nat=status is None)
    if status is not None:
        known = _of_status(status)
    else:
        assert mapping is not None
        known = {"nat": _describe_nat(examined) | {"port_mapping": mapping.get()}}
    offset = examined.clock_offset
    facts = MachineFacts(
        server=url.location,
        is_resolved=is_resolved,
        ways=examined.ways,
        path_mtu=examined.path_mtu,
        **(known | ({} if offset is None else {"clock_offset": offset})),
        **system,
    )
    return examine(facts)


def check_peer(places: Places, peer: str) -> Body:
    """Why the pair is not direct, as the running node knows it. Raises OperatorError."""
    answer: Body = next(request(places.control, {"command": "doctor", "peer": peer}, timeout=5.0))
    return answer


# What is known already


def _ask_status(places: Places) -> Body | None:
    try:
        return next(request(places.control, {"command": "status"}, timeout=5.0))
    except NotRunning:
        return None


def _read_url(places: Places, status: Body | None) -> ServerUrl | None:
    """From the state directory. None: not to be read, but a node runs and knows."""
    try:
        if (places.state / NODE_FILE).exists():
            content = StateDirectory(places.state, root_may_use=True).read_json(NODE_FILE)
            if content is not None:
                return parse_node_state(content).server
    except (OperatorError, PermissionError):
        if status is None:
            raise OperatorError(
                f"may not read {places.state}: run it with sudo, or say --server URL"
            ) from None
        return None
    if status is None:
        raise NotRunning(
            f"no node is running on {places.state}, and no server is known there: start it with "
            "`punchtun up`, or say --server URL"
        )
    return None


def _of_status(status: Body) -> Body:
    """The facts that the running node has."""
    return {
        "is_node_running": True,
        "is_node_connected": status["server"]["state"] == "connected",
        "refusal": status["server"]["refusal"],
        "relay_refusal": status["server"]["relay_refusal"],
        "is_revoked": status["node"]["is_revoked"],
        "transport": status["server"]["transport"],
        "nat": status["nat"],
        "clock_offset": status["server"]["clock_offset_s"],
        "listen_port": status["node"]["listen_port"],
        "has_fixed_port": status["node"]["has_fixed_port"],
        "peers": status["peers"],
    }


def _look_around(status: Body | None, interface: str | None) -> Body:
    """What the system says."""
    clash = ""
    if status is not None and status["network"]["cidr"]:
        route = find_clash(status["network"]["cidr"], [interface or ""])
        if route is not None:
            cidr = status["network"]["cidr"]
            clash = f"the tunnel's {cidr} clashes with the route {route.prefix}"
            clash += f" through {route.interface}"
    forwarding = None
    with contextlib.suppress(OSError):
        forwarding = _FORWARDING.read_text().strip() == "1"
    return {
        "wall_time": clock.wall_clock(),
        "has_tun": _TUN.exists(),
        "may_administer": _may_administer(),
        "is_forwarding": forwarding,
        "clash": clash,
    }


def _may_administer() -> bool:
    """Whether this process has CAP_NET_ADMIN."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        line = next(line for line in lines if line.startswith("CapEff:"))
        return bool(int(line.split()[1], 16) >> _CAP_NET_ADMIN & 1)
    return os.geteuid() == 0


def _is_public_ipv6(host: str) -> bool:
    address = ipaddress.ip_address(host)
    return address.version == 6 and is_public(address)


# Asking the server


def _examine(
    url: ServerUrl, hosts: list[str], tell: Tell, *, with_nat: bool
) -> tuple[Examination, bool]:
    """What was found, and whether the server's name resolves."""
    socket = UdpSocket(None, 0)
    examination = Examination(
        url,
        hosts,
        now=clock.now(),
        random_bytes=clock.random_bytes,
        wall_clock=clock.wall_clock,
        with_nat=with_nat,
    )
    done = Event()
    told: set[str] = set()

    def report() -> None:
        for way in examination.ways:
            if way.is_reached and way.name not in told:
                told.add(way.name)
                tell(f"{way.name}: the server answers")
        if examination.is_done:
            done.set()

    loop = MachineLoop(
        examination,
        [socket],
        after_settling=report,
        open_socket=partial(UdpSocket, None, 0),
    )
    streams = Streams(loop)
    loop.start()

    def locate() -> None:
        endpoints = resolve(url.host, url.port, allow_ipv6=socket.is_ipv6)
        resolved.extend(endpoints)
        now = clock.now()
        examination.set_server_endpoints(endpoints, now)
        loop.settle(now)

    resolved: list[Any] = []
    locating = gevent.spawn(locate)
    try:
        loop.settle(clock.now())
        done.wait(PATIENCE + GRACE)
    finally:
        locating.kill()
        streams.close()
        loop.close()
        socket.close()
    return examination, bool(resolved)


def _describe_nat(examination: Examination) -> Body:
    """As ``nat`` in ``punchtun status --json``."""
    return {
        "mapping": examination.mapping().behaviour,
        "filtering": examination.filtering.behaviour,
        "hairpin": examination.hairpin.works,
        "present": examination.present(),
        "routers": list(examination.hops.routers),
        "carrier_nat": examination.hops.is_behind_carrier,
        "evidence": examination.evidence(),
    }


def _ask_router() -> Body:
    """What the router answers when it is asked to forward a port, which is given up at once."""
    from tunnel.drivers.port_mapping import PortMapping

    key = PrivateKey.generate(clock.random_bytes)
    socket = UdpSocket(None, 0)
    mapping = PortMapping(key, "", lambda external: None, lambda event: None)
    try:
        mapping.network_changed(socket.port)
        deadline = clock.now() + PATIENCE
        while mapping.describe()["state"] == "searching" and clock.now() < deadline:
            gevent.sleep(0.05)
        return mapping.describe()
    finally:
        mapping.close()
        socket.close()
