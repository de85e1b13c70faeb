"""Telling systemd how the service is doing: sd_notify(3), without libsystemd.

Everything here does nothing, and returns False or None, when systemd is not listening.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable

import gevent

log = logging.getLogger(__name__)


def ready(status: str = "") -> bool:
    """The service serves: ends `systemctl start` of a Type=notify unit."""
    return _notify("READY=1", *([f"STATUS={_one_line(status)}"] if status else []))


def obey_reload(reload: Callable[[], None]) -> None:
    """`systemctl reload` calls `reload`, in a greenlet. Started by hand SIGHUP keeps its meaning:
    the terminal is gone."""
    if not os.environ.get("NOTIFY_SOCKET"):
        return

    def answer() -> None:
        # The time is how systemd tells this reload from an earlier one (Type=notify-reload).
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        _notify("RELOADING=1", f"MONOTONIC_USEC={microseconds}")
        try:
            reload()
        finally:
            ready()

    gevent.signal_handler(signal.SIGHUP, answer)


def stopping() -> bool:
    """The service is on its way out."""
    return _notify("STOPPING=1")


def status(text: str) -> bool:
    """One line for `systemctl status`."""
    return _notify(f"STATUS={_one_line(text)}")


def alive() -> bool:
    """Feeds the watchdog. Due at least every :func:`watchdog_interval` seconds."""
    return _notify("WATCHDOG=1")


def watchdog_interval() -> float | None:
    """Seconds between two calls of :func:`alive`: half of what the unit allows, as systemd
    advises. None: no watchdog, or one that watches another process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return microseconds / 2e6 if microseconds > 0 else None


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _notify(*assignments: str) -> bool:
    """Whether systemd took it. Never raises: a service does not die of its supervisor."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address[0] == "@":  # the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto("\n".join(assignments).encode(), socket.MSG_DONTWAIT, address)
    except OSError as error:
        log.debug("systemd does not take our notification: %s", error)
        return False
    return True
