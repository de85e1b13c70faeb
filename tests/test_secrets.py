"""No object shows, in any text or pickle of it, a secret that it holds or reaches.

The objects are those of running machines: a server, nodes that talk, one that invites and one that
joins; all that can be reached from them is asked. So a class that begins to hold a key tomorrow is
asked as well.
"""

from __future__ import annotations

import base64
import gc
import json
import pickle
import traceback
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.core.ends import Network
from tests.core.test_join import Village
from tests.sim.nat import Nat
from tests.sim.world import World
from tests.spellings import Search
from tunnel.cli import main
from tunnel.cli.config_file import read_settings
from tunnel.cli.node import up
from tunnel.config import UpOptions
from tunnel.core.configuration import NodeConfig
from tunnel.drivers.files import StateDirectory
from tunnel.errors import UsageError
from tunnel.noise.frame_cipher import CHACHA20_POLY1305, FrameKeys
from tunnel.noise.handshake import PUNCHTUN, Initiator, consume_initiation
from tunnel.noise.keypair import Keypair
from tunnel.noise.keys import PresharedKey, PrivateKey, SigningKey
from tunnel.noise.symmetric import SymmetricState
from tunnel.state import (
    LEDGER_FILE,
    NODE_FILE,
    SERVER_FILE,
    NodeState,
    ServerState,
    pack_node_state,
    pack_server_state,
    parse_ledger,
    parse_node_state,
    parse_server_state,
)
from tunnel.wire.invitation import Admission, JoinString, ServerUrl, encode_base64

RAW = {
    "_chaining_key",
    "_cookie",
    "_expanded",
    "_key",
    "_secret",
    "access_token",
    "announcement_key",
    "network_secret",
    "receiving_key",
    "secret",
    "sending_key",
    "token",
}
"""Attributes that hold secrets as bare bytes; those of keys are in `data`."""


def reachable(roots: Iterable[object]) -> Iterator[object]:
    """All objects, through containers, instances, closures and bound methods."""
    seen: set[int] = set()
    waiting = list(roots)
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, (type, types.ModuleType, types.FrameType)):
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, types.FunctionType):  # Not its globals.
            waiting += [cell.cell_contents for cell in each.__closure__ or ()]
        else:
            waiting += gc.get_referents(each)


def is_ours(each: object) -> bool:
    return type(each).__module__.startswith("tunnel.")


def secrets_of(each: object) -> Iterator[bytes]:
    """Those it holds itself."""
    names = set(RAW)
    if isinstance(each, (PrivateKey, PresharedKey, SigningKey)):
        names.add("data")
    if isinstance(each, FrameKeys):
        names |= {"sending", "receiving"}
    for name in names:
        value = getattr(each, name, None)
        if isinstance(value, bytes) and len(value) >= 16 and any(value):
            yield value


def faults(search: Search, each: object) -> Iterator[str]:
    """Where a secret shows."""
    for kind, text in (("repr", repr(each)), ("str", str(each)), ("format", f"{each}")):
        if search.finds_any(text):
            yield f"{kind} of {type(each).__qualname__}"
    try:
        pickled = pickle.dumps(each)
    except Exception:  # Whatever it is: it gives nothing away.
        return
    if search.finds_any(pickled):
        yield f"pickle of {type(each).__qualname__}"


NETWORK = Network()
URL = ServerUrl("203.0.113.10", 12345, bytes(range(32)), b"access token: 16")


def loose() -> list[object]:
    """What no running machine holds at the moment one looks."""
    static, other = PrivateKey(b"1" * 31 + b"!"), PrivateKey(b"2" * 31 + b"!")
    preshared, ephemeral = PresharedKey(b"3" * 31 + b"!"), PrivateKey(b"4" * 31 + b"!")
    initiator = Initiator(PUNCHTUN, static, other.public_key, preshared)
    initiation = initiator.create_initiation(sender=1, ephemeral=ephemeral, timestamp=bytes(12))
    symmetric = SymmetricState()
    symmetric.mix_key(b"a shared secret")
    return [
        initiator,
        consume_initiation(PUNCHTUN, other, initiation),
        symmetric,
        FrameKeys(CHACHA20_POLY1305, b"sending key of thirty-two bytes!", b"r" * 31 + b"!"),
        Keypair(
            cipher=CHACHA20_POLY1305,
            sending_key=b"k" * 31 + b"!",
            receiving_key=b"l" * 31 + b"!",
            local_index=1,
            remote_index=2,
            created_at=0.0,
            is_initiator=True,
        ),
        Admission(bytes(32), b"the secret that members share...", b"certificate", b"inviter's"),
        JoinString(bytes(32), b"invitation: 16 b", URL),
        NodeState(static, URL, signing_key=SigningKey(b"5" * 31 + b"!")),
        ServerState(other, b"a token of 16 b."),
    ]


