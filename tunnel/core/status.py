"""The snapshot behind ``punchtun status --json``. Its keys are a contract: docs/status-json.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tunnel.core.configuration import NodeConfig
from tunnel.core.diagnosis import Diagnosis
from tunnel.core.lifetime import LifetimeProbe
from tunnel.core.nat import NatDiscovery
from tunnel.core.path import RELAYED, Path
from tunnel.core.peer import Peer
from tunnel.core.refusals import StandingRefusal
from tunnel.core.registration import Registration
from tunnel.core.revocations import Revocations
from tunnel.core.sieve import Sieve
from tunnel.noise.keys import PublicKey


def describe_node(
    config: NodeConfig,
    registration: Registration,
    lifetime: LifetimeProbe,
    nat: NatDiscovery,
    sieve: Sieve,
    peers: Iterable[tuple[Peer, Diagnosis | None]],
    drops: Mapping[str, int],
    now: float,
    revocations: Revocations,
) -> dict[str, Any]:
    own = config.certificate
    ipv4 = [i for i in own.addresses if i.version == 4]
    observed = sorted({str(e) for e in registration.observed.values()})
    return {
        "node": {
            "name": own.name,
            "public_key": str(config.static.public_key),
            "addresses": [str(interface.ip) for interface in own.addresses],
            "interface": None,
            "mtu": config.mtu,
            "version": config.version,
            "has_fixed_port": not config.may_rebind,
            "is_revoked": own.key in revocations,
            "flood": sieve.describe(now),
        },
        "network": {
            "id": config.identity.id,
            "cidr": str(ipv4[0].network) if ipv4 else None,
            "revoked": [
                {"public_key": str(PublicKey(one.key)), "revoked": one.revoked}
                for one in revocations
            ],
        },
        "server": {
            "url": config.server.location,
            "state": "connected" if registration.is_connected else "unreachable",
            "rtt_ms": _milliseconds(registration.rtt),
            "transport": registration.transport.kind,
            "endpoints": [str(endpoint) for endpoint in registration.link.endpoints],
            "observed": observed,
            "clock_offset_s": _rounded(registration.clock_offset),
            "refusal": _describe_refusal(registration.refusal),
            "relay_refusal": _describe_refusal(registration.relay_refusal(now)),
        },
        "nat": nat.describe(now)
        | {
            "port_mapping": None,
            "mapping_lifetime_s": lifetime.lifetime,
            "keepalive_s": registration.keepalive_interval,
        },
        "peers": [
            describe_peer(peer, diagnosis, now, config.mtu)
            for peer, diagnosis in sorted(peers, key=lambda pair: pair[0].name)
        ],
        "drops": dict(drops),
    }


def describe_peer(peer: Peer, diagnosis: Diagnosis | None, now: float, mtu: int) -> dict[str, Any]:
    state, counters = peer.state(now), peer.counters
    age, cipher = peer.session.handshake_age(now), peer.session.cipher
    path = path_in_state(peer, state)
    return {
        "name": peer.name,
        "public_key": str(peer.key),
        "addresses": [str(interface.ip) for interface in peer.certificate.addresses],
        "state": state,
        "path": None if path is None else _describe_path(peer, path, now, mtu),
        "why_not_direct": None if diagnosis is None else diagnosis.describe(),
        "handshake_age_s": None if age is None else round(age, 1),
        "cipher": None if cipher is None else cipher.name,
        "rx_bytes": counters.rx_bytes,
        "tx_bytes": counters.tx_bytes,
        "rx_packets": counters.rx_packets,
        "tx_packets": counters.tx_packets,
        "duplicates_dropped": counters.duplicates_dropped,
        "outages": [
            {"ago_s": round(now - outage["at"], 1)}
            | {key: value for key, value in outage.items() if key != "at"}
            for outage in peer.outages
        ],
    }


def path_in_state(peer: Peer, state: str) -> Path | None:
    """What traffic takes while the peer's state is that; None: it takes no path."""
    if state == "direct":
        return peer.traversal.best
    return peer.traversal.relay if state == "relayed" else None


def _describe_path(peer: Peer, path: Path, now: float, mtu: int) -> dict[str, Any]:
    is_relayed = path.endpoint == RELAYED
    since = path.used_since if not is_relayed else peer.state_since
    return {
        "kind": path.kind.text,
        "local": path.local,
        "remote": "relay" if is_relayed else str(path.endpoint),
        "rtt_ms": _milliseconds(path.rtt),
        "mtu": mtu if path.mtu.limit is None else path.mtu.limit,
        "since_s": round(now - (since if since is not None else path.created_at), 1),
    }


def _describe_refusal(refusal: StandingRefusal | None) -> dict[str, Any] | None:
    return None if refusal is None else refusal.describe()


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)
