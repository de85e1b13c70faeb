"""What people type, as arguments or in a TOML file, becomes frozen dataclasses; or UsageError."""

from __future__ import annotations

import difflib
import ipaddress
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tunnel.core.periods import Period
from tunnel.core.relay_allowance import Quota
from tunnel.errors import AuthenticationFailed, Malformed, UsageError
from tunnel.noise.keys import PrivateKey, PublicKey
from tunnel.wire.confidential import Confidential
from tunnel.wire.invitation import (
    DEFAULT_PORT,
    JoinString,
    ServerUrl,
    parse_join_string,
    parse_server_url,
    parse_websocket_url,
)

_SIZES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class UpOptions(Confidential):
    """What was typed after ``punchtun up``, or stands in its configuration file under the same
    names with underscores. None: not given."""

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

    def completed_by(self, other: UpOptions) -> UpOptions:
        """These options, and where they are silent `other`'s."""
        return UpOptions(
            **{
                each.name: getattr(other if getattr(self, each.name) is None else self, each.name)
                for each in fields(self)
            }
        )


def read_up_config(path: str) -> UpOptions:
    """Raises UsageError: unreadable, no TOML, an unknown key (naming the nearest), a wrong type."""
    try:
        content = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--config {path}: this is no TOML: {error}") from error
    known = {each.name: _KINDS.get(each.name, str) for each in fields(UpOptions)}
    for key, value in content.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise UsageError(f"--config {path}: unknown key '{key}'; {hint}")
        if type(value) is not known[key]:
            raise UsageError(f"--config {path}: {key} must be {_KIND_WORDS[known[key]]}")
    return UpOptions(**content)


_KINDS: dict[str, type] = {
    "mtu": int,
    "listen_port": int,
    "port_mapping": bool,
    "port_guessing": bool,
    "tun_offload": bool,
    "uso": bool,
    "gso": bool,
    "gro": bool,
    "aegis": bool,
    "hosts": bool,
}
"""Options that are no text."""
_KIND_WORDS = {int: "a whole number", bool: "true or false", str: "a string in quotes"}


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
