from __future__ import annotations

import ipaddress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.core.ends import URL, WALL, Network, key
from tunnel.core.ledger import InvitationLedger
from tunnel.core.membership import derive_ula, first_address, seniority, sign_certificate
from tunnel.core.restoration import (
    RestoredNetwork,
    certify_inviter,
    choose_name,
    promote_member,
    verify_backup,
)
from tunnel.core.revocations import MAX_REVOCATIONS, sign_revocation
from tunnel.errors import AuthenticationFailed, Malformed, OperatorError, UsageError
from tunnel.noise.keys import PublicKey
from tunnel.noise.passphrase import open_with_passphrase
from tunnel.wire.armour import remove_armour
from tunnel.wire.backup import NetworkBackup, parse_backup, parse_sealed_backup
from tunnel.wire.certificate import Certificate
from tunnel.wire.revocation import Revocation

NETWORK = Network()
PI = NETWORK.certify(key(2), "pi", 2)
ATTIC = NETWORK.certify(key(3), "attic", 3, serial=8)
NEW = key(50)


def backup(
    *certificates: Certificate, network: Network = NETWORK, revocations: tuple[Revocation, ...] = ()
) -> NetworkBackup:
    key, secret = network.signing_key.data, network.identity.secret
    return NetworkBackup(key, secret, int(WALL), URL, certificates, revocations)


def revoke(number: int, network: Network = NETWORK) -> Revocation:
    return sign_revocation(key(number).public_key, WALL, network.signing_key)


def restored(*certificates: Certificate) -> RestoredNetwork:
    return verify_backup(backup(NETWORK.certificate, *certificates))


def test_what_was_exported_is_restored() -> None:
    packed = backup(ATTIC, NETWORK.certificate, PI).pack()
    network = verify_backup(parse_backup(packed))
    assert network.signing_key == NETWORK.signing_key
    assert network.identity == NETWORK.identity
    assert network.server == URL
    assert set(network.certificates) == {NETWORK.certificate, PI, ATTIC}
    ages = [seniority(certificate) for certificate in network.certificates]
    assert ages == sorted(ages)
    assert NETWORK.identity.secret.hex() not in repr(network)
    assert repr(NETWORK.identity.secret) not in repr(network)


def test_the_first_backup_ever_written_is_readable() -> None:
    text = (Path(__file__).parent.parent / "vectors" / "network_backup.txt").read_text()
    sealed = parse_sealed_backup(remove_armour(text))
    assert (sealed.passes, sealed.memory) == (4, 65536)
    content = open_with_passphrase(sealed, "correct hörse".encode())
    expected = backup(NETWORK.certificate, PI, revocations=(revoke(7),))
    assert parse_backup(content) == expected
    assert verify_backup(parse_backup(content)) == verify_backup(expected)
    assert text.split()[4] == f"{NETWORK.identity.id};"


def test_revocations_are_restored_and_who_is_revoked_is_no_member() -> None:
    both = (revoke(3), revoke(7))
    known = backup(ATTIC, NETWORK.certificate, PI, revocations=both)
    network = verify_backup(parse_backup(known.pack()))
    assert set(network.revocations) == set(both)
    assert set(network.certificates) == {NETWORK.certificate, PI}
    # Name and address may be given away again.
    certificate = certify_inviter(network, NEW, "attic", ATTIC.addresses[0].ip, WALL)  # type: ignore[arg-type]
    assert certificate.addresses[0] == ATTIC.addresses[0]


def test_revocations_of_another_network_or_too_many() -> None:
    other = revoke(3, Network(seed=8))
    with pytest.raises(AuthenticationFailed):
        verify_backup(backup(NETWORK.certificate, revocations=(other,)))
    many = tuple(
        sign_revocation(PublicKey(number.to_bytes(32, "big")), WALL, NETWORK.signing_key)
        for number in range(MAX_REVOCATIONS + 1)
    )
    assert len(verify_backup(backup(NETWORK.certificate, revocations=many[1:])).revocations) == 1024
    with pytest.raises(AuthenticationFailed):
        verify_backup(backup(NETWORK.certificate, revocations=many))


def test_a_backup_in_which_all_are_revoked() -> None:
    with pytest.raises(Malformed):
        verify_backup(backup(PI, revocations=(revoke(2),)))


def test_certificates_that_expired_are_kept() -> None:
    gone = NETWORK.certify(key(9), "gone", 9, expires=1)
    assert gone in restored(gone).certificates


