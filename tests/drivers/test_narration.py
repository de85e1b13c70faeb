from __future__ import annotations

import pytest

from tunnel.drivers.narration import narrate_status


@pytest.mark.parametrize(
    ("is_connected", "states", "told"),
    [
        (False, [], "the server does not answer; no peers"),
        (True, [], "connected to the server; no peers"),
        (
            True,
            ["direct", "relayed", "direct", "offline"],
            "connected to the server; peers: 2 direct, 1 offline, 1 relayed",
        ),
    ],
)
def test_a_line_for_systemctl_status(is_connected: bool, states: list[str], told: str) -> None:
    assert narrate_status(is_connected, states) == told
