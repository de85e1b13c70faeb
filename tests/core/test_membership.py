from __future__ import annotations

import ipaddress
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.ends import WALL, Network, key, seeded
from tests.wire.messages import octets
from tunnel.core.ledger import DEFAULT_EXPIRY, Invitation, InvitationLedger
from tunnel.core.membership import (
    NetworkIdentity,
    choose_ipv4_address,
    choose_ipv4_network,
    derive_ula,
    invitation_id,
    join_key,
    open_join_answer,
    sign_certificate,
)
from tunnel.core.revocations import Revocations
from tunnel.errors import AuthenticationFailed, Malformed, OperatorError, UsageError
from tunnel.noise.keys import PrivateKey, PublicKey, SigningKey, VerifyKey
from tunnel.noise.sealing import seal_blob
from tunnel.state import NodeState, pack_ledger, parse_ledger
from tunnel.wire.certificate import Certificate
from tunnel.wire.invitation import Admission, JoinAnswer, JoinRequest, JoinStatus, ServerUrl

NETWORK = Network()
IDENTITY = NETWORK.identity
PI = NETWORK.certify(key(2), "pi", 2)
LOW_ORDER = PublicKey(bytes(32))

# Certificates


def test_a_signed_certificate_is_taken() -> None:
    for certificate in (NETWORK.certificate, PI):
        assert IDENTITY.verify(certificate.pack(), WALL) == certificate


def test_every_flipped_bit_is_refused() -> None:
    packed = PI.pack()
    for position in range(len(packed)):
        for bit in range(8):
            changed = bytearray(packed)
            changed[position] ^= 1 << bit
            with pytest.raises((AuthenticationFailed, Malformed)):
                IDENTITY.verify(bytes(changed), WALL)


def test_every_length_but_the_right_one_is_refused() -> None:
    packed = PI.pack()
    for length in range(len(packed)):
        with pytest.raises((AuthenticationFailed, Malformed)):
            IDENTITY.verify(packed[:length], WALL)
    with pytest.raises((AuthenticationFailed, Malformed)):
        IDENTITY.verify(packed + b"\0", WALL)


@pytest.mark.parametrize(
    "changed",
    [
        replace(PI, name="pj"),
        replace(PI, key=key(3).public_key.data),
        replace(PI, serial=3),
        replace(PI, may_invite=True),
        replace(PI, addresses=PI.addresses[:1]),
        replace(PI, routes=(ipaddress.IPv4Network("0.0.0.0/0"),)),
        replace(PI, expires=2**63),
    ],
)
def test_a_certificate_rewritten_by_its_holder(changed: Certificate) -> None:
    with pytest.raises(AuthenticationFailed, match=r"^signature$"):
        IDENTITY.verify(changed.pack(), WALL)


def test_the_signature_of_another_network() -> None:
    other = Network(seed=8)
    for certificate in (other.certificate, sign_certificate(PI, other.signing_key)):
        with pytest.raises(AuthenticationFailed, match=r"^signature$"):
            IDENTITY.verify(certificate.pack(), WALL)


def test_a_signature_for_another_purpose() -> None:
    """Without the prefix, whatever else the key signs could pass for a certificate."""
    bare = replace(PI, signature=NETWORK.signing_key.sign(PI.signed_part()))
    with pytest.raises(AuthenticationFailed):
        IDENTITY.verify(bare.pack(), WALL)


@pytest.mark.parametrize(
    ("expires", "at", "is_valid"),
    [(0, WALL + 1e9, True), (int(WALL), WALL - 0.01, True), (int(WALL), WALL, False)],
)
def test_expiry(expires: int, at: float, is_valid: bool) -> None:
    packed = NETWORK.certify(key(2), "pi", 2, expires=expires).pack()
    if is_valid:
        assert IDENTITY.verify(packed, at).expires == expires
    else:
        with pytest.raises(AuthenticationFailed, match=r"^certificate expired$"):
            IDENTITY.verify(packed, at)


def test_the_founder() -> None:
    founder = NETWORK.certificate
    assert founder.may_invite
    assert founder.serial == 1
    assert founder.key == NETWORK.founder.public_key.data
    assert [str(i) for i in founder.addresses[:1]] == ["10.9.0.1/24"]
    assert founder.addresses[1] == derive_ula(IDENTITY.key, NETWORK.founder.public_key)


