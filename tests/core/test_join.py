"""Redeeming an invitation: joiner, server and inviter, each the real one, without distance."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from tests.core.ends import (
    SERVER,
    URL,
    WALL,
    Clock,
    Network,
    ScriptedServer,
    key,
    make_server,
    seeded,
)
from tunnel.core.candidates import HostAddress
from tunnel.core.configuration import NodeConfig
from tunnel.core.events import InvitationRedeemed
from tunnel.core.join import KEPT_RETRY, SERVER_TIMEOUT, Joiner
from tunnel.core.membership import (
    invitation_id,
    join_key,
    open_join_answer,
    sign_certificate,
)
from tunnel.core.node import Node
from tunnel.core.revocations import Revocations, sign_revocation
from tunnel.errors import AuthenticationFailed
from tunnel.noise.keys import PublicKey
from tunnel.noise.sealing import seal_blob
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.invitation import (
    Admission,
    JoinAnswer,
    JoinRequest,
    JoinStatus,
    JoinString,
    parse_join_request,
)
from tunnel.wire.rendezvous import (
    MAX_SEALED,
    Acknowledge,
    Challenge,
    Granted,
    Kept,
    Proof,
    Redeem,
    RefusalReason,
    Refused,
)

JOINER, OTHER, INVITER = (Endpoint(f"203.0.113.{n}", 4000 + n) for n in (5, 6, 1))


class Village:
    """Who is at which endpoint; datagrams arrive at once. A machine may be away."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.network = Network()
        self.machines: dict[Endpoint, object] = {}
        self.saves_ledger = True
        self.redeemed: list[InvitationRedeemed] = []
        """For which the ledger was, or ought to have been, saved."""
        self.start_server()
        self.ledger = self.network.ledger()
        self.inviter = Node(
            NodeConfig(self.network.founder, self.network.identity, self.network.certificate, URL),
            now=self.clock.now,
            random_bytes=seeded(31),
            wall_clock=self.clock.wall,
            ledger=self.ledger,
        )
        address = HostAddress(ipaddress.ip_interface(f"{INVITER.host}/24"))
        self.inviter.network_changed([address], INVITER.port, self.clock.now)
        self.inviter.set_server_endpoints([SERVER], self.clock.now)

    def start_server(self) -> None:
        self.machines[SERVER] = make_server(self.clock, seed=int(self.clock.now))

    def connect_inviter(self) -> None:
        self.machines[INVITER] = self.inviter
        self.run(5)
        assert self.inviter.registration.is_connected

    def join(
        self, join: JoinString, number: int = 5, endpoint: Endpoint = JOINER, name: str = ""
    ) -> Joiner:
        joiner = Joiner(
            join,
            key(number),
            now=self.clock.now,
            random_bytes=seeded(40 + number),
            wall_clock=self.clock.wall,
            name=name,
        )
        self.machines[endpoint] = joiner
        joiner.set_server_endpoints([SERVER], self.clock.now)
        return joiner

    def invite(self, name: str = "pi", uses: int = 1) -> JoinString:
        return self.inviter.inviter.invite(name, uses=uses)

    def settle(self) -> None:
        busy = True
        while busy:
            busy = False
            for endpoint, machine in list(self.machines.items()):
                for transmit in machine.datagrams_to_send(self.clock.now):  # type: ignore[attr-defined]
                    target = self.machines.get(transmit.endpoint)
                    if target is not None:
                        data = [bytes(transmit.data)]
                        target.receive_datagrams(data, endpoint, self.clock.now)  # type: ignore[attr-defined]
                        busy = True
            while (event := self.inviter.next_event()) is not None:
                if isinstance(event, InvitationRedeemed):
                    self.redeemed.append(event)
                    if self.saves_ledger:
                        self.save_ledger()
                        busy = True

    def save_ledger(self) -> None:
        self.inviter.ledger_saved(self.inviter.inviter.revision, self.clock.now)

    def run(self, seconds: float) -> None:
        until = self.clock.now + seconds
        self.settle()
        while True:
            timers = {
                endpoint: machine.get_timer()  # type: ignore[attr-defined]
                for endpoint, machine in self.machines.items()
            }
            at = min((t for t in timers.values() if t is not None), default=until + 1)
            if at > until:
                break
            self.clock.now = max(at, self.clock.now)
            for endpoint, timer in timers.items():
                if timer is not None and timer <= self.clock.now:
                    self.machines[endpoint].handle_timer(self.clock.now)  # type: ignore[attr-defined]
            self.settle()
        self.clock.now = until


