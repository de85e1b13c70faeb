"""What an import leaves when it is cut off in the middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.core.ends import URL, Network, key
from tunnel.core.revocations import sign_revocation
from tunnel.drivers.files import StateDirectory
from tunnel.drivers.network_backup import export_network, import_network
from tunnel.drivers.startup import is_revoked, read_ledger, read_revocations
from tunnel.errors import OperatorError
from tunnel.state import NodeState, pack_ledger, pack_node_state, pack_revocations, parse_node_state

NETWORK = Network()
PI = NETWORK.certify(key(2), "pi", 2)
REVOCATION = sign_revocation(key(7).public_key, 5.0, NETWORK.signing_key)


@pytest.fixture
def text(tmp_path: Path) -> str:
    directory = StateDirectory(tmp_path / "founder")
    ledger = NETWORK.ledger()
    ledger.learn([PI])
    directory.write_json("ledger.json", pack_ledger(ledger))
    state = NodeState(
        NETWORK.founder, URL, NETWORK.identity, NETWORK.certificate, NETWORK.signing_key
    )
    directory.write_json("node.json", pack_node_state(state))
    directory.write_json("revocations.json", pack_revocations([REVOCATION]))
    return export_network(directory.path, lambda: b"words", None)


def restore(state: Path, text: str) -> None:
    import_network(state, text, lambda: b"words", name=None, address=None)


def node(state: Path) -> NodeState:
    content = StateDirectory(state).read_json("node.json")
    assert content is not None
    return parse_node_state(content)


class Killed(BaseException):
    """As by a power cut."""


@pytest.mark.parametrize("is_member", [True, False])
@pytest.mark.parametrize("fault", [OperatorError, Killed])
@pytest.mark.parametrize("last", ["revocations.json", "ledger.json", "node.json"])
def test_cut_off_between_its_files(
    tmp_path: Path,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    is_member: bool,
    fault: type[BaseException],
    last: str,
) -> None:
    """What was there is whole and goes on as before, and the import can be repeated."""
    state = tmp_path / "pi"
    before = NodeState(key(2), URL, NETWORK.identity, PI) if is_member else None
    if before:
        StateDirectory(state).write_json("node.json", pack_node_state(before))
    write = StateDirectory.write_json

    def fail(self: StateDirectory, name: str, content: dict[str, Any]) -> None:
        if name == last:
            raise fault
        write(self, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(StateDirectory, "write_json", fail)
        with pytest.raises(fault):
            restore(state, text)
    # What a power cut leaves is true, and does no harm.
    written = ["revocations.json", "ledger.json", "node.json"]
    for name in written[:2]:
        comes_before = written.index(name) < written.index(last)
        assert (state / name).exists() == (fault is Killed and comes_before)
    if before:
        assert node(state) == before
        assert read_ledger(before, StateDirectory(state)) is None
        assert not is_revoked(before, StateDirectory(state))
    else:
        assert StateDirectory(state).read_json("node.json") is None

    restore(state, text)
    after = node(state)
    ledger = read_ledger(after, StateDirectory(state))
    assert ledger
    assert after.identity
    assert list(read_revocations(after.identity, StateDirectory(state))) == [REVOCATION]
    assert after.certificate == ledger.issued[0]
    assert after.certificate.may_invite
    assert len({certificate.name for certificate in ledger.issued}) == len(
        {certificate.key for certificate in ledger.issued}
    )