def test_keys_of_an_identity_are_apart() -> None:
    other = NetworkIdentity(IDENTITY.key, b"another secret".ljust(32))
    values = [
        value
        for identity in (IDENTITY, other)
        for value in (identity.tag, identity.announcement_key, identity.preshared.data)
    ]
    assert len(set(values)) == 6
    assert len(IDENTITY.tag) == 16
    assert len(IDENTITY.id) == 12
    assert IDENTITY.id == other.id, "public, so made of what is public"
    assert IDENTITY.secret.hex() not in repr(IDENTITY)
    assert repr(IDENTITY.secret) not in repr(IDENTITY)


# Tunnel addresses


@given(octets(32), octets(32))
def test_ula(network: bytes, node: bytes) -> None:
    interface = derive_ula(VerifyKey(network), PublicKey(node))
    assert interface.network.prefixlen == 64
    assert interface.ip in ipaddress.IPv6Network("fd00::/8")
    assert interface == derive_ula(VerifyKey(network), PublicKey(node))
    other = derive_ula(VerifyKey(network), key(1).public_key)
    assert other.network == interface.network


def test_ula_is_apart_for_nodes_and_networks() -> None:
    keys = [key(number).public_key for number in range(1, 50)]
    assert len({derive_ula(IDENTITY.key, each) for each in keys}) == len(keys)
    assert (
        derive_ula(VerifyKey(bytes(32)), keys[0]).network
        != derive_ula(IDENTITY.key, keys[0]).network
    )


@settings(max_examples=50)
@given(octets(32), st.integers(0, 20))
def test_ipv4_prefix(network: bytes, taken: int) -> None:
    """The first that clashes with nothing, always the same, and of 10/8."""
    refused: list[ipaddress.IPv4Network] = []

    def clashes(prefix: ipaddress.IPv4Network) -> bool:
        if len(refused) < taken:
            refused.append(prefix)
            return True
        return False

    chosen = choose_ipv4_network(VerifyKey(network), clashes)
    assert chosen.prefixlen == 24
    assert chosen.subnet_of(ipaddress.IPv4Network("10.0.0.0/8"))
    assert len(refused) == taken
    again = choose_ipv4_network(VerifyKey(network), lambda prefix: prefix in refused)
    assert again == chosen or chosen in refused


def test_every_prefix_clashes() -> None:
    with pytest.raises(OperatorError, match=r"--ip 192\.168\.77\.1/24"):
        choose_ipv4_network(IDENTITY.key, lambda prefix: True)


def test_lowest_free_address() -> None:
    prefix = ipaddress.IPv4Network("10.9.0.0/29")
    taken: list[ipaddress.IPv4Address] = []
    for last in range(1, 7):
        chosen = choose_ipv4_address(prefix, taken)
        assert str(chosen) == f"10.9.0.{last}/29"
        taken.append(chosen.ip)
    with pytest.raises(OperatorError, match="no address is free"):
        choose_ipv4_address(prefix, taken)
    del taken[2]
    assert str(choose_ipv4_address(prefix, taken)) == "10.9.0.3/29"


# Inviting


def invite(ledger: InvitationLedger, name: str = "pi", **options: object) -> Invitation:
    return ledger.invite(name, WALL, seeded(11), **options)  # type: ignore[arg-type]


def test_an_invitation() -> None:
    ledger = NETWORK.ledger()
    invitation = invite(ledger)
    assert invitation.name == "pi"
    assert str(invitation.addresses[0]) == "10.9.0.2/24"
    assert invitation.expires == WALL + DEFAULT_EXPIRY
    assert invitation.redeemed == {}
    assert len(invitation.token) == 16
    assert ledger.invitations == [invitation]
    assert repr(invitation.token) not in repr(invitation)


def test_addresses_of_members_and_invitations_are_not_given_again() -> None:
    ledger = NETWORK.ledger()
    random_bytes = seeded(3)
    given_out = [ledger.invite(f"n{n}", WALL, random_bytes).addresses[0] for n in range(253)]
    assert len({interface.ip for interface in given_out}) == 253
    with pytest.raises(OperatorError, match="no address is free"):
        ledger.invite("one-more", WALL, random_bytes)