def admission_of(joiner: Joiner) -> Admission:
    assert joiner.admission is not None
    assert joiner.refusal is None
    return joiner.admission[2]


def test_granted() -> None:
    village = Village()
    village.connect_inviter()
    joiner = village.join(village.invite())
    village.run(1)
    assert joiner.is_done
    assert joiner.admission is not None
    identity, certificate, _ = joiner.admission
    assert identity == village.network.identity
    assert certificate.name == "pi"
    assert certificate.key == key(5).public_key.data
    assert joiner.obstacle is None
    assert joiner.get_timer() is None
    joiner.handle_timer(village.clock.now)
    assert joiner.datagrams_to_send(village.clock.now) == []


def test_no_answer_leaves_before_the_ledger_is_saved() -> None:
    village = Village()
    village.connect_inviter()
    village.saves_ledger = False
    joiner = village.join(village.invite())
    village.run(3)
    assert joiner.obstacle is None
    village.run(20)
    assert not joiner.is_done
    assert joiner.obstacle == "no answer yet from the machine that invited you"
    assert len(village.redeemed) > 1, "asked again, and still not on disk"
    village.save_ledger()
    village.run(1)
    assert joiner.is_done
    assert len(village.ledger.issued) == 2


def test_an_answer_waits_for_the_save_that_has_it() -> None:
    """While the disk was being written for one joiner, a second one came: not its answer too."""
    village = Village()
    village.connect_inviter()
    village.saves_ledger = False
    first = village.join(village.invite("pi"))
    second_join = village.invite("desk")
    village.settle()
    revision = village.inviter.inviter.revision
    second = village.join(second_join, 6, OTHER)
    village.settle()
    assert len(village.ledger.issued) == 3
    village.inviter.ledger_saved(revision, village.clock.now)
    village.settle()
    assert first.is_done
    assert not second.is_done
    village.save_ledger()
    village.settle()
    assert second.is_done


def test_who_is_on_disk_is_answered_without_saving_again() -> None:
    """Else a server could have lines logged as often as it repeats a request."""
    village = Village()
    village.connect_inviter()
    join = village.invite()
    village.join(join)
    village.run(1)
    assert [event.name for event in village.redeemed] == ["pi"]
    for _ in range(20):
        again = village.join(join)
        village.run(5)
        assert admission_of(again)
    assert len(village.redeemed) == 1


def test_a_save_that_failed_is_tried_again_when_asked_again() -> None:
    village = Village()
    village.connect_inviter()
    village.saves_ledger = False
    joiner = village.join(village.invite())
    village.run(0.5)
    assert not joiner.is_done
    village.saves_ledger = True  # There is room on the disk again.
    village.run(10)
    assert joiner.is_done
    assert [event.name for event in village.redeemed] == ["pi", ""]


def test_the_inviter_comes_online_later() -> None:
    village = Village()
    join = village.invite()
    joiner = village.join(join)
    village.run(10)
    assert not joiner.is_done
    assert joiner.obstacle == "the machine that invited you is not online"
    village.connect_inviter()
    village.run(6)
    assert admission_of(joiner)


def test_the_server_comes_online_later() -> None:
    village = Village()
    join = village.invite()
    server = village.machines.pop(SERVER)
    joiner = village.join(join)
    village.run(SERVER_TIMEOUT - 0.1)
    assert joiner.obstacle is None
    village.run(0.2)
    assert joiner.obstacle == "the server does not answer"
    village.run(200)
    village.machines[SERVER] = server
    village.connect_inviter()
    village.run(10)
    assert admission_of(joiner)
    assert joiner.obstacle is None


def test_the_server_restarts_meanwhile() -> None:
    village = Village()
    joiner = village.join(village.invite())
    village.run(3)
    village.start_server()
    village.connect_inviter()
    village.run(120)
    assert admission_of(joiner)


