"""A member's key is replaced: who grants it, who takes it, and what becomes of the one before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.core.ends import WALL, Network, key
from tests.core.test_node import pair
from tunnel.core.events import KeyReplaced
from tunnel.core.ledger import InvitationLedger
from tunnel.core.membership import join_key, seniority, sign_certificate
from tunnel.core.revocations import Revocations, sign_revocation
from tunnel.core.rotation import RotationState
from tunnel.errors import AuthenticationFailed
from tunnel.noise.keys import PrivateKey
from tunnel.wire.certificate import Certificate
from tunnel.wire.revocation import NO_SUCCESSOR
from tunnel.wire.rotation import RotationAnswer, RotationRequest, RotationStatus

NETWORK = Network()
PI = NETWORK.certify(key(2), "pi", 2)
GRANTED, TAKEN = RotationStatus.GRANTED, RotationStatus.TAKEN


def ledger() -> InvitationLedger:
    made = NETWORK.ledger()
    made.learn([PI, NETWORK.certify(key(3), "attic", 3)])
    return made


def request(new: int, old: int = 2, network: Network = NETWORK) -> RotationRequest:
    own = key(old).public_key.data
    proof = join_key(b"key rotation", key(new), network.founder.public_key, own)
    return RotationRequest(key(new).public_key.data, proof)


def rotate(ledger: InvitationLedger, new: int, old: int = 2) -> tuple[RotationAnswer, bool]:
    return ledger.rotate(key(old).public_key.data, request(new, old), WALL)


def granted(answer: RotationAnswer) -> Certificate:
    assert answer.status is GRANTED
    return NETWORK.identity.verify(answer.certificate, WALL)


# The inviter


def test_the_new_certificate_is_as_old_as_the_one_before_and_gives_the_same() -> None:
    made = ledger()
    answer, has_changed = rotate(made, 20)
    assert has_changed
    certificate = granted(answer)
    expected = replace(
        PI,
        key=key(20).public_key.data,
        serial=certificate.serial,
        signature=certificate.signature,
    )
    assert certificate == expected
    assert certificate.serial > PI.serial
    assert seniority(certificate)[0] == seniority(PI)[0]
    revocation = answer.revocation
    assert revocation is not None
    assert (revocation.key, revocation.successor) == (PI.key, certificate.key)
    assert Revocations(NETWORK.identity.key).add(revocation)


def test_the_same_is_answered_however_often_it_is_asked() -> None:
    """Also by a ledger that was read from the disk; and the first key that was asked for counts."""
    made = ledger()
    first, _ = rotate(made, 20)
    again, has_changed = rotate(made, 20)
    assert not has_changed
    assert granted(again) == granted(first)
    assert rotate(made, 21) == (RotationAnswer(TAKEN), False)
    assert granted(rotate(made, 20)[0]) == granted(first)


@pytest.mark.parametrize("new", [2, 3, 40, 41])
def test_a_key_that_is_known_is_given_to_nobody(new: int) -> None:
    """One's own, another member's, that of one that is revoked, the inviter's."""
    made = ledger()
    made.learn([NETWORK.certify(key(40), "gone", 40)])
    made.strike({key(40).public_key.data})
    made.learn([NETWORK.certify(key(41), "other", 41)])
    with pytest.raises(AuthenticationFailed, match="known"):
        rotate(made, new)
    assert made.successors == {}


def test_the_proof_is_of_this_member_this_key_and_this_inviter() -> None:
    made, good = ledger(), request(20)
    other = Network(seed=8)
    for wrong in (
        good._replace(key=key(21).public_key.data),
        good._replace(proof=bytes(32)),
        request(20, old=3),
        request(20, network=other),
        good._replace(key=bytes([0xFF]) * 32),
    ):
        with pytest.raises(AuthenticationFailed):
            made.rotate(PI.key, wrong, WALL)
    with pytest.raises(AuthenticationFailed):
        rotate(made, 20, old=9)
    assert made.successors == {}


def test_one_rotation_after_another() -> None:
    made = ledger()
    first = granted(rotate(made, 20)[0])
    made.strike({PI.key})
    second = granted(rotate(made, 21, old=20)[0])
    assert (second.name, second.addresses, second.issued) == (
        first.name,
        first.addresses,
        first.issued,
    )
    assert second.serial > first.serial
    # The answer to the first is of no use to anybody any more, and still the same.
    assert granted(rotate(made, 20)[0]) == first


def consequences(made: InvitationLedger, *said: Any) -> list[tuple[bytes, bytes]]:
    """Keys that are revoked, each with its successor."""
    known = Revocations(NETWORK.identity.key)
    for each in said:
        known.add(each)
    found = made.sign_consequences(known, WALL)
    for each in found:
        assert known.add(each), "it is news"
    assert made.sign_consequences(known, WALL) == [], "and that is all"
    return [(each.key, each.successor) for each in found]


def test_what_was_given_to_a_member_that_is_expelled_is_void_too() -> None:
    """Whoever had its key has asked for another one before it was revoked, here or elsewhere."""
    made = ledger()
    answer, _ = rotate(made, 20)
    new = key(20).public_key.data
    final = sign_revocation(key(2).public_key, WALL, NETWORK.signing_key)
    void = [(new, NO_SUCCESSOR)]
    assert consequences(made) == []
    assert consequences(made, answer.revocation) == []
    assert consequences(made, final) == void
    assert consequences(made, answer.revocation, final) == void
    assert (
        consequences(made, final, sign_revocation(key(20).public_key, 0, NETWORK.signing_key)) == []
    )


