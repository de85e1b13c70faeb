"""A status as the running node gives it, as far as it is shown to people."""

from __future__ import annotations

import copy
from typing import Any

WHY = {
    "code": "both-vary",
    "reason": "both NATs choose another port for each peer",
    "evidence": "here: address-and-port-dependent; there: address-and-port-dependent",
    "fix": "forward a UDP port to one of the two (--listen-port)",
}


def peer(name: str, state: str, **fields: Any) -> dict[str, Any]:
    number = sum(name.encode()) % 250
    path = {"remote": f"198.51.100.{number}:40112", "rtt_ms": 12.345, "since_s": 7300.0}
    if state == "relayed":
        path["remote"] = "relay"
    return {
        "name": name,
        "public_key": f"key of {name}",
        "addresses": [f"10.81.7.{number}", "fd00::1"],
        "state": state,
        "path": path if state in ("direct", "relayed") else None,
        "why_not_direct": None if state == "direct" else WHY,
        "tx_bytes": 1_234_567,
        "rx_bytes": 890,
        **fields,
    }


_STATUS: dict[str, Any] = {
    "node": {
        "name": "attic",
        "addresses": ["10.81.7.1", "fd00::1"],
        "interface": "punchtun0",
        "flood": None,
        "is_revoked": False,
    },
    "network": {"id": "9522fcc09168", "cidr": "10.81.7.0/24"},
    "server": {
        "url": "punchtun://203.0.113.10:12345",
        "state": "connected",
        "rtt_ms": 20.04,
        "refusal": None,
        "relay_refusal": None,
    },
    "nat": {
        "mapping": "endpoint-independent",
        "filtering": "address-and-port-dependent",
        "hairpin": False,
        "present": True,
        "evidence": [],
    },
    "peers": [peer("nas", "relayed"), peer("pi", "direct"), peer("tv", "offline")],
}


def sample(**parts: Any) -> dict[str, Any]:
    return copy.deepcopy(_STATUS) | parts
