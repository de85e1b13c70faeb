"""What people type about metrics and the page."""

from __future__ import annotations

import ipaddress
import urllib.parse

from tunnel.errors import UsageError


def read_web_listen(text: str, what: str) -> tuple[str | None, int]:
    """PORT or :PORT, which are on loopback; ADDRESS:PORT; *:PORT, on all addresses. Raises
    UsageError."""
    bracketed, _, port = text.rpartition(":")
    host = bracketed.removeprefix("[").removesuffix("]")
    try:
        if bracketed not in (host, f"[{host}]") or (":" in host and bracketed == host):
            raise ValueError(bracketed)
        if host not in ("", "*"):
            ipaddress.ip_address(host)
        if not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise ValueError(port)
    except ValueError as error:
        raise UsageError(
            f"{what} {text}: write a port, for this machine alone, or ADDRESS:PORT"
        ) from error
    return (None if host == "*" else host or "127.0.0.1"), int(port)


def read_page_url(typed: str | None, served_at: str) -> str:
    """The URL of the server's page, without a fragment. `served_at`: as the server sees it. Raises
    UsageError."""
    text = served_at if typed is None else typed
    try:
        parts = urllib.parse.urlsplit(text)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or "#" in text or not text.isprintable() or " " in text:
        raise UsageError(f"--url {text}: write where the page is, https://vps.example.org/ or so")
    if typed is None and parts.hostname in ("0.0.0.0", "::"):
        example = f"{parts.scheme}://vps.example.org:{parts.port}/"
        raise UsageError(f"say by which address the page is reached: --url {example} or so")
    return text if parts.path else f"{text}/"