def test_of_two_that_were_given_by_two_inviters_all_keep_the_same() -> None:
    made = ledger()
    rotate(made, 20)
    new = key(20).public_key.data
    smaller, larger = bytes(31) + b"\x01", b"\x7f" * 32
    for other, expected in (
        (smaller, [(new, NO_SUCCESSOR)]),
        (larger, [(PI.key, new)]),
    ):
        said = sign_revocation(key(2).public_key, WALL, NETWORK.signing_key, other)
        assert consequences(made, said) == expected


def test_by_name_a_member_in_rotation_is_revoked_with_both_its_keys() -> None:
    made = ledger()
    rotate(made, 20)
    assert made.sign_revocation("pi", WALL).key == PI.key
    made.strike({PI.key})
    assert made.sign_revocation("pi", WALL).key == key(20).public_key.data


# The member


class Asker:
    """Two nodes with a session: a may invite, says its certificate, and answers by hand."""

    def __init__(self) -> None:
        self.world = pair()
        self.a, self.b = self.world.node("a"), self.world.node("b")
        peer = self.world.peer("b", "a")
        peer.certificate = replace(peer.certificate, may_invite=True)
        self.peer = peer
        self.new = PrivateKey(b"\x77" * 32)
        self.rotation = self.b.rotation
        self.now = self.world.net.now

    def begin(self) -> None:
        self.world.hosts["b"].call(lambda node, now: node.rotate(self.new, now))

    def answer(
        self, change: Callable[[Certificate], Certificate] = lambda c: c, **said: Any
    ) -> RotationAnswer:
        own = self.b.config.certificate
        certificate = replace(own, key=self.new.public_key.data, serial=own.serial + 9)
        statement = {"key": own.key, "successor": self.new.public_key.data, **said}
        from tunnel.noise.keys import PublicKey

        revocation = sign_revocation(
            PublicKey(statement["key"]), WALL, self.world._signing_key, statement["successor"]
        )
        signed = sign_certificate(change(certificate), self.world._signing_key)
        return RotationAnswer(GRANTED, signed.pack(), revocation)

    def receive(self, answer: RotationAnswer) -> None:
        self.rotation.receive_answer(answer, self.peer)


def test_what_is_asked_for_is_taken() -> None:
    asker = Asker()
    assert asker.rotation.state is RotationState.RESTING
    asker.begin()
    assert asker.rotation.state is RotationState.ASKING
    asker.receive(asker.answer())
    assert asker.rotation.state is RotationState.GRANTED
    assert asker.rotation.get_timer() is None
    assert asker.rotation.grant is not None
    assert asker.rotation.grant.certificate.key == asker.new.public_key.data
    assert asker.rotation.take_events() == [KeyReplaced("a", str(asker.new.public_key))]
    asker.begin()
    assert asker.rotation.state is RotationState.GRANTED


def test_what_was_not_asked_for_is_refused() -> None:
    asker = Asker()
    for answer in (asker.answer(), RotationAnswer(TAKEN)):
        with pytest.raises(AuthenticationFailed, match="not asked for"):
            asker.receive(answer)
    assert asker.rotation.state is RotationState.RESTING


@pytest.mark.parametrize(
    "change",
    [
        lambda c: replace(c, name="other"),
        lambda c: replace(c, addresses=c.addresses[:1]),
        lambda c: replace(c, issued=c.issued + 1),
        lambda c: replace(c, key=key(9).public_key.data),
    ],
)
def test_another_certificate_is_refused(change: Callable[[Certificate], Certificate]) -> None:
    asker = Asker()
    asker.begin()
    with pytest.raises(AuthenticationFailed, match="another certificate"):
        asker.receive(asker.answer(change))
    assert asker.rotation.state is RotationState.ASKING


@pytest.mark.parametrize("said", [{"key": bytes(32)}, {"successor": bytes(32)}])
def test_the_revocation_of_another_key_is_refused(said: dict[str, bytes]) -> None:
    asker = Asker()
    asker.begin()
    with pytest.raises(AuthenticationFailed, match="another key"):
        asker.receive(asker.answer(**said))
    assert asker.rotation.grant is None


def test_a_forged_answer_is_refused() -> None:
    asker = Asker()
    asker.begin()
    good = asker.answer()
    assert good.revocation is not None
    for wrong in (
        good._replace(certificate=good.certificate[:-64] + bytes(64)),
        good._replace(revocation=replace(good.revocation, signature=bytes(64))),
    ):
        with pytest.raises(AuthenticationFailed):
            asker.receive(wrong)
    assert asker.rotation.state is RotationState.ASKING


def test_taken_ends_it_and_it_can_be_asked_again() -> None:
    asker = Asker()
    asker.begin()
    asker.receive(RotationAnswer(TAKEN))
    assert asker.rotation.state is RotationState.REFUSED
    assert asker.rotation.get_timer() is None
    assert asker.rotation.take_events() == [KeyReplaced("a", "")]
    asker.begin()
    assert asker.rotation.state is RotationState.ASKING


def test_who_holds_no_key_after_all_is_asked_no_more() -> None:
    asker = Asker()
    asker.begin()
    assert asker.rotation.inviters(asker.now)
    asker.receive(RotationAnswer(RotationStatus.NO_INVITER))
    assert asker.rotation.state is RotationState.ASKING
    assert not asker.rotation.inviters(asker.now)


def test_a_node_that_cannot_invite_says_so() -> None:
    asker = Asker()
    asker.begin()
    asker.world.net.run_for(5)
    assert asker.rotation.state is RotationState.ASKING
    assert not asker.rotation.inviters(asker.world.hosts["b"].now)
