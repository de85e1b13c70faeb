"""Giving up what root may do and a running process does not need: capset(2) and prctl(2), through
ctypes.

All of it concerns the calling thread and those it starts from then on: it is to be called before
there are others. Who keeps user id 0 without capabilities still owns root's files (see
docs/security.md for what that means).
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

# <linux/capability.h>
CAP_DAC_READ_SEARCH, CAP_SETPCAP, CAP_NET_ADMIN = 2, 8, 12
_VERSION_3 = 0x20080522
# <linux/prctl.h>
_SET_DUMPABLE, _CAPBSET_READ, _CAPBSET_DROP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT = 4, 23, 24, 38, 47
_CAP_AMBIENT_CLEAR_ALL = 4

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    """``struct __user_cap_header_struct``; pid 0 is the calling thread."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    """``struct __user_cap_data_struct``: 32 capabilities. There are two of them, the low first."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def stay_out_of_dumps() -> None:
    """From now on no core dump is written of this process, and only root may trace it or read its
    memory. What the system refuses is logged."""
    # A limit of 0 alone does not stop a core_pattern that is a program (core(5)).
    _take_steps(
        {
            "to switch core dumps off": lambda: _prctl(_SET_DUMPABLE, 0),
            "a limit of 0 for core dumps": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
        }
    )


def drop_privileges(keep: Collection[int], reach: Iterable[str | Path]) -> None:
    """Keep of all capabilities those in `keep`, as far as they are there, and gain none any more,
    whatever program is executed. Each of `reach` that can be opened now is to be readable
    afterwards, too: if one is not, the right to read everything is kept as well, and that is
    logged. What the system refuses is logged in one line; the rest is done nevertheless."""
    try:
        before = _read_capabilities()
    except OSError as error:
        log.warning("going on although the system refuses to tell the capabilities: %s", error)
        before = 0
    kept = {number for number in keep if before >> number & 1}
    readable = [path for path in reach if _is_readable(path)]
    steps: dict[str, Callable[[], None]] = {
        "to clear the ambient capabilities": lambda: _prctl(_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL),
        "no_new_privs": lambda: _prctl(_SET_NO_NEW_PRIVS, 1),
    }
    # A user who may not do this has nothing that a program could inherit by it.
    if os.geteuid() == 0 or before >> CAP_SETPCAP & 1:
        steps["to empty the bounding set"] = _empty_bounding_set
    _take_steps(steps)

    def give_up() -> None:
        _write_capabilities(effective=kept, permitted=before)
        closed = [path for path in readable if not _is_readable(path)]
        if closed and before >> CAP_DAC_READ_SEARCH & 1:
            log.warning(
                "%s can be read only with CAP_DAC_READ_SEARCH, which is kept therefore: what is "
                "needed is better in a place that user %d may enter",
                closed[0],
                os.geteuid(),
            )
            kept.add(CAP_DAC_READ_SEARCH)
        _write_capabilities(effective=kept, permitted=sum(1 << number for number in kept))

    if before or kept:
        _take_steps({"to give up capabilities": give_up})
    with contextlib.suppress(OSError):
        threads = len(os.listdir("/proc/self/task"))
        if threads > 1:
            log.warning("%d threads were there too early and keep their privileges", threads - 1)


def _take_steps(steps: dict[str, Callable[[], None]]) -> None:
    refused = []
    for name, take in steps.items():
        try:
            take()
        except (OSError, ValueError) as error:
            refused.append(f"{name} ({getattr(error, 'strerror', None) or error})")
    if refused:
        log.warning("going on although the system refuses %s", ", ".join(refused))


def _empty_bounding_set() -> None:
    number = 0
    while (is_in := _call("prctl", _CAPBSET_READ, number, 0, 0, 0)) >= 0:
        if is_in:
            _prctl(_CAPBSET_DROP, number)
        number += 1


def _read_capabilities() -> int:
    """Those permitted, bit by bit. Raises OSError."""
    data = (_Data * 2)()
    if _call("capget", ctypes.byref(_Header(_VERSION_3, 0)), data) < 0:
        raise _last_error()
    return int(data[0].permitted | data[1].permitted << 32)


def _write_capabilities(*, effective: Collection[int], permitted: int) -> None:
    """Inheritable are none."""
    data = (_Data * 2)()
    mask = sum(1 << number for number in effective)
    for i in range(2):
        data[i].effective = mask >> 32 * i & 0xFFFFFFFF
        data[i].permitted = permitted >> 32 * i & 0xFFFFFFFF
    if _call("capset", ctypes.byref(_Header(_VERSION_3, 0)), data) < 0:
        raise _last_error()


def _prctl(option: int, argument: int) -> None:
    if _call("prctl", option, argument, 0, 0, 0) < 0:
        raise _last_error()


def _call(name: str, *arguments: Any) -> int:
    """Numbers go as unsigned long, which prctl wants."""
    passed = [ctypes.c_ulong(each) if isinstance(each, int) else each for each in arguments]
    result: int = getattr(_libc, name)(*passed)
    return result


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _is_readable(path: str | Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True
