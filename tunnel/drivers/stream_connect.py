"""Opening a stream to the server: name, address, maybe a proxy, maybe TLS. In a greenlet."""

from __future__ import annotations

import base64
import errno
import logging
import os
import socket
import ssl
import urllib.parse
import urllib.request
from functools import lru_cache
from typing import NamedTuple

from gevent.socket import timeout as gevent_timeout
from gevent.socket import wait_read, wait_write

from tunnel.core.transport import StreamRoute
from tunnel.drivers.resolve import resolve
from tunnel.drivers.stream_protocol import (
    LengthProtocol,
    StreamProtocol,
    TlsProtocol,
    WebSocketClient,
)
from tunnel.errors import Malformed
from tunnel.wire.http import MAX_HEAD, pack_connect, parse_status, take_head

log = logging.getLogger(__name__)

ADDRESS_PATIENCE = 4.0
"""Seconds for one address of a name: another one may do better."""
PROXY_PATIENCE = 5.0


class Proxy(NamedTuple):
    host: str
    port: int
    credentials: str | None
    """In base64. Not for logs."""


def connect(
    route: StreamRoute, tls: ssl.SSLContext | None = None
) -> tuple[socket.socket, StreamProtocol]:
    """A socket through which bytes get to the server of `route`, and what they are to mean. Blocks
    the greenlet. Raises OSError, Malformed."""
    url = route.websocket
    proxy = None if url is None else find_proxy(url.is_secure, url.host, url.port)
    if proxy is None:
        opened = _connect(route.host, route.port)
    else:
        opened = _connect(proxy.host, proxy.port)
        try:
            _ask_proxy(opened, proxy, route.host, route.port)
        except BaseException:
            opened.close()
            raise
    if url is None:
        return opened, LengthProtocol()
    protocol: StreamProtocol = WebSocketClient(url)
    if url.is_secure:
        protocol = TlsProtocol(protocol, tls or _default_tls(), server_hostname=url.host)
    return opened, protocol


def find_proxy(is_secure: bool, host: str, port: int) -> Proxy | None:
    """What the environment says: HTTPS_PROXY or HTTP_PROXY, unless NO_PROXY names the host."""
    authority = f"{host}:{port}"
    if urllib.request.proxy_bypass_environment(authority):  # type: ignore[attr-defined]
        return None
    proxies = urllib.request.getproxies_environment()
    text = proxies.get("https" if is_secure else "http")
    if not text:
        return None
    try:
        parts = urllib.parse.urlsplit(text if "://" in text else f"http://{text}")
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(text)
        proxy_host, proxy_port = parts.hostname, parts.port or 80
    except ValueError:
        raise Malformed(
            "the proxy in the environment is not of the form http://HOST:PORT"
        ) from None
    credentials = None
    if parts.username is not None:
        pair = (
            f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        )
        credentials = base64.b64encode(pair.encode()).decode("ascii")
    return Proxy(proxy_host, proxy_port, credentials)


def _connect(host: str, port: int) -> socket.socket:
    """To the first address of `host` that answers."""
    endpoints = resolve(host, port, allow_ipv6=True)
    last: OSError = OSError(errno.EHOSTUNREACH, f"{host} does not resolve")
    for endpoint in endpoints:
        family = socket.AF_INET6 if endpoint.is_ipv6 else socket.AF_INET
        try:
            opened = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            last = error
            continue
        try:
            opened.setblocking(False)
            code = opened.connect_ex(tuple(endpoint))
            if code == errno.EINPROGRESS:
                wait_write(opened.fileno(), timeout=ADDRESS_PATIENCE)
                code = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
        except OSError as error:  # gevent's timeout is one
            opened.close()
            last = error
        except BaseException:
            opened.close()
            raise
        else:
            return opened
    raise last


def _ask_proxy(opened: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Raises OSError, Malformed."""
    opened.send(pack_connect(host, port, proxy.credentials))
    received = b""
    while (head := take_head(received)) is None:
        wait_read(opened.fileno(), timeout=PROXY_PATIENCE, timeout_exc=gevent_timeout("proxy"))
        # Byte by byte would be safest; but before TLS nobody but the proxy speaks.
        data = opened.recv(MAX_HEAD)
        if not data:
            raise OSError(errno.ECONNRESET, "the proxy closed the connection")
        received += data
    status = parse_status(head)
    if not 200 <= status < 300:
        raise OSError(errno.ECONNREFUSED, f"the proxy answers {status}")
    if len(head) != len(received):
        raise Malformed("proxy: bytes after its answer")


@lru_cache(maxsize=1)
def _default_tls() -> ssl.SSLContext:
    """Verifies names and certificates against the system's authorities, or those of the file that
    SSL_CERT_FILE names."""
    return ssl.create_default_context()
