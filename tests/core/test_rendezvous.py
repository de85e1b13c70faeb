"""The server, with scripted nodes around it in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.ends import (
    ACCESS,
    ALTERNATE,
    SERVER_KEY,
    TAG,
    Clock,
    ScriptedNode,
    Town,
    key,
    make_server,
)
from tests.wire.test_stun import request as stun_request
from tunnel.core.registrant import MAX_NOTICES, NOTICE_RETRY, WINDOW
from tunnel.core.rendezvous import LIFETIME, UNREGISTERED_LIFETIME
from tunnel.noise.keys import PublicKey
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.relay import pack_relay, parse_relay
from tunnel.wire.rendezvous import (
    Acknowledge,
    AnswerFrom,
    Asked,
    Echo,
    Echoed,
    Gone,
    Grant,
    Granted,
    Introduce,
    Introduction,
    Leave,
    Moved,
    Probe,
    Redeem,
    RefusalReason,
    Refused,
    Register,
    Registered,
)

STRANGER = Endpoint("192.0.2.66", 666)


def acknowledge(node: ScriptedNode) -> None:
    """All notices it has heard."""
    for message in list(node.heard):
        serial = getattr(message, "serial", None)
        if serial is not None:
            node.send(Acknowledge(serial))


def pair(town: Town, **rtts: float) -> tuple[ScriptedNode, ScriptedNode]:
    """Two registered nodes, with their introductions heard and acknowledged."""
    a, b = town.add(1, rtt=rtts.get("a", 0.0)), town.add(2, rtt=rtts.get("b", 0.0))
    for node in (a, b):
        acknowledge(node)
        node.heard.clear()
    return a, b


# Registration and introduction


def test_registered() -> None:
    town = Town()
    node = ScriptedNode(town, 1)
    node.connect()
    assert node.is_connected
    node.register(7)
    time = int(town.clock.wall() * 1e6)
    assert node.heard == [Registered(7, node.endpoint, ALTERNATE.port, int(LIFETIME), None, time)]
    assert town.server.status(town.clock.now)["nodes"] == 1


def test_both_are_introduced() -> None:
    town = Town()
    a, b = town.add(1), town.add(2)
    (to_a,), (to_b,) = a.take(Introduction), b.take(Introduction)
    assert (to_a.peer, to_a.observed) == (b.key.data, b.endpoint)
    assert (to_b.peer, to_b.observed) == (a.key.data, a.endpoint)
    assert to_a.announcement == b"announcement 1 of " + b.key.data
    assert to_a.channel != to_b.channel
    assert 0 not in (to_a.channel, to_b.channel)
    assert town.server.introductions == 1


@pytest.mark.parametrize(
    ("rtt_a", "rtt_b", "start_a", "start_b"),
    [(0.0, 0.0, 0, 0), (0.02, 0.3, 140, 0), (0.3, 0.02, 0, 140), (0.0, 60.0, 2000, 0)],
)
def test_a_common_start(rtt_a: float, rtt_b: float, start_a: int, start_b: int) -> None:
    """Half a round trip takes the message; whoever is nearer waits for the other."""
    town = Town()
    a, b = town.add(1, rtt=rtt_a), town.add(2, rtt=rtt_b)
    (to_a,), (to_b,) = a.take(Introduction), b.take(Introduction)
    assert (to_a.start, to_b.start) == (start_a, start_b)
    assert to_a.peer_rtt == round(rtt_b * 1e6)


def test_networks_are_apart() -> None:
    town = Town()
    a, b = town.add(1), town.add(2, tag=b"another network.")
    assert a.take(Introduction) == b.take(Introduction) == []
    a.send(Introduce(b.key.data))
    assert [gone.peer for gone in a.take(Gone)] == [b.key.data]
    assert town.server.status(town.clock.now)["networks"] == 2


def test_a_node_changes_its_network() -> None:
    town = Town()
    a, b = pair(town)
    b.register(2, tag=b"another network.")
    assert [gone.peer for gone in a.take(Gone)] == [b.key.data]
    assert town.server.status(town.clock.now)["channels"] == 0


def test_the_same_announcement_again_introduces_nobody() -> None:
    town = Town()
    a, b = pair(town)
    b.register(1)
    assert b.take(Registered)
    assert a.heard == b.heard == []
    b.register(2)
    assert len(a.take(Introduction)) == len(b.take(Introduction)) == 1


def test_an_older_registration_that_was_under_way_does_not_undo_a_newer() -> None:
    town = Town()
    a, b = pair(town)
    b.register(3)
    acknowledge(a)
    a.heard.clear()
    b.register(2)
    assert a.take(Introduction) == []
    c = town.add(3)
    (announcement,) = (i.announcement for i in c.take(Introduction) if i.peer == b.key.data)
    assert announcement == b"announcement 3 of " + b.key.data


def test_a_node_that_restarted_counts_from_one_again() -> None:
    town = Town()
    a, b = pair(town)
    b.register(3)
    acknowledge(a)
    a.heard.clear()
    town.advance(1)
    again = ScriptedNode(town, 2, b.endpoint)
    again.connect()
    again.send(Register(1, 0, TAG, b"another instance"))
    assert [r.sequence for r in again.take(Registered)] == [1]
    assert [i.announcement for i in a.take(Introduction)] == [b"another instance"]


def test_introduce_again_is_limited() -> None:
    town = Town()
    a, b = pair(town)
    before = town.server.introductions
    for _ in range(100):
        a.send(Introduce(b.key.data))
        acknowledge(a)
        acknowledge(b)
        town.advance(0.01)
    assert 6 <= town.server.introductions - before <= 9
    a.send(Introduce(a.key.data))
    assert a.take(Gone), "nobody is introduced to himself"


def test_one_that_is_not_registered_is_introduced_to_nobody() -> None:
    town = Town()
    a = town.add(1)
    stray = ScriptedNode(town, 9)
    stray.connect()
    stray.send(Introduce(a.key.data))
    assert [type(message) for message in stray.heard] == [Gone]
    assert a.heard == []


@pytest.mark.parametrize(
    ("limits", "refused"),
    [
        ({"max_nodes_per_network": 2}, RefusalReason.NETWORK_FULL),
        ({"max_nodes": 2}, RefusalReason.SERVER_FULL),
    ],
)
def test_bounds(limits: dict[str, int], refused: RefusalReason) -> None:
    town = Town(**limits)
    a, b = town.add(1), town.add(2)
    third = ScriptedNode(town, 3)
    third.connect()
    third.register()
    assert third.heard == [Refused(refused, 0)]
    assert sum(town.server.drops.values()) == 1
    assert town.server.status(town.clock.now)["nodes"] == 2
    b.send(Leave())
    town.advance(1)
    third.connect()
    third.register()
    assert third.take(Registered)
    assert a.take(Gone)


# Notices


def test_notices_are_repeated_until_acknowledged() -> None:
    town = Town()
    town.add(1)
    b = town.add(2)
    (first,) = b.take(Introduction)
    town.advance(NOTICE_RETRY[0] + NOTICE_RETRY[1] + 0.01)
    assert b.take(Introduction) == [first, first]
    b.send(Acknowledge(first.serial))
    town.advance(30)
    assert b.take(Introduction) == []


def test_notices_are_dropped_in_the_end() -> None:
    town = Town()
    town.add(1)
    b = town.add(2)
    town.advance(50)
    assert len(b.take(Introduction)) == len(NOTICE_RETRY)


def test_a_missed_introduction_is_made_up_for_when_the_node_is_heard() -> None:
    """The node was out of reach for as long as the server repeats it."""
    town = Town()
    a, b = town.add(1), town.add(2)
    acknowledge(a)
    town.advance(50)
    for node in (a, b):
        node.heard.clear()
    b.send(Echo(1, 0))
    (to_a,), (to_b,) = a.take(Introduction), b.take(Introduction)
    assert (to_a.peer, to_b.peer) == (b.key.data, a.key.data), "of each other, for a common start"
    a.send(Acknowledge(to_a.serial))
    b.send(Acknowledge(to_b.serial))
    b.send(Echo(2, 0))
    town.advance(50)
    b.send(Echo(3, 0))
    assert a.take(Introduction) == b.take(Introduction) == []


def test_nobody_is_introduced_late_to_a_node_that_left() -> None:
    town = Town()
    a, b = town.add(1), town.add(2)
    acknowledge(a)
    town.advance(50)
    a.send(Leave())
    b.heard.clear()
    b.send(Echo(1, 0))
    assert b.take(Introduction) == []


def test_an_acknowledgement_of_nothing() -> None:
    town = Town()
    a, _ = pair(town)
    for serial in (0, 1, 99, 2**32 - 1):
        a.send(Acknowledge(serial))
    assert a.heard == []


def test_notices_under_way_and_kept_are_bounded() -> None:
    town = Town()
    a, b = pair(town)
    for number in range(MAX_NOTICES):
        b.send(Grant(number, a.key.data, b"sealed"))
    first = a.take(Granted)
    assert len(first) == WINDOW
    for number in range(MAX_NOTICES):
        b.send(Grant(number, a.key.data, b"sealed"))
    assert len(a.take(Granted)) <= MAX_NOTICES, "the oldest gives way to the newest"
    serials: set[int] = set()
    for _ in range(2 * MAX_NOTICES // WINDOW):
        town.advance(NOTICE_RETRY[0])
        for message in a.take(Granted):
            serials.add(message.serial)
            a.send(Acknowledge(message.serial))
        serials |= {message.serial for message in a.heard if isinstance(message, Granted)}
    assert len(serials) == MAX_NOTICES
    town.advance(10)
    acknowledge(a)
    a.heard.clear()
    town.advance(30)
    assert a.heard == []


# Moving, leaving, silence


def test_moved_is_told_to_the_peers_at_once() -> None:
    town = Town()
    a, b = pair(town)
    c = town.add(3)
    for node in (a, b, c):
        acknowledge(node)
        node.heard.clear()
    elsewhere = Endpoint("203.0.113.2", 50_000)
    b.move(elsewhere)
    b.keep_alive()
    for node in (a, c):
        (moved,) = node.take(Moved)
        assert (moved.peer, moved.endpoint) == (b.key.data, elsewhere)
    assert b.heard == []
    b.send(Echo(5, 0))
    assert b.take(Echoed) == [Echoed(5, 0, elsewhere)]


def test_only_an_authentic_datagram_moves() -> None:
    town = Town()
    a, b = pair(town)
    frame = b.link.session.seal(b"", town.clock.now)
    assert frame is not None
    for changed in (frame[:-1], frame[:-1] + b"\0", b"\4" + bytes(40)):
        town.receive(changed, STRANGER)
    assert a.take(Moved) == []
    town.receive(frame, b.endpoint)
    town.receive(frame, STRANGER)
    assert a.take(Moved) == []
    assert town.server.drops["replay"] == 1


def test_the_second_port_observes_and_moves_nothing() -> None:
    town = Town()
    a, b = pair(town)
    elsewhere = Endpoint("203.0.113.2", 50_000)
    b.move(elsewhere)
    b.send(Echo(5, 0), local=1)
    assert b.take(Echoed) == [Echoed(5, 1, elsewhere)]
    assert a.take(Moved) == []


def test_a_probe_is_answered_twice_and_moves_nothing() -> None:
    town = Town()
    a, b = pair(town)
    socket = Endpoint("203.0.113.2", 50_001)
    b.move(socket)
    b.send(Probe(5, 20_000))
    assert b.take(Echoed) == [Echoed(5, 0, socket)]
    assert a.take(Moved) == []
    town.advance(19.9)
    assert b.take(Echoed) == []
    town.advance(0.2)
    assert b.take(Echoed) == [Echoed(5, 0, socket)]
    town.advance(60)
    assert b.take(Echoed) == []


def test_a_probe_that_asks_for_a_late_answer_gets_no_other() -> None:
    town = Town()
    _, b = pair(town)
    socket = Endpoint("203.0.113.2", 50_001)
    b.move(socket)
    b.send(Probe(5, 20_000, AnswerFrom.SAME_LATER))
    town.advance(19.9)
    assert b.take(Echoed) == []
    town.advance(0.2)
    assert b.take(Echoed) == [Echoed(5, 0, socket)]


def test_late_answers_are_bounded() -> None:
    town = Town()
    _, b = pair(town)
    for number in range(50):
        b.send(Probe(number, 10_000))
    b.send(Probe(99, 2**32 - 1))
    b.take(Echoed)
    town.advance(20)
    assert len(b.take(Echoed)) <= 4


def test_leave() -> None:
    town = Town()
    a, b = pair(town)
    b.send(Leave())
    assert [gone.peer for gone in a.take(Gone)] == [b.key.data]
    status = town.server.status(town.clock.now)
    assert (status["nodes"], status["sessions"], status["channels"]) == (1, 1, 0)
    frame = b.link.session.seal(b"", town.clock.now)
    assert frame is not None
    town.receive(frame, b.endpoint)
    assert town.server.drops["unknown receiver"] == 1, "and its keys are gone"


def test_a_silent_node_is_forgotten() -> None:
    town = Town()
    a, b = pair(town)
    for _ in range(int(LIFETIME) // 10 - 1):
        town.advance(10)
        a.keep_alive()
    assert a.take(Gone) == []
    for _ in range(3):
        town.advance(10)
        a.keep_alive()
    assert b.key.data in [gone.peer for gone in a.take(Gone)]
    assert town.server.status(town.clock.now)["nodes"] == 1


def test_one_that_never_registers_is_forgotten_sooner() -> None:
    town = Town()
    ScriptedNode(town, 9).connect()
    town.advance(UNREGISTERED_LIFETIME - 0.1)
    assert town.server.status(town.clock.now)["sessions"] == 1
    town.advance(0.2)
    assert town.server.status(town.clock.now)["sessions"] == 0
    assert town.server.get_timer() is None


def test_both_address_families() -> None:
    """Introductions name the endpoint of the family it registered with."""
    town = Town()
    a, b = pair(town)
    v4, v6 = b.endpoint, Endpoint("2001:db8:2::2", 7)
    b.move(v6)
    b.send(Echo(1, 0))
    assert a.take(Moved) == [], "one more endpoint is not another"
    b.register(2)
    (introduction,) = a.take(Introduction)
    assert introduction.observed == v6
    b.move(v4)
    b.register(3)
    assert a.take(Introduction)[-1].observed == v4


def test_one_that_has_only_spoken_to_the_second_port() -> None:
    """It is registered, but nobody could be told where it is; until it speaks to the first."""
    town = Town()
    a = town.add(1)
    b = ScriptedNode(town, 2)
    b.connect()
    b.send(Register(1, 0, TAG, b"announcement"), local=1)
    assert a.heard == []
    assert b.heard == []
    b.register(2)
    assert a.take(Introduction)[-1].observed == b.endpoint
    assert b.take(Registered)


# Relay


def channels(town: Town) -> tuple[ScriptedNode, ScriptedNode, int, int]:
    a, b = town.add(1), town.add(2)
    (to_a,), (to_b,) = a.take(Introduction), b.take(Introduction)
    acknowledge(a)
    return a, b, to_a.channel, to_b.channel


def test_relayed() -> None:
    town = Town()
    a, b, channel_a, channel_b = channels(town)
    a.send_raw(pack_relay(channel_a, b"from a"))
    b.send_raw(pack_relay(channel_b, b"from b"))
    assert [parse_relay(d) for d in b.channels] == [(channel_b, b"from a")]
    assert [parse_relay(d) for d in a.channels] == [(channel_a, b"from b")]
    status = town.server.status(town.clock.now)
    assert status["relayed_datagrams"] == 2
    assert status["relayed_bytes"] == 2 * len(pack_relay(1, b"from a"))
    assert status["channels"] == 1


def test_only_the_owner_of_a_channel_may_use_it_and_only_from_where_it_is() -> None:
    town = Town()
    a, b, channel_a, channel_b = channels(town)
    for channel, source in (
        (channel_a, STRANGER),
        (channel_a, b.endpoint),
        (channel_b, a.endpoint),
        (channel_a, a.endpoint._replace(port=1)),
        (channel_a ^ channel_b ^ 1, a.endpoint),
        (0, a.endpoint),
    ):
        town.receive(pack_relay(channel, b"x"), source)
    town.receive(pack_relay(channel_a, b"x")[:8], a.endpoint)
    assert a.channels == b.channels == []
    assert town.lost == []
    assert sum(town.server.drops.values()) == 7


def test_the_relay_follows_a_node_that_moves() -> None:
    town = Town()
    a, b, channel_a, _ = channels(town)
    elsewhere = Endpoint("203.0.113.2", 50_000)
    b.move(elsewhere)
    b.keep_alive()
    a.send_raw(pack_relay(channel_a, b"after it"))
    assert len(b.channels) == 1


def test_channels_stay_with_the_pair_and_end_with_it() -> None:
    town = Town()
    a, b, channel_a, _ = channels(town)
    b.register(2)
    assert a.take(Introduction)[-1].channel == channel_a
    b.send(Leave())
    town.receive(pack_relay(channel_a, b"x"), a.endpoint)
    assert town.server.drops["relay: unknown channel"] == 1


def test_relay_rate() -> None:
    town = Town(relay_rate_per_node=100_000.0)
    a, b, channel_a, channel_b = channels(town)
    datagram = pack_relay(channel_a, bytes(992))
    for _ in range(5000):
        a.send_raw(datagram)
    forwarded = len(b.channels)
    assert forwarded == 256 * 1024 // 1000
    assert town.server.drops["relay: over the rate limit"] == 5000 - forwarded
    b.send_raw(pack_relay(channel_b, bytes(992)))
    assert len(a.channels) == 1, "each node has its own"
    town.advance(1)
    for _ in range(500):
        a.send_raw(datagram)
    assert len(b.channels) - forwarded == pytest.approx(100, abs=2)


def test_a_server_that_does_not_relay() -> None:
    town = Town(relay=False)
    a, _, channel_a, channel_b = channels(town)
    assert channel_a == channel_b == 0
    town.receive(pack_relay(1, b"x"), a.endpoint)
    assert town.server.drops["relay: unknown channel"] == 1


# Invitations


def test_redeem_and_grant_go_between_joiner_and_inviter() -> None:
    town = Town()
    inviter = town.add(1)
    joiner = ScriptedNode(town, 5)
    joiner.connect()
    joiner.send(Redeem(77, inviter.key.data, b"request"))
    (asked,) = inviter.take(Asked)
    assert asked == Asked(asked.serial, 77, joiner.key.data, b"request")
    inviter.send(Grant(77, joiner.key.data, b"answer"))
    (granted,) = joiner.take(Granted)
    assert granted == Granted(granted.serial, 77, b"answer")
    town.advance(1)
    assert joiner.take(Granted), "until it is acknowledged"


def test_inviter_offline() -> None:
    town = Town()
    joiner, unregistered = ScriptedNode(town, 5), ScriptedNode(town, 6)
    joiner.connect()
    unregistered.connect()
    for inviter in (key(1).public_key, unregistered.key):
        joiner.send(Redeem(77, inviter.data, b"request"))
        assert joiner.take(Refused) == [Refused(RefusalReason.INVITER_OFFLINE, 77)]


def test_guessing_is_limited() -> None:
    town = Town()
    inviter = town.add(1)
    joiner = ScriptedNode(town, 5)
    joiner.connect()
    for number in range(20):
        joiner.send(Redeem(number, inviter.key.data, b"guess"))
    assert len(inviter.take(Asked)) <= 5
    assert Refused(RefusalReason.TOO_MANY, 19) in joiner.heard
    # Another key from the same address is no other guesser.
    other = ScriptedNode(town, 6, joiner.endpoint._replace(port=9))
    other.connect()
    other.send(Redeem(1, inviter.key.data, b"guess"))
    assert other.take(Refused) == [Refused(RefusalReason.TOO_MANY, 1)]


def test_a_grant_for_nobody() -> None:
    town = Town()
    inviter = town.add(1)
    inviter.send(Grant(77, key(5).public_key.data, b"answer"))
    assert inviter.heard == []
    assert town.lost == []


# STUN


@pytest.mark.parametrize(
    ("source", "length"), [(STRANGER, 32), (Endpoint("2001:db8::66", 666), 44)]
)
def test_stun(source: Endpoint, length: int) -> None:
    town = Town()
    for local in (0, 1):
        town.receive(stun_request(), source, local)
        (answer,) = town.lost
        assert answer.endpoint == source
        assert answer.local == local
        assert len(answer.data) == length
        town.lost.clear()
    assert town.server.stun.count == 2


def test_stun_is_limited_per_source() -> None:
    town = Town()
    for port in range(200):
        town.receive(stun_request(), STRANGER._replace(port=1000 + port))
    assert len(town.lost) == 30
    assert town.server.drops["stun: over the rate limit"] == 170
    town.receive(stun_request(), Endpoint("192.0.2.67", 1))
    assert len(town.lost) == 31
    town.advance(1)
    for port in range(100):
        town.receive(stun_request(), STRANGER._replace(port=1000 + port))
    assert len(town.lost) == 41


# Strangers


def test_strangers_get_nothing() -> None:
    """Whatever the first byte and the length; but for a STUN request, tested above."""
    town = Town()
    town.add(1)
    fillings = (b"\0", b"\xff", b"\x21\x12\xa4\x42")
    sent = 0
    for kind in range(256):
        for length in (*range(50), 64, 92, 100, 148, 149, 200, 300):
            for filling in fillings:
                datagram = (bytes([kind]) + b"\0\0\0" + filling * 300)[:length]
                town.receive(datagram, STRANGER)
                sent += 1
    assert town.lost == []
    assert sum(town.server.drops.values()) == sent
    assert all(town.server.drops)


def test_every_length_of_every_message_type() -> None:
    town = Town()
    for kind in range(7):
        for length in range(301):
            town.receive((bytes([kind, 0, 0, 0]) + bytes(300))[:length], STRANGER)
    assert town.lost == []
    assert sum(town.server.drops.values()) == 7 * 301


@pytest.mark.parametrize(
    ("access", "server_key"),
    [(b"another token...", SERVER_KEY.public_key), (ACCESS, key(77).public_key)],
    ids=["another token", "another key"],
)
def test_without_the_url_there_is_no_answer(access: bytes, server_key: PublicKey) -> None:
    """Key and token are both in mac1: whoever lacks either costs one hash."""
    town = Town()
    node = ScriptedNode(town, 1, access=access, server_key=server_key)
    node.connect()
    assert town.server.drops["mac1"] == 1
    assert town.lost == []
    assert not node.is_connected
    assert town.server.status(town.clock.now)["sessions"] == 0


def test_a_replayed_initiation_is_not_answered() -> None:
    town = Town()
    node = ScriptedNode(town, 1)
    node.link.session.initiate(town.clock.now)
    (transmit,) = node.link.datagrams_to_send()
    town.receive(bytes(transmit.data), node.endpoint)
    town.advance(1)
    town.receive(bytes(transmit.data), STRANGER)
    assert town.lost == []
    assert town.server.drops["initiation replayed"] == 1


def test_a_load_of_initiations_brings_cookies_no_longer_than_they_are() -> None:
    town = Town()
    for number in range(1, 250):
        node = ScriptedNode(town, number, Endpoint(f"192.0.2.{number}", 666))
        node.link.session.initiate(town.clock.now)
        (transmit,) = node.link.datagrams_to_send()
        del town.nodes[node.endpoint]
        town.receive(bytes(transmit.data), node.endpoint)
    sizes = {len(transmit.data) for transmit in town.lost}
    assert sizes == {92, 64}
    assert town.server.drops["initiation: cookie demanded"] == 49


stranger_bytes = st.one_of(
    st.binary(max_size=300),
    st.tuples(st.sampled_from([1, 2, 3, 4, 5]), st.binary(max_size=200)).map(
        lambda pair: bytes([pair[0], 0, 0, 0]) + pair[1]
    ),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(stranger_bytes, min_size=1, max_size=10))
def test_any_datagrams_of_strangers(datagrams: list[bytes]) -> None:
    server = make_server(Clock())
    server.receive_datagrams([memoryview(d) for d in datagrams], STRANGER, 1000.0, 0)  # type: ignore[misc]
    assert server.datagrams_to_send(1000.0) == []
    assert sum(server.drops.values()) == len(datagrams)
    assert server.get_timer() is None


PAYLOAD_HEADS = [bytes([kind, 0, 0, 0]) for kind in range(11)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_payload_of_a_node(data: st.DataObject) -> None:
    """A node that has the URL may say what it likes; and others go on."""
    town = Town()
    a, b = pair(town)
    for _ in range(data.draw(st.integers(1, 8))):
        head = data.draw(st.sampled_from(PAYLOAD_HEADS) | st.binary(max_size=4))
        rest = data.draw(
            st.binary(max_size=120) | st.sampled_from([a.key.data, b.key.data, TAG + b"\1\0x"])
        )
        frame = a.link.session.seal(head + rest, town.clock.now)
        assert frame is not None
        a.send_raw(frame, data.draw(st.integers(0, 3)))
        town.advance(data.draw(st.floats(0, 5)))
    b.send(Echo(5, 0))
    assert b.take(Echoed)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 200), st.integers(1, 255), st.sampled_from(["initiation", "frame", "relay"]))
def test_mutations_of_valid_traffic(position: int, change: int, kind: str) -> None:
    town = Town()
    a, b, channel, _ = channels(town)
    if kind == "initiation":
        node = ScriptedNode(town, 9)
        node.link.session.initiate(town.clock.now)
        datagram = bytearray(node.link.datagrams_to_send()[0].data)
    elif kind == "frame":
        datagram = bytearray(a.link.session.seal(Echo(1, 0).pack(), town.clock.now) or b"")
    else:
        datagram = bytearray(pack_relay(channel, b"inner"))
    at = position % len(datagram)
    datagram[at] ^= change
    before = sum(town.server.drops.values())
    town.receive(bytes(datagram), STRANGER if kind == "initiation" else a.endpoint)
    if kind == "relay" and at >= 8:
        assert len(b.channels) == 1, "what is inside is the peers' business"
    elif kind == "initiation" and at >= len(datagram) - 16:
        assert len(town.lost) == 1, "mac2 counts under load alone"
    else:
        assert sum(town.server.drops.values()) == before + 1
        assert b.channels == []
        assert town.lost == []


# Clock


def test_timer_reads_only_and_may_fire_early_or_twice() -> None:
    town = Town()
    town.add(1)
    b = town.add(2)
    b.heard.clear()
    timer = town.server.get_timer()
    assert timer is not None
    assert timer == town.server.get_timer()
    town.server.handle_timer(town.clock.now)
    town.settle()
    assert b.heard == []
    town.server.handle_timer(timer)
    town.settle()
    assert len(b.heard) == 1
    town.server.handle_timer(timer)
    town.settle()
    assert len(b.heard) == 1
    later = town.server.get_timer()
    assert later is not None
    assert later > timer


def test_a_day_of_echoes_and_introductions_leaves_few_timers() -> None:
    """When all have left, each timer still in the heap is one more time the server asks for."""
    town = Town()
    nodes = [town.add(number) for number in range(1, 5)]
    for node in nodes:
        acknowledge(node)
    for step in range(24 * 60):
        town.advance(60)
        for node in nodes:
            node.send(Echo(step, 0))
            if step % 20 == 0:
                node.send(Introduce(nodes[step // 20 % 4].key.data))
            acknowledge(node)
            node.heard.clear()
    for _ in range(2000):
        town.advance(0.001)
        nodes[0].send(Acknowledge(99))
    for node in nodes:
        node.send(Leave())
    wake_ups = 0
    while (at := town.server.get_timer()) is not None:
        town.server.handle_timer(at)
        wake_ups += 1
    assert wake_ups < 100
    status = town.server.status(town.clock.now)
    assert (status["nodes"], status["sessions"], status["networks"]) == (0, 0, 0)


def test_same_seed_same_bytes() -> None:
    def run() -> list[bytes]:
        town = Town()
        ScriptedNode(town, 9).connect()
        a, b = town.add(1), town.add(2)
        del town.nodes[a.endpoint], town.nodes[b.endpoint]
        town.advance(20)
        return [bytes(transmit.data) for transmit in town.lost]

    assert len(run()) > 5
    assert run() == run()


def test_many_fall_silent_at_the_same_moment() -> None:
    """A carrier's outage: each is forgotten once, and none from within forgetting another."""
    town = Town()
    nodes = [town.add(number) for number in range(1, 30)]
    assert nodes
    town.advance(2 * LIFETIME)
    assert town.server.status(town.clock.now)["sessions"] == 0


def test_a_copy_of_an_initiation_by_the_other_family_is_answered_once() -> None:
    """A node asks by both at once; the way by which the first copy came may be open in one
    direction only."""
    town = Town()
    node = ScriptedNode(town, 1)
    other = Endpoint("2001:db8::7", 40001)
    node.link.session.restart_handshake(town.clock.now)
    (transmit,) = node.link.datagrams_to_send()
    initiation = bytes(transmit.data)
    for source in (other, node.endpoint, other, node.endpoint, other._replace(port=9)):
        town.server.receive_datagrams([initiation], source, town.clock.now)
    answers = town.server.datagrams_to_send(town.clock.now)
    assert [answer.endpoint for answer in answers] == [other, node.endpoint]
    assert answers[0].data == answers[1].data
    assert town.server.drops == {"initiation replayed": 3}
    node.receive(bytes(answers[1].data))
    assert node.is_connected
    node.register()
    town.server.receive_datagrams([initiation], other, town.clock.now)
    assert town.server.drops["initiation replayed"] == 4, "it has heard of the keys' use"
