"""No object shows, in any text or pickle of it, a secret that it holds or reaches.

The objects are those of running machines: a server, nodes that talk, one that invites and one that
joins; all that can be reached from them is asked. So a class that begins to hold a key tomorrow is
asked as well.
"""

from __future__ import annotations

import base64
import gc
import pickle
import types
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tests.core.test_join import Village
from tests.sim.nat import Nat
from tests.sim.world import World
from tunnel.config import NodeState, ServerState, UpOptions
from tunnel.core.configuration import NodeConfig
from tunnel.noise.frame_cipher import CHACHA20_POLY1305, FrameKeys
from tunnel.noise.handshake import PUNCHTUN, Initiator, consume_initiation
from tunnel.noise.keypair import Keypair
from tunnel.noise.keys import PresharedKey, PrivateKey, SigningKey
from tunnel.noise.symmetric import SymmetricState
from tunnel.wire.invitation import Admission, JoinString, ServerUrl

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


def spellings(secret: bytes) -> Iterator[str]:
    """As it would look in a text: as a literal, in hex, and in base64 at each of its offsets."""
    yield repr(secret)[2:-1]
    yield secret.hex()
    yield secret.hex().upper()
    for offset in range(3):
        for alphabet in (None, b"-_"):
            text = base64.b64encode(bytes(offset) + secret, alphabet).decode()
            # The first and the last characters depend on what stands beside it.
            yield text[4:-4]


class Reader:
    """Looks for secrets."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self.secrets = set(secrets)
        self._spellings = {text for secret in self.secrets for text in spellings(secret)}

    def faults(self, each: object) -> Iterator[str]:
        for kind, text in (("repr", repr(each)), ("str", str(each)), ("format", f"{each}")):
            if any(spelling in text for spelling in self._spellings):
                yield f"{kind} of {type(each).__qualname__}"
        try:
            pickled = pickle.dumps(each)
        except Exception:  # Whatever it is: it gives nothing away.
            return
        if any(secret in pickled for secret in self.secrets):
            yield f"pickle of {type(each).__qualname__}"


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
def reader(everything: list[object]) -> Reader:
    reader = Reader(secret for each in everything for secret in secrets_of(each))
    assert len(reader.secrets) > 30
    return reader


def test_no_text_and_no_pickle_shows_a_secret(everything: list[object], reader: Reader) -> None:
    ours = {id(each): each for each in everything if is_ours(each)}.values()
    kinds = {type(each) for each in ours}
    assert {NodeConfig, Keypair, FrameKeys, ServerUrl, SymmetricState} <= kinds
    assert len(kinds) > 100
    assert sorted({fault for each in ours for fault in reader.faults(each)}) == []


def test_who_holds_a_secret_is_not_pickled(everything: list[object]) -> None:
    """Nor copied, by the same rule."""
    holders: dict[type, Any] = {type(e): e for e in everything if is_ours(e) and any(secrets_of(e))}
    assert len(holders) > 10
    for holder in holders.values():
        with pytest.raises(TypeError):
            pickle.dumps(holder)


def test_what_was_typed_shows_no_secret() -> None:
    join = JoinString(bytes(32), b"invitation: 16 b", URL)
    reader = Reader([join.token, URL.access_token])
    assert list(reader.faults(UpOptions(join=join.text, server=URL.text))) == []


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
def test_the_reader_can_read(text: str) -> None:
    class Talkative:
        def __repr__(self) -> str:
            return text

    found = list(Reader([KEY]).faults(Talkative()))
    assert [fault.partition(" ")[0] for fault in found] == ["repr", "str", "format"]
