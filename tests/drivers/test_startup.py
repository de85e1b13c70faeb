from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from tunnel.drivers.startup import warn_of_slow_ciphers
from tunnel.noise.frame_cipher import AEGIS_128L, CHACHA20_POLY1305


def test_a_cipher_that_takes_the_slow_way_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    slow = replace(AEGIS_128L, direct=None, why_not_direct="PyNaCl has no module _sodium")
    with caplog.at_level(logging.INFO):
        warn_of_slow_ciphers((slow, CHACHA20_POLY1305))
    assert caplog.messages == ["AEGIS-128L takes the slow way: PyNaCl has no module _sodium"]
