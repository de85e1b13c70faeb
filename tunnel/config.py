"""What people type becomes frozen dataclasses; or UsageError."""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tunnel.core.periods import Period
from tunnel.core.relay_allowance import Quota
from tunnel.errors import AuthenticationFailed, Malformed, UsageError
from tunnel.noise.keys import PrivateKey, PublicKey
from tunnel.wire.certificate import is_valid_name
from tunnel.wire.confidential import Confidential
from tunnel.wire.invitation import (
    DEFAULT_PORT,
    JoinString,
    ServerUrl,
    parse_join_string,
    parse_server_url,
    parse_websocket_url,
)

MINIMUM_MTU = 576
_SIZES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class UpOptions(Confidential):
    """What was typed after ``punchtun up``, or stands in its file. None: not given."""

    join: str | None = field(default=None, repr=False)
    server: str | None = field(default=None, repr=False)
    name: str | None = None
    ip: str | None = None
    interface: str | None = None
    mtu: int | None = None
    listen_port: int | None = None
    log_format: str | None = None
    state_dir: str | None = None
    port_mapping: bool | None = None
    port_guessing: bool | None = None
    tun_offload: bool | None = None
    uso: bool | None = None
    gso: bool | None = None
    gro: bool | None = None
    aegis: bool | None = None
    metrics: str | None = None
    hosts: bool | None = None


def up_faults(options: UpOptions) -> list[UsageError]:
    """All that is wrong with them, as far as that can be told without the machine."""
    checks: dict[str, Callable[[Any], object]] = {
        "mtu": read_mtu,
        "name": read_name,
        "ip": read_tunnel_address,
        "join": read_join_string,
        "server": read_server_url,
        "metrics": read_web_listen,
    }
    given = ((check, getattr(options, name)) for name, check in checks.items())
    return _faults([partial(check, value) for check, value in given if value is not None])


def server_faults(options: Mapping[str, Any]) -> list[UsageError]:
    """As `up_faults`, of what is typed after ``punchtun server run``, by the names in files."""
    http = [*options.get("http", ())]
    relay = [options.get(f"relay_{name}") for name in ("rate", "quota", "pairs")]
    tls = [options.get("tls_cert"), options.get("tls_key")]
    has_http = bool(http or options.get("web"))
    listens = [(name, options.get(name)) for name in ("web", "metrics")]
    return _faults(
        [
            *(partial(read_listen, text) for text in options.get("listen", ())),
            partial(read_tcp_options, options.get("tcp", ())),
            *(partial(read_listen, text, "--http") for text in http),
            partial(RelayOptions.read, options.get("relay", True), *relay),
            partial(read_tls_options, *tls, has_http=has_http),
            *(partial(read_web_listen, given, f"--{name}") for name, given in listens if given),
        ]
    )


def _faults(checks: Iterable[Callable[[], object]]) -> list[UsageError]:
    found = []
    for check in checks:
        try:
            check()
        except UsageError as error:
            found.append(error)
    return found


def read_mtu(mtu: int) -> int:
    """Of the interface. Raises UsageError."""
    if not MINIMUM_MTU <= mtu <= 65000:
        raise UsageError(f"--mtu {mtu}: use {MINIMUM_MTU} to 65000")
    return mtu


def read_name(name: str) -> str:
    """Of a node. Raises UsageError."""
    if not is_valid_name(name):
        raise UsageError(f"--name {name}: use a-z, 0-9 and hyphens, at most 63 characters")
    return name


def read_tunnel_address(text: str) -> ipaddress.IPv4Interface:
    """ADDRESS or ADDRESS/LENGTH. Raises UsageError."""
    try:
        interface = ipaddress.IPv4Interface(text)
    except ValueError as error:
        raise UsageError(f"--ip {text}: write an IPv4 address, for example 10.99.0.1/24") from error
    if "/" not in text:
        interface = ipaddress.IPv4Interface((interface.ip, 24))
    network = interface.network
    if network.prefixlen > 30 or network.prefixlen < 8:
        raise UsageError(f"--ip {text}: the prefix must leave room for others, /8 to /30")
    if interface.ip in (network.network_address, network.broadcast_address):
        raise UsageError(
            f"--ip {text}: this is the {network}'s network or broadcast address; "
            f"use {network.network_address + 1} or another in between"
        )
    return interface


def read_server_url(text: str) -> ServerUrl:
    """Raises UsageError, with cause and cure."""
    try:
        url = parse_server_url(text)
        _refuse_weak_key(url.public_key)
        return url
    except Malformed as error:
        raise UsageError(
            f"this is no server URL: {error}. "
            "Copy the whole line that `punchtun server url --host …` prints on the server"
        ) from error