def test_inviting_a_name_again_replaces_the_invitation() -> None:
    ledger = NETWORK.ledger()
    first, second = invite(ledger), ledger.invite("pi", WALL, seeded(12))
    assert ledger.invitations == [second]
    assert second.addresses == first.addresses
    assert second.token != first.token


def test_expired_invitations_give_their_address_back() -> None:
    ledger = NETWORK.ledger()
    first = invite(ledger, expires_in=60)
    second = ledger.invite("pj", WALL + 61, seeded(12))
    assert second.addresses == first.addresses
    assert ledger.invitations == [second]


@pytest.mark.parametrize("name", ["", "Pi", "a_b", "-a", "a" * 64, "a b", "ü"])
def test_invalid_names(name: str) -> None:
    with pytest.raises(UsageError, match="valid name"):
        invite(NETWORK.ledger(), name)


def test_the_name_of_a_member() -> None:
    with pytest.raises(UsageError, match="exists already"):
        invite(NETWORK.ledger(), "founder")


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("10.9.1.7", "not in this network's prefix"),
        ("10.9.0.1", "belongs to another"),
        ("10.9.0.2", "belongs to another"),
        ("10.9.0.0", "cannot be a machine's"),
        ("10.9.0.255", "cannot be a machine's"),
    ],
)
def test_addresses_that_cannot_be_given(address: str, fault: str) -> None:
    ledger = NETWORK.ledger()
    other = invite(ledger, "other")
    with pytest.raises(UsageError, match=fault):
        invite(ledger, address=ipaddress.IPv4Address(address))
    assert ledger.invitations == [other]


def test_an_invitation_that_fails_leaves_the_earlier_one() -> None:
    ledger = NETWORK.ledger()
    first = invite(ledger)
    with pytest.raises(UsageError):
        invite(ledger, address=ipaddress.IPv4Address("10.9.0.1"))
    assert ledger.invitations == [first]


def test_an_address_asked_for() -> None:
    ledger = NETWORK.ledger()
    chosen = invite(ledger, address=ipaddress.IPv4Address("10.9.0.77")).addresses[0]
    assert str(chosen) == "10.9.0.77/24"
    # And asked for again with the same name.
    again = invite(ledger, address=ipaddress.IPv4Address("10.9.0.77")).addresses[0]
    assert again == chosen


def test_a_network_without_ipv4() -> None:
    bare = replace(NETWORK.certificate, addresses=NETWORK.certificate.addresses[1:])
    ledger = InvitationLedger(IDENTITY, NETWORK.signing_key, NETWORK.founder, [bare])
    with pytest.raises(OperatorError, match="no IPv4 prefix"):
        invite(ledger)


# Redeeming


def request(
    token: bytes,
    joiner: PrivateKey,
    inviter: PublicKey = NETWORK.founder.public_key,
    wish: bytes = b"",
) -> JoinRequest:
    key = join_key(b"join request", joiner, inviter, token)
    sealed = seal_blob(key, wish, bytes(24))
    return JoinRequest(invitation_id(token), sealed)


def redeem(
    ledger: InvitationLedger,
    token: bytes,
    joiner: PrivateKey,
    at: float = WALL,
    wish: str = "",
) -> tuple[Admission | JoinStatus, Certificate | None]:
    """What the joiner makes of the answer, and the certificate if it was made just now."""
    answer, consumed = ledger.redeem(
        request(token, joiner, wish=wish.encode()), joiner.public_key, at, seeded(21)
    )
    return open_join_answer(answer, joiner, NETWORK.founder.public_key, token), consumed


def certificate_in(admission: Admission | JoinStatus) -> Certificate:
    assert isinstance(admission, Admission)
    assert admission.network_key == IDENTITY.key.data
    assert admission.network_secret == IDENTITY.secret
    assert admission.inviter_certificate == NETWORK.certificate.pack()
    return IDENTITY.verify(admission.certificate, WALL)


