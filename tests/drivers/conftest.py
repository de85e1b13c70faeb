from __future__ import annotations

import ctypes
import os
import signal
import traceback
from collections.abc import Callable

import pytest

CLONE_NEWNET = 0x40000000
_LIFETIME = 60
"""Seconds."""


def run_in_namespace(function: Callable[[], None]) -> None:
    """Runs `function` in a forked process with a network of its own, empty but for lo.

    gevent's hub and its threads do not survive the fork: `function` has to do without.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(reader)
            signal.alarm(_LIFETIME)  # a test that hangs ends as one that failed
            if libc.unshare(CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            function()
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[:60_000])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        report = pipe.read().decode()
    _, status = os.waitpid(process, 0)
    if report or status != 0:
        pytest.fail(report or f"ended with status {status}", pytrace=False)


@pytest.fixture
def in_namespace() -> Callable[[Callable[[], None]], None]:
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        pytest.skip("needs root and /dev/net/tun")
    return run_in_namespace
