"""`punchtun network export` and `import`: what they write, and what they refuse without a trace."""

from __future__ import annotations

import ipaddress
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Result, User
from tests.core.ends import URL, Network, key, seeded
from tunnel.core.ledger import InvitationLedger
from tunnel.core.revocations import sign_revocation
from tunnel.drivers.files import StateDirectory
from tunnel.drivers.network_backup import export_network, import_network
from tunnel.noise.passphrase import seal_with_passphrase
from tunnel.state import (
    NodeState,
    pack_ledger,
    pack_node_state,
    pack_revocations,
    parse_ledger,
    parse_node_state,
    parse_revocations,
)
from tunnel.wire.armour import armour, remove_armour
from tunnel.wire.certificate import Certificate
from tunnel.wire.invitation import encode_base64
from tunnel.wire.revocation import parse_revocation

NETWORK = Network()
PI = NETWORK.certify(key(2), "pi", 2)
ATTIC = NETWORK.certify(key(3), "attic", 3, serial=3)
WORDS = "correct hörse"


class Machine:
    """A state directory of the user's, without a running node."""

    def __init__(self, user: User, name: str) -> None:
        self.user = user
        self.state = user.home / name

    def write(self, **files: dict[str, Any]) -> Machine:
        self.state.mkdir(mode=0o700)
        for name, content in files.items():
            path = self.state / f"{name}.json"
            path.write_text(json.dumps(content))
            path.chmod(0o600)
            self.user.own(path)
        (self.state / "lock").touch(0o600)
        self.user.own(self.state / "lock")
        self.user.own(self.state)
        return self

    def export(self, *arguments: str, words: str = WORDS) -> Result:
        command = ["network", "export", *arguments, "--passphrase-file", "-"]
        return self.user.run(*command, "--state-dir", str(self.state), stdin=words + "\n")

    def restore(self, file: Path, *arguments: str, words: str = WORDS) -> Result:
        command = ["network", "import", str(file), *arguments, "--passphrase-file", "-"]
        return self.user.run(*command, "--state-dir", str(self.state), stdin=words + "\n")

    def files(self) -> dict[str, bytes] | None:
        """All that is kept; the lock says only who was last here."""
        if not self.state.exists():
            return None
        return {p.name: p.read_bytes() for p in self.state.iterdir() if p.name != "lock"}

    @property
    def node(self) -> NodeState:
        return parse_node_state(json.loads((self.state / "node.json").read_text()))

    @property
    def ledger(self) -> InvitationLedger:
        return parse_ledger(json.loads((self.state / "ledger.json").read_text()), self.node)


def founder(user: User, network: Network = NETWORK, name: str = "founder") -> Machine:
    """With a member, an open invitation, and a peer whom somebody else let in."""
    ledger = network.ledger()
    ledger.learn([network.certify(key(2), "pi", 2)])
    ledger.invite("lamp", 1_900_000_000.0, seeded(4))
    state = NodeState(
        network.founder, URL, network.identity, network.certificate, network.signing_key
    )
    attic = network.certify(key(3), "attic", 3, serial=3)
    peers = [{"certificate": encode_base64(attic.pack()), "endpoints": []}]
    return Machine(user, name).write(
        node=pack_node_state(state), ledger=pack_ledger(ledger), peers={"peers": peers}
    )


def member(user: User, certificate: Certificate = PI, number: int = 2) -> Machine:
    state = NodeState(key(number), URL, NETWORK.identity, certificate, joined_by="0011")
    return Machine(user, certificate.name).write(node=pack_node_state(state))


@pytest.fixture
def file(user: User) -> Path:
    """A backup of the founder's."""
    path = user.home / "backup"
    export_network(founder(user).state, WORDS.encode, path)
    user.own(path)
    return path


def told(result: Result) -> str:
    assert (result.code, result.stdout) == (0, ""), result
    (line,) = result.stderr.splitlines()
    return line


# What is written


def test_the_file_is_text_and_for_its_owner_alone(user: User) -> None:
    file = user.home / "backup"
    assert founder(user).export(str(file)) == Result(0, "", "")
    assert file.stat().st_mode & 0o777 == 0o600
    first, *lines, last = file.read_text().splitlines()
    assert first == (
        f"punchtun network backup of {NETWORK.identity.id}; restore: punchtun network import"
    )
    assert last == f"end of punchtun network backup, {len(lines)} lines"
    assert sorted(path.name for path in user.home.iterdir()) == ["backup", "founder"]


def test_nothing_of_it_is_readable(user: User, file: Path) -> None:
    inside = remove_armour(file.read_text())
    for secret in (NETWORK.signing_key.data, NETWORK.identity.secret, b"pi", b"10.9", b"198.51"):
        assert secret not in inside