def test_redeemed_once() -> None:
    ledger = NETWORK.ledger()
    invitation = invite(ledger)
    admission, consumed = redeem(ledger, invitation.token, key(5))
    certificate = certificate_in(admission)
    assert consumed == certificate
    assert certificate.key == key(5).public_key.data
    assert certificate.name == "pi"
    assert certificate.addresses == (
        invitation.addresses[0],
        derive_ula(IDENTITY.key, key(5).public_key),
    )
    assert certificate.serial == 2
    assert certificate.expires == 0
    assert not certificate.may_invite
    assert ledger.issued[1:] == [certificate]


def test_the_same_joiner_may_ask_again() -> None:
    """The answer was lost; even after the invitation has expired."""
    ledger = NETWORK.ledger()
    token = invite(ledger).token
    first, _ = redeem(ledger, token, key(5))
    for at in (WALL, WALL + 10 * DEFAULT_EXPIRY):
        again, consumed = redeem(ledger, token, key(5), at)
        assert again == first
        assert consumed is None
    assert len(ledger.issued) == 2


def test_two_joiners_race_for_one_invitation() -> None:
    ledger = NETWORK.ledger()
    token = invite(ledger).token
    requests = [(request(token, key(number)), key(number)) for number in (5, 6)]
    answers = [
        ledger.redeem(each, joiner.public_key, WALL, seeded(21))[0] for each, joiner in requests
    ]
    assert [answer.status for answer in answers] == [JoinStatus.GRANTED, JoinStatus.USED]
    assert len(ledger.issued) == 2
    assert redeem(ledger, token, key(6)) == (JoinStatus.USED, None)


def test_expired() -> None:
    ledger = NETWORK.ledger()
    token = invite(ledger).token
    for after in (DEFAULT_EXPIRY, 1e9):
        assert redeem(ledger, token, key(5), WALL + after) == (JoinStatus.EXPIRED, None)
    assert len(ledger.issued) == 1
    assert certificate_in(redeem(ledger, token, key(5), WALL + DEFAULT_EXPIRY - 1)[0])


def test_an_unknown_token() -> None:
    ledger = NETWORK.ledger()
    invite(ledger)
    assert redeem(ledger, b"no such token...", key(5)) == (JoinStatus.UNKNOWN, None)


def test_a_known_id_with_another_token_is_not_answered() -> None:
    """The server, which sees the id, cannot use up the invitation, nor learn whether it was."""
    ledger = NETWORK.ledger()
    token = invite(ledger).token
    forged = request(b"another token...", key(5))._replace(invitation=invitation_id(token))
    with pytest.raises(AuthenticationFailed):
        ledger.redeem(forged, key(5).public_key, WALL, seeded(21))
    assert ledger.invitations[0].redeemed == {}


def test_a_request_under_another_joiners_name_is_not_answered() -> None:
    """The server cannot put another key in the joiner's place."""
    ledger = NETWORK.ledger()
    token = invite(ledger).token
    for joiner in (key(6).public_key, LOW_ORDER):
        with pytest.raises(AuthenticationFailed):
            ledger.redeem(request(token, key(5)), joiner, WALL, seeded(21))
    assert len(ledger.issued) == 1


def test_another_form_of_the_joiners_key_uses_nothing_up() -> None:
    """X25519 does not look at the top bit: the server could have had the invitation given to a key
    that nobody has, and the joiner told that another machine was faster."""
    ledger = NETWORK.ledger()
    token = invite(ledger).token
    true = key(5).public_key
    other = PublicKey(true.data[:31] + bytes([true.data[31] | 0x80]))
    assert (true.is_canonical, other.is_canonical) == (True, False)
    with pytest.raises(AuthenticationFailed, match="another form"):
        ledger.redeem(request(token, key(5)), other, WALL, seeded(21))
    assert certificate_in(redeem(ledger, token, key(5))[0]).key == true.data


def test_a_refusal_to_a_low_order_key_is_none() -> None:
    with pytest.raises(AuthenticationFailed):
        NETWORK.ledger().redeem(request(b"t" * 16, key(5)), LOW_ORDER, WALL, seeded(21))


