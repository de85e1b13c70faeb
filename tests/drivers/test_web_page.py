"""The server's page without a browser: who is told what, and what the page may do."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.visitor import Response, parse
from tests.spellings import Search
from tests.test_secrets import faults
from tunnel.drivers import web_page
from tunnel.drivers.files import StateDirectory
from tunnel.drivers.web import Visit
from tunnel.drivers.web_page import TOKEN_LENGTH, Page
from tunnel.drivers.web_serving import load_page_token, open_page
from tunnel.errors import OperatorError
from tunnel.wire.http import HttpRequest
from tunnel.wire.invitation import encode_base64

TOKEN = bytes(range(TOKEN_LENGTH))
CREDENTIALS = f"Bearer {encode_base64(TOKEN)}"
FILE = Path(web_page.__file__).with_name("web_page.html")
STATUS = {"nodes": 3, "drops": {"mac1": 1}}


def ask(
    target: str,
    *,
    is_local: bool = False,
    page: Page | None = None,
    authorization: str | None = None,
) -> Response:
    fields = {} if authorization is None else {"authorization": authorization}
    page = page or Page(lambda: STATUS, TOKEN)
    return parse(page.answer(Visit(HttpRequest("GET", target, fields), is_local)))


@pytest.mark.parametrize("is_local", [True, False])
def test_the_page_itself_is_no_secret(is_local: bool) -> None:
    response = ask("/", is_local=is_local)
    assert response.status == 200
    assert response.field("Content-Type") == "text/html; charset=utf-8"
    assert response.body == FILE.read_bytes()


def test_the_status_for_who_is_here() -> None:
    response = ask("/status.json", is_local=True)
    assert response.status == 200
    assert response.field("Content-Type") == "application/json; charset=utf-8"
    assert json.loads(response.body) == STATUS


def test_the_status_with_the_token() -> None:
    assert json.loads(ask("/status.json", authorization=CREDENTIALS).body) == STATUS
    assert ask("/status.json?x=y", authorization=CREDENTIALS).status == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"bearer {encode_base64(TOKEN)}",
        f"Basic {encode_base64(TOKEN)}",
        encode_base64(TOKEN),
        CREDENTIALS[:-1],
        f"{CREDENTIALS}=",
        f"{CREDENTIALS}, {CREDENTIALS}",
        f"Bearer {encode_base64(bytes(TOKEN_LENGTH))}",
        "Bearer \xe9",
    ],
)
def test_no_status_without(authorization: str | None) -> None:
    response = ask("/status.json", authorization=authorization)
    assert response.status == 401
    assert response.field("WWW-Authenticate") == "Bearer"
    assert b"nodes" not in response.body
    assert encode_base64(TOKEN) not in response.head + response.body.decode()


def test_the_token_is_taken_from_nowhere_else() -> None:
    """An address is in histories and logs."""
    token = encode_base64(TOKEN)
    for target in (f"/status.json?token={token}", f"/status.json?{token}"):
        assert ask(target).status == 401
    for target in (f"/{token}", f"/status.json/{token}"):
        assert ask(target).status == 404


@pytest.mark.parametrize(
    "target", ["/status", "/metrics", "/punchtun", "//", "/../page.json", "*", "http://a/", "/%2e"]
)
def test_nothing_else_is_here(target: str) -> None:
    assert ask(target, is_local=True, authorization=CREDENTIALS).status == 404


@pytest.mark.parametrize("target", ["/", "/status.json", "/nothing"])
@pytest.mark.parametrize("is_local", [True, False])
def test_other_sites_cannot_use_it(target: str, is_local: bool) -> None:
    """Neither in a frame, nor as a script or picture, nor by asking across origins."""
    response = ask(target, is_local=is_local)
    assert response.field("X-Frame-Options") == "DENY"
    assert response.field("X-Content-Type-Options") == "nosniff"
    assert response.field("Cross-Origin-Resource-Policy") == "same-origin"
    assert response.field("Referrer-Policy") == "no-referrer"
    assert response.field("Cache-Control") == "no-store"
    assert "access-control" not in response.head.lower()
    assert "set-cookie" not in response.head.lower()


def test_nothing_runs_but_what_is_in_the_page() -> None:
    policy = ask("/").field("Content-Security-Policy")
    assert policy is not None
    directives = dict(each.strip().partition(" ")[::2] for each in policy.split(";"))
    text = FILE.read_text()
    for element in ("script", "style"):
        (inside,) = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert directives.pop(f"{element}-src") == f"'sha256-{digest}'"
    assert directives == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_the_page_needs_nothing_from_elsewhere_and_makes_no_html() -> None:
    text = FILE.read_text()
    assert not re.search(r"""(?:https?:)?//[a-z]""", text)
    assert re.findall(r'(?:src|href)="([^"]*)"', text) == ["data:,"]
    for dangerous in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert dangerous not in text
    assert not re.search(r"\son[a-z]+=", text)
    assert not re.search(r"\sstyle=", text)
    assert len(text) < 20_000


def test_many_visitors_cost_no_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now, reads = 100.0, 0

    def read() -> dict[str, Any]:
        nonlocal reads
        reads += 1
        return {"reads": reads}

    monkeypatch.setattr("tunnel.drivers.clock.now", lambda: now)
    page = Page(read, TOKEN)
    for at, expected in ((100.0, 1), (100.9, 1), (101.0, 2), (101.5, 2), (9999.0, 3)):
        now = at
        assert json.loads(ask("/status.json", is_local=True, page=page).body) == {"reads": expected}
    assert ask("/status.json", page=page).status == 401
    assert reads == 3


def test_who_may_not_see_it_does_not_have_it_read() -> None:
    def read() -> dict[str, Any]:
        raise AssertionError

    assert ask("/status.json", page=Page(read, TOKEN)).status == 401


# The token


def test_the_token_is_made_once(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    token = load_page_token(directory)
    assert len(token) == TOKEN_LENGTH
    assert load_page_token(directory) == token
    file = tmp_path / "page.json"
    assert os.stat(file).st_mode & 0o777 == 0o600
    file.unlink()
    assert load_page_token(directory) != token


def test_the_token_shows_in_no_text(tmp_path: Path) -> None:
    opened = open_page(("127.0.0.1", 0), StateDirectory(tmp_path), None)
    assert opened is not None
    search = Search([opened.token])
    page = Page(lambda: STATUS, opened.token)
    assert [fault for each in (opened, page) for fault in faults(search, each)] == []
    opened.listening.close()


@pytest.mark.parametrize("content", ["{}", '{"token": 7}', '{"token": "AAAA"}', '{"token": "="}'])
def test_a_damaged_token(tmp_path: Path, content: str) -> None:
    file = tmp_path / "page.json"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(OperatorError, match=r"page\.json in .* is damaged: remove it"):
        load_page_token(StateDirectory(tmp_path))
