from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from tests.core.ends import URL, WALL, Network, key
from tunnel.core.revocations import sign_revocation
from tunnel.drivers.files import StateDirectory
from tunnel.drivers.startup import is_revoked, warn_of_slow_ciphers
from tunnel.errors import OperatorError
from tunnel.noise.frame_cipher import AEGIS_128L, CHACHA20_POLY1305
from tunnel.state import REVOCATIONS_FILE, NodeState, pack_revocations

NETWORK = Network()


def test_a_cipher_that_takes_the_slow_way_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    slow = replace(AEGIS_128L, direct=None, why_not_direct="PyNaCl has no module _sodium")
    with caplog.at_level(logging.INFO):
        warn_of_slow_ciphers((slow, CHACHA20_POLY1305))
    assert caplog.messages == ["AEGIS-128L takes the slow way: PyNaCl has no module _sodium"]


@pytest.mark.parametrize(
    ("revoked", "network", "expected"),
    [(2, NETWORK, True), (3, NETWORK, False), (2, Network(seed=8), False)],
)
def test_a_machine_that_is_revoked(
    tmp_path: Path, revoked: int, network: Network, expected: bool
) -> None:
    """By its own network, as the file says."""
    directory = StateDirectory(tmp_path / "state")
    state = NodeState(key(2), URL, NETWORK.identity, NETWORK.certify(key(2), "pi", 2))
    assert not is_revoked(state, directory)
    signed = sign_revocation(key(revoked).public_key, WALL, network.signing_key)
    directory.write_json(REVOCATIONS_FILE, pack_revocations([signed]))
    assert is_revoked(state, directory) is expected
    assert not is_revoked(NodeState(key(2), URL), directory), "in no network yet"


def test_a_damaged_list_of_the_revoked_is_not_taken_for_none(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path / "state")
    directory.write_json(REVOCATIONS_FILE, {"revocations": ["AAAA"]})
    state = NodeState(key(2), URL, NETWORK.identity, NETWORK.certify(key(2), "pi", 2))
    with pytest.raises(OperatorError, match=r"revocations\.json"):
        is_revoked(state, directory)