def test_one_machine_redeems_two_invitations() -> None:
    """It is given what the second one says; and still what the first one said, if it asks."""
    ledger = NETWORK.ledger()
    first, second = invite(ledger, "pi"), ledger.invite("attic", WALL, seeded(12))
    assert certificate_in(redeem(ledger, first.token, key(5))[0]).name == "pi"
    certificate = certificate_in(redeem(ledger, second.token, key(5))[0])
    assert certificate.name == "attic"
    assert certificate.addresses[0] == second.addresses[0]
    assert certificate.serial == 3
    assert certificate_in(redeem(ledger, first.token, key(5))[0]).name == "pi"


def test_an_invitation_for_several() -> None:
    ledger = NETWORK.ledger()
    invitation = invite(ledger, uses=3)
    assert [str(i) for i in invitation.addresses] == [f"10.9.0.{n}/24" for n in (2, 3, 4)]
    for number in (1, 2, 3):
        admission, made = redeem(ledger, invitation.token, key(10 + number))
        certificate = certificate_in(admission)
        assert made == certificate
        assert certificate.name == f"pi-{number}"
        assert certificate.addresses[0] == invitation.addresses[number - 1]
        assert invitation.is_used_up is (number == 3)
    assert redeem(ledger, invitation.token, key(14)) == (JoinStatus.USED, None)
    again, made = redeem(ledger, invitation.token, key(12), WALL + 10 * DEFAULT_EXPIRY)
    assert (certificate_in(again).name, made) == ("pi-2", None)
    assert len(ledger.issued) == 4


def test_asking_again_consumes_nothing() -> None:
    ledger = NETWORK.ledger()
    token = invite(ledger, uses=2).token
    first = redeem(ledger, token, key(5))[0]
    for wish in ("", "", "another-name"):
        assert redeem(ledger, token, key(5), wish=wish) == (first, None)
    assert certificate_in(redeem(ledger, token, key(6))[0]).name == "pi-2"


def test_numbers_of_others_are_passed_over() -> None:
    ledger = NETWORK.ledger()
    random_bytes = seeded(5)
    member = ledger.invite("pi-1", WALL, random_bytes)
    redeem(ledger, member.token, key(4))
    ledger.invite("pi-3", WALL, random_bytes)  # Promised to somebody.
    ledger.invite("pi-4", WALL, random_bytes, expires_in=60)
    token = ledger.invite("pi", WALL, random_bytes, uses=3).token
    at = WALL + 61
    names = [certificate_in(redeem(ledger, token, key(n), at)[0]).name for n in (5, 6, 7)]
    assert names == ["pi-2", "pi-4", "pi-5"]


def test_the_joiner_says_its_name() -> None:
    ledger = NETWORK.ledger()
    random_bytes = seeded(5)
    one = ledger.invite("desk", WALL, random_bytes).token
    several = ledger.invite("pi", WALL, random_bytes, uses=3).token
    for wish in ("founder", "desk"):
        assert redeem(ledger, several, key(5), wish=wish) == (JoinStatus.NAME, None)
    assert redeem(ledger, one, key(6), wish="attic") == (JoinStatus.NAME, None)
    assert len(ledger.issued) == 1
    assert certificate_in(redeem(ledger, several, key(5), wish="attic")[0]).name == "attic"
    assert redeem(ledger, several, key(7), wish="attic") == (JoinStatus.NAME, None)
    assert certificate_in(redeem(ledger, several, key(7))[0]).name == "pi-1"
    assert certificate_in(redeem(ledger, one, key(6), wish="desk")[0]).name == "desk"


@pytest.mark.parametrize("wish", [b"Pi", b"\xff", b"a b", b"-", b"a" * 64, "\u00fc".encode()])
def test_a_request_for_what_is_no_name_is_not_answered(wish: bytes) -> None:
    ledger = NETWORK.ledger()
    token = invite(ledger, uses=2).token
    with pytest.raises(Malformed):
        ledger.redeem(request(token, key(5), wish=wish), key(5).public_key, WALL, seeded(21))
    assert len(ledger.issued) == 1


