"""What holds where more than one node may invite: addresses and names, and whose they are."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.ends import URL, WALL, Clock, Network, key, seeded
from tests.core.test_node import give, pair
from tunnel.core.configuration import KnownPeer, NodeConfig
from tunnel.core.events import AddressContested
from tunnel.core.ledger import InvitationLedger
from tunnel.core.membership import (
    choose_ipv4_address,
    first_address,
    invitation_id,
    join_key,
    open_join_answer,
    seniority,
    sign_certificate,
)
from tunnel.core.node import Node
from tunnel.errors import OperatorError, UsageError
from tunnel.noise.keys import PrivateKey
from tunnel.noise.sealing import seal_blob
from tunnel.wire.certificate import Certificate
from tunnel.wire.invitation import Admission, JoinRequest, JoinStatus

NETWORK = Network()
PREFIX = ipaddress.IPv4Network("10.9.0.0/24")
SECOND = key(40)


def certify(
    number: int, last: int, name: str = "", issued: float = WALL, serial: int = 2
) -> Certificate:
    certificate = NETWORK.certify(key(number), name or f"n{number}", last, serial=serial)
    return sign_certificate(replace(certificate, issued=int(issued)), NETWORK.signing_key)


def second_ledger(*known: Certificate) -> InvitationLedger:
    """Of a member that has become an inviter."""
    own = NETWORK.certify(SECOND, "second", 40, serial=9)
    own = sign_certificate(replace(own, may_invite=True), NETWORK.signing_key)
    issued = [own, NETWORK.certificate, *known]
    return InvitationLedger(NETWORK.identity, NETWORK.signing_key, SECOND, issued)


def node(
    static: PrivateKey,
    certificate: Certificate,
    *known: Certificate,
    ledger: InvitationLedger | None = None,
) -> Node:
    clock = Clock()
    peers = tuple(KnownPeer(each.pack(), ()) for each in known)
    config = NodeConfig(static, NETWORK.identity, certificate, URL, peers)
    return Node(config, now=clock.now, random_bytes=seeded(1), wall_clock=clock.wall, ledger=ledger)


def contests(node: Node) -> list[AddressContested]:
    node.handle_timer(1000.0)
    node.ledger_saved(node.inviter.revision, 1000.0)
    events = iter(node.next_event, None)
    return [event for event in events if isinstance(event, AddressContested)]


def routed(node: Node, last: int) -> str | None:
    peer = node.peers.routes.find(bytes([10, 9, 0, last]))
    return peer and peer.name


# Whose an address is


OLD, YOUNG, YOUNGEST = (certify(n, 7, issued=WALL + n, serial=30 - n) for n in (2, 3, 4))


@pytest.mark.parametrize("order", list(permutations((OLD, YOUNG, YOUNGEST))))
def test_the_older_certificate_has_the_address_whoever_came_first(
    order: tuple[Certificate, ...],
) -> None:
    founder = node(NETWORK.founder, NETWORK.certificate, *order)
    assert routed(founder, 7) == "n2"
    found = founder.find_peer("10.9.0.7")
    assert found
    assert found.name == "n2"
    told = contests(founder)
    assert told
    assert all(event.address == "10.9.0.7/32" for event in told)
    assert all(seniority_of(event.holder) < seniority_of(event.other) for event in told)
    # Each has its own IPv6 address, and is reached by it.
    for each in order:
        peer = founder.peers.routes.find(each.addresses[1].ip.packed)
        assert peer
        assert peer.name == each.name


def seniority_of(name: str) -> tuple[int, bytes]:
    return seniority(next(c for c in (OLD, YOUNG, YOUNGEST) if c.name == name))


def test_packets_of_the_younger_one_are_dropped_once_the_older_one_is_known() -> None:
    world = pair()
    packet = world.packet("b", "a", b"payload")
    assert give(world, packet) == [packet]
    peer = world.peer("a", "b")
    # In simulations all are issued at the same time.
    smallest = min(key(number).public_key.data for number in range(1, 50))
    older = replace(peer.certificate, key=smallest, name="older")
    assert seniority(older) < seniority(peer.certificate)
    world.node("a").peers.remember(world.sign(older).pack(), ())
    assert give(world, packet) == []
    assert world.node("a").drops["inner source is not the peer's"] == 1
    found = world.node("a").find_peer(str(older.addresses[0].ip))
    assert found
    assert found.name == "older"


def test_of_one_second_it_is_the_smaller_key_and_not_the_serial() -> None:
    twins = [certify(5, 7, serial=2), certify(3, 7, serial=3)]
    holder = min(twins, key=lambda certificate: certificate.key).name
    for serial in (1, 4):
        anew = sign_certificate(replace(twins[0], serial=serial), NETWORK.signing_key)
        for known in ((anew, twins[1]), (twins[1], anew)):
            assert routed(node(NETWORK.founder, NETWORK.certificate, *known), 7) == holder


def test_a_name_is_the_older_ones() -> None:
    twins = [certify(2, 7, "pi", WALL + 5), certify(3, 8, "pi", WALL)]
    for known in (twins, twins[::-1]):
        peer = node(NETWORK.founder, NETWORK.certificate, *known).find_peer("pi")
        assert peer
        assert peer.key == key(3).public_key


@pytest.mark.parametrize(("issued", "holder"), [(WALL - 5, "n2"), (WALL + 5, "second")])
def test_an_address_of_our_own(issued: float, holder: str) -> None:
    own = certify(40, 7, "second")
    one = node(SECOND, own, certify(2, 7, issued=issued))
    (told,) = contests(one)
    assert told.holder == holder
    assert {told.holder, told.other} == {"n2", "second"}
    assert routed(one, 7) == ("n2" if holder == "n2" else None)


def test_it_is_told_once() -> None:
    founder = node(NETWORK.founder, NETWORK.certificate, OLD, YOUNG)
    assert len(contests(founder)) == 1
    founder.peers.remember(certify(9, 9).pack(), ())
    founder.peers.remember(YOUNG.pack(), ())
    assert contests(founder) == []


def test_a_new_certificate_frees_what_the_old_one_held() -> None:
    """The older one moves away: the address is the younger one's then."""
    founder = node(NETWORK.founder, NETWORK.certificate, YOUNG, OLD)
    founder.peers.remember(certify(2, 8, issued=OLD.issued, serial=50).pack(), ())
    assert (routed(founder, 7), routed(founder, 8)) == ("n3", "n2")


