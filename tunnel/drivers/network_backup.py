"""``punchtun network export`` and ``import``: what is read and written, and in which order. Nothing
is written before everything has been checked."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tunnel.core.ledger import InvitationLedger
from tunnel.core.membership import NetworkIdentity
from tunnel.core.restoration import (
    RestoredNetwork,
    certify_inviter,
    choose_name,
    promote_member,
    verify_backup,
)
from tunnel.core.revocations import MAX_REVOCATIONS, Revocations
from tunnel.drivers import clock
from tunnel.drivers.files import Occupied, StateDirectory, write_file
from tunnel.drivers.startup import host_name, read_ledger, read_revocations
from tunnel.errors import AuthenticationFailed, Malformed, OperatorError, RevokedError, UsageError
from tunnel.noise.keys import PrivateKey
from tunnel.noise.passphrase import open_with_passphrase, seal_with_passphrase
from tunnel.state import (
    LEDGER_FILE,
    NODE_FILE,
    PEERS_FILE,
    REVOCATIONS_FILE,
    NodeState,
    pack_ledger,
    pack_node_state,
    pack_revocations,
    parse_node_state,
    parse_peers,
)
from tunnel.wire.armour import FIRST_WORDS, MAX_TEXT, armour, remove_armour
from tunnel.wire.backup import NetworkBackup, parse_backup, parse_sealed_backup
from tunnel.wire.certificate import Certificate
from tunnel.wire.invitation import decode_base64

Ask = Callable[[], bytes]
"""Gives the passphrase. It is called when all that can be checked without it has been."""


def export_network(state: Path, ask: Ask, file: Path | None) -> str:
    """The backup as text, which is in `file` then. The node may run meanwhile. An older backup is
    replaced. Raises OperatorError, also where `file` is anything else."""
    if file is not None:
        _check_target(file)
    directory = StateDirectory.find(state, root_may_use=True)
    content = directory.read_json(NODE_FILE) if directory else None
    node = parse_node_state(content) if content else None
    if directory is None or node is None or node.identity is None or node.certificate is None:
        raise OperatorError(f"{state} is no member of a network: is it another --state-dir?")
    if node.signing_key is None:
        raise OperatorError(
            f"this machine, {node.certificate.name}, holds no signing key: run this command on the "
            "one that created the network, or on another that may invite"
        )
    ledger = read_ledger(node, directory)
    assert ledger
    revocations = read_revocations(node.identity, directory)
    if node.certificate.key in revocations:
        raise RevokedError("this machine has been revoked: run this command on another inviter")
    ledger.learn(_certificates_of_peers(directory, node.identity))
    ledger.strike({revocation.key for revocation in revocations})
    backup = NetworkBackup(
        node.signing_key.data,
        node.identity.secret,
        int(clock.wall_clock()),
        node.server,
        tuple(ledger.issued),
        tuple(revocations),
    )
    sealed = seal_with_passphrase(backup.pack(), ask(), clock.random_bytes)
    text = armour(sealed.pack(), f"of {node.identity.id}; restore: punchtun network import")
    if len(text) > MAX_TEXT:
        raise OperatorError(f"the network has too many members for a backup: {len(ledger.issued)}")
    if file is not None:
        write_file(file, text)
    return text


def _check_target(path: Path) -> None:
    try:
        with path.open("rb") as file:
            is_backup = file.read(len(FIRST_WORDS)) == FIRST_WORDS.encode()
    except FileNotFoundError:
        is_backup = True
    except OSError:
        is_backup = False
    if not is_backup or path.is_symlink():
        raise OperatorError(
            f"{path} is there already, and is no network's backup: name another file, or move it "
            "away"
        )


def read_text(path: Path | None) -> str:
    """Of the file, or of standard input; no more than it takes to see that it is no backup. Raises
    OperatorError."""
    try:
        if path is None:
            data = sys.stdin.buffer.read(MAX_TEXT + 1)
        else:
            with path.open("rb") as file:
                data = file.read(MAX_TEXT + 1)
    except OSError as error:
        raise OperatorError(f"cannot read {path}: {error.strerror or error}") from error
    return data.decode("utf-8", "replace")


def import_network(
    state: Path, text: str, ask: Ask, *, name: str | None, address: str | None
) -> str:
    """What has come of it, as a sentence. Raises OperatorError; then nothing has changed."""
    try:
        sealed = parse_sealed_backup(remove_armour(text))
    except Malformed as error:
        raise OperatorError(
            f"this is no backup of a network that can be read: {error}; compare it with the paper "
            "or the mail, or take another copy"
        ) from error
    asked = _read_address(address)
    directory = StateDirectory.find(state, root_may_use=True)
    node = _lock_member(directory) if directory else None
    try:
        if node is not None and (name, address) != (None, None):
            raise UsageError(
                "--name and --ip are for a new machine, and this one is a member already: leave "
                "them out"
            )
        try:
            network = verify_backup(parse_backup(open_with_passphrase(sealed, ask())))
        except AuthenticationFailed as error:
            raise OperatorError(
                "the passphrase is wrong (no line of the backup is mistyped): try again, or take "
                "the backup that it belongs to"
            ) from error
        except Malformed as error:
            raise OperatorError(
                "this backup was made by another version of punchtun, or wrongly: make another"
            ) from error
        revocations = _merge_revocations(directory, network)
        if node is None:
            left = _certificates_of_ledger(directory, network.identity) if directory else []
            static = PrivateKey.generate(clock.random_bytes)
            wanted = name or choose_name(host_name(), [*network.certificates, *left])
            certificate = certify_inviter(
                network, static, wanted, asked, clock.wall_clock(), also_known=left
            )
            directory = directory or StateDirectory(state, root_may_use=True)
            return _found_again(directory, network, static, certificate, left, revocations)
        assert directory
        return _make_inviter(directory, node, network, revocations)
    finally:
        if directory is not None:
            directory.unlock()


def _lock_member(directory: StateDirectory) -> NodeState | None:
    """The member whose directory it is, which is then ours; None if it is nobody's yet."""
    if directory.read_json(NODE_FILE) is None:
        return None
    _lock(directory)
    content = directory.read_json(NODE_FILE)
    assert content is not None
    node = parse_node_state(content)
    if node.certificate is None:
        raise OperatorError(
            f"this machine has begun to join a network: let it finish (`punchtun up`), or move "
            f"{directory.path / NODE_FILE} away"
        )
    return node


