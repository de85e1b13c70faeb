"""One network namespace: entering it, and running the system's tools in it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

NAMESPACES = Path("/run/netns")
TOOLS = ("ip", "nft", "conntrack", "tc", "ethtool")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


class LabError(Exception):
    """The lab could not do what it was asked; the message holds the command and its output."""


class LabUnavailable(LabError):
    """This machine lacks something the lab needs; the message names it."""


def check_available() -> None:
    """Raise `LabUnavailable`, naming what is missing, unless labs can be built here."""
    if os.geteuid() != 0:
        raise LabUnavailable("the network lab needs root (it makes network namespaces)")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise LabUnavailable(
            f"the network lab needs {', '.join(missing)}; "
            "on Debian: apt install iproute2 nftables conntrack ethtool"
        )


def inside(namespace: str, function: Callable[[], T]) -> T:
    """What `function` returns when called in a short-lived thread inside the namespace.

    Sockets it opens and processes it starts stay in the namespace; the caller's thread never
    enters it.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def enter_and_call() -> None:
        try:
            descriptor = os.open(NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {namespace}")
            finally:
                os.close(descriptor)
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=enter_and_call, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def run_tool(
    argv: Sequence[str],
    *,
    namespace: str | None = None,
    text: str | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run one of the system's tools, in the namespace if one is given, `text` on its stdin."""

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=30)

    completed = run() if namespace is None else inside(namespace, run)
    if check and completed.returncode != 0:
        where = f" in {namespace}" if namespace else ""
        given = f"\n{text}" if text else ""
        raise LabError(
            f"{' '.join(argv)}{where} failed ({completed.returncode}): "
            f"{completed.stderr.strip() or completed.stdout.strip()}{given}"
        )
    return completed


def ip_batch(lines: Iterable[str], *, namespace: str | None = None) -> None:
    """Give all the lines to one `ip -batch`; the first that fails ends it."""
    where = ["-n", namespace] if namespace else []
    run_tool(["ip", *where, "-batch", "-"], text="\n".join(lines) + "\n")


def write_sysctls(namespace: str, values: Mapping[str, Any]) -> None:
    """Set sysctls below `net`, such as `ipv4/ip_forward`, in the namespace."""

    def write() -> None:
        for name, value in values.items():
            (Path("/proc/sys/net") / name).write_text(f"{value}\n")

    inside(namespace, write)