def test_who_becomes_an_inviter_keeps_what_it_had() -> None:
    inviter = sign_certificate(replace(OLD, serial=99, may_invite=True), NETWORK.signing_key)
    for known in ((OLD, YOUNG, inviter), (OLD, inviter, YOUNG), (inviter, OLD, YOUNG)):
        assert routed(node(NETWORK.founder, NETWORK.certificate, *known), 7) == "n2"


# What an inviter gives away


@given(st.integers(0, 2**32 - 1), st.sets(st.integers(1, 254), max_size=253))
def test_any_start_finds_the_next_free_address(start: int, taken: set[int]) -> None:
    used = [PREFIX.network_address + last for last in taken]
    chosen = choose_ipv4_address(PREFIX, used, start).ip
    assert chosen in PREFIX
    last = int(chosen) & 255
    assert last in range(1, 255)
    assert last not in taken
    begin = start % 254 + 1
    passed = range(begin, last) if begin <= last else [*range(begin, 255), *range(1, last)]
    assert set(passed) <= taken


def test_the_founder_begins_at_the_lowest_and_others_elsewhere() -> None:
    starts = {first_address(key(n).public_key.data) % 254 for n in range(2, 40)}
    assert len(starts) > 25
    invitations = [
        ledger.invite("pi", WALL, seeded(1)) for ledger in (NETWORK.ledger(), second_ledger())
    ]
    assert str(invitations[0].addresses[0].ip) == "10.9.0.2"
    assert invitations[0].addresses != invitations[1].addresses


def test_members_of_another_inviter_are_learned_from_the_peers() -> None:
    ledger = NETWORK.ledger()
    founder = node(
        NETWORK.founder, NETWORK.certificate, certify(2, 2), certify(3, 4), ledger=ledger
    )
    founder.inviter.invite("pi")
    (invitation,) = ledger.invitations
    assert str(invitation.addresses[0].ip) == "10.9.0.3"
    assert {c.name for c in ledger.issued} == {"founder", "n2", "n3"}
    assert ledger.issued[0] == NETWORK.certificate, "one's own stays the first"
    with pytest.raises(OperatorError, match="'n2' exists already"):
        founder.inviter.invite("n2")


def test_learning_again_learns_nothing() -> None:
    ledger = NETWORK.ledger()
    assert ledger.learn([OLD, NETWORK.certificate])
    assert not ledger.learn([OLD, NETWORK.certificate])
    assert ledger.issued == [NETWORK.certificate, OLD]


def redeem(ledger: InvitationLedger, joiner: PrivateKey) -> Certificate | JoinStatus:
    token = ledger.invitations[-1].token
    sealed = seal_blob(
        join_key(b"join request", joiner, NETWORK.founder.public_key, token), b"", bytes(24)
    )
    request = JoinRequest(invitation_id(token), sealed)
    answer, _ = ledger.redeem(request, joiner.public_key, WALL, seeded(2))
    opened = open_join_answer(answer, joiner, NETWORK.founder.public_key, token)
    if isinstance(opened, Admission):
        return NETWORK.identity.verify(opened.certificate, WALL)
    return opened