def test_standard_output_and_input(user: User) -> None:
    machine = founder(user)
    before = machine.files()
    for arguments in ([], ["-"]):
        exported = machine.export(*arguments)
        assert exported.code == 0
        assert exported.stderr == ""
        assert exported.stdout.startswith("punchtun network backup of ")
    assert machine.files() == before
    words = user.home / "words"
    words.write_text(WORDS + "\n")
    words.chmod(0o600)
    user.own(words)
    arguments = ["network", "import", "--passphrase-file", str(words)]
    state = ["--state-dir", str(user.home / "new")]
    told(user.run(*arguments, *state, stdin=exported.stdout))
    assert Machine(user, "new").node.signing_key == NETWORK.signing_key


def test_every_export_is_another(user: User) -> None:
    machine = founder(user)
    assert machine.export().stdout != machine.export().stdout


def test_an_older_backup_is_replaced_and_nothing_else_is(user: User, file: Path) -> None:
    machine, before = Machine(user, "founder"), file.read_text()
    assert machine.export(str(file)).code == 0
    assert file.read_text() != before
    other = user.home / "letter"
    other.write_text("dear")
    link = user.home / "link"
    link.symlink_to(file)
    for path in (other, link, user.home / "founder"):
        machine.export(str(path)).refused(1, str(path), "no network's backup")
    assert other.read_text() == "dear"
    machine.export(str(user.home / "no" / "where")).refused(1, "No such file")


# A new machine


def test_a_new_machine_is_a_member_that_may_invite(user: User, file: Path) -> None:
    machine = Machine(user, "vault")
    line = told(machine.restore(file, "--name", "vault", "--ip", "10.9.0.77"))
    for word in ("vault is 10.9.0.77", NETWORK.identity.id, "3 other members", "punchtun up"):
        assert word in line
    node, ledger = machine.node, machine.ledger
    assert node.signing_key == NETWORK.signing_key
    assert node.identity == NETWORK.identity
    assert node.server == URL
    assert node.static != NETWORK.founder
    assert node.certificate == ledger.issued[0]
    assert node.certificate.key == node.static.public_key.data
    assert node.certificate.may_invite
    assert {c.name for c in ledger.issued} == {"vault", "founder", "pi", "attic"}
    assert ledger.invitations == [], "open invitations are the founder's"
    names = sorted(path.name for path in machine.state.iterdir())
    assert names == ["ledger.json", "lock", "node.json"]
    assert {path.stat().st_mode & 0o777 for path in machine.state.iterdir()} == {0o600}
    assert machine.state.stat().st_mode & 0o777 == 0o700
    again = machine.export()
    assert again.code == 0, "and it can be backed up itself"


def test_a_new_machine_is_called_by_its_host_name(user: User, file: Path) -> None:
    machine = Machine(user, "vault")
    told(machine.restore(file))
    certificate = machine.node.certificate
    assert certificate
    address = certificate.addresses[0]
    assert address.network == ipaddress.ip_network("10.9.0.0/24")
    assert str(address.ip) not in ("10.9.0.1", "10.9.0.2", "10.9.0.3")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--name", "pi"], ["'pi' exists already"]),
        (["--name", "P i"], ["no valid name"]),
        (["--name", "vault", "--ip", "10.9.0.2"], ["10.9.0.2 belongs to another"]),
        (["--name", "vault", "--ip", "10.8.0.2"], ["not in this network's prefix"]),
        (["--ip", "fd00::1"], ["--ip fd00::1", "no IPv4 address"]),
    ],
)
def test_what_a_new_machine_cannot_be(
    user: User, file: Path, arguments: list[str], words: list[str]
) -> None:
    machine = Machine(user, "vault")
    machine.restore(file, *arguments).refused(2, *words)
    assert machine.files() is None


def test_a_ledger_that_was_left_is_not_forgotten(user: User, file: Path) -> None:
    """Only node.json was lost: the members that were let in after the backup are known."""
    lamp = NETWORK.certify(key(9), "lamp", 9, serial=9)
    machine = Machine(user, "vault").write(
        ledger={"issued": [encode_base64(lamp.pack()), "damaged", 7], "invitations": []}
    )
    assert "4 other members" in told(machine.restore(file))
    assert lamp in machine.ledger.issued


# A member, and an inviter


def test_a_member_may_invite_and_stays_who_it_is(user: User, file: Path) -> None:
    machine = member(user)
    before = machine.node
    line = told(machine.restore(file))
    assert "pi may invite from now on, and knows of 2 other members" in line
    node, ledger = machine.node, machine.ledger
    assert (node.static, node.server, node.joined_by) == (before.static, before.server, "0011")
    assert node.signing_key == NETWORK.signing_key
    assert node.certificate == ledger.issued[0]
    expected = replace(PI, serial=4, may_invite=True, signature=node.certificate.signature)
    assert node.certificate == expected
    assert NETWORK.identity.verify(node.certificate.pack(), 0)
    assert {c.name for c in ledger.issued} == {"pi", "founder", "attic"}
    assert ledger.invitations == []
    files = machine.files()
    assert "pi could invite before" in told(machine.restore(file))
    assert machine.files() == files, "the second time changes nothing"


