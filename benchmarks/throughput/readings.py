"""From what the tools print to numbers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

_TIME = re.compile(r"time=([\d.]+) ms")
_SENT = re.compile(r"(\d+) packets transmitted")


class Transfer(NamedTuple):
    """What TCP delivered, all flows and directions together."""

    bytes: int
    bits_per_second: float


class RoundTrips(NamedTuple):
    """Of pings; seconds."""

    sent: int
    times: Sequence[float]


def parse_iperf(text: str) -> Transfer:
    """The JSON of an iperf3 client. ValueError with its own words if it failed."""
    answer = json.loads(text)
    if "error" in answer:
        raise ValueError(f"iperf3: {answer['error']}")
    end = answer["end"]
    sums = [end[key] for key in ("sum_received", "sum_received_bidir_reverse") if key in end]
    return Transfer(
        sum(int(one["bytes"]) for one in sums), sum(float(one["bits_per_second"]) for one in sums)
    )


def parse_ping(text: str) -> RoundTrips:
    """ValueError if nothing was answered."""
    sent = _SENT.search(text)
    times = [float(time) / 1e3 for time in _TIME.findall(text)]
    if sent is None or not times:
        raise ValueError("no ping was answered")
    return RoundTrips(int(sent[1]), times)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
