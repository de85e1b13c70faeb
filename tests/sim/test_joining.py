"""Joining while the inviter is away: the request waits at the server, and the answer does too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from tests.sim.nat import Nat
from tests.sim.world import SERVER_ADDRESS, SERVER_PORT, World
from tunnel.core.events import InvitationRedeemed
from tunnel.core.join import KEPT_RETRY, Joiner
from tunnel.core.ledger import Invitation
from tunnel.core.mailbox import KNOWN_FOR, LETTER_LIFETIME, MAX_PER_SOURCE
from tunnel.core.node import Node
from tunnel.core.rendezvous import LIFETIME
from tunnel.noise.keys import PrivateKey
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.invitation import JoinStatus, JoinString

SAVING = 0.05
"""Seconds that the inviter's disk takes."""
OFFLINE = "the machine that invited you is not online"
KEPT = OFFLINE + ": the server keeps your request for it, "
DAY = 86400.0


def copy_of(invitations: Iterable[Invitation]) -> list[Invitation]:
    return [replace(each, redeemed=dict(each.redeemed)) for each in invitations]


class Settlement:
    """A server, an inviter behind a NAT, and machines behind NATs of theirs that want to join."""

    def __init__(self, seed: int = 1) -> None:
        self.world = World(seed)
        self.net = self.world.net
        self.world.add_node("a", Nat())
        self.ledger = self.world.give_ledger("a")
        self.inviter_host = self.world.hosts["a"]
        self.inviter_host.on_event = self._note
        self.world.start_node("a")
        self.net.run_for(5)
        self._keys: dict[str, PrivateKey] = {}
        self._disk = (list(self.ledger.issued), copy_of(self.ledger.invitations))

    def _note(self, event: object) -> None:
        if isinstance(event, InvitationRedeemed):
            self.net.call_later(SAVING, self._save, self.inviter_host.machine)

    def _save(self, process: object) -> None:
        if self.inviter_host.machine is process:
            self.write_ledger()
            revision = self.world.node("a").inviter.revision
            self.inviter_host.call(lambda node, now: node.ledger_saved(revision, now))

    def write_ledger(self) -> None:
        self._disk = (list(self.ledger.issued), copy_of(self.ledger.invitations))

    def invite(self, *, uses: int = 1, expires_in: float = 30 * DAY) -> JoinString:
        join = self.world.node("a").inviter.invite("pi", None, expires_in, uses)
        self.write_ledger()
        return join

    def stop_inviter(self, *, says_good_bye: bool = True) -> None:
        if says_good_bye:
            self.inviter_host.call(lambda node, now: node.close(now))
        self.inviter_host.stop()
        self.net.run_for(1 if says_good_bye else LIFETIME + 60)

    def start_inviter(self) -> Node:
        """With what is on its disk."""
        self.ledger = self.world.give_ledger("a")
        issued, invitations = self._disk
        self.ledger.issued, self.ledger.invitations = list(issued), copy_of(invitations)
        return self.world.start_node("a")

    def run_up(self, name: str, join: JoinString) -> Joiner:
        """`punchtun up JOIN` on that machine, again maybe: its key is kept."""
        host = self.net.hosts.get(name)
        if host is None:
            router = self.net.add_router(Nat(), f"nat-{name}")
            host = self.net.add_host(name, behind=router)
        key = self._keys.setdefault(name, PrivateKey.generate(host.random_bytes))
        joiner = Joiner(
            join,
            key,
            now=host.now,
            random_bytes=host.random_bytes,
            wall_clock=host.wall_clock,
        )
        host.start(joiner)
        server = Endpoint(SERVER_ADDRESS, SERVER_PORT)
        host.call(lambda machine, now: machine.set_server_endpoints([server], now))
        return joiner

    def interrupt(self, name: str) -> None:
        self.net.hosts[name].stop()

    def finish(self, joiner: Joiner, seconds: float) -> str:
        """The name it got, within that time."""
        assert self.net.run_until_true(lambda: joiner.is_done, seconds), joiner.obstacle
        assert joiner.admission is not None, joiner.refusal
        return joiner.admission[1].name

    @property
    def letters(self) -> int:
        count = self.world.server.status(self.world.server_host.now)["letters"]
        assert isinstance(count, int)
        return count


@pytest.mark.parametrize("says_good_bye", [True, False], ids=["stopped", "power cut"])
def test_the_inviter_is_away_at_first(says_good_bye: bool) -> None:
    """Its return is all that is waited for, not the joiner's next request."""
    settlement = Settlement()
    join = settlement.invite()
    settlement.stop_inviter(says_good_bye=says_good_bye)
    joiner = settlement.run_up("pi", join)
    settlement.net.run_for(3600)
    assert joiner.obstacle is not None
    assert joiner.obstacle.startswith(KEPT)
    settlement.start_inviter()
    assert settlement.finish(joiner, 1.0) == "pi"
    settlement.net.run_for(1)
    assert settlement.letters == 0


