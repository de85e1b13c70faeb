"""State files and what people type, read back and damaged."""

from __future__ import annotations

import contextlib
import copy
import ipaddress
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.ends import URL, WALL, Network, key, seeded
from tunnel.config import (
    RelayOptions,
    read_join_string,
    read_listen,
    read_server_url,
    read_size,
)
from tunnel.core.configuration import KnownPeer
from tunnel.core.indices import IndexTable
from tunnel.core.peer import Peer
from tunnel.core.periods import Period
from tunnel.core.relay_allowance import Quota, RelayUse
from tunnel.core.revocations import Revocations, sign_revocation
from tunnel.core.session import Session
from tunnel.errors import OperatorError, UsageError
from tunnel.noise.handshake import PUNCHTUN
from tunnel.state import (
    NodeState,
    ServerState,
    pack_ledger,
    pack_node_state,
    pack_peers,
    pack_relay_use,
    pack_revocations,
    pack_server_state,
    parse_announced,
    parse_ledger,
    parse_node_state,
    parse_peers,
    parse_relay_use,
    parse_revocations,
    parse_server_state,
)
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.invitation import JoinString, ServerUrl
from tunnel.wire.revocation import parse_revocation

NETWORK = Network()
FOUNDER = NodeState(
    NETWORK.founder, URL, NETWORK.identity, NETWORK.certificate, NETWORK.signing_key, None
)
MEMBER = NodeState(
    key(2), URL, NETWORK.identity, NETWORK.certify(key(2), "pi", 2), joined_by="an invitation"
)
STRANGER = NodeState(key(3), URL)
ROTATED = NodeState(
    key(2),
    URL,
    NETWORK.identity,
    NETWORK.certify(key(2), "pi", 2),
    next_static=key(4),
    retired=sign_revocation(key(1).public_key, WALL, NETWORK.signing_key, key(2).public_key.data),
)
SERVER = ServerState(key(9), b"an access token.", 12345)


def through_json(content: Any) -> Any:
    return json.loads(json.dumps(content))


def ledger_content() -> dict[str, Any]:
    ledger = NETWORK.ledger()
    ledger.invite("pi", WALL, seeded(1))
    several = ledger.invite("pj", WALL, seeded(2), uses=3)
    several.redeemed[key(5).public_key.data] = "pj-1"
    redeemed = ledger.invite("gone", WALL, seeded(3))
    ledger.issued.append(NETWORK.certify(key(6), redeemed.name, 9))
    ledger.strike({key(6).public_key.data})
    ledger.successors[key(6).public_key.data] = key(7).public_key.data
    content: dict[str, Any] = through_json(pack_ledger(ledger))
    return content


def revocations_content() -> dict[str, Any]:
    signed = [
        sign_revocation(key(number).public_key, WALL, NETWORK.signing_key) for number in (2, 3)
    ]
    content: dict[str, Any] = through_json(pack_revocations(signed, [b"announce"]))
    return content


def peers_content() -> dict[str, Any]:
    certificate = NETWORK.certify(key(2), "pi", 2)
    session = Session(
        construction=PUNCHTUN,
        static=NETWORK.founder,
        remote_static=key(2).public_key,
        preshared=NETWORK.identity.preshared,
        indices=IndexTable(seeded(1)),
        random_bytes=seeded(2),
        wall_clock=lambda: WALL,
    )
    peer = Peer(certificate, certificate.pack(), session, seeded(3))
    peer.known_endpoints = (Endpoint("203.0.113.2", 7), Endpoint("2001:db8::2", 8))
    content: dict[str, Any] = through_json(pack_peers([peer]))
    return content


# Round trips


@pytest.mark.parametrize("state", [FOUNDER, MEMBER, STRANGER, ROTATED])
def test_node_state(state: NodeState) -> None:
    assert parse_node_state(through_json(pack_node_state(state))) == state


def test_server_state() -> None:
    again = parse_server_state(through_json(pack_server_state(SERVER)))
    assert again == SERVER
    assert again.url("203.0.113.10").location == "punchtun://203.0.113.10:12345"


def test_relay_use() -> None:
    use = RelayUse("2026-11", {"0f" * 16: 12_345_678_901, "a0" * 16: 0})
    assert parse_relay_use(through_json(pack_relay_use(use))) == use
    assert parse_relay_use(None) is None


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"period": 7, "used": {}},
        {"period": "2026-11"},
        {"period": "2026-11", "used": []},
        {"period": "2026-11", "used": {"0f": 1}},
        {"period": "2026-11", "used": {"0F" * 16: 1}},
        {"period": "2026-11", "used": {"0f" * 16: -1}},
        {"period": "2026-11", "used": {"0f" * 16: True}},
        {"period": "2026-11", "used": {"0f" * 16: 1.5}},
        [],
    ],
)
def test_damaged_relay_use(content: Any) -> None:
    with pytest.raises(OperatorError, match=r"^relay\.json .* is damaged"):
        parse_relay_use(content)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("500k", 500_000),
        ("10M", 10_000_000),
        ("1.5G", 1_500_000_000),
        ("2TB", 2_000_000_000_000),
        ("0.001K", 1),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert read_size(text, "--relay-rate") == size


