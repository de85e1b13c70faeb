"""The server sends nothing at others' wish to where a node only says that it is."""

from __future__ import annotations

from tests.core.ends import TAG, ScriptedNode, Town, seeded
from tests.core.test_rendezvous import acknowledge, channels
from tunnel.core.return_route import MAX_CHALLENGES, MAX_CREDIT, MAX_RATIO, ReturnRoute
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.handshake import Response
from tunnel.wire.relay import pack_relay
from tunnel.wire.rendezvous import Challenge, Echo, Introduction, Proof, Register

VICTIM = Endpoint("192.0.2.200", 53)
HOME, HOME_V6 = Endpoint("203.0.113.1", 1000), Endpoint("2001:db8:1::1", 1000)


def response(sender: int) -> bytes:
    return Response(sender, 1, bytes(32), bytes(16)).pack()


def claim(node: ScriptedNode, victim: Endpoint = VICTIM) -> int:
    """A keep-alive that pretends to come from there; its size. What comes back is lost on it."""
    frame = node.link.session.seal(b"", node._town.clock.now)
    assert frame is not None
    node.send_raw(frame, source=victim)
    return len(frame)


def bytes_to(town: Town, endpoint: Endpoint) -> int:
    return sum(len(each.data) for each in town.lost if each.endpoint == endpoint)


# The attack


def test_nothing_is_relayed_to_a_forged_source() -> None:
    """b, a member of a network of its own, says that it is at the victim's, and a floods it."""
    town = Town()
    a, b, channel_a, _ = channels(town)
    b.is_honest = False
    sent = claim(b)
    for _ in range(1000):
        a.send_raw(pack_relay(channel_a, bytes(1000)))
        town.advance(0.01)
    assert b.channels == []
    assert bytes_to(town, VICTIM) <= MAX_RATIO * sent + MAX_CHALLENGES * 44
    reason = "relay: the other end has not shown that it receives there"
    assert town.server.drops[reason] == 1000


def test_who_goes_on_forging_gets_no_more_than_thrice_of_it() -> None:
    town = Town()
    a, b, channel_a, _ = channels(town)
    b.is_honest = False
    sent = 0
    for _ in range(500):
        sent += claim(b)
        for _ in range(10):
            a.send_raw(pack_relay(channel_a, bytes(20)))
        town.advance(0.01)
    challenges = 500 * 0.01 / 0.3 * 44 + 44
    assert 0 < bytes_to(town, VICTIM) <= MAX_RATIO * sent + challenges


def test_a_registration_from_a_forged_source_brings_no_notices_there() -> None:
    """20 members have announcements of 1000 bytes, which the server would send, and repeat."""
    town = Town()
    for number in range(10, 30):
        node = ScriptedNode(town, number)
        node.connect()
        node.send(Register(1, 0, TAG, bytes(1000)))
        acknowledge(node)
    b = ScriptedNode(town, 2)
    b.connect()
    b.keep_alive()
    b.is_honest = False
    assert b.link.send(Register(1, 0, TAG, b"short"), town.clock.now)
    (transmit,) = b.link.datagrams_to_send()
    b.send_raw(bytes(transmit.data), source=VICTIM)
    town.advance(100)
    # The answer, the token and its repetitions.
    assert bytes_to(town, VICTIM) <= MAX_RATIO * len(transmit.data) + 100 + MAX_CHALLENGES * 44


def test_an_initiation_from_a_forged_source_gets_a_shorter_answer_and_no_channel() -> None:
    town = Town()
    town.add(1)
    b = ScriptedNode(town, 2)
    b.link.session.restart_handshake(town.clock.now)
    (transmit,) = b.link.datagrams_to_send()
    b.send_raw(bytes(transmit.data), source=VICTIM)
    town.advance(60)
    assert 0 < bytes_to(town, VICTIM) < len(transmit.data)
    assert town.server.status(town.clock.now)["sessions"] == 1
    assert len(town.server.relay) == 0


# Honest nodes


def test_a_node_that_has_agreed_on_keys_from_one_address_is_not_asked() -> None:
    town = Town()
    b = ScriptedNode(town, 2)
    b.is_honest = False
    b.connect()
    b.register()
    assert b.take(Challenge) == []


def test_another_port_of_its_address_is_as_good() -> None:
    town = Town()
    a, b, channel_a, _ = channels(town)
    b.move(b.endpoint._replace(port=50_000))
    b.keep_alive()
    a.send_raw(pack_relay(channel_a, bytes(1000)))
    assert len(b.channels) == 1
    assert b.take(Challenge) == []


