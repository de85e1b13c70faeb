"""Waiting with a bound, for tests on real time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T], *, timeout: float = 60.0, interval: float = 0.02, what: str = ""
) -> T:
    """The first truthy value of `condition`; `TimeoutError` naming `what` after `timeout`."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what or condition!r} not seen within {timeout:g} s")
        time.sleep(interval)