def test_who_waits_asks_gently() -> None:
    settlement = Settlement()
    join = settlement.invite()
    settlement.stop_inviter()
    settlement.run_up("pi", join)
    settlement.net.run_for(60)
    sent = settlement.net.trace.statistics["pi"]
    before = sent.datagrams_sent
    settlement.net.run_for(600)
    assert sent.datagrams_sent - before <= 600 / KEPT_RETRY + 5


def test_the_inviter_comes_when_the_joiner_has_lost_patience() -> None:
    settlement = Settlement()
    join = settlement.invite()
    settlement.stop_inviter()
    settlement.run_up("pi", join)
    settlement.net.run_for(30)
    settlement.interrupt("pi")
    settlement.net.run_for(DAY)
    settlement.start_inviter()
    settlement.net.run_for(10)
    assert [certificate.name for certificate in settlement.ledger.issued] == ["a", "pi"]
    settlement.stop_inviter()
    settlement.net.run_for(DAY)
    joiner = settlement.run_up("pi", join)
    assert settlement.finish(joiner, 1.0) == "pi"
    settlement.net.run_for(1)
    assert settlement.letters == 0, "the answer need not be kept any longer"


def test_both_are_never_there_at_the_same_time_and_the_answer_is_a_refusal() -> None:
    settlement = Settlement()
    join = settlement.invite(expires_in=3600)
    settlement.stop_inviter()
    settlement.run_up("pi", join)
    settlement.net.run_for(30)
    settlement.interrupt("pi")
    settlement.net.run_for(3600)
    settlement.start_inviter()
    settlement.net.run_for(10)
    settlement.stop_inviter()
    joiner = settlement.run_up("pi", join)
    assert settlement.net.run_until_true(lambda: joiner.is_done, 1.0)
    assert joiner.refusal is JoinStatus.EXPIRED


def test_the_answer_is_lost_on_its_way_to_the_mailbox() -> None:
    """The inviter is reminded while it is there; the joiner need not be."""
    settlement = Settlement()
    join = settlement.invite()
    settlement.stop_inviter()
    settlement.run_up("pi", join)
    settlement.net.run_for(30)
    settlement.interrupt("pi")
    node = settlement.start_inviter()
    assert settlement.net.run_until_true(lambda: len(settlement.ledger.issued) == 2, 5.0)
    assert node.registration.is_connected
    settlement.net.run_for(SAVING - 0.01)  # The server hears that the request has arrived.
    settlement.net.block(settlement.inviter_host, None)
    settlement.net.run_for(SAVING + 1)
    settlement.net.unblock(settlement.inviter_host, None)
    settlement.net.run_for(120)
    settlement.stop_inviter()
    assert settlement.finish(settlement.run_up("pi", join), 1.0) == "pi"
    assert len(settlement.ledger.issued) == 2


@pytest.mark.parametrize("is_inviter_away", [True, False], ids=["by the mailbox", "at once"])
@pytest.mark.parametrize("seed", range(4))
def test_two_machines_race_for_one_invitation(seed: int, is_inviter_away: bool) -> None:
    settlement = Settlement(seed)
    join = settlement.invite()
    if is_inviter_away:
        settlement.stop_inviter()
    joiners = [settlement.run_up(name, join) for name in ("pi", "thief")]
    if is_inviter_away:
        settlement.net.run_for(30)
        assert settlement.letters == 2
        settlement.start_inviter()
    settlement.net.run_for(10)
    assert all(joiner.is_done for joiner in joiners)
    assert sorted(joiner.admission is not None for joiner in joiners) == [False, True]
    assert {joiner.refusal for joiner in joiners} == {None, JoinStatus.USED}
    assert len(settlement.ledger.issued) == 2
    assert settlement.letters == 0


@pytest.mark.parametrize("is_saved", [False, True], ids=["before saving", "before answering"])
def test_the_inviter_is_killed_and_another_machine_comes_meanwhile(is_saved: bool) -> None:
    settlement = Settlement()
    join = settlement.invite()
    first = settlement.run_up("pi", join)
    assert settlement.net.run_until_true(lambda: len(settlement.ledger.issued) == 2, 5.0)
    if is_saved:
        settlement.write_ledger()
    settlement.inviter_host.stop()
    assert not first.is_done
    second = settlement.run_up("thief", join)
    settlement.net.run_for(30)
    settlement.start_inviter()
    settlement.net.run_for(30)
    assert sorted(joiner.admission is not None for joiner in (first, second)) == [False, True]
    assert {first.refusal, second.refusal} == {None, JoinStatus.USED}
    if is_saved:
        assert first.admission is not None
    assert len(settlement.ledger.issued) == 2