@pytest.mark.parametrize("text", ["", "0", "-1", "10 M", "1e9", "5X", "1,5G", "9" * 15 + "T", "M"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="write bytes, for example"):
        read_size(text, "--relay-rate")


def test_relay_options() -> None:
    assert RelayOptions.read(True, None, None, None) == RelayOptions()
    options = RelayOptions.read(True, "10M", "50G/month", 7)
    assert options == RelayOptions(True, 10_000_000, Quota(50_000_000_000, Period.MONTH), 7)
    assert RelayOptions.read(True, None, "1G/day", None).quota == Quota(10**9, Period.DAY)
    for quota in ("1G", "1G/week", "/day", "1G/day/day"):
        with pytest.raises(UsageError, match="--relay-quota"):
            RelayOptions.read(True, None, quota, None)
    with pytest.raises(UsageError, match="--no-relay"):
        RelayOptions.read(False, "10M", None, None)


def test_ledger() -> None:
    content = ledger_content()
    assert through_json(pack_ledger(parse_ledger(content, FOUNDER))) == content


def test_a_ledger_of_before_invitations_for_several() -> None:
    ledger = NETWORK.ledger()
    ledger.invite("pi", WALL, seeded(1))
    ledger.invite("pj", WALL, seeded(2)).redeemed[key(5).public_key.data] = "pj"
    content = through_json(pack_ledger(ledger))
    for entry in content["invitations"]:
        (entry["address"],) = entry.pop("addresses")
        redeemed = entry.pop("redeemed")
        entry["redeemed_by"] = redeemed[0]["key"] if redeemed else None
    assert parse_ledger(content, FOUNDER).invitations == ledger.invitations


def test_more_machines_than_an_invitation_has_uses() -> None:
    content = ledger_content()
    entry = content["invitations"][1]
    entry["addresses"] = []
    assert not parses_or_names_the_file("ledger.json", content, lambda c: parse_ledger(c, FOUNDER))


def test_peers() -> None:
    (known,) = parse_peers(peers_content())
    assert known == KnownPeer(
        NETWORK.certify(key(2), "pi", 2).pack(),
        (Endpoint("203.0.113.2", 7), Endpoint("2001:db8::2", 8)),
    )
    assert parse_peers(None) == ()


def test_revocations() -> None:
    revocations = Revocations(NETWORK.identity.key)
    for packed in parse_revocations(revocations_content()):
        revocations.add(parse_revocation(packed))
    assert {one.key for one in revocations} == {key(n).public_key.data for n in (2, 3)}
    assert through_json(pack_revocations(revocations))["revocations"]
    assert parse_revocations(None) == ()
    announced = (b"ABCDEFGH", b"abcdefgh")
    assert parse_announced(through_json(pack_revocations(revocations, announced))) == announced
    assert parse_announced(None) == ()


def test_repr_shows_no_secret() -> None:
    text = repr(FOUNDER) + repr(MEMBER) + repr(SERVER)
    for secret in (NETWORK.founder.data, NETWORK.signing_key.data, NETWORK.identity.secret):
        assert repr(secret) not in text
    assert repr(SERVER.access_token) not in text


# Damage


def parse_all_of_revocations(content: dict[str, Any]) -> Any:
    return parse_revocations(content), parse_announced(content)


CONTENTS: list[tuple[str, dict[str, Any], Any]] = [
    ("node.json", pack_node_state(FOUNDER), parse_node_state),
    ("node.json", pack_node_state(ROTATED), parse_node_state),
    ("server.json", pack_server_state(SERVER), parse_server_state),
    ("ledger.json", ledger_content(), lambda content: parse_ledger(content, FOUNDER)),
    ("peers.json", peers_content(), parse_peers),
    ("revocations.json", revocations_content(), parse_all_of_revocations),
]
OPTIONAL = {
    # Without them it is the state of one that is no member yet, or no founder.
    "node.json": {
        "certificate",
        "signing_key",
        "joined_by",
        "name",
        "next_private_key",
        "retired",
    },
    "server.json": set(),
    # Written by a version that could not revoke, or rotate keys.
    "ledger.json": {"revoked", "successors"},
    "peers.json": {"name"},
    "revocations.json": {"announced"},
}
WRONG: list[Any] = [
    None,
    "",
    "!",
    0,
    -1,
    1e999,
    True,
    [],
    {},
    [[]],
    [None],
    "A",
    "x" * 43,
    [["h", 1]],
]


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in it."""
    found = [path] if path else []
    items: Any = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    for step, value in items:
        found += places(value, (*path, step))
    return found


def replaced(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(content)
    inner = changed
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return changed


def parses_or_names_the_file(file: str, content: Any, parse: Any) -> bool:
    message = ""
    try:
        parse(content)
    except OperatorError as error:
        message = str(error)
    if message:
        assert message.startswith(f"{file} in the state directory is damaged (")
        assert "restore it from a backup" in message
    return not message


@pytest.mark.parametrize(("file", "content", "parse"), CONTENTS)
def test_any_value_damaged_is_an_operators_error(file: str, content: Any, parse: Any) -> None:
    for path in places(content):
        for wrong in WRONG:
            parses_or_names_the_file(file, replaced(content, path, wrong), parse)


@pytest.mark.parametrize(("file", "content", "parse"), CONTENTS)
def test_any_field_missing_is_an_operators_error(file: str, content: Any, parse: Any) -> None:
    for path in places(content):
        if isinstance(path[-1], str):
            changed = copy.deepcopy(content)
            inner = changed
            for step in path[:-1]:
                inner = inner[step]
            del inner[path[-1]]
            is_optional = path[-1] in OPTIONAL[file]
            assert parses_or_names_the_file(file, changed, parse) is is_optional, path


@pytest.mark.parametrize(("file", "content", "parse"), CONTENTS)
@pytest.mark.parametrize("whole", [[], "text", 7, True, [1]])
def test_a_file_that_is_no_object(file: str, content: Any, parse: Any, whole: Any) -> None:
    assert not parses_or_names_the_file(file, whole, parse)


@pytest.mark.parametrize(("file", "content", "parse"), CONTENTS)
def test_every_character_of_a_secret_that_is_cut(file: str, content: Any, parse: Any) -> None:
    for path in places(content):
        value = content
        for step in path:
            value = value[step]
        if isinstance(value, str) and len(value) > 20 and "punchtun" not in value:
            assert not parses_or_names_the_file(file, replaced(content, path, value[:-3]), parse)


@pytest.mark.parametrize(
    "endpoint", [["203.0.113.2", 0], ["203.0.113.2", 65536], ["h", 7], ["", 7]]
)
def test_remembered_endpoints_must_be_endpoints(endpoint: list[Any]) -> None:
    content = replaced(peers_content(), ("peers", 0, "endpoints", 0), endpoint)
    assert not parses_or_names_the_file("peers.json", content, parse_peers)


def test_a_bad_server_in_node_json() -> None:
    content = replaced(pack_node_state(FOUNDER), ("server",), "punchtun://[::1/x")
    assert not parses_or_names_the_file("node.json", content, parse_node_state)


# What people type


def test_server_url() -> None:
    assert read_server_url(f" {URL.text} \n") == URL
    with pytest.raises(UsageError, match=r"this is no server URL: .*server url --host"):
        read_server_url("punchtun://h")
    assert UsageError("").exit_code == 2


def test_join_string() -> None:
    join = JoinString(URL.public_key, bytes(16), URL)
    assert read_join_string(join.text) == join
    with pytest.raises(UsageError, match=r"this is no join string: .*punchtun invite"):
        read_join_string(join.text[:-1])


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (read_server_url, read_join_string, read_listen):
        with contextlib.suppress(UsageError):
            read(text)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("12345", (None, 12345)),
        (":12345", (None, 12345)),
        ("*:12345", (None, 12345)),
        ("[::]:7", ("::", 7)),
        ("::1:7", ("::1", 7)),
        ("192.0.2.1:7", ("192.0.2.1", 7)),
        ("192.0.2.1:0", ("192.0.2.1", 0)),
        ("1:65534", None),
        ("192.0.2.1", None),
        ("192.0.2.1:", None),
        ("192.0.2.1:x", None),
        ("192.0.2.1:65535", None),
        ("192.0.2.1:-1", None),
        ("host:7", None),
        ("", None),
    ],
)
def test_listen(text: str, listen: tuple[str | None, int] | None) -> None:
    if listen is not None:
        assert read_listen(text) == listen
    else:
        with pytest.raises(UsageError, match=r"^--listen"):
            read_listen(text)


def test_addresses_in_a_ledger_are_interfaces() -> None:
    ledger = parse_ledger(ledger_content(), FOUNDER)
    addresses = [address for i in ledger.invitations for address in i.addresses]
    assert all(isinstance(address, ipaddress.IPv4Interface) for address in addresses)


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31)])
def test_a_key_that_nobody_can_have_is_no_url(key: bytes) -> None:
    url = ServerUrl("192.0.2.1", 12345, key, bytes(16))
    with pytest.raises(UsageError, match="no proper key"):
        read_server_url(url.text)
    with pytest.raises(UsageError, match="no proper key"):
        read_join_string(JoinString(b"\x09" + bytes(31), bytes(16), url).text)
