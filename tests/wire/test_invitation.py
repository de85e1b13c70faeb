from __future__ import annotations

import string
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.messages import ipv4, ipv6, octets
from tunnel.errors import Malformed
from tunnel.wire.certificate import is_valid_name
from tunnel.wire.invitation import (
    DEFAULT_PORT,
    JOIN_PREFIX,
    JoinString,
    ServerUrl,
    decode_base64,
    encode_base64,
    parse_join_answer,
    parse_join_request,
    parse_join_string,
    parse_server_url,
    parse_wish,
)

KEY, ACCESS = bytes(range(32)), bytes(range(32, 48))
SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4v"
URL = ServerUrl("203.0.113.10", 12345, KEY, ACCESS)
JOIN = JoinString(b"i" * 32, b"t" * 16, URL)
JOIN_TEXT = (
    "punchtun-join:AWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpdHR0dHR0dHR0dHR0dHR0dAABAgMEBQYHC"
    "AkKCwwNDg8QERITFBUWFxgZGhscHR4fICEiIyQlJicoKSorLC0uLzA5MjAzLjAuMTEzLjEw"
)
ALPHABET = string.ascii_letters + string.digits + "-_"

labels = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
hosts = ipv4 | ipv6 | st.lists(labels, min_size=1, max_size=4).map(".".join)
urls = st.builds(ServerUrl, hosts, st.integers(1, 65535), octets(32), octets(16))


# base64url


@given(st.binary(max_size=80))
def test_base64_round_trip(data: bytes) -> None:
    text = encode_base64(data)
    assert set(text) <= set(ALPHABET)
    assert decode_base64(text) == data


@pytest.mark.parametrize(
    "text",
    [
        "QQ==",  # padded
        "A",  # six bits
        "+/+/",  # the other alphabet
        "QR",  # bits that belong to no byte: "QQ" is the text of this byte
        "Q Q",
        "QQ\n",
        "QQ=",
        "QüQ",
        "Q.Q.",
    ],
)
def test_anything_but_unpadded_base64url(text: str) -> None:
    with pytest.raises(Malformed, match=r"^base64$"):
        decode_base64(text)


# Server URL


def test_url_golden() -> None:
    text = f"punchtun://203.0.113.10:12345/{SECRET}"
    assert URL.text == text
    assert parse_server_url(text) == URL


@settings(deadline=None)
@given(urls)
def test_url_round_trip(url: ServerUrl) -> None:
    assert parse_server_url(url.text) == url
    assert parse_server_url(f"  {url.text}\n") == url


@pytest.mark.parametrize(
    ("place", "host", "port"),
    [
        ("vps.example.org", "vps.example.org", DEFAULT_PORT),
        ("VPS.Example.org:99", "vps.example.org", 99),
        ("[2001:db8::1]", "2001:db8::1", DEFAULT_PORT),
        ("[2001:db8::1]:7", "2001:db8::1", 7),
        ("203.0.113.10:65535", "203.0.113.10", 65535),
        ("bücher.example", "xn--bcher-kva.example", DEFAULT_PORT),
    ],
)
def test_host_and_port(place: str, host: str, port: int) -> None:
    url = parse_server_url(f"punchtun://{place}/{SECRET}")
    assert (url.host, url.port) == (host, port)