def test_the_ledgers_of_two_inviters_are_merged(user: User, file: Path) -> None:
    second = member(user)
    told(second.restore(file))
    lamp = NETWORK.certify(key(9), "lamp", 9, serial=9)
    ledger = second.ledger
    ledger.learn([lamp])
    directory = StateDirectory(second.state, root_may_use=True)
    directory.write_json("ledger.json", pack_ledger(ledger))
    merged = user.home / "merged"
    assert second.export(str(merged)).code == 0
    first = Machine(user, "founder")
    assert "founder could invite before, and knows of 3 other" in told(first.restore(merged))
    assert lamp in first.ledger.issued
    assert first.ledger.issued[0] == NETWORK.certificate
    assert [i.name for i in first.ledger.invitations] == ["lamp"], "its own stay open"


def test_a_name_is_not_a_members_to_choose(user: User, file: Path) -> None:
    machine = member(user)
    before = machine.files()
    machine.restore(file, "--name", "x").refused(2, "--name", "a member already")
    assert machine.files() == before


# Who is revoked


def revoked_by(machine: Machine, *numbers: int, network: Network = NETWORK) -> None:
    """What is kept there of revocations."""
    kept = [sign_revocation(key(number).public_key, 5.0, network.signing_key) for number in numbers]
    StateDirectory(machine.state, root_may_use=True).write_json(
        "revocations.json", pack_revocations(kept)
    )


def revoked_in(machine: Machine) -> set[bytes]:
    content = json.loads((machine.state / "revocations.json").read_text())
    return {parse_revocation(packed).key for packed in parse_revocations(content)}


def keys(*numbers: int) -> set[bytes]:
    return {key(number).public_key.data for number in numbers}


def test_a_backup_holds_revocations_and_nobody_who_is_revoked(user: User) -> None:
    first, file = founder(user), user.home / "backup"
    revoked_by(first, 3, 9)
    assert first.export(str(file)).code == 0
    vault = Machine(user, "vault")
    line = told(vault.restore(file, "--name", "attic", "--ip", "10.9.0.3"))
    assert "attic is 10.9.0.3" in line
    assert "2 other members" in line
    assert revoked_in(vault) == keys(3, 9)
    assert {c.name for c in vault.ledger.issued} == {"attic", "founder", "pi"}
    assert (vault.state / "revocations.json").stat().st_mode & 0o777 == 0o600


def test_revocations_are_merged(user: User) -> None:
    """Those that the member knows and those of the backup; what is of another network counts not,
    and the ledger has nobody who is revoked by either."""
    first, file = founder(user), user.home / "backup"
    revoked_by(first, 9)
    assert first.export(str(file)).code == 0
    second = member(user)
    revoked_by(second, 3)
    told(second.restore(file))
    assert revoked_in(second) == keys(3, 9)
    assert {c.name for c in second.ledger.issued} == {"pi", "founder"}
    revoked_by(first, 9, network=Network(seed=8))
    merged = user.home / "merged"
    assert second.export(str(merged)).code == 0
    told(first.restore(merged))
    assert revoked_in(first) == keys(3, 9)
    assert [c.name for c in first.ledger.struck] == ["attic"]


def test_a_machine_that_is_revoked_is_no_inviter(user: User) -> None:
    """Neither by its own knowledge nor by the backup's."""
    first, file = founder(user), user.home / "backup"
    revoked_by(first, 2)
    assert first.export(str(file)).code == 0
    machine = member(user)
    before = machine.files()
    machine.restore(file).refused(
        2, "this machine was pi, and has been revoked", str(machine.state)
    )
    assert machine.files() == before
    own = sign_revocation(NETWORK.founder.public_key, 5.0, NETWORK.signing_key)
    StateDirectory(first.state, root_may_use=True).write_json(
        "revocations.json", pack_revocations([own])
    )
    first.export().refused(2, "this machine has been revoked", "another inviter")


# What is refused, and leaves everything as it was


def damaged(user: User, file: Path, *, line: int) -> Path:
    lines = file.read_text().splitlines()
    lines[line] = lines[line][:10] + ("A" if lines[line][10] != "A" else "B") + lines[line][11:]
    return kept(user, "\n".join(lines))


def kept(user: User, text: str) -> Path:
    path = user.home / "other"
    path.write_text(text)
    user.own(path)
    return path


