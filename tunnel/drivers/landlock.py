"""Giving up the right to write files elsewhere: landlock(7), since Linux 5.13, through ctypes.

Who runs as root owns what matters most on the machine, and needs no capability to change it. As
with capabilities it concerns the calling thread and those it starts from then on.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import struct
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger(__name__)

# <linux/landlock.h>; numbers of system calls are the same on all machines since 5.1
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_WRITE_FILE, _REMOVE_DIR, _REMOVE_FILE, _TRUNCATE = 1 << 1, 1 << 4, 1 << 5, 1 << 14
_MAKE = sum(1 << number for number in range(6, 13))
"""Devices, directories, files, sockets, FIFOs and symbolic links."""

_libc = ctypes.CDLL(None, use_errno=True)


def write_only_below(places: Iterable[str | Path]) -> bool:
    """From now on files are written, made and removed below `places` only, those that are there;
    what is open stays so. Reading is not concerned. Needs no_new_privs. False, and a line in the
    log, where the system does not do it."""
    try:
        version = _call(_CREATE_RULESET, None, 0, _VERSION)
        rights = _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE
        if version >= 3:
            rights |= _TRUNCATE  # Before, files could be emptied nevertheless.
        attribute = struct.pack("=Q", rights)
        rules = _call(_CREATE_RULESET, attribute, len(attribute), 0)
        try:
            for place in places:
                _allow(rules, place, rights)
            _call(_RESTRICT_SELF, rules, 0)
        finally:
            os.close(rules)
    except OSError as error:
        cause = {
            errno.ENOSYS: "this kernel has no Landlock",
            errno.EOPNOTSUPP: "Landlock is switched off",
        }.get(error.errno or 0, os.strerror(error.errno or 0))
        log.info("root's files elsewhere could still be written: %s", cause)
        return False
    return True


def _allow(rules: int, place: str | Path, rights: int) -> None:
    try:
        file = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        # struct landlock_path_beneath_attr, packed
        attribute = struct.pack("=Qi", rights, file)
        _call(_ADD_RULE, rules, _PATH_BENEATH, attribute, 0)
    finally:
        os.close(file)


def _call(number: int, *arguments: int | bytes | None) -> int:
    passed = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *passed)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