@pytest.fixture(scope="module")
def everything() -> list[object]:
    world = World()
    nodes = [world.add_node(name, Nat()) for name in "ab"]
    world.net.run_for(5)
    assert all(peer.state(world.net.now) == "direct" for node in nodes for peer in node.peers)
    village = Village()
    village.connect_inviter()
    join = village.inviter.inviter.invite("camera", None, 3600.0)
    joiner = village.join(join)
    roots = [world, village, joiner, join, *loose()]
    waiting = list(reachable(roots))
    village.run(5)
    assert joiner.admission
    return waiting + list(reachable(roots))


@pytest.fixture(scope="module")
def search(everything: list[object]) -> Search:
    search = Search(secret for each in everything for secret in secrets_of(each))
    assert len(search.secrets) > 30
    return search


def test_no_text_and_no_pickle_shows_a_secret(everything: list[object], search: Search) -> None:
    ours = {id(each): each for each in everything if is_ours(each)}.values()
    kinds = {type(each) for each in ours}
    assert {NodeConfig, Keypair, FrameKeys, ServerUrl, SymmetricState} <= kinds
    assert len(kinds) > 100
    assert sorted({fault for each in ours for fault in faults(search, each)}) == []


def test_who_holds_a_secret_is_not_pickled(everything: list[object]) -> None:
    """Nor copied, by the same rule."""
    holders: dict[type, Any] = {type(e): e for e in everything if is_ours(e) and any(secrets_of(e))}
    assert len(holders) > 10
    for holder in holders.values():
        with pytest.raises(TypeError):
            pickle.dumps(holder)


def test_what_was_typed_shows_no_secret() -> None:
    join = JoinString(bytes(32), b"invitation: 16 b", URL)
    search = Search([join.token, URL.access_token])
    assert list(faults(search, UpOptions(join=join.text, server=URL.text))) == []


STATE = {
    NODE_FILE: pack_node_state(
        NodeState(
            PrivateKey(b"1" * 31 + b"!"),
            URL,
            NETWORK.identity,
            NETWORK.certificate,
            SigningKey(b"5" * 31 + b"!"),
        )
    ),
    SERVER_FILE: pack_server_state(ServerState(PrivateKey(b"2" * 31 + b"!"), b"a token of 16 b.")),
    LEDGER_FILE: {
        "issued": [encode_base64(NETWORK.certificate.pack())],
        "invitations": [
            {
                "token": encode_base64(b"invitation: 16 b"),
                "name": "camera",
                "addresses": ["10.9.0.2/24"],
                "expires": 0,
                "redeemed": [],
            }
        ],
    },
}
ON_DISK = Search(
    [
        *(b"1" * 31 + b"!", b"2" * 31 + b"!", b"5" * 31 + b"!"),
        *(NETWORK.identity.secret, URL.access_token, b"a token of 16 b.", b"invitation: 16 b"),
    ]
)


def damaged(content: Any) -> Iterator[Any]:
    """It with one value, at any depth, replaced by what is of no use."""
    yield from (7, [content], {"a": content}, None)
    if isinstance(content, str):
        yield from (f"{content}=", f"x{content}", content[1:], content[:-1], f"\xe9{content}")
    elif isinstance(content, list):
        for i, each in enumerate(content):
            yield from ([*content[:i], worse, *content[i + 1 :]] for worse in damaged(each))
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from (content | {key: worse} for worse in damaged(value))
            yield {other: kept for other, kept in content.items() if other != key}