@pytest.mark.parametrize("where", ["new", "member", "inviter"])
def test_refused(user: User, file: Path, where: str) -> None:
    machine = Machine(user, "founder" if where == "inviter" else "vault")
    if where == "member":
        machine = member(user)
    before = machine.files()
    machine.restore(file, words="wrong").refused(1, "passphrase is wrong", "try again")
    machine.restore(damaged(user, file, line=3)).refused(1, "line 3 is mistyped", "paper")
    assert machine.files() == before


def test_what_is_no_backup(user: User, file: Path) -> None:
    machine = Machine(user, "vault")
    text = file.read_text()
    machine.restore(kept(user, text[:-30])).refused(1, "cut short", "another copy")
    machine.restore(kept(user, "dear")).refused(1, "no backup of a network", "no line of it")
    machine.restore(kept(user, "")).refused(1, "no backup of a network")
    machine.restore(kept(user, "x" * (5 << 20))).refused(1, "larger than a backup")
    machine.restore(user.home / "nowhere").refused(1, "cannot read", "No such file")
    hostile = bytearray(remove_armour(text))
    hostile[8:12] = b"\xff\xff\xff\x7f"
    machine.restore(kept(user, armour(bytes(hostile), ""))).refused(1, "2147483647 KiB")
    sealed = seal_with_passphrase(b"nonsense", WORDS.encode(), seeded(3), passes=1, memory=8)
    machine.restore(kept(user, armour(sealed.pack(), ""))).refused(1, "another version")
    assert machine.files() is None


def test_a_backup_of_another_network(user: User) -> None:
    other = Network(seed=8)
    file = user.home / "backup"
    assert founder(user, other, "other").export(str(file)).code == 0
    for machine in (member(user), founder(user)):
        before = machine.files()
        refused = machine.restore(file)
        refused.refused(1, NETWORK.identity.id, other.identity.id, "--state-dir")
        assert machine.files() == before


def test_while_the_node_runs(user: User, file: Path) -> None:
    """Export goes on beside it; import would change what it has read already."""
    machine = Machine(user, "founder")
    before = machine.files()
    running = StateDirectory(machine.state, root_may_use=True)
    running.lock()
    machine.restore(file).refused(1, "the node is running", "punchtun down", "systemctl stop")
    assert machine.export().code == 0
    running.unlock()
    assert machine.files() == before
    told(machine.restore(file))


def test_a_machine_that_is_joining(user: User, file: Path) -> None:
    machine = Machine(user, "vault").write(node=pack_node_state(NodeState(key(9), URL)))
    before = machine.files()
    machine.restore(file).refused(1, "begun to join", "punchtun up")
    assert machine.files() == before


def test_who_cannot_export(user: User) -> None:
    member(user).export().refused(1, "pi, holds no signing key", "created the network")
    nowhere = Machine(user, "nowhere")
    nowhere.export().refused(1, "no member of a network", "--state-dir")
    assert nowhere.files() is None
    Machine(user, "joining").write(node=pack_node_state(NodeState(key(9), URL)))
    Machine(user, "joining").export().refused(1, "no member of a network")


def test_the_ledger_is_missing(user: User, file: Path) -> None:
    machine = Machine(user, "founder")
    (machine.state / "ledger.json").unlink()
    before = machine.files()
    machine.export().refused(1, "ledger.json is missing")
    machine.restore(file).refused(1, "ledger.json is missing")
    assert machine.files() == before


# The passphrase


@pytest.mark.parametrize("words", ["", "\n", "\r\nsecond line"])
def test_an_empty_passphrase(user: User, file: Path, words: str) -> None:
    machine = Machine(user, "founder")
    machine.export(words=words).refused(1, "- is empty", "needs a passphrase")
    machine.restore(file, words=words).refused(1, "- is empty")


def test_the_same_letters_by_another_keyboard(user: User, file: Path) -> None:
    told(Machine(user, "vault").restore(file, words="correct ho\u0308rse\r"))


def test_without_a_terminal(user: User, file: Path) -> None:
    arguments = ["--state-dir", str(user.home / "founder")]
    user.run("network", "export", *arguments).refused(2, "no terminal", "--passphrase-file")
    refused = user.run("network", "import", "-", "--passphrase-file", "-", *arguments)
    refused.refused(2, "cannot both come from standard input")


def test_the_state_of_a_service_stays_its_users(user: User, file: Path) -> None:
    """root imports into the directory of another user, to whom it belongs afterwards."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    machine = member(user)
    (machine.state / "lock").unlink()
    import_network(machine.state, file.read_text(), lambda: WORDS.encode(), name=None, address=None)
    owners = {(p.name, p.stat().st_uid) for p in machine.state.iterdir()}
    assert owners == {(name, 65534) for name in ("lock", "node.json", "ledger.json")}
    assert machine.export().code == 0