def test_an_address_given_away_meanwhile_is_replaced() -> None:
    ledger = NETWORK.ledger()
    ledger.invite("pi", WALL, seeded(1))
    ledger.invite("pj", WALL, seeded(2))
    ledger.invitations.reverse()
    ledger.learn([certify(2, 2)])
    certificate = redeem(ledger, key(9))
    assert isinstance(certificate, Certificate)
    assert str(certificate.addresses[0]) == "10.9.0.4/24", "neither the member's nor pj's"
    assert redeem(ledger, key(9)) == certificate


def test_a_name_given_away_meanwhile_is_refused() -> None:
    ledger = NETWORK.ledger()
    ledger.invite("pi", WALL, seeded(1))
    ledger.learn([certify(2, 9, "pi")])
    assert redeem(ledger, key(9)) is JoinStatus.NAME
    assert len(ledger.issued) == 2
    assert not ledger.invitations[0].redeemed


def test_an_inviter_whose_clock_is_not_set_makes_no_old_certificate() -> None:
    ledger = NETWORK.ledger()
    ledger.learn([certify(2, 9, issued=WALL + 70)])
    ledger.invite("pi", WALL, seeded(1))
    certificate = redeem(ledger, key(9))
    assert isinstance(certificate, Certificate)
    assert certificate.issued == WALL + 70


def test_a_serial_is_greater_than_all_that_are_known() -> None:
    ledger = NETWORK.ledger()
    ledger.learn([certify(2, 9, serial=70)])
    ledger.invite("pi", WALL, seeded(1))
    certificate = redeem(ledger, key(9))
    assert isinstance(certificate, Certificate)
    assert certificate.serial == 71


def test_a_member_that_became_an_inviter_asks_again() -> None:
    """With its first invitation: it gets the certificate it has now."""
    ledger = NETWORK.ledger()
    ledger.invite("pi", WALL, seeded(1))
    certificate = redeem(ledger, key(9))
    assert isinstance(certificate, Certificate)
    inviter = sign_certificate(replace(certificate, serial=9, may_invite=True), NETWORK.signing_key)
    ledger.learn([inviter])
    assert redeem(ledger, key(9)) == inviter


# Whom an inviter revokes


def test_of_two_members_of_one_name_the_key_says_who_is_revoked() -> None:
    """Two inviters that knew nothing of each other have given it away."""
    ledger = NETWORK.ledger()
    twins = (certify(2, 7, "pi"), certify(3, 8, "pi"))
    founder = node(NETWORK.founder, NETWORK.certificate, *twins, ledger=ledger)
    keys = [str(key(number).public_key) for number in (2, 3)]
    with pytest.raises(UsageError, match="several members are called 'pi'") as failure:
        founder.inviter.sign_revocation("pi")
    assert all(each in str(failure.value) for each in keys)
    revocation = founder.inviter.sign_revocation(keys[1])
    assert revocation.key == key(3).public_key.data
    founder.revoke(revocation, 1000.0)
    assert founder.inviter.sign_revocation("pi").key == key(2).public_key.data
    assert [certificate.name for certificate in ledger.struck] == ["pi"]


def test_a_member_that_has_two_certificates_is_one_member() -> None:
    ledger = NETWORK.ledger()
    inviter = sign_certificate(replace(OLD, serial=99, may_invite=True), NETWORK.signing_key)
    ledger.learn([OLD, inviter])
    assert ledger.sign_revocation("n2", WALL).key == OLD.key


def test_whom_another_inviter_let_in_is_revoked_here() -> None:
    """Its certificate is known of the peer, and the ledger lets nobody have it again."""
    ledger = NETWORK.ledger()
    founder = node(NETWORK.founder, NETWORK.certificate, certify(2, 2), ledger=ledger)
    before = founder.inviter.revision
    founder.revoke(founder.inviter.sign_revocation("n2"), 1000.0)
    assert founder.inviter.revision > before, "it must be saved"
    assert ledger.issued == [NETWORK.certificate]
    # From a backup, or from a list of peers that was saved before.
    assert not ledger.learn([certify(2, 2)])
    founder.inviter.invite("n2", ipaddress.IPv4Address("10.9.0.2"))


def test_the_ledger_of_an_inviter_that_is_revoked_is_whole() -> None:
    """Its own certificate stays in it: the ledger would be damaged without."""
    ledger = second_ledger()
    own = ledger.issued[0]
    assert not ledger.strike({own.key})
    assert ledger.issued[0] == own


def test_who_is_invited_again_is_no_older_than_who_was_revoked() -> None:
    """That one does not count: not its age, nor its name and address."""
    ledger = NETWORK.ledger()
    ledger.learn([certify(2, 2, "pi", issued=WALL + 500, serial=70)])
    ledger.strike({key(2).public_key.data})
    ledger.invite("pi", WALL, seeded(1), ipaddress.IPv4Address("10.9.0.2"))
    certificate = redeem(ledger, key(9))
    assert isinstance(certificate, Certificate)
    assert (certificate.issued, certificate.serial) == (WALL, 71)