def test_a_node_that_roams_shows_that_it_is_there() -> None:
    town = Town()
    a, b, channel_a, _ = channels(town)
    b.is_honest = False
    b.move(VICTIM)
    b.keep_alive()
    (challenge,) = b.take(Challenge)
    a.send_raw(pack_relay(channel_a, bytes(1000)))
    assert b.channels == []
    b.send(Proof(challenge.token ^ 1))
    a.send_raw(pack_relay(channel_a, bytes(1000)))
    assert b.channels == []
    b.send(Proof(challenge.token))
    a.send_raw(pack_relay(channel_a, bytes(1000)))
    assert len(b.channels) == 1
    # And back: what was proven once is not for ever.
    b.move(HOME)
    b.keep_alive()
    assert b.take(Challenge)


def test_notices_that_waited_go_at_once_when_it_has_shown_it() -> None:
    town = Town()
    b = town.add(2)
    acknowledge(b)
    b.is_honest = False
    b.move(VICTIM)
    b.keep_alive()
    (challenge,) = b.take(Challenge)
    late = ScriptedNode(town, 3)
    late.connect()
    late.send(Register(1, 0, TAG, bytes(1000)))
    assert b.take(Introduction) == []
    b.send(Proof(challenge.token))
    assert len(b.take(Introduction)) == 1


def test_a_token_that_is_lost_is_sent_again() -> None:
    town = Town()
    _, b, _, _ = channels(town)
    b.is_honest = False
    claim(b)
    b.move(VICTIM)
    for number in range(5):
        town.advance(1)
        b.send(Echo(number, 0))
    assert len({challenge.token for challenge in b.take(Challenge)}) == 1


# The state


def test_the_first_frame_under_new_keys_proves_where_the_response_went() -> None:
    route = ReturnRoute()
    route.note_response(response(7), HOME)
    route.note_frame(8, HOME, 32)
    assert not route.is_proven(HOME)
    route.note_frame(7, VICTIM, 32)
    assert not route.is_proven(VICTIM)
    route.note_frame(7, HOME, 32)
    assert route.is_proven(HOME)
    assert not route.is_proven(VICTIM)


def test_a_response_that_went_to_two_places_proves_neither() -> None:
    route = ReturnRoute()
    route.note_response(response(7), HOME_V6)
    route.note_copy()
    for endpoint in (HOME, HOME_V6):
        route.note_frame(7, endpoint, 32)
        assert not route.is_proven(endpoint)


def test_each_family_for_itself() -> None:
    route = ReturnRoute()
    for endpoint in (HOME, HOME_V6):
        route.note_frame(7, endpoint, 32)
        token = route.challenge(endpoint, 0.0, seeded(1))
        assert token is not None
        assert route.receive_token(token)
        assert not route.receive_token(token), "good once"
    assert route.is_proven(HOME)
    assert route.is_proven(HOME_V6)


def test_a_token_for_one_source_proves_no_other() -> None:
    route = ReturnRoute()
    random_bytes = seeded(1)
    old = route.challenge(HOME, 0.0, random_bytes)
    new = route.challenge(VICTIM, 0.0, random_bytes)
    assert old is not None
    assert new is not None
    assert not route.receive_token(old)
    assert route.receive_token(new)
    assert not route.is_proven(HOME)


def test_credit_is_bounded_and_ends_where_the_source_changes() -> None:
    route = ReturnRoute()
    for _ in range(100):
        route.note_frame(1, HOME, 9000)
    assert route.allows(HOME, MAX_CREDIT)
    assert not route.allows(HOME, 1)
    route.note_frame(1, HOME, 100)
    route.note_frame(1, VICTIM, 10)
    assert not route.allows(HOME, 1)
    assert not route.allows(VICTIM, 31)
    assert route.allows(VICTIM, 30)


def test_tokens_are_spaced_and_few_until_another_frame_comes() -> None:
    route = ReturnRoute()
    random_bytes = seeded(1)
    route.note_frame(1, VICTIM, 32)
    sent = [route.challenge(VICTIM, n / 10, random_bytes) for n in range(1000)]
    tokens = [token for token in sent if token is not None]
    assert len(tokens) == MAX_CHALLENGES
    assert len(set(tokens)) == 1
    route.note_frame(1, VICTIM, 32)
    assert route.challenge(VICTIM, 200.0, random_bytes) == tokens[0]