def _lock(directory: StateDirectory) -> None:
    try:
        directory.lock()
    except Occupied as error:
        raise OperatorError(
            "the node is running: stop it (`punchtun down`, or `systemctl stop` if it is a "
            "service), import, and start it again"
        ) from error


def _make_inviter(
    directory: StateDirectory, node: NodeState, network: RestoredNetwork, revocations: Revocations
) -> str:
    assert node.identity
    assert node.certificate
    if node.identity.key != network.identity.key:
        raise OperatorError(
            f"this machine is in network {node.identity.id}, and the backup is of network "
            f"{network.identity.id}: give that one another --state-dir"
        )
    if node.certificate.key in revocations:
        raise RevokedError(
            f"this machine was {node.certificate.name}, and has been revoked: move its state "
            f"directory {directory.path} away, and import again to make it a new member"
        )
    others = [*network.certificates, *_certificates_of_peers(directory, node.identity)]
    ledger = read_ledger(node, directory)
    if ledger is None:
        others += _certificates_of_ledger(directory, node.identity)
        node.signing_key = network.signing_key
        node.certificate = promote_member(node.certificate, others, network.signing_key)
        ledger = InvitationLedger(
            node.identity, network.signing_key, node.static, [node.certificate]
        )
        became = f"{node.certificate.name} may invite from now on"
    else:
        became = f"{node.certificate.name} could invite before"
    ledger.learn(others)
    _write(directory, node, ledger, revocations)
    return f"{became}, and knows of {_count(ledger)} in network {network.identity.id}"