def test_an_expired_invitation_for_several_admits_no_more() -> None:
    ledger = NETWORK.ledger()
    token = invite(ledger, uses=3, expires_in=60).token
    first = redeem(ledger, token, key(5))[0]
    assert redeem(ledger, token, key(6), WALL + 60) == (JoinStatus.EXPIRED, None)
    # What it had kept for others is free again; who was admitted may still ask.
    other = ledger.invite("desk", WALL + 60, seeded(12))
    assert str(other.addresses[0]) == "10.9.0.3/24"
    assert redeem(ledger, token, key(5), WALL + 61) == (first, None)
    # Also if the clock is set back: its addresses are given.
    assert redeem(ledger, token, key(6), WALL) == (JoinStatus.USED, None)


def test_inviting_a_name_again_ends_the_rest_of_the_invitation() -> None:
    ledger = NETWORK.ledger()
    old = invite(ledger, uses=3).token
    first = redeem(ledger, old, key(5))[0]
    new = ledger.invite("pi", WALL, seeded(12), uses=2).token
    assert redeem(ledger, old, key(6)) == (JoinStatus.USED, None)
    assert redeem(ledger, old, key(5)) == (first, None)
    certificate = certificate_in(redeem(ledger, new, key(6))[0])
    assert (certificate.name, str(certificate.addresses[0])) == ("pi-2", "10.9.0.3/24")


def test_uses_that_cannot_be_given() -> None:
    ledger = NETWORK.ledger()
    first = invite(ledger)
    for options, fault in (
        ({"uses": 0}, "1 to 1000"),
        ({"uses": 1001}, "1 to 1000"),
        ({"uses": 2, "address": ipaddress.IPv4Address("10.9.0.9")}, "leave --ip out"),
    ):
        with pytest.raises(UsageError, match=fault):
            invite(ledger, **options)
    with pytest.raises(UsageError, match="at most 58"):
        invite(ledger, "a" * 59, uses=2)
    with pytest.raises(OperatorError, match="no address is free"):
        invite(ledger, uses=254)
    assert ledger.invitations == [first]
    assert first.uses == 1


def test_serials_grow() -> None:
    ledger = NETWORK.ledger()
    random_bytes = seeded(5)
    for number in range(5):
        token = ledger.invite(f"n{number}", WALL, random_bytes).token
        redeem(ledger, token, key(10 + number))
    assert [certificate.serial for certificate in ledger.issued] == [1, 2, 3, 4, 5, 6]


def test_redeemed_invitations_outlive_the_next_invite() -> None:
    """The joiner whose answer was lost may ask after another machine was invited."""
    ledger = NETWORK.ledger()
    first = invite(ledger)
    redeem(ledger, first.token, key(5))
    ledger.invite("pj", WALL + 2 * DEFAULT_EXPIRY, seeded(12))
    assert certificate_in(redeem(ledger, first.token, key(5))[0]).name == "pi"


# Answers


def test_answers_are_for_one_joiner_and_cannot_be_forged() -> None:
    ledger = NETWORK.ledger()
    token = invite(ledger).token
    answer, _ = ledger.redeem(request(token, key(5)), key(5).public_key, WALL, seeded(21))
    inviter = NETWORK.founder.public_key
    for opener, token_held, sender in (
        (key(6), token, inviter),
        (key(5), b"another token...", inviter),
        (key(5), token, key(6).public_key),
    ):
        with pytest.raises(AuthenticationFailed):
            open_join_answer(answer, opener, sender, token_held)
    for position in range(len(answer.sealed)):
        changed = bytearray(answer.sealed)
        changed[position] ^= 1
        with pytest.raises(AuthenticationFailed):
            open_join_answer(JoinAnswer(answer.status, bytes(changed)), key(5), inviter, token)


def test_the_server_cannot_make_a_refusal_of_a_grant_nor_of_another_refusal() -> None:
    ledger = NETWORK.ledger()
    token = invite(ledger).token
    inviter = NETWORK.founder.public_key
    granted, _ = ledger.redeem(request(token, key(5)), key(5).public_key, WALL, seeded(21))
    used, _ = ledger.redeem(request(token, key(6)), key(6).public_key, WALL, seeded(21))
    for answer, opener in ((granted, key(5)), (used, key(6))):
        for status in JoinStatus:
            if status is answer.status:
                continue
            with pytest.raises((AuthenticationFailed, Malformed)):
                open_join_answer(JoinAnswer(status, answer.sealed), opener, inviter, token)