@pytest.mark.parametrize("is_waiting", [True, False], ids=["waiting", "stopped"])
def test_the_server_is_restarted_in_between(is_waiting: bool) -> None:
    """It knows of nothing: who still waits asks again, who does not has to come again."""
    settlement = Settlement()
    join = settlement.invite()
    settlement.stop_inviter()
    joiner = settlement.run_up("pi", join)
    settlement.net.run_for(30)
    if not is_waiting:
        settlement.interrupt("pi")
    settlement.world.start_server()
    settlement.net.run_for(120)
    assert settlement.letters == 0
    assert joiner.obstacle is not None
    assert joiner.obstacle.startswith(OFFLINE)
    settlement.start_inviter()
    settlement.net.run_for(20)
    assert len(settlement.ledger.issued) == 1 + is_waiting
    if not is_waiting:
        joiner = settlement.run_up("pi", join)
    assert settlement.finish(joiner, 10.0) == "pi"


def test_a_full_mailbox() -> None:
    """Those it has no room for are told so by what they are not told, and get in if they wait."""
    settlement = Settlement()
    join = settlement.invite(uses=MAX_PER_SOURCE + 2)
    settlement.stop_inviter()
    router = settlement.net.add_router(Nat(), "school")
    names = [f"desk{number}" for number in range(MAX_PER_SOURCE + 2)]
    joiners: list[Joiner] = []
    for name in names:
        settlement.net.add_host(name, behind=router)
        joiners.append(settlement.run_up(name, join))
        settlement.net.run_for(15)
    assert settlement.letters == MAX_PER_SOURCE
    obstacles = [joiner.obstacle or "" for joiner in joiners]
    assert [text.startswith(KEPT) for text in obstacles] == [True] * MAX_PER_SOURCE + [False] * 2
    assert obstacles[-2:] == [OFFLINE] * 2
    settlement.start_inviter()
    found = {settlement.finish(joiner, 120.0) for joiner in joiners}
    assert found == {f"pi-{number + 1}" for number in range(MAX_PER_SOURCE + 2)}


@pytest.mark.parametrize(
    ("what", "away"),
    [("the request", LETTER_LIFETIME + 60), ("the inviter", KNOWN_FOR + 60)],
)
def test_expiry(what: str, away: float) -> None:
    settlement = Settlement()
    join = settlement.invite()
    settlement.stop_inviter()
    if what == "the request":
        settlement.run_up("pi", join)
        settlement.net.run_for(30)
        assert settlement.letters == 1
        settlement.interrupt("pi")
    settlement.net.run_for(away)
    if what == "the inviter":
        joiner = settlement.run_up("pi", join)
        settlement.net.run_for(30)
        assert joiner.obstacle == OFFLINE
        settlement.interrupt("pi")
    settlement.start_inviter()
    settlement.net.run_for(60)
    assert settlement.letters == 0
    assert len(settlement.ledger.issued) == 1, "nobody has asked"
    assert settlement.finish(settlement.run_up("pi", join), 5.0) == "pi"


def test_nothing_that_waits_is_readable_for_the_server() -> None:
    settlement = Settlement()
    join = settlement.invite()
    settlement.stop_inviter()
    settlement.run_up("pi", join)
    settlement.net.run_for(30)
    server = settlement.world.server
    now = settlement.world.server_host.now
    ((_, letter),) = server.joins.mailbox.take_unanswered(join.inviter, now, is_back=True)
    request = letter.sealed
    settlement.interrupt("pi")
    settlement.start_inviter()
    settlement.net.run_for(30)
    assert letter.answer is not None
    answer = letter.answer
    joiner = settlement.run_up("pi", join)
    settlement.finish(joiner, 5.0)
    assert joiner.admission is not None
    identity, certificate, admission = joiner.admission
    secrets = [join.token, identity.secret, identity.key.data, certificate.key]
    secrets += [admission.certificate[:40], admission.inviter_certificate[:40]]
    for secret in secrets:
        assert secret not in request[9:]  # After the number of the invitation.
        assert secret not in answer


def test_same_seed_same_run() -> None:
    def run() -> str:
        settlement = Settlement(seed=9)
        join = settlement.invite()
        settlement.stop_inviter()
        settlement.run_up("pi", join)
        settlement.net.run_for(60)
        settlement.start_inviter()
        settlement.net.run_for(60)
        return settlement.net.trace.digest()

    assert run() == run()