def _found_again(
    directory: StateDirectory,
    network: RestoredNetwork,
    static: PrivateKey,
    certificate: Certificate,
    left: list[Certificate],
    revocations: Revocations,
) -> str:
    _lock(directory)
    if directory.read_json(NODE_FILE) is not None:
        raise OperatorError("this machine has just become a member of a network: import again")
    ledger = InvitationLedger(network.identity, network.signing_key, static, [certificate])
    ledger.learn([*network.certificates, *left])
    node = NodeState(static, network.server, network.identity, certificate, network.signing_key)
    _write(directory, node, ledger, revocations)
    return (
        f"{certificate.name} is {certificate.addresses[0].ip} in network {network.identity.id}, "
        f"may invite, and knows of {_count(ledger)}: start it with `punchtun up`"
    )


def _merge_revocations(directory: StateDirectory | None, network: RestoredNetwork) -> Revocations:
    """The backup's, and those of a member that this machine was or is. Raises OperatorError."""
    if directory is None:
        revocations = Revocations(network.identity.key)
    else:
        revocations = read_revocations(network.identity, directory)
    try:
        for revocation in network.revocations:
            revocations.add(revocation)
    except AuthenticationFailed as error:  # They have been verified.
        raise OperatorError(
            f"this machine and the backup know of more than {MAX_REVOCATIONS} revoked members, and "
            "no more can be: create a new network"
        ) from error
    return revocations


def _write(
    directory: StateDirectory, node: NodeState, ledger: InvitationLedger, revocations: Revocations
) -> None:
    """All three or, where it raises OperatorError, none."""
    ledger.strike({revocation.key for revocation in revocations})
    # The ledger before the node: with a signing key there, its absence would be an error.
    contents = {LEDGER_FILE: pack_ledger(ledger), NODE_FILE: pack_node_state(node)}
    if revocations or revocations.announced:
        kept = pack_revocations(revocations, revocations.announced)
        contents = {REVOCATIONS_FILE: kept, **contents}
    before: dict[str, Any] = {}
    try:
        for name, content in contents.items():
            before[name] = directory.read_json(name)
            directory.write_json(name, content)
    except OperatorError:
        for name in list(before)[:-1]:
            if before[name] is None:
                (directory.path / name).unlink()
            else:
                directory.write_json(name, before[name])
        raise


def _count(ledger: InvitationLedger) -> str:
    others = len({certificate.key for certificate in ledger.issued}) - 1
    return f"{others} other {'member' if others == 1 else 'members'}"


def _certificates_of_peers(
    directory: StateDirectory, identity: NetworkIdentity
) -> list[Certificate]:
    known = parse_peers(directory.read_json(PEERS_FILE))
    return list(_verified(identity, (peer.certificate for peer in known)))


def _certificates_of_ledger(
    directory: StateDirectory, identity: NetworkIdentity
) -> list[Certificate]:
    """Of a ledger that was left without its node, or by an import that was interrupted."""
    content = directory.read_json(LEDGER_FILE) or {}
    texts = content.get("issued")
    return list(_verified(identity, map(_decode, texts if isinstance(texts, list) else [])))


def _decode(text: object) -> bytes:
    try:
        return decode_base64(str(text))
    except Malformed:
        return b""


def _verified(identity: NetworkIdentity, packed: Iterator[bytes]) -> Iterator[Certificate]:
    for each in packed:
        try:
            yield identity.verify(each, 0)
        except (Malformed, AuthenticationFailed):
            continue


def _read_address(text: str | None) -> ipaddress.IPv4Address | None:
    try:
        return None if text is None else ipaddress.IPv4Address(text)
    except ValueError as error:
        raise UsageError(f"--ip {text}: this is no IPv4 address") from error