# The ledger on disk


def reload(ledger: InvitationLedger) -> InvitationLedger:
    """Through JSON text, as the state directory keeps it."""
    state = NodeState(
        NETWORK.founder,
        ServerUrl("h", 1, bytes(32), bytes(16)),
        IDENTITY,
        NETWORK.certificate,
        NETWORK.signing_key,
    )
    return parse_ledger(json.loads(json.dumps(pack_ledger(ledger))), state)


def test_ledger_round_trip() -> None:
    ledger = NETWORK.ledger()
    random_bytes = seeded(5)
    gone = ledger.invite("gone", WALL, random_bytes)
    redeem(ledger, gone.token, key(4))
    ledger.strike({key(4).public_key.data})
    used = ledger.invite("used", WALL, random_bytes)
    redeem(ledger, used.token, key(5))
    ledger.invite("open", WALL, random_bytes, ipaddress.IPv4Address("10.9.0.99"), 60)
    again = reload(ledger)
    assert again.issued == ledger.issued
    assert again.invitations == ledger.invitations
    assert [c.name for c in again.struck] == ["gone"]
    assert again.prefix == ledger.prefix
    assert pack_ledger(again) == pack_ledger(ledger)


def test_after_a_restart_an_invitation_for_several_has_its_uses_left() -> None:
    ledger = NETWORK.ledger()
    token = invite(ledger, uses=2).token
    first = redeem(ledger, token, key(5))[0]
    again = reload(ledger)
    assert redeem(again, token, key(5)) == (first, None)
    assert certificate_in(redeem(again, token, key(6))[0]).name == "pi-2"
    assert redeem(reload(again), token, key(7)) == (JoinStatus.USED, None)


def test_after_a_restart_all_is_as_before() -> None:
    ledger = NETWORK.ledger()
    random_bytes = seeded(5)
    used, unused = ledger.invite("used", WALL, random_bytes), ledger.invite("b", WALL, random_bytes)
    first, _ = redeem(ledger, used.token, key(5))
    again = reload(ledger)
    assert redeem(again, used.token, key(5)) == (first, None)
    assert redeem(again, used.token, key(6)) == (JoinStatus.USED, None)
    assert certificate_in(redeem(again, unused.token, key(6))[0]).serial == 3


def test_a_crash_before_saving_spends_nothing() -> None:
    """The token is spent when the ledger is saved; an answer must not leave before."""
    ledger = NETWORK.ledger()
    token = invite(ledger).token
    saved = pack_ledger(ledger)
    redeem(ledger, token, key(5))
    state = NodeState(
        NETWORK.founder,
        ServerUrl("h", 1, bytes(32), bytes(16)),
        IDENTITY,
        NETWORK.certificate,
        NETWORK.signing_key,
    )
    again = parse_ledger(saved, state)
    assert certificate_in(redeem(again, token, key(6))[0]).key == key(6).public_key.data


def test_a_ledger_of_a_version_that_could_not_revoke() -> None:
    content = pack_ledger(NETWORK.ledger())
    del content["revoked"]
    state = NodeState(
        NETWORK.founder,
        ServerUrl("h", 1, bytes(32), bytes(16)),
        IDENTITY,
        NETWORK.certificate,
        NETWORK.signing_key,
    )
    assert parse_ledger(content, state).struck == []


# Revoking


def with_pi() -> tuple[InvitationLedger, Invitation]:
    ledger = NETWORK.ledger()
    invitation = invite(ledger)
    redeem(ledger, invitation.token, key(5))
    return ledger, invitation


def test_a_revocation_is_of_the_members_key_and_changes_nothing_yet() -> None:
    ledger, _ = with_pi()
    before = pack_ledger(ledger)
    revocation = ledger.sign_revocation("pi", WALL + 7)
    assert (revocation.key, revocation.revoked) == (key(5).public_key.data, int(WALL) + 7)
    assert Revocations(IDENTITY.key).add(revocation)
    assert pack_ledger(ledger) == before