def test_location_and_repr_hold_no_secret() -> None:
    assert URL.location == "punchtun://203.0.113.10:12345"
    assert repr(URL) == "ServerUrl(punchtun://203.0.113.10:12345)"
    assert ServerUrl("::1", 1, KEY, ACCESS).location == "punchtun://[::1]:1"
    assert SECRET not in repr(URL) + URL.location
    assert repr(JOIN) == "JoinString(punchtun://203.0.113.10:12345)"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "start with"),
        (SECRET, "start with"),
        (f"https://203.0.113.10/{SECRET}", "start with"),
        (f"punchtun:203.0.113.10/{SECRET}", "start with"),
        (f"punchtun:///{SECRET}", "start with"),
        (f"punchtun://:12345/{SECRET}", "start with"),
        (f"punchtun://[::1/{SECRET}", "start with"),
        (f"punchtun://::1]/{SECRET}", "start with"),
        (f"punchtun://[nonsense]/{SECRET}", "start with"),
        (f"punchtun://℀.example/{SECRET}", "start with"),
        (f"punchtun://host:65536/{SECRET}", "port"),
        (f"punchtun://host:0/{SECRET}", "port"),
        (f"punchtun://host:-1/{SECRET}", "port"),
        (f"punchtun://host:http/{SECRET}", "port"),
        ("punchtun://host", "cut short"),
        ("punchtun://host/", "cut short"),
        (f"punchtun://host/{SECRET}AAAA", "too long"),
        (f"punchtun://host/{SECRET[:-4]}", "cut short"),
        (f"punchtun://host/{SECRET[:-1]}", "cut short|damaged"),
        (f"punchtun://host/{SECRET[:-1]}!", "damaged"),
        (f"punchtun://host/{SECRET}/x", "damaged"),
        (f"punchtun://host/{SECRET}?x", "follows"),
        (f"punchtun://host/{SECRET}?tcp=1&tcp=2", "follows"),
        (f"punchtun://host/{SECRET}?tcp=0", "TCP port"),
        (f"punchtun://host/{SECRET}?tcp=65536", "TCP port"),
        (f"punchtun://host/{SECRET}?tcp=+1", "TCP port"),
        (f"punchtun://host/{SECRET}?ws=https://a/", "WebSocket"),
        (f"punchtun://host/{SECRET}?ws=wss://u@a/", "WebSocket"),
        (f"punchtun://host/{SECRET}?ws=wss://a:0/", "WebSocket"),
        (f"punchtun://host/{SECRET}?ws=wss:///a", "WebSocket"),
        (f"punchtun://host/{SECRET}?ws=wss://a/%20b", "WebSocket"),
        (f"punchtun://host/{SECRET}?ws=wss://a/{'a' * 250}", "WebSocket"),
        (f"punchtun://host/{SECRET}#x", "follows"),
        (f"punchtun://user@host/{SECRET}", "start with"),
        (f"punchtun://a..b/{SECRET}", "start with"),
        (f"punchtun://{'a' * 64}.example/{SECRET}", "start with"),
        (f"punchtun://[1.2.3.4]/{SECRET}", "start with"),
        (f"punchtun://[v1.a]/{SECRET}", "start with"),
    ],
)
def test_url_that_is_none(text: str, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        parse_server_url(text)


def test_url_cut_short() -> None:
    text = URL.text
    for length in range(len(text)):
        with pytest.raises(Malformed):
            parse_server_url(text[:length])


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80) | st.text(alphabet="punchtun:/[]@?#%.0aA-", max_size=40))
def test_any_text_is_a_url_or_malformed(text: str) -> None:
    for candidate in (text, f"punchtun://{text}", f"punchtun://{text}/{SECRET}"):
        try:
            url = parse_server_url(candidate)
        except Malformed:
            continue
        assert 0 < url.port < 65536
        assert parse_server_url(url.text) == url
        assert parse_join_string(JoinString(KEY, ACCESS, url).text).server == url


def test_url_with_options_golden() -> None:
    text = (
        f"punchtun://host:12345/{SECRET}?tcp=443&ws=wss%3A%2F%2Fvpn.example.org%3A8443%2Fpunchtun"
    )
    url = parse_server_url(text)
    assert (url.tcp_port, url.websocket) == (443, "wss://vpn.example.org:8443/punchtun")
    assert url.text == text
    assert url.location == "punchtun://host:12345"
    join = JoinString(KEY, ACCESS, url)
    assert parse_join_string(join.text) == join
    # The usual port is left out, and a host without a path gets one.
    short = parse_server_url(f"punchtun://host/{SECRET}?ws=wss://vpn.example.org:443")
    assert short.websocket == "wss://vpn.example.org/"


# Join string


def test_join_golden() -> None:
    text = JOIN.text
    assert text.startswith(JOIN_TEXT)
    assert parse_join_string(text) == JOIN


