"""NAT discovery inside a node: whom it never sends to, what it shows, which sockets it opens."""

from __future__ import annotations

from tests.core.ends import ALTERNATE, SERVER
from tests.core.test_node import NODE, STRANGER, Alone
from tunnel.core.events import SocketsReleased
from tunnel.core.nat import FILTERING_SOCKET, HOP_SOCKET, NatState
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.feeler import Hairpin
from tunnel.wire.rendezvous import AnswerFrom, Echoed, Probe, Register, Registered

OUTSIDE = Endpoint("203.0.113.99", 40002)


class Translated(Alone):
    """Seen elsewhere than it is; its probes are noted with the socket they left from."""

    def start(self) -> Translated:
        super().start()
        return self

    def seen_at(self, observed: Endpoint, alternate: Endpoint | None = None) -> None:
        sequence = self.node.registration._sequence + 1
        self.node.registration.announce(b"news", self.clock.now)
        self.node.handle_timer(self.clock.now)  # which collects what is to be sent
        self.settle()
        assert [r.sequence for r in self.server.take(Register)][-1:] == [sequence]
        self.say(Registered(sequence, observed, ALTERNATE.port, 60, alternate))

    def answer_probes(self, observed: Endpoint, *, source: Endpoint = SERVER) -> list[Probe]:
        probes = self.server.take(Probe)
        for probe in probes:
            if probe.answer_from == AnswerFrom.SAME:
                frame = self.server.seal(Echoed(probe.transaction, 0, observed))
                self.receive(frame, source, local=FILTERING_SOCKET)
        return probes

    def events(self) -> list[object]:
        found: list[object] = []
        while (event := self.node.next_event()) is not None:
            found.append(event)
        return found


def test_the_questions_have_sockets_of_their_own_and_give_them_back() -> None:
    alone = Translated().start()
    alone.seen_at(OUTSIDE)
    alone.run(0.2)
    assert alone.node.nat.state is NatState.FILTERING
    probes = alone.answer_probes(OUTSIDE._replace(port=50_000))
    assert {probe.answer_from for probe in probes} >= {AnswerFrom.SAME, AnswerFrom.OTHER_PORT}
    assert AnswerFrom.OTHER_ADDRESS not in {probe.answer_from for probe in probes}
    alone.events()
    alone.run(30)
    released = [e for e in alone.events() if isinstance(e, SocketsReleased)]
    assert {number for event in released for number in event.locals} == {
        FILTERING_SOCKET,
        HOP_SOCKET,
    }
    assert alone.node.nat.state is NatState.RESTING
    assert alone.node.status(alone.clock.now)["nat"]["filtering"] == "address-and-port-dependent"
    assert alone.node.status(alone.clock.now)["nat"]["hairpin"] is False


def test_the_server_cannot_aim_tokens_at_a_private_address() -> None:
    for observed in (Endpoint("192.168.1.1", 53), Endpoint("127.0.0.1", 22)):
        alone = Translated().start()
        alone.seen_at(observed)
        for _ in range(20):
            alone.run(0.5)
            alone.answer_probes(observed)
        assert not {to for to, _ in alone.sent if to.host == observed.host}
        assert alone.node.status(alone.clock.now)["nat"]["hairpin"] is None


def test_the_server_cannot_have_anybody_flooded() -> None:
    """Whatever it says in 20 minutes: tokens and probes to where it says are few."""
    alone = Translated().start()
    victim = Endpoint("198.51.100.77", 443)
    for _ in range(20):
        alone.seen_at(victim, victim)
        alone.run(60)
        alone.answer_probes(victim)
        alone.seen_at(OUTSIDE)
        alone.answer_probes(OUTSIDE)
    at_victim = [data for to, data in alone.sent if to == victim]
    assert len(at_victim) < 5 * 20
    assert sum(map(len, at_victim)) < 12_000


def test_a_token_of_somebody_else_is_dropped() -> None:
    alone = Translated().start()
    before = alone.drops
    alone.receive(Hairpin(bytes(16)).pack(), STRANGER)
    assert alone.drops == before + 1
    assert alone.node.drops["hairpin of a stranger"] == 1


def test_routers_are_shown() -> None:
    alone = Translated().start()
    alone.run(0.2)
    for router in ("192.168.1.1", "100.64.0.1", "192.0.2.1"):
        alone.node.receive_time_exceeded(SERVER, router, alone.clock.now, HOP_SOCKET)
        alone.settle()
    nat = alone.node.status(alone.clock.now)["nat"]
    assert nat["routers"] == ["192.168.1.1", "100.64.0.1", "192.0.2.1"]
    assert any("carrier-grade NAT" in sentence for sentence in nat["evidence"])
    assert alone.node.hops.opener_ttl == 3


def test_nothing_is_asked_before_the_server_is_there() -> None:
    alone = Alone()
    alone.node.network_changed([], NODE.port, alone.clock.now)
    alone.run(60)
    nat = alone.node.status(alone.clock.now)["nat"]
    assert (nat["mapping"], nat["filtering"], nat["present"]) == (None, None, None)
    assert (nat["routers"], nat["evidence"]) == ([], [])
    assert alone.sent == []
