"""The ledger is on disk before an answer leaves, whoever comes meanwhile and whenever we die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import gevent
import pytest

from tests.core.ends import URL, WALL, Network, key, seeded
from tunnel.core.configuration import NodeConfig
from tunnel.core.inviter import Inviter
from tunnel.core.ledger import InvitationLedger
from tunnel.core.membership import invitation_id, join_key, open_join_answer
from tunnel.core.revocations import Revocations
from tunnel.drivers.files import StateDirectory
from tunnel.drivers.ledger_file import LedgerFile
from tunnel.errors import OperatorError
from tunnel.noise.keys import PrivateKey
from tunnel.noise.sealing import seal_blob
from tunnel.state import LEDGER_FILE, NodeState, pack_ledger, parse_ledger
from tunnel.wire.invitation import Admission, JoinRequest, JoinStatus, parse_join_answer
from tunnel.wire.rendezvous import Asked

NETWORK = Network()


class SlowDirectory(StateDirectory):
    """Each write waits until it is let through."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.begun: list[dict[str, Any]] = []
        self.may_end: list[threading.Event] = []

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        gate = threading.Event()
        self.begun.append(content)
        self.may_end.append(gate)
        assert gate.wait(30)
        super().write_json(name, content)


def make_inviter(ledger: InvitationLedger | None = None) -> Inviter:
    config = NodeConfig(NETWORK.founder, NETWORK.identity, NETWORK.certificate, URL)
    revocations = Revocations(NETWORK.identity.key)
    known = ledger or NETWORK.ledger()
    return Inviter(config, known, (), revocations, seeded(4), lambda: WALL)


def read_ledger(path: Path) -> InvitationLedger:
    content = StateDirectory(path).read_json(LEDGER_FILE)
    assert content is not None
    state = NodeState(
        NETWORK.founder, URL, NETWORK.identity, NETWORK.certificate, NETWORK.signing_key
    )
    return parse_ledger(content, state)


def content_of(inviter: Inviter) -> dict[str, Any]:
    assert inviter.ledger is not None
    return pack_ledger(inviter.ledger)


def test_two_saves_are_written_in_turn(tmp_path: Path) -> None:
    directory, inviter = SlowDirectory(tmp_path), make_inviter()
    file = LedgerFile(directory)
    inviter.invite("pi")
    before = content_of(inviter)
    first = gevent.spawn(file.save, inviter)
    while not directory.begun:
        gevent.sleep(0.001)
    inviter.invite("desk")
    second = gevent.spawn(file.save, inviter)
    gevent.sleep(0.01)
    assert directory.begun == [before], "the second waits, or could be overtaken by the first"
    directory.may_end[0].set()
    assert first.get() == 1
    while len(directory.begun) < 2:
        gevent.sleep(0.001)
    directory.may_end[1].set()
    assert second.get() == 2
    assert directory.read_json(LEDGER_FILE) == content_of(inviter)


def test_what_is_on_disk_is_not_written_again(tmp_path: Path) -> None:
    directory, inviter = StateDirectory(tmp_path), make_inviter()
    file = LedgerFile(directory)
    inviter.invite("pi")
    assert file.save(inviter) == 1
    (tmp_path / LEDGER_FILE).unlink()
    assert file.save(inviter) == 1
    assert directory.read_json(LEDGER_FILE) is None
    inviter.invite("desk")
    assert file.save(inviter) == 2
    assert directory.read_json(LEDGER_FILE) == content_of(inviter)


def test_a_write_that_failed_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, inviter = StateDirectory(tmp_path), make_inviter()
    file = LedgerFile(directory)
    inviter.invite("pi")

    def fail(name: str, content: dict[str, Any]) -> None:
        raise OperatorError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(directory, "write_json", fail)
        with pytest.raises(OperatorError):
            file.save(inviter)
    assert file.save(inviter) == 1
    assert directory.read_json(LEDGER_FILE) == content_of(inviter)


def test_who_asks_again_and_again_while_the_disk_is_full_is_answered_once() -> None:
    inviter = make_inviter()
    inviter.invite("pi")
    assert inviter.ledger is not None
    inviter.ledger.invitations[0].token = TOKEN
    for request in range(100):
        asked = Asked(1, request, key(5).public_key.data, request_of(key(5)).pack())
        assert inviter.receive(asked) is not None
    assert [grant.request for grant in inviter.take_grants(inviter.revision)] == [99]
    assert inviter.take_grants(inviter.revision) == []


# Death between the steps

TOKEN = b"a token of 16 by"
STEPS = ("mkstemp", "fsync of the file", "replace", "fsync of the directory", "answer", "after it")


def request_of(joiner: PrivateKey) -> JoinRequest:
    sealing = join_key(b"join request", joiner, NETWORK.founder.public_key, TOKEN)
    return JoinRequest(invitation_id(TOKEN), seal_blob(sealing, b"", bytes(24)))


def answer_one_and_die(path: Path, step: int) -> None:
    """In a process of its own: key 5 redeems; what leaves the machine is written to stdout. Killed
    before that step."""
    steps = iter(range(step + 1))

    def die_in_time() -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            die_in_time()
            return function(*arguments, **options)

        return call

    inviter = make_inviter(read_ledger(path))
    asked = Asked(1, 77, key(5).public_key.data, request_of(key(5)).pack())
    assert inviter.receive(asked) is not None
    from tunnel.drivers import files

    files.tempfile.mkstemp = dying(files.tempfile.mkstemp)  # type: ignore[attr-defined]
    files.os.fsync = dying(files.os.fsync)  # type: ignore[attr-defined]
    files.os.replace = dying(files.os.replace)  # type: ignore[attr-defined]
    revision = LedgerFile(StateDirectory(path)).save(inviter)
    die_in_time()
    for grant in inviter.take_grants(revision):
        os.write(1, grant.sealed)
    die_in_time()


@pytest.mark.parametrize("step", range(len(STEPS)), ids=STEPS)
def test_killed_between_the_steps(tmp_path: Path, step: int) -> None:
    inviter = make_inviter()
    inviter.invite("pi", uses=2)
    assert inviter.ledger is not None
    inviter.ledger.invitations[0].token = TOKEN
    LedgerFile(StateDirectory(tmp_path)).save(inviter)
    program = (
        "from pathlib import Path; from tests.drivers.test_ledger_file import answer_one_and_die; "
        f"answer_one_and_die(Path({str(tmp_path)!r}), {step})"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    ledger = read_ledger(tmp_path)
    (invitation,) = ledger.invitations
    is_on_disk = key(5).public_key.data in invitation.redeemed
    assert is_on_disk is (step >= STEPS.index("fsync of the directory"))
    assert len(ledger.issued) == 1 + is_on_disk
    assert bool(process.stdout) is (step > STEPS.index("answer")), "no answer before the disk"

    def redeem(number: int) -> Admission | JoinStatus:
        joiner = key(number)
        answer, _ = ledger.redeem(request_of(joiner), joiner.public_key, WALL, seeded(9))
        return open_join_answer(answer, joiner, NETWORK.founder.public_key, TOKEN)

    again = redeem(5)
    assert isinstance(again, Admission)
    if process.stdout:
        told = parse_join_answer(process.stdout)
        assert again == open_join_answer(told, key(5), NETWORK.founder.public_key, TOKEN)
    assert isinstance(redeem(6), Admission)
    assert redeem(7) is JoinStatus.USED
    assert len(ledger.issued) == 3
