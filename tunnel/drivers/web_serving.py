"""What a running node or server tells by HTTP: listened for before privileges are given up, served
while it runs."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tunnel.drivers import clock
from tunnel.drivers.files import StateDirectory
from tunnel.drivers.node import NodeDriver
from tunnel.drivers.server import ServerDriver
from tunnel.drivers.stream_listener import TlsFiles, listen
from tunnel.drivers.web import WebServer, is_loopback, local_only
from tunnel.drivers.web_page import TOKEN_LENGTH, Page
from tunnel.errors import Malformed, OperatorError
from tunnel.state import PAGE_FILE
from tunnel.wire.confidential import Confidential
from tunnel.wire.invitation import decode_base64, encode_base64

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


@dataclass(frozen=True)
class OpenPage(Confidential):
    """A page that is going to be served."""

    listening: socket.socket
    token: bytes = field(repr=False)
    tls: TlsFiles | None


def open_page(
    where: tuple[str | None, int] | None, directory: StateDirectory, tls: TlsFiles | None
) -> OpenPage | None:
    """Elsewhere than on loopback with `tls`, if there is any. Makes the page's token if there is
    none. Raises OperatorError."""
    if where is None:
        return None
    listening = listen(*where, "--web")
    try:
        token = load_page_token(directory)
    except BaseException:
        listening.close()
        raise
    if is_loopback(listening.getsockname()[0]):
        return OpenPage(listening, token, None)
    if tls is None:
        log.warning(
            "--web: the page and its token are sent in the clear; give --tls-cert and --tls-key, "
            "or listen on this machine alone (--web PORT) and come by `ssh -L`"
        )
    return OpenPage(listening, token, tls)


def load_page_token(directory: StateDirectory) -> bytes:
    """Raises OperatorError."""
    content = directory.read_json(PAGE_FILE)
    if content is None:
        token = clock.random_bytes(TOKEN_LENGTH)
        directory.write_json(PAGE_FILE, {"token": encode_base64(token)})
        return token
    try:
        token = decode_base64(content["token"])
    except (KeyError, TypeError, AttributeError, Malformed):
        token = b""
    if len(token) != TOKEN_LENGTH:
        raise OperatorError(
            f"{PAGE_FILE} in {directory.path} is damaged: remove it, and a new one is made"
        )
    return token


def serving_page(opened: OpenPage | None, driver: ServerDriver) -> AbstractContextManager[object]:
    """Serve in the context, if there is a page."""
    if opened is None:
        return contextlib.nullcontext()
    server = WebServer(opened.listening, Page(driver.status, opened.token).answer, opened.tls)
    server.start()
    driver.page_link = {
        "url": server.url,
        "token": encode_base64(opened.token),
        "is_loopback": server.is_loopback,
    }
    log.info("page at %s", server.url)
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
