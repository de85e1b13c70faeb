"""What a network's backup makes of a machine: a member an inviter, and a new machine a member that
may invite."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tunnel.core.ledger import InvitationLedger
from tunnel.core.membership import (
    NetworkIdentity,
    choose_ipv4_address,
    derive_ula,
    first_address,
    issue_time,
    seniority,
    sign_certificate,
)
from tunnel.core.revocations import Revocations
from tunnel.errors import Malformed
from tunnel.noise.keys import PrivateKey, SigningKey
from tunnel.wire.backup import NetworkBackup
from tunnel.wire.certificate import Certificate
from tunnel.wire.invitation import ServerUrl
from tunnel.wire.revocation import Revocation


@dataclass(frozen=True)
class RestoredNetwork:
    signing_key: SigningKey
    identity: NetworkIdentity
    server: ServerUrl
    certificates: tuple[Certificate, ...]
    """Verified, and of none that is revoked; the oldest first; at least one."""
    revocations: tuple[Revocation, ...]
    """Verified."""
    made: int = field(compare=False)
    """Unix seconds."""


def verify_backup(backup: NetworkBackup) -> RestoredNetwork:
    """Raises Malformed or AuthenticationFailed: it holds no certificate of a member, or something
    of another network, or too many revocations. Certificates that have expired are kept: nobody
    else should get their addresses."""
    signing_key = SigningKey(backup.signing_key)
    identity = NetworkIdentity(signing_key.verify_key, backup.network_secret)
    revocations = Revocations(identity.key)
    for revocation in backup.revocations:
        revocations.add(revocation)
    for certificate in backup.certificates:
        identity.verify(certificate.pack(), 0)
    members = [each for each in backup.certificates if each.key not in revocations]
    if not members:
        raise Malformed("no certificate is in it")
    return RestoredNetwork(
        signing_key,
        identity,
        backup.server,
        tuple(sorted(members, key=seniority)),
        tuple(revocations),
        backup.made,
    )


def promote_member(
    own: Certificate, known: Iterable[Certificate], signing_key: SigningKey
) -> Certificate:
    """The member's own certificate as an inviter's. Its greater serial makes it take the place of
    the old one everywhere; it is as old as that one, and keeps what that one holds."""
    if own.may_invite:
        return own
    serial = 1 + max(certificate.serial for certificate in (own, *known))
    return sign_certificate(replace(own, serial=serial, may_invite=True), signing_key)


def choose_name(wanted: str, known: Iterable[Certificate]) -> str:
    """`wanted`, or if a member is called so, `wanted`-2, -3 and so on."""
    taken = {certificate.name for certificate in known}
    number = 1
    name = wanted
    while name in taken:
        number += 1
        name = f"{wanted[: 62 - len(str(number))]}-{number}"
    return name


def certify_inviter(
    network: RestoredNetwork,
    static: PrivateKey,
    name: str,
    address: ipaddress.IPv4Address | None,
    wall_time: float,
    also_known: Iterable[Certificate] = (),
) -> Certificate:
    """A new machine's certificate, issued to itself. `also_known`: beside those of the backup.

    Raises UsageError if it cannot have that name or address; OperatorError if none is free.
    """
    key = static.public_key
    known = _with_ipv4_first([*network.certificates, *also_known])
    ledger = InvitationLedger(network.identity, network.signing_key, static, known)
    if address is None:
        taken = {i.ip for c in known for i in c.addresses if i.version == 4}
        # From a number of its own: members that were let in after the backup are not known.
        address = choose_ipv4_address(ledger.prefix, taken, first_address(key.data)).ip
    # Name and address are judged as another's would be; the invitation itself is thrown away.
    checked = ledger.invite(name, wall_time, bytes, address)
    certificate = Certificate(
        key=key.data,
        name=checked.name,
        addresses=(*checked.addresses, derive_ula(network.identity.key, key)),
        serial=1 + max(each.serial for each in known),
        issued=issue_time(wall_time, known),
        may_invite=True,
    )
    return sign_certificate(certificate, network.signing_key)


def _with_ipv4_first(certificates: Iterable[Certificate]) -> list[Certificate]:
    """The prefix is that of the first."""
    return sorted(certificates, key=lambda c: all(i.version != 4 for i in c.addresses))