def test_a_lost_answer_is_asked_for_again_and_is_the_same() -> None:
    village = Village()
    village.connect_inviter()
    join = village.invite()
    first = village.join(join)
    village.run(1)
    second = village.join(join)
    village.run(5)
    assert admission_of(second) == admission_of(first)
    assert len(village.ledger.issued) == 2


def test_used() -> None:
    village = Village()
    village.connect_inviter()
    join = village.invite()
    first, second = village.join(join), village.join(join, 6, OTHER)
    village.run(5)
    assert admission_of(first)
    assert second.refusal is JoinStatus.USED
    assert second.is_done


@pytest.mark.parametrize("uses", [1, 3])
def test_more_than_it_admits_ask_at_the_same_instant(uses: int) -> None:
    """Their requests are all there before the ledger is saved for the first."""
    village = Village()
    village.connect_inviter()
    village.saves_ledger = False
    join = village.invite(uses=uses)
    endpoints = [Endpoint(f"203.0.113.{100 + n}", 4000) for n in range(uses + 1)]
    joiners = [village.join(join, 60 + n, at) for n, at in enumerate(endpoints)]
    village.settle()
    assert [joiner.refusal for joiner in joiners] == [None] * uses + [JoinStatus.USED]
    assert not any(joiner.admission for joiner in joiners)
    village.save_ledger()
    village.settle()
    names = [joiner.admission[1].name for joiner in joiners if joiner.admission]
    assert names == (["pi"] if uses == 1 else ["pi-1", "pi-2", "pi-3"])
    assert len(village.ledger.issued) == 1 + uses


def test_a_name_of_ones_own() -> None:
    village = Village()
    village.connect_inviter()
    join = village.invite(uses=2)
    named = village.join(join, name="desk")
    other = village.join(join, 6, OTHER, name="founder")
    village.run(5)
    assert named.admission is not None
    assert named.admission[1].name == "desk"
    assert other.refusal is JoinStatus.NAME


def test_expired() -> None:
    village = Village()
    village.connect_inviter()
    join = village.invite()
    village.ledger.invitations[0].expires = int(village.clock.wall())
    joiner = village.join(join)
    village.run(1)
    assert joiner.refusal is JoinStatus.EXPIRED


def test_unknown() -> None:
    village = Village()
    village.connect_inviter()
    joiner = village.join(JoinString(village.network.founder.public_key.data, b"x" * 16, URL))
    village.run(1)
    assert joiner.refusal is JoinStatus.UNKNOWN


def test_a_node_that_cannot_invite_does_not_answer() -> None:
    village = Village()
    village.connect_inviter()
    join = village.invite()
    village.inviter.inviter.ledger = None
    joiner = village.join(join)
    village.run(10)
    assert not joiner.is_done
    reason = "join request to a node that cannot invite"
    assert village.inviter.drops[reason] > 0
    with pytest.raises(ValueError, match="no signing key"):
        village.inviter.inviter.invite("pi")


# A server that lies