def read_all(directory: StateDirectory) -> None:
    """As `up` and `server run` do."""
    node = parse_node_state(directory.read_json(NODE_FILE) or {})
    parse_ledger(directory.read_json(LEDGER_FILE) or {}, node)
    parse_server_state(directory.read_json(SERVER_FILE) or {})


@pytest.mark.parametrize("name", STATE)
def test_no_complaint_about_a_file_quotes_it(tmp_path: Path, name: str) -> None:
    """Nor does the traceback, which nobody should ever see."""
    directory = StateDirectory(tmp_path)
    for other, content in STATE.items():
        directory.write_json(other, content)
    read_all(directory)
    whole = (tmp_path / name).read_text()
    texts = [whole[: len(whole) // 2], whole.replace('": "', '": ', 1), whole + "}"]
    texts += [json.dumps(each, ensure_ascii=False) for each in damaged(STATE[name])]
    complaints = []
    for text in texts:
        (tmp_path / name).write_text(text)
        try:
            read_all(directory)
        except Exception as error:
            complaints.append("".join(traceback.format_exception(error)))
    assert len(complaints) > 20
    assert [text for text in complaints if ON_DISK.finds_any(text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "join = {join}",
        "join = '{join}",
        "join = ['{join}']",
        "join = 5\nserver = '{url}'\nserver = '{url}'",
        "{join}",
        "[join]\n'{join}' = 1",
        "server = '{url}'\nmtu = '{url}'",
    ],
)
def test_no_complaint_about_a_configuration_quotes_it(tmp_path: Path, text: str) -> None:
    join = JoinString(bytes(32), b"invitation: 16 b", URL)
    (tmp_path / "up.toml").write_text(text.format(join=join.text, url=URL.text))
    with pytest.raises(UsageError) as error:
        read_settings(tmp_path / "up.toml", up)
    complaint = "".join(traceback.format_exception(error.value))
    assert not Search([join.token, URL.access_token]).finds_any(complaint)


@pytest.mark.parametrize("spoil", [slice(1, None), slice(14, None), slice(0, -3), slice(0, None)])
def test_no_complaint_about_what_was_typed_quotes_it(tmp_path: Path, spoil: slice) -> None:
    """A join string whose beginning was not copied is taken for the name of a file."""
    join = JoinString(bytes(32), b"invitation: 16 b", URL)
    argv = ["up", join.text[spoil], "--mtu", "100000", "--state-dir", str(tmp_path)]
    result = CliRunner().invoke(main, argv)
    assert result.exit_code == 2
    assert "punchtun: " in result.output
    assert not Search([join.token, URL.access_token]).finds_any(result.output)


@pytest.mark.parametrize(
    "argv",
    [
        ["up", "{join}", "{tail}"],
        ["up", "{url}"],
        ["up", "--mtu", "{tail}"],
        ["up", "--{tail}"],
        ["invite", "pi", "{tail}"],
        ["{tail}"],
        ["server", "run", "--relay", "{tail}"],
    ],
)
def test_no_complaint_about_arguments_quotes_a_secret(tmp_path: Path, argv: list[str]) -> None:
    """As of a join string in which a line break was copied as well."""
    join = JoinString(bytes(32), b"invitation: 16 b", URL)
    texts = {"join": join.text, "url": URL.text, "tail": join.text[40:]}
    result = CliRunner().invoke(main, [each.format(**texts) for each in argv])
    assert result.exit_code == 2
    assert not Search([join.token, URL.access_token]).finds_any(result.output)


KEY = b"a key\n of \xff bytes"


@pytest.mark.parametrize(
    "text",
    [
        repr(KEY),
        f"key={KEY.hex()}",
        base64.b64encode(b"before" + KEY + b"after").decode(),
        base64.urlsafe_b64encode(b"x" + KEY).decode(),
        base64.urlsafe_b64encode(b"xy" + KEY + b"z").decode(),
    ],
)
def test_what_shows_is_found(text: str) -> None:
    class Talkative:
        def __repr__(self) -> str:
            return text

    found = list(faults(Search([KEY]), Talkative()))
    assert [fault.partition(" ")[0] for fault in found] == ["repr", "str", "format"]
