"""Heads of HTTP/1.1 messages: just enough to tell a WebSocket upgrade from a visitor's request, and
to ask a proxy for a way through (RFC 9112, RFC 9110 §9.3.6).

::

    GET /punchtun HTTP/1.1\\r\\n             HTTP/1.1 200 Connection established\\r\\n
    Host: vps.example.org\\r\\n              Via: 1.1 proxy\\r\\n
    Upgrade: websocket\\r\\n                 \\r\\n
    \\r\\n

Of the upgrade itself everything is checked by the WebSocket library. Heads are bounded, and read
strictly: no folded lines, no space before a colon, no bytes outside ASCII in names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from tunnel.errors import Malformed

MAX_HEAD = 8192
"""Bytes, its empty line included: what nginx allows for one line, and far more than is needed."""
MAX_FIELDS = 100
END_OF_HEAD = b"\r\n\r\n"

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([!-~]{1,2048}) HTTP/(1\.[01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [\t -~\x80-\xff]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):[\t ]*([\t -~\x80-\xff]*?)[\t ]*")


class HttpRequest(NamedTuple):
    method: str
    target: str
    fields: dict[str, str]
    """Names in lower case. Of several with one name, all values, separated by commas."""
    version: str = "1.1"

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def is_websocket(self) -> bool:
        return (
            self.method == "GET" and self.fields.get("upgrade", "").strip().lower() == "websocket"
        )


def take_head(data: bytes) -> bytes | None:
    """The head at the beginning of `data`, its empty line included; None while it is not whole.
    Raises Malformed when it is too long."""
    end = data.find(END_OF_HEAD, 0, MAX_HEAD)
    if end >= 0:
        return data[: end + len(END_OF_HEAD)]
    if len(data) >= MAX_HEAD:
        raise Malformed("http: head too long")
    return None


def parse_request(head: bytes) -> HttpRequest:
    """Raises Malformed."""
    line, fields = _split(head)
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise Malformed("http: request line")
    method, target, version = (part.decode("ascii") for part in found.groups())
    return HttpRequest(method, target, fields, version)


def parse_status(head: bytes) -> int:
    """The status code of a response. Raises Malformed."""
    line, _ = _split(head)
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise Malformed("http: status line")
    return int(found[1])


def pack_answer(
    status: str,
    body: bytes,
    content_type: str = "text/plain",
    *,
    fields: Mapping[str, str] | None = None,
) -> bytes:
    """A response after which the stream is closed; `status` as in "404 Not Found", `fields` more of
    its head."""
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {content_type}; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
    return "\r\n".join(lines).encode("ascii") + END_OF_HEAD + body


def pack_connect(host: str, port: int, credentials: str | None = None) -> bytes:
    """The request for a way to `host` through a proxy; `credentials` in base64."""
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if credentials:
        lines.append(f"Proxy-Authorization: Basic {credentials}")
    return "\r\n".join(lines).encode("ascii") + END_OF_HEAD


def _split(head: bytes) -> tuple[bytes, dict[str, str]]:
    if len(head) > MAX_HEAD or not head.endswith(END_OF_HEAD):
        raise Malformed("http: head")
    line, *rest = head[: -len(END_OF_HEAD)].split(b"\r\n")
    if len(rest) > MAX_FIELDS:
        raise Malformed("http: too many fields")
    fields: dict[str, str] = {}
    for text in rest:
        found = _FIELD.fullmatch(text)
        if found is None:
            raise Malformed("http: field")
        name, value = found[1].decode("ascii").lower(), found[2].decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return line, fields
