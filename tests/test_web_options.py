"""Where metrics and the page are, as typed."""

from __future__ import annotations

import pytest

from tunnel.config import read_page_url, read_web_listen
from tunnel.errors import UsageError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9101", ("127.0.0.1", 9101)),
        (":9101", ("127.0.0.1", 9101)),
        ("0", ("127.0.0.1", 0)),
        ("*:9101", (None, 9101)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
        ("[::]:9101", ("::", 9101)),
        ("[2001:db8::1]:9101", ("2001:db8::1", 9101)),
    ],
)
def test_where_to_serve_what_the_owner_sees(text: str, address: tuple[str | None, int]) -> None:
    assert read_web_listen(text, "--metrics") == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "*",
        "*:",
        "-1",
        "+1",
        " 1",
        "1_0",
        "65536",
        "a:1",
        "fe80::1:9101",
        "[1",
        "1.2.3:1",
        "\u0661",
    ],
)
def test_where_not(text: str) -> None:
    with pytest.raises(UsageError, match="a port, for this machine alone"):
        read_web_listen(text, "--metrics")


@pytest.mark.parametrize(
    ("typed", "served_at", "url"),
    [
        (None, "http://127.0.0.1:8080/", "http://127.0.0.1:8080/"),
        (None, "https://[2001:db8::1]:8080/", "https://[2001:db8::1]:8080/"),
        ("https://vps.example.org", "http://127.0.0.1:8080/", "https://vps.example.org/"),
        ("https://vps.example.org/pt/", "http://0.0.0.0:1/", "https://vps.example.org/pt/"),
        ("http://192.0.2.1:8080/", "http://[::]:8080/", "http://192.0.2.1:8080/"),
    ],
)
def test_where_the_page_is(typed: str | None, served_at: str, url: str) -> None:
    assert read_page_url(typed, served_at) == url


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "vps.example.org",
        "ftp://a/",
        "http://",
        "http://a:0/",
        "http://a:x/",
        "http://a/#b",
        "http://a/ b",
        "http://a/\n",
        "http://[::1/",
        "javascript:alert(1)",
    ],
)
def test_where_it_is_not(typed: str) -> None:
    with pytest.raises(UsageError, match="--url"):
        read_page_url(typed, "http://127.0.0.1:8080/")


@pytest.mark.parametrize("served_at", ["http://0.0.0.0:8080/", "https://[::]:8080/"])
def test_all_addresses_are_none(served_at: str) -> None:
    scheme = served_at.partition(":")[0]
    with pytest.raises(UsageError, match=f"--url {scheme}://vps.example.org:8080/ or so"):
        read_page_url(None, served_at)
