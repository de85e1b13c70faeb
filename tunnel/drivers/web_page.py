"""The rendezvous server's page: what ``punchtun server status`` tells, live, and nothing to click.

::

    GET /              the page, which holds nothing that is worth a secret
    GET /status.json   what it shows. Whoever is not on this machine shows the page's token:
                       Authorization: Bearer TOKEN

The link that ``punchtun server page`` prints has the token behind a ``#``: no browser sends that to
anybody. The page takes it from there, out of the address bar, and puts it into the field above. A
cookie would go along with whatever other pages ask for; this does not.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunnel.drivers import clock
from tunnel.drivers.web import Visit
from tunnel.noise.primitives import constant_time_equal
from tunnel.wire.confidential import Confidential
from tunnel.wire.http import HttpRequest, pack_answer
from tunnel.wire.invitation import encode_base64

TOKEN_LENGTH = 16
FRESH_FOR = 1.0
"""Seconds for which an answer is good enough for other visitors, too."""
_FILE = Path(__file__).with_name("web_page.html")
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Page(Confidential):
    def __init__(self, read_status: Callable[[], dict[str, Any]], token: bytes) -> None:
        self._read_status = read_status
        self._credentials = f"Bearer {encode_base64(token)}".encode("ascii")
        self._page = _FILE.read_bytes()
        self._fields = {"Content-Security-Policy": _policy(self._page.decode()), **_SAFE}
        self._status = b""
        self._status_until = float("-inf")

    def answer(self, visit: Visit) -> bytes:
        """For `WebServer`."""
        path = visit.request.path
        if path == "/":
            return pack_answer("200 OK", self._page, "text/html", fields=self._fields)
        if path != "/status.json":
            return pack_answer("404 Not Found", b"nothing is here\n", fields=_SAFE)
        if not (visit.is_local or self._is_entitled(visit.request)):
            fields = {"WWW-Authenticate": "Bearer", **_SAFE}
            return pack_answer("401 Unauthorized", b"a token is needed\n", fields=fields)
        return pack_answer("200 OK", self._fresh_status(), "application/json", fields=_SAFE)

    def _is_entitled(self, request: HttpRequest) -> bool:
        given = request.fields.get("authorization", "").encode("latin-1")
        return constant_time_equal(given, self._credentials)

    def _fresh_status(self) -> bytes:
        now = clock.now()
        if now >= self._status_until:
            self._status = json.dumps(self._read_status()).encode()
            self._status_until = now + FRESH_FOR
        return self._status


def _policy(page: str) -> str:
    """Nothing runs and nothing is loaded but what is in the page itself (CSP level 3)."""

    def hashes(element: str) -> str:
        texts = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
        digests = (hashlib.sha256(text.encode()).digest() for text in texts)
        return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)

    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {hashes('script')}",
            f"style-src {hashes('style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
