"""Why a port is not to be had, in words for people."""

from __future__ import annotations

import errno

from tunnel.errors import OperatorError


def explain(
    error: OSError, transport: str, host: str | None, port: int, option: str
) -> OperatorError:
    """`transport` is UDP or TCP; `option` names what chooses another port."""
    if error.errno == errno.EADDRINUSE:
        flag = {"UDP": "u", "TCP": "t"}[transport]
        text = (
            f"{transport} port {port} is in use: choose another with {option}; "
            f"`ss -{flag}lpn sport = :{port}` shows who has it"
        )
    elif error.errno == errno.EADDRNOTAVAIL:
        text = f"cannot listen on {host}: it is no address of this machine; `ip addr` shows them"
    elif error.errno in (errno.EACCES, errno.EPERM):
        text = (
            f"may not listen on {transport} port {port}: ports below 1024 need root or "
            "CAP_NET_BIND_SERVICE; run it with sudo, or choose a port above"
        )
    else:
        at = f" on {host}" if host else ""
        text = f"cannot open {transport} port {port}{at}: {error.strerror}"
    return OperatorError(text)