class Liar:
    """The joiner alone with a scripted server."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.network = Network()
        self.ledger = self.network.ledger()
        self.invitation = self.ledger.invite("pi", self.clock.wall(), seeded(8))
        self.server = ScriptedServer(self.clock)
        join = JoinString(self.network.founder.public_key.data, self.invitation.token, URL)
        self.joiner = Joiner(
            join,
            key(5),
            now=self.clock.now,
            random_bytes=seeded(9),
            wall_clock=self.clock.wall,
        )
        self.joiner.set_server_endpoints([SERVER], self.clock.now)
        self.exchange()
        (self.redeem,) = self.server.take(Redeem)

    def exchange(self) -> None:
        while transmits := self.joiner.datagrams_to_send(self.clock.now):
            for transmit in transmits:
                for answer in self.server.receive(bytes(transmit.data), JOINER):
                    self.joiner.receive_datagrams([answer], SERVER, self.clock.now)

    def say(self, message: Granted | Refused | bytes, source: Endpoint = SERVER) -> None:
        frame = self.server.seal(message)
        self.joiner.receive_datagrams([frame], source, self.clock.now)
        self.exchange()

    def answer(self) -> JoinAnswer:
        request = parse_join_request(self.redeem.sealed)
        joiner = key(5).public_key
        return self.ledger.redeem(request, joiner, self.clock.wall(), seeded(10))[0]


def test_a_joiner_shows_that_it_receives_where_it_is_seen() -> None:
    liar = Liar()
    liar.say(Challenge(77))
    assert liar.server.take(Proof) == [Proof(77)]


def test_true_answers_are_taken_whoever_carries_them() -> None:
    liar = Liar()
    liar.say(Granted(1, liar.redeem.request, liar.answer().pack()))
    assert admission_of(liar.joiner)


def test_forged_answers_are_not() -> None:
    liar = Liar()
    answer = liar.answer()
    for sealed in (
        b"",
        b"\x01",
        answer.pack()[:-1],
        JoinAnswer(JoinStatus.USED, answer.sealed).pack(),
        JoinAnswer(JoinStatus.GRANTED, bytes(300)).pack(),
    ):
        liar.say(Granted(1, liar.redeem.request, sealed))
        assert not liar.joiner.is_done
    liar.say(Granted(2, liar.redeem.request ^ 1, answer.pack()))
    assert not liar.joiner.is_done, "the answer to another request"
    liar.say(Refused(RefusalReason.TOO_MANY, liar.redeem.request))
    liar.say(Refused(RefusalReason.INVITER_OFFLINE, liar.redeem.request ^ 1))
    assert liar.joiner.obstacle is None
    liar.say(bytes([0x85]) + bytes(40))
    liar.say(b"\xff\xff")
    assert not liar.joiner.is_done
    liar.say(Granted(3, liar.redeem.request, answer.pack()))
    assert admission_of(liar.joiner)


def test_a_request_that_is_kept_is_repeated_gently() -> None:
    liar = Liar()
    liar.say(Kept(liar.redeem.request ^ 1))
    assert liar.joiner.obstacle is None
    liar.say(Kept(liar.redeem.request))
    assert liar.joiner.obstacle is not None
    assert "the server keeps your request" in liar.joiner.obstacle
    timer = liar.joiner.get_timer()
    assert timer == liar.clock.now + KEPT_RETRY
    liar.clock.now = timer
    liar.joiner.handle_timer(timer)
    liar.exchange()
    assert liar.server.take(Redeem) == [liar.redeem]
    liar.say(Granted(1, liar.redeem.request, liar.answer().pack()))
    assert admission_of(liar.joiner)


def test_only_what_is_for_this_process_is_acknowledged() -> None:
    """The server forgets an answer that was acknowledged; the next process would not get it."""
    liar = Liar()
    answer = liar.answer().pack()
    liar.say(Granted(1, liar.redeem.request ^ 1, answer))
    assert liar.server.take(Acknowledge) == []
    liar.say(Granted(2, liar.redeem.request, answer))
    assert liar.server.take(Acknowledge) == [Acknowledge(2)]


def test_a_certificate_for_another_key_is_refused() -> None:
    liar = Liar()
    liar.answer()
    other = liar.network.certify(key(6), "pi", 2)
    liar.ledger.issued[1] = replace(other, key=key(5).public_key.data)
    liar.say(Granted(1, liar.redeem.request, liar.answer().pack()))
    assert not liar.joiner.is_done, "its signature is for another key"


def test_a_good_certificate_of_somebody_else_is_refused() -> None:
    """An inviter that errs: all is signed and sealed well, but it is not for our key."""
    liar = Liar()
    network, token = liar.network, liar.invitation.token
    admission = Admission(
        network.identity.key.data,
        network.identity.secret,
        network.certify(key(6), "pi", 2).pack(),
        network.certificate.pack(),
    )
    sealing = join_key(b"join answer", network.founder, key(5).public_key, token)
    answer = JoinAnswer(JoinStatus.GRANTED, seal_blob(sealing, admission.pack(), bytes(24)))
    liar.say(Granted(1, liar.redeem.request, answer.pack()))
    assert not liar.joiner.is_done


def test_the_servers_name_is_looked_up_again() -> None:
    liar = Liar()
    liar.joiner.set_server_endpoints([SERVER], liar.clock.now)
    assert liar.joiner.datagrams_to_send(liar.clock.now) == []


def test_what_does_not_come_from_the_server_is_dropped() -> None:
    liar = Liar()
    granted = Granted(1, liar.redeem.request, liar.answer().pack())
    liar.say(granted, Endpoint("192.0.2.66", 12345))
    assert not liar.joiner.is_done
    for kind in range(256):
        liar.joiner.receive_datagrams([bytes([kind, 0, 0, 0]) + bytes(144)], SERVER, 0.0)
    liar.joiner.receive_datagrams([b""], SERVER, 0.0)
    liar.exchange()
    assert not liar.joiner.is_done
    liar.say(granted)
    assert liar.joiner.is_done
    liar.say(granted)


def test_requests_are_repeated_ever_more_gently() -> None:
    liar = Liar()
    for _ in range(600):
        timer = liar.joiner.get_timer()
        assert timer is not None
        if timer > 1600:
            break
        liar.clock.now = max(timer, liar.clock.now)
        liar.joiner.handle_timer(liar.clock.now)
        liar.exchange()
    assert 100 < len(liar.server.take(Redeem)) < 180


def test_timer_reads_only_and_may_fire_early_or_twice() -> None:
    liar = Liar()
    timer = liar.joiner.get_timer()
    assert timer is not None
    assert timer == liar.joiner.get_timer()
    liar.joiner.handle_timer(liar.clock.now)
    assert liar.joiner.datagrams_to_send(liar.clock.now) == []
    liar.joiner.handle_timer(timer)
    liar.joiner.handle_timer(timer)
    assert len(liar.joiner.datagrams_to_send(timer)) == 1


# Who is revoked


def test_who_joins_knows_who_is_revoked_before_it_meets_anybody() -> None:
    """With the admission; the statement comes in the first session."""
    village = Village()
    village.connect_inviter()
    stolen = village.network.certify(key(7), "stolen", 7)
    statement = sign_revocation(key(7).public_key, 5.0, village.network.signing_key)
    village.inviter.revoke(statement, village.clock.now)
    joiner = village.join(village.invite())
    village.run(1)
    admission = admission_of(joiner)
    assert admission.revoked == (key(7).public_key.data[:8],)
    assert joiner.admission is not None
    identity, certificate, _ = joiner.admission
    config = NodeConfig(key(5), identity, certificate, URL, announced=admission.revoked)
    node = Node(config, now=1000.0, random_bytes=seeded(5), wall_clock=village.clock.wall)
    with pytest.raises(AuthenticationFailed, match="revoked"):
        node.peers.remember(stolen.pack(), ())
    assert node.peers.remember(village.network.certify(key(8), "other", 8).pack(), ())
    # Nobody else takes its word for it.
    assert len(node.revocations) == 0
    assert node.revocations.digests == Revocations(identity.key).digests
    assert node.revocations.add(statement)


def test_more_revoked_keys_than_there_is_room_for() -> None:
    """The latest; names and addresses as long as can be."""
    network = Network()
    name = "x" * 63
    network.certificate = sign_certificate(
        replace(network.certificate, name=name), network.signing_key
    )
    ledger = network.ledger()
    invitation = ledger.invite("y" * 63, WALL, seeded(1))
    wanted = invitation_id(invitation.token)
    sealing = join_key(b"join request", key(5), network.founder.public_key, invitation.token)
    request = JoinRequest(wanted, seal_blob(sealing, b"", bytes(24)))
    revocations = Revocations(network.identity.key)
    keys = [number.to_bytes(2, "big") * 16 for number in range(100)]
    for number, each in enumerate(keys):
        revocations.add(sign_revocation(PublicKey(each), number, network.signing_key))
    assert revocations.latest() == keys[::-1]
    answer, _ = ledger.redeem(request, key(5).public_key, WALL, seeded(2), revocations.latest())
    assert len(answer.pack()) <= MAX_SEALED
    admission = open_join_answer(answer, key(5), network.founder.public_key, invitation.token)
    assert isinstance(admission, Admission)
    assert len(admission.revoked) >= 46
    assert admission.revoked == tuple(each[:8] for each in keys[::-1][: len(admission.revoked)])