def test_name_and_address_are_given_away_again_and_the_serial_grows() -> None:
    ledger, invitation = with_pi()
    address = invitation.addresses[0]
    serial = ledger.issued[-1].serial
    revocation = ledger.sign_revocation("pi", WALL)
    with pytest.raises(UsageError, match="exists already"):
        invite(ledger)
    ledger.strike({revocation.key})
    assert [c.name for c in ledger.issued] == ["founder"]
    again = ledger.invite("pi", WALL, seeded(12), address.ip)
    answer, consumed = redeem(reload(ledger), again.token, key(6))
    assert consumed is not None
    certificate = certificate_in(answer)
    assert certificate.name == "pi"
    assert certificate.addresses[0] == address
    assert certificate.serial > serial


def test_what_a_revoked_member_was_invited_with_is_void() -> None:
    """Its key may not ask again for the certificate that it had; nor may another."""
    ledger, invitation = with_pi()
    ledger.strike({key(5).public_key.data})
    for number in (5, 6):
        assert redeem(ledger, invitation.token, key(number)) == (JoinStatus.UNKNOWN, None)


def test_a_key_with_two_names_is_one_member() -> None:
    ledger, _ = with_pi()
    other = ledger.invite("other", WALL, seeded(12))
    redeem(ledger, other.token, key(5))
    ledger.strike({ledger.sign_revocation("other", WALL).key})
    assert [c.name for c in ledger.issued] == ["founder"]
    assert [c.name for c in ledger.struck] == ["pi", "other"]


def test_who_cannot_be_revoked() -> None:
    ledger, _ = with_pi()
    with pytest.raises(UsageError, match="no member is called 'nas'; known here: pi"):
        ledger.sign_revocation("nas", WALL)
    with pytest.raises(UsageError, match="this machine itself"):
        ledger.sign_revocation("founder", WALL)
    ledger.strike({key(5).public_key.data})
    with pytest.raises(UsageError, match="known here: nobody"):
        ledger.sign_revocation("pi", WALL)


def test_an_invitation_is_withdrawn() -> None:
    ledger, _ = with_pi()
    token = ledger.invite("nas", WALL, seeded(12)).token
    assert not ledger.withdraw("pi"), "it has been used"
    assert ledger.withdraw("nas")
    assert not ledger.withdraw("nas")
    assert redeem(ledger, token, key(6)) == (JoinStatus.UNKNOWN, None)
    assert [c.name for c in ledger.issued] == ["founder", "pi"]


def test_who_is_revoked_takes_the_rest_of_its_join_string_along() -> None:
    """It was on that machine. The others that came with it stay, and may ask again."""
    ledger = NETWORK.ledger()
    token = ledger.invite("cam", WALL, seeded(12), uses=3).token
    first, second = (redeem(ledger, token, key(number))[0] for number in (5, 6))
    ledger.strike({key(5).public_key.data})
    assert [c.name for c in ledger.issued] == ["founder", "cam-2"]
    restored = reload(ledger)
    assert redeem(restored, token, key(7)) == (JoinStatus.USED, None)
    assert redeem(restored, token, key(6)) == (second, None)
    assert certificate_in(first).name == "cam-1"
    ledger.strike({key(6).public_key.data})
    assert not ledger.invitations


def test_the_rest_of_an_invitation_is_withdrawn() -> None:
    ledger = NETWORK.ledger()
    token = ledger.invite("cam", WALL, seeded(12), uses=3).token
    admission, _ = redeem(ledger, token, key(5))
    assert ledger.withdraw("cam")
    assert not ledger.withdraw("cam")
    assert redeem(ledger, token, key(6)) == (JoinStatus.USED, None)
    assert redeem(ledger, token, key(5)) == (admission, None)


def test_signing_key_of_another_network_signs_nothing_valid() -> None:
    ledger = InvitationLedger(
        IDENTITY, SigningKey(b"x" * 32), NETWORK.founder, [NETWORK.certificate]
    )
    token = invite(ledger).token
    admission, _ = redeem(ledger, token, key(5))
    assert isinstance(admission, Admission)
    with pytest.raises(AuthenticationFailed):
        IDENTITY.verify(admission.certificate, WALL)
