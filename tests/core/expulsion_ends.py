"""One node's expulsion, and peers that only hear and speak: what it says is noted and checked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.core.ends import WALL, Network, key
from tunnel.core.expulsion import DELAYS, MOST_TOLD, Expulsion
from tunnel.core.path_mtu import SMALLEST
from tunnel.core.revocations import Revocations, sign_revocation
from tunnel.wire.check import parse_check
from tunnel.wire.revocation import MOST_LISTED, Revocation, RevocationDigest, RevocationList

NETWORK = Network()
OWN = NETWORK.certify(key(1), "own", 1)


def revocation(number: int) -> Revocation:
    return sign_revocation(key(number).public_key, WALL, NETWORK.signing_key)


SIGNED = [revocation(number) for number in range(1, 256)]
"""Of everybody, this node first."""


class FakePeers:
    def __init__(self, numbers: tuple[int, ...]) -> None:
        self.by_key = {key(number).public_key.data: make_peer(number) for number in numbers}

    def __iter__(self) -> Any:
        return iter(self.by_key.values())

    def get(self, data: bytes) -> Any:
        return self.by_key.get(data)

    def remove(self, peer: Any) -> None:
        del self.by_key[peer.key.data]


def make_peer(number: int) -> Any:
    peer = SimpleNamespace(name=f"n{number}", key=key(number).public_key, has_keys=True)
    peer.session = SimpleNamespace(is_established=lambda now: peer.has_keys)
    peer.has_route = True
    peer.traversal = SimpleNamespace(routes=lambda now: ["a way"] if peer.has_route else [])
    peer.touch = lambda: None
    return peer


class Talker:
    """A node with peers 2, 3 and 4."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.revocations = Revocations(NETWORK.identity.key)
        self.peers = FakePeers((2, 3, 4))
        self.forgotten: list[str] = []
        self.has_left = False
        self.said: list[tuple[float, str, Any]] = []
        fakes: Any = SimpleNamespace(
            close=self._close,
            forget=lambda peer, now: self.forgotten.append(peer.name),
            send=self._note,
        )
        peers: Any = self.peers
        self.expulsion = Expulsion(OWN, self.revocations, peers, fakes, fakes, fakes)

    def peer(self, number: int) -> Any:
        return self.peers.by_key[key(number).public_key.data]

    def greet_all(self) -> Talker:
        for peer in self.peers:
            self.expulsion.greet(peer, self.now)
        self.run(0)
        return self

    def run(self, seconds: float) -> None:
        end_at = self.now + seconds
        for _ in range(10_000):
            timer = self.expulsion.get_timer()
            if timer is None or timer > end_at:
                self.now = end_at
                return
            self.now = max(self.now, timer)
            self.expulsion.handle_timer(self.now)
            timer = self.expulsion.get_timer()
            assert timer is None or timer > self.now, "it spins"
        raise AssertionError("it spins")

    def take(self, name: str | None = None) -> list[Any]:
        """What was said, to that peer; and forget it."""
        taken = [check for _, to, check in self.said if name in (None, to)]
        self.said = [one for one in self.said if name not in (None, one[1])]
        return taken

    def _close(self, now: float) -> None:
        self.has_left = True

    def _note(self, peer: Any, payload: bytes, now: float) -> bool:
        assert len(payload) <= SMALLEST, "it would go in fragments, which are packets"
        assert peer.has_keys
        check = parse_check(payload)
        assert isinstance(check, (RevocationDigest, RevocationList))
        self.said.append((now, peer.name, check))
        most = MOST_TOLD // MOST_LISTED + 1
        lately = [at for at, to, _ in self.said if to == peer.name and at > now - DELAYS[0]]
        # Its own farewell may follow what it was just told.
        assert len(lately) <= 2 * most + 3
        return True