def _refuse_weak_key(key: bytes) -> None:
    """Raises Malformed for a key that no private key has (RFC 7748 §6.1: an all-zero secret)."""
    try:
        PrivateKey(bytes([1] * 32)).exchange(PublicKey(key))
    except AuthenticationFailed as error:
        raise Malformed("its key is no proper key") from error


def read_host(text: str) -> str:
    """A name or address for a server URL. Raises UsageError."""
    host = text.strip().removeprefix("[").removesuffix("]")
    try:
        return parse_server_url(ServerUrl(host, DEFAULT_PORT, bytes(32), bytes(16)).text).host
    except Malformed as error:
        raise UsageError(
            f"--host '{text}' is no name or address: write what nodes are to reach this machine "
            "by, for example 203.0.113.10 or vps.example.org"
        ) from error


def read_join_string(text: str) -> JoinString:
    """Raises UsageError, with cause and cure."""
    try:
        join = parse_join_string(text)
        _refuse_weak_key(join.inviter)
        _refuse_weak_key(join.server.public_key)
        return join
    except Malformed as error:
        raise UsageError(
            f"this is no join string: {error}. "
            "Copy the whole line that `punchtun invite …` printed, or make a new one"
        ) from error


def read_listen(text: str, what: str = "--listen") -> tuple[str | None, int]:
    """HOST:PORT, [V6]:PORT, :PORT or PORT. Raises UsageError."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    try:
        number = int(port)
        if host not in ("", "*"):
            ipaddress.ip_address(host)
    except ValueError as error:
        raise UsageError(f"{what} {text}: write ADDRESS:PORT, for example [::]:12345") from error
    if not 0 <= number < 65535:
        raise UsageError(f"{what} {text}: use a port below 65535, the next one is used too")
    return (host if host not in ("", "*") else None), number


def read_tcp_options(texts: Iterable[str]) -> list[tuple[str | None, int]] | None:
    """Where to listen; None when nothing was said. Raises UsageError."""
    given = list(texts)
    if given == ["none"]:
        return []
    return [read_listen(text, "--tcp") for text in given] or None


@dataclass(frozen=True)
class RelayOptions:
    """What was typed after ``punchtun server run`` of the relay. None: no limit, or the default."""

    is_on: bool = True
    rate: int | None = None
    quota: Quota | None = None
    pairs: int | None = None

    @classmethod
    def read(
        cls, is_on: bool, rate: str | None, quota: str | None, pairs: int | None
    ) -> RelayOptions:
        """Raises UsageError."""
        if not is_on and (rate, quota, pairs) != (None, None, None):
            raise UsageError("--no-relay: then there is nothing to limit by --relay-…")
        return cls(
            is_on,
            None if rate is None else read_size(rate, "--relay-rate"),
            None if quota is None else read_quota(quota),
            pairs,
        )


def read_size(text: str, what: str) -> int:
    """Bytes: a number, and maybe K, M, G or T for thousands of them. Raises UsageError."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)([KMGT]?)B?", text.strip(), re.IGNORECASE)
    size = 0 if match is None else int(float(match[1]) * _SIZES[match[2].upper()])
    if not 0 < size < 1 << 60:
        raise UsageError(f"{what} {text}: write bytes, for example 500K, 10M or 1.5G")
    return size


def read_quota(text: str) -> Quota:
    """SIZE/day or SIZE/month. Raises UsageError."""
    size, _, period = text.partition("/")
    if period not in {each.value for each in Period}:
        raise UsageError(f"--relay-quota {text}: write SIZE/day or SIZE/month, such as 50G/month")
    return Quota(read_size(size, "--relay-quota"), Period(period))


def read_websocket(text: str | None) -> str | None:
    """Raises UsageError."""
    if text is None:
        return None
    try:
        return parse_websocket_url(text).text
    except Malformed as error:
        raise UsageError(
            f"--websocket {text}: write wss://HOST/punchtun, or what else the web server has"
        ) from error


def read_tls_options(
    certificate: str | None, key: str | None, *, has_http: bool
) -> tuple[str, str] | None:
    """Raises UsageError."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UsageError("--tls-cert and --tls-key: give both, or neither")
    if not has_http:
        raise UsageError(
            "--tls-cert is for --http and --web: say where to listen, --http 443 for example"
        )
    return certificate, key


def read_web_listen(text: str, what: str = "--metrics") -> tuple[str | None, int]:
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
