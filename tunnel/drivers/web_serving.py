"""What a running node or server tells by HTTP: listened for before privileges are given up, served
while it runs."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from contextlib import AbstractContextManager

from tunnel.drivers.node import NodeDriver
from tunnel.drivers.server import ServerDriver
from tunnel.drivers.stream_listener import listen
from tunnel.drivers.web import WebServer, is_loopback, local_only

log = logging.getLogger(__name__)


def open_metrics(where: tuple[str | None, int] | None) -> socket.socket | None:
    """The address may be the tunnel's, which comes later. Raises OperatorError."""
    if where is None:
        return None
    listening = listen(*where, "--metrics", may_come_later=True)
    host = listening.getsockname()[0]
    if not is_loopback(host):
        log.warning(
            "--metrics: whoever can reach %s may read the metrics, names of peers included; "
            "a firewall can narrow that",
            "this machine" if where[0] is None else host,
        )
    return listening


def serving_metrics(
    listening: socket.socket | None, driver: NodeDriver | ServerDriver
) -> AbstractContextManager[object]:
    """Serve in the context, if there is anything to listen on."""
    if listening is None:
        return contextlib.nullcontext()
    # Takes memory and time that a process without metrics has no need to spend.
    from tunnel.drivers.metrics import node_metrics, server_metrics

    if isinstance(driver, NodeDriver):
        metrics = node_metrics(driver)
    else:
        metrics = server_metrics(driver.status)
    listening_at = listening.getsockname()[0]
    may_all = not is_loopback(listening_at)
    server = WebServer(listening, metrics.answer if may_all else local_only(metrics.answer))
    server.start()
    if is_missing(listening_at):
        log.warning(
            "--metrics: %s is no address of this machine; `ip addr` shows them", listening_at
        )
    log.info("metrics at %smetrics", server.url)
    return contextlib.closing(server)


def is_missing(address: str) -> bool:
    """Whether the machine has no such address now."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            return error.errno == errno.EADDRNOTAVAIL
    return False