@settings(deadline=None)
@given(st.builds(JoinString, octets(32), octets(16), urls))
def test_join_round_trip(join: JoinString) -> None:
    assert parse_join_string(join.text) == join


def test_a_name_is_carried_in_its_ascii_form() -> None:
    join = JoinString(b"i" * 32, b"t" * 16, ServerUrl("bücher.example", 1, KEY, ACCESS))
    assert parse_join_string(join.text).server.host == "xn--bcher-kva.example"


def test_white_space_of_a_mail_does_no_harm() -> None:
    text = JOIN.text
    wrapped = "  " + "\r\n ".join(text[at : at + 40] for at in range(0, len(text), 40)) + "\n"
    assert parse_join_string(wrapped) == JOIN


def test_join_cut_short() -> None:
    text = JOIN.text
    for length in range(len(text)):
        with pytest.raises(Malformed):
            parse_join_string(text[:length])


@pytest.mark.parametrize("host", ["203.0.113.10", "vps.example", "::1"])  # all 3 residues mod 3
def test_join_mistyped_at_every_position(host: str) -> None:
    text = JoinString(b"i" * 32, b"t" * 16, ServerUrl(host, 1, KEY, ACCESS)).text
    for position, right in enumerate(text):
        for wrong in ALPHABET:
            if wrong != right:
                with pytest.raises(Malformed):
                    parse_join_string(text[:position] + wrong + text[position + 1 :])


def test_join_with_two_characters_exchanged() -> None:
    text = JOIN.text
    for position in range(len(text) - 1):
        exchanged = text[:position] + text[position + 1] + text[position] + text[position + 2 :]
        if exchanged != text:
            with pytest.raises(Malformed):
                parse_join_string(exchanged)


def checked(body: bytes) -> str:
    return JOIN_PREFIX + encode_base64(body + zlib.crc32(body).to_bytes(4, "big"))


BODY = b"\x01" + b"i" * 32 + b"t" * 16 + KEY + ACCESS + (12345).to_bytes(2, "big")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x03" + BODY[1:] + b"host", "newer"),
        (b"\x00", "newer"),
        (BODY, "cut short"),
        (BODY[:50], "cut short"),
        (BODY + b"h\xffst", "host"),
        (BODY + b"a host", "host"),
        (BODY + b"host/path", "host"),
        (BODY + b"\0", "host"),
        (BODY[:-2] + b"\0\0host", "port"),
    ],
)
def test_join_with_a_right_check_and_wrong_content(body: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        parse_join_string(checked(body))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=120), st.binary(max_size=160))
def test_any_text_is_a_join_string_or_malformed(text: str, data: bytes) -> None:
    for candidate in (text, JOIN_PREFIX + text, checked(data), checked(BODY + data)):
        try:
            join = parse_join_string(candidate)
        except Malformed:
            continue
        # It goes into node.json as a URL, and must come back from there.
        again = parse_server_url(join.server.text)
        assert again.location == join.server.location.lower()


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x02" + bytes(20), b"\x01" + bytes(8)])
def test_join_request_malformed(data: bytes) -> None:
    with pytest.raises(Malformed, match=r"^join request$"):
        parse_join_request(data)


@pytest.mark.parametrize("data", [b"", b"\x01\x00", b"\x02\x00x", b"\x01\x05x", b"\x01\xffx"])
def test_join_answer_malformed(data: bytes) -> None:
    with pytest.raises(Malformed, match=r"^join answer$"):
        parse_join_answer(data)


def test_wish() -> None:
    assert parse_wish(b"") == ""
    assert parse_wish(bytes.fromhex("70692d32")) == "pi-2"


@given(st.binary(max_size=70) | st.from_regex(r"[a-z0-9-]{0,66}", fullmatch=True).map(str.encode))
def test_any_bytes_are_a_wish_or_malformed(data: bytes) -> None:
    try:
        name = parse_wish(data)
    except Malformed:
        return
    assert name.encode() == data
    assert name == "" or is_valid_name(name)
