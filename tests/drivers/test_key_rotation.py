"""`punchtun rotate-key` on the disk: whenever the machine dies, it is somebody afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.core.ends import URL, WALL, Network, key
from tunnel.core.membership import sign_certificate
from tunnel.core.revocations import sign_revocation
from tunnel.core.rotation import RotationGrant
from tunnel.drivers import files
from tunnel.drivers.files import StateDirectory
from tunnel.drivers.key_rotation import keep_grant, prepare_key
from tunnel.drivers.startup import is_revoked
from tunnel.errors import OperatorError
from tunnel.state import NODE_FILE, NodeState, pack_node_state, parse_node_state
from tunnel.wire.certificate import Certificate

NETWORK = Network()
PI = NETWORK.certify(key(2), "pi", 2)
MEMBER = NodeState(key(2), URL, NETWORK.identity, PI, joined_by="0011")


def grant(number: int) -> RotationGrant:
    new = key(number).public_key.data
    certificate = sign_certificate(replace(PI, key=new, serial=9), NETWORK.signing_key)
    return RotationGrant(
        certificate, sign_revocation(key(2).public_key, WALL, NETWORK.signing_key, new)
    )


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    made = StateDirectory(tmp_path / "state")
    made.write_json(NODE_FILE, pack_node_state(MEMBER))
    return made


def state(directory: StateDirectory) -> NodeState:
    content = directory.read_json(NODE_FILE)
    assert content is not None
    return parse_node_state(content)


def own(directory: StateDirectory) -> Certificate:
    """That of the key; it is valid."""
    found = state(directory)
    assert found.identity
    assert found.certificate
    assert found.certificate.key == found.static.public_key.data
    assert not is_revoked(found, directory)
    return found.identity.verify(found.certificate.pack(), WALL)


def test_from_the_old_key_to_the_new_one(directory: StateDirectory) -> None:
    assert prepare_key(directory, PI, key(20)) == key(20)
    assert own(directory) == PI
    assert state(directory).next_static == key(20)
    given = grant(20)
    keep_grant(directory, given)
    after = state(directory)
    assert own(directory) == given.certificate
    assert (after.static, after.next_static) == (key(20), None)
    assert after.retired == given.revocation
    assert (after.server, after.joined_by) == (URL, "0011")


def test_a_key_that_was_chosen_is_not_chosen_again(directory: StateDirectory) -> None:
    """It may be certified already: the answer was lost, and another one would be refused."""
    prepare_key(directory, PI, key(20))
    assert prepare_key(directory, PI, key(21)) == key(20)


def test_until_it_is_started_again_there_is_no_third_key(directory: StateDirectory) -> None:
    prepare_key(directory, PI, key(20))
    keep_grant(directory, grant(20))
    before = state(directory)
    with pytest.raises(OperatorError, match="has a new key already"):
        prepare_key(directory, PI, key(21))
    keep_grant(directory, grant(20))
    assert state(directory) == before
    # It has been: then the next may come.
    assert prepare_key(directory, grant(20).certificate, key(22)) == key(22)


def test_a_grant_of_another_key_is_not_kept(directory: StateDirectory) -> None:
    keep_grant(directory, grant(20))
    prepare_key(directory, PI, key(20))
    keep_grant(directory, grant(21))
    assert own(directory) == PI
    assert state(directory).next_static == key(20)


class Killed(BaseException):
    """As by kill -9."""


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("fault", [Killed, OSError])
@pytest.mark.parametrize("survives", [1, 2, 3, 4])
def test_killed_at_any_step_it_has_a_valid_key_and_goes_on(
    directory: StateDirectory,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    fault: type[BaseException],
    survives: int,
) -> None:
    """The old one, or the new one; and when it goes on from there, it is the new one."""

    def rotate(fresh: int) -> None:
        chosen = prepare_key(directory, PI, key(fresh))
        keep_grant(directory, grant(20 if chosen == key(20) else 21))

    real = getattr(files.os, step)
    calls = 0

    def die(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= survives:
            raise fault(5, "input/output error")
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, step, die)
        try:
            rotate(20)
        except (Killed, OperatorError):
            pass
        else:
            assert calls < survives
    is_new = own(directory).key == key(20).public_key.data
    assert own(directory) in (PI, grant(20).certificate)
    if not is_new:
        rotate(21)
    after = state(directory)
    assert after.next_static is None
    assert own(directory).key == after.static.public_key.data != PI.key
    assert after.retired is not None
    assert after.retired.successor == after.static.public_key.data
