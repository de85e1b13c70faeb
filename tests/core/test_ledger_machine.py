"""The membership ledger against what was promised to whom: invitations given, redeemed, redeemed
again, expired, replaced; the process started anew, or crashed before it had saved."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from tests.core.ends import WALL, key, seeded
from tests.core.test_membership import IDENTITY, NETWORK, reload, request
from tunnel.core.ledger import InvitationLedger
from tunnel.core.membership import open_join_answer
from tunnel.errors import UsageError
from tunnel.wire.certificate import Certificate
from tunnel.wire.invitation import Admission, JoinStatus

JOINERS = range(5, 9)
NAMES = ("pi", "attic", "barn", "shed", "loft", "mill", "tower", "founder")


@dataclass
class Promise:
    """What the holder of a token may count on."""

    name: str
    uses: int
    expires: float
    is_numbered: bool
    """Its machines are: it was for several."""
    is_known: bool = True
    certificates: dict[int, bytes] = field(default_factory=dict)
    """Joiner → what it was given."""

    def end(self) -> None:
        """Nobody else joins with it."""
        self.is_known = bool(self.certificates)
        self.uses = len(self.certificates)


class Ledgers(RuleBasedStateMachine):
    tokens: Bundle[bytes] = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.now = WALL
        self.random_bytes = seeded(77)
        self.ledger: InvitationLedger = NETWORK.ledger()
        self.promises: dict[bytes, Promise] = {}

    @rule(
        target=tokens,
        name=st.sampled_from(NAMES),
        uses=st.sampled_from([1, 1, 2, 3]),
        seconds=st.sampled_from([1, 60, 86400]),
    )
    def invite(self, name: str, uses: int, seconds: int) -> object:
        is_taken = uses == 1 and name in {certificate.name for certificate in self.ledger.issued}
        try:
            invitation = self.ledger.invite(name, self.now, self.random_bytes, None, seconds, uses)
        except UsageError:
            assert is_taken
            return multiple()
        assert not is_taken
        assert invitation.token not in self.promises
        for promise in self.promises.values():
            if promise.name == name or promise.expires <= self.now:
                promise.end()
        self.promises[invitation.token] = Promise(name, uses, invitation.expires, uses > 1)
        return invitation.token

    @rule(token=tokens, number=st.sampled_from(JOINERS))
    def redeem(self, token: bytes, number: int) -> None:
        self.ask(token, number)

    @rule(token=tokens, numbers=st.permutations(JOINERS))
    def race(self, token: bytes, numbers: list[int]) -> None:
        """All want the same one, and the last asks again."""
        for number in (*numbers, numbers[-1]):
            self.ask(token, number)

    def ask(self, token: bytes, number: int) -> None:
        promise, joiner = self.promises[token], key(number)
        answer, made = self.ledger.redeem(
            request(token, joiner), joiner.public_key, self.now, self.random_bytes
        )
        opened = open_join_answer(answer, joiner, NETWORK.founder.public_key, token)
        given = promise.certificates.get(number)
        if not promise.is_known:
            expected = JoinStatus.UNKNOWN
        elif given is not None:
            expected = JoinStatus.GRANTED
        elif len(promise.certificates) == promise.uses:
            expected = JoinStatus.USED
        else:
            is_expired = self.now >= promise.expires
            expected = JoinStatus.EXPIRED if is_expired else JoinStatus.GRANTED
        assert answer.status is expected
        assert (made is not None) is (expected is JoinStatus.GRANTED and given is None)
        if expected is not JoinStatus.GRANTED:
            assert opened is expected
            return
        assert isinstance(opened, Admission)
        certificate = IDENTITY.verify(opened.certificate, self.now)
        assert certificate.key == joiner.public_key.data
        if certificate.name != promise.name:
            assert certificate.name.startswith(promise.name + "-")
            assert promise.is_numbered
        assert given in (None, opened.certificate), "the same to who asks again"
        promise.certificates[number] = opened.certificate

    @rule(seconds=st.sampled_from([0.5, 1.0, 59.0, 86400.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def start_anew(self) -> None:
        self.ledger = reload(self.ledger)

    @rule(token=tokens, number=st.sampled_from(JOINERS))
    def crash_before_it_is_saved(self, token: bytes, number: int) -> None:
        """The answer has not left, then: nothing was promised."""
        saved, joiner = reload(self.ledger), key(number)
        self.ledger.redeem(request(token, joiner), joiner.public_key, self.now, self.random_bytes)
        self.ledger = saved

    @invariant()
    def nothing_is_given_twice(self) -> None:
        issued: list[Certificate] = self.ledger.issued
        names = [certificate.name for certificate in issued]
        serials = [certificate.serial for certificate in issued]
        addresses = [
            interface.ip
            for certificate in issued
            for interface in certificate.addresses
            if isinstance(interface, ipaddress.IPv4Interface)
        ]
        addresses += [
            address.ip for invitation in self.ledger.invitations for address in invitation.unused
        ]
        assert len(set(names)) == len(names)
        assert len(set(addresses)) == len(addresses)
        assert serials == sorted(set(serials))
        packed = {certificate.pack() for certificate in issued[1:]}
        assert packed == {c for p in self.promises.values() for c in p.certificates.values()}


Ledgers.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLedgers = Ledgers.TestCase