@pytest.mark.parametrize(
    "wrong",
    [
        replace(PI, name="pj"),
        Network(seed=8).certificate,
        replace(PI, signature=bytes(64)),
    ],
)
def test_a_certificate_of_another_network(wrong: Certificate) -> None:
    with pytest.raises(AuthenticationFailed):
        restored(wrong)


def test_a_backup_without_members() -> None:
    with pytest.raises(Malformed):
        verify_backup(backup())


# A member becomes an inviter


def test_a_member_is_promoted_and_stays_who_it_is() -> None:
    inviter = promote_member(PI, [NETWORK.certificate, ATTIC], NETWORK.signing_key)
    assert NETWORK.identity.verify(inviter.pack(), WALL) == inviter
    assert inviter == replace(PI, serial=9, may_invite=True, signature=inviter.signature)
    assert seniority(inviter) == seniority(PI), "it is as old as before"
    assert promote_member(inviter, [ATTIC], NETWORK.signing_key) is inviter


# A new machine


def test_a_new_machine_certifies_itself() -> None:
    network = restored(PI, ATTIC)
    certificate = certify_inviter(network, NEW, "vault", None, WALL + 100)
    assert NETWORK.identity.verify(certificate.pack(), WALL) == certificate
    assert certificate.key == NEW.public_key.data
    assert certificate.name == "vault"
    assert certificate.may_invite
    assert certificate.serial == 9
    assert certificate.issued == WALL + 100
    address, ula = certificate.addresses
    number = first_address(NEW.public_key.data) % 254 + 1
    assert address == ipaddress.IPv4Interface(f"10.9.0.{number}/24")
    assert ula == derive_ula(NETWORK.identity.key, NEW.public_key)


def test_it_can_invite_what_its_ledger_leaves_free() -> None:
    network = restored(PI, ATTIC)
    certificate = certify_inviter(network, NEW, "vault", None, WALL)
    ledger = InvitationLedger(network.identity, network.signing_key, NEW, [certificate])
    ledger.learn(network.certificates)
    taken = {str(c.addresses[0].ip) for c in ledger.issued}
    given = {str(ledger.invite(f"n{n}", WALL, bytes).addresses[0].ip) for n in range(250)}
    assert len(given) == 250
    assert not given & taken
    with pytest.raises(OperatorError, match="no address is free"):
        ledger.invite("one-more", WALL, bytes)


def test_a_clock_that_is_not_set_makes_no_old_certificate() -> None:
    certificate = certify_inviter(restored(PI), NEW, "vault", None, 1000.0)
    assert certificate.issued == WALL


def test_name_and_address_asked_for() -> None:
    asked = ipaddress.IPv4Address("10.9.0.77")
    certificate = certify_inviter(restored(), NEW, "vault", asked, WALL)
    assert str(certificate.addresses[0]) == "10.9.0.77/24"


@pytest.mark.parametrize(
    ("name", "address", "fault"),
    [
        ("pi", None, "'pi' exists already"),
        ("P i", None, "no valid name"),
        ("vault", "10.9.0.2", "belongs to another"),
        ("vault", "10.9.1.2", "not in this network's prefix"),
        ("vault", "10.9.0.255", "cannot be a machine's"),
    ],
)
def test_what_it_cannot_be(name: str, address: str | None, fault: str) -> None:
    asked = address and ipaddress.IPv4Address(address)
    with pytest.raises(UsageError, match=fault):
        certify_inviter(restored(PI), NEW, name, asked or None, WALL)


def test_a_network_without_ipv4_and_one_whose_founder_has_none() -> None:
    def bare(certificate: Certificate) -> Certificate:
        without = replace(certificate, addresses=certificate.addresses[1:])
        return sign_certificate(without, NETWORK.signing_key)

    with pytest.raises(OperatorError, match="no IPv4 prefix"):
        certify_inviter(verify_backup(backup(bare(PI))), NEW, "vault", None, WALL)
    mixed = verify_backup(backup(bare(NETWORK.certificate), PI))
    assert certify_inviter(mixed, NEW, "vault", None, WALL).addresses[0].version == 4


def test_names_for_machines_that_were_not_told_theirs() -> None:
    known = [PI, NETWORK.certify(key(9), "pi-2", 9), ATTIC]
    assert choose_name("vault", known) == "vault"
    assert choose_name("attic", known) == "attic-2"
    assert choose_name("pi", known) == "pi-3"
    long = NETWORK.certify(key(9), "a" * 63, 9)
    assert choose_name("a" * 63, [long]) == "a" * 61 + "-2"
