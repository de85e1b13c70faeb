"""All scenarios."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import disturbances as what
from .plays import Play, after_silence, under_loss, under_stream

ONE_WAY_SECONDS = 30.0
"""It is for good: a contender has time to give the path up, and to try it again."""
IDLE_TIMEOUT = 20


@dataclass(frozen=True)
class Scenario:
    """Its name, and how to play it."""

    name: str
    about: str
    play: Play
    nat: Mapping[str, Any] = field(default_factory=dict)
    """Of all routers."""


SCENARIOS = (
    Scenario("calm", "nothing happens: what the lab itself does", under_stream(what.nothing)),
    Scenario("flush-one", "left's router forgets its mappings", under_stream(what.flush_left)),
    Scenario(
        "flush-listener",
        "the same, but only right sends: nothing of left's opens the way again",
        under_stream(what.flush_left, left_sends=False),
    ),
    Scenario("flush-both", "both routers forget their mappings", under_stream(what.flush_both)),
    Scenario("reboot", "left's router gives out other ports", under_stream(what.reboot_left)),
    Scenario(
        "address", "left's router gets another public address", under_stream(what.change_address)
    ),
    Scenario("uplink", "left moves to another router", under_stream(what.move_left)),
    Scenario(
        "server-down",
        "the server dies; 3 s later left's router forgets its mappings",
        under_stream(what.flush_without_server),
    ),
    Scenario(
        "suspend",
        "left sleeps for a minute, its router forgets its mappings meanwhile; counted from waking",
        under_stream(what.suspend_left),
    ),
    Scenario(
        "freeze",
        "the same, but what arrived meanwhile waits for left's programs, as for a stalled process",
        under_stream(what.freeze_left),
    ),
    Scenario(
        "one-way",
        "left's router drops what comes from right directly, for good",
        under_stream(what.block_one_way, at_least=ONE_WAY_SECONDS),
    ),
    Scenario("loss", "each packet of left is lost with 10 %, for a minute", under_loss),
    Scenario(
        "idle",
        "45 s of silence, routers forget after 20 s; then a packet each 100 ms",
        after_silence,
        {"udp_timeout": IDLE_TIMEOUT, "udp_timeout_stream": IDLE_TIMEOUT},
    ),
)
