"""Bounds per network and per source: who is refused is told so, and displaces nobody."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.ends import ACCESS, SERVER_KEY, TAG, Clock, ScriptedNode, Town, make_server, seeded
from tests.core.test_rendezvous import acknowledge
from tunnel.core.admission import Admission
from tunnel.core.indices import IndexTable
from tunnel.core.machine import FIRST_STREAM
from tunnel.core.rendezvous import LIFETIME, UNREGISTERED_LIFETIME
from tunnel.core.server_session import ServerSession
from tunnel.noise.keys import PrivateKey
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.handshake import COOKIE_REPLY, INITIATION_LENGTH, RESPONSE, parse_cookie_reply
from tunnel.wire.rendezvous import Leave, RefusalReason, Refused, Registered

ONE_HOST = "203.0.113.77"


def tag(number: int) -> bytes:
    return b"tag" + number.to_bytes(13, "big")


def try_to_register(
    town: Town, number: int, endpoint: Endpoint, network: bytes = TAG
) -> tuple[ScriptedNode, RefusalReason | None]:
    """With keys of its own; why it is refused."""
    node = ScriptedNode(town, number, endpoint)
    node.connect()
    if not node.is_connected:
        node.connect()  # With the cookie.
    node.register(tag=network)
    refused = node.take(Refused)
    assert len(refused) + len(node.take(Registered)) == 1
    return node, refused[0].reason if refused else None


def test_nodes_of_one_source() -> None:
    town = Town(max_nodes_per_source=3)
    old = [try_to_register(town, n, Endpoint(ONE_HOST, n), tag(n)) for n in (1, 2, 3)]
    assert [refused for _, refused in old] == [None] * 3
    _, refused = try_to_register(town, 4, Endpoint(ONE_HOST, 4), tag(4))
    assert refused is RefusalReason.SOURCE_FULL
    _, refused = try_to_register(town, 5, Endpoint("203.0.113.78", 4), tag(5))
    assert refused is None
    # Those that were there go on, with new keys and changed announcements too.
    for node, _ in old:
        node.connect()
        node.register(2, tag=tag(node.key.data[0]))
    assert town.server.status(town.clock.now)["nodes"] == 4
    old[0][0].send(Leave())
    _, refused = try_to_register(town, 6, Endpoint(ONE_HOST, 6), tag(6))
    assert refused is None


def test_nodes_of_one_ipv6_site() -> None:
    town = Town(max_nodes_per_source=3)
    for number in range(1, 6):
        endpoint = Endpoint(f"2001:db8:0:1::{number:x}", 1)
        _, refused = try_to_register(town, number, endpoint)
        assert (refused is None) is (number <= 3)
    _, refused = try_to_register(town, 6, Endpoint("2001:db8:0:2::1", 1))
    assert refused is None


def test_networks_of_one_source_and_in_all() -> None:
    town = Town(max_networks_per_source=2, max_networks=3)
    expected = [None, None, RefusalReason.TOO_MANY_NETWORKS]
    nodes = []
    for number, reason in zip((1, 2, 3), expected, strict=True):
        node, refused = try_to_register(town, number, Endpoint(ONE_HOST, number), tag(number))
        assert refused is reason
        nodes.append(node)
    _, refused = try_to_register(town, 4, Endpoint(ONE_HOST, 4), tag(1))
    assert refused is None, "of a network that is there"
    _, refused = try_to_register(town, 5, Endpoint("203.0.113.5", 4), tag(5))
    assert refused is None
    _, refused = try_to_register(town, 6, Endpoint("203.0.113.6", 4), tag(6))
    assert refused is RefusalReason.SERVER_FULL
    nodes[1].send(Leave())
    _, refused = try_to_register(town, 7, Endpoint(ONE_HOST, 7), tag(7))
    assert refused is None


def test_who_was_refused_may_come_again() -> None:
    town = Town(max_nodes_per_network=1)
    first, _ = try_to_register(town, 1, Endpoint(ONE_HOST, 1))
    second, refused = try_to_register(town, 2, Endpoint(ONE_HOST, 2))
    assert refused is RefusalReason.NETWORK_FULL
    first.send(Leave())
    second.register()
    assert second.take(Registered)


def test_a_node_that_changes_to_a_full_network_is_in_none() -> None:
    town = Town(max_nodes_per_network=1)
    try_to_register(town, 1, Endpoint(ONE_HOST, 1), tag(1))
    node, _ = try_to_register(town, 2, Endpoint(ONE_HOST, 2), tag(2))
    node.register(2, tag=tag(1))
    assert [refused.reason for refused in node.take(Refused)] == [RefusalReason.NETWORK_FULL]
    status = town.server.status(town.clock.now)
    assert (status["nodes"], status["networks"]) == (1, 1)


def test_a_proxy_on_this_machine_stands_for_many() -> None:
    town = Town(max_nodes_per_source=1, max_waiting_per_source=1)
    for number in range(1, 6):
        endpoint = Endpoint("127.0.0.1", number)
        town.server.stream_opened(FIRST_STREAM + number, endpoint, town.clock.now)
        _, refused = try_to_register(town, number, endpoint)
        assert refused is None


# Sessions that do not register


class Crowd:
    """Many with the server's URL and keys of their own."""

    def __init__(self, **limits: float) -> None:
        self.clock = Clock()
        self.server = make_server(self.clock, **limits)
        self._random_bytes = seeded(9)

    def knock(self, source: Endpoint) -> tuple[ServerSession, list[bytes]]:
        """An initiation, and what comes back to where it says that it is from."""
        link = ServerSession(
            static=PrivateKey.generate(self._random_bytes),
            server_key=SERVER_KEY.public_key,
            access_token=ACCESS,
            indices=IndexTable(self._random_bytes),
            random_bytes=self._random_bytes,
            wall_clock=self.clock.wall,
        )
        link.set_endpoints([Endpoint("198.51.100.1", 12345)])
        link.session.initiate(self.clock.now)
        return link, self.send(link, source)

    def send(self, link: ServerSession, source: Endpoint) -> list[bytes]:
        (transmit,) = link.datagrams_to_send()
        assert len(transmit.data) == INITIATION_LENGTH
        self.server.receive_datagrams([bytes(transmit.data)], source, self.clock.now)
        answers = self.server.datagrams_to_send(self.clock.now)
        assert all(answer.endpoint == source for answer in answers)
        return [bytes(answer.data) for answer in answers]


def test_sessions_begun_in_the_name_of_another_are_few() -> None:
    """Who forges a source sees no cookie. He takes up a quarter of what the source may have, and
    those who are there come in."""
    crowd = Crowd()
    victim = Endpoint("192.0.2.9", 1)
    responses = 0
    for _ in range(100):
        _, answers = crowd.knock(victim)
        responses += answers[0][0] == RESPONSE
    assert responses == crowd.server.config.max_waiting_per_source // 4 == 16
    for _ in range(30):
        link, (cookie,) = crowd.knock(victim)
        assert cookie[0] == COOKIE_REPLY
        link.receive_cookie(parse_cookie_reply(cookie), crowd.clock.now)
        crowd.clock.now += 0.1
        link.session.restart_handshake(crowd.clock.now)
        (response,) = crowd.send(link, victim)
        assert response[0] == RESPONSE
    _, (answer,) = crowd.knock(victim._replace(host="192.0.2.10"))
    assert answer[0] == RESPONSE, "others are not asked"


def test_sessions_that_do_not_register_are_bounded_per_source_and_in_all() -> None:
    crowd = Crowd(max_waiting=40, max_waiting_per_source=8)
    for number in range(400):
        crowd.knock(Endpoint(f"192.0.2.{number % 100}", number))
        crowd.clock.now += 0.01
    status = crowd.server.status(crowd.clock.now)
    assert status["sessions"] == 10, "beyond, they have to show where they are"
    crowd.clock.now += UNREGISTERED_LIFETIME + 1
    crowd.server.handle_timer(crowd.clock.now)
    assert crowd.server.status(crowd.clock.now)["sessions"] == 0


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_waiting": 4}, "too many sessions without registration"),
        (
            {"max_waiting_per_source": 4},
            "too many sessions without registration from one source",
        ),
    ],
)
def test_a_bound_of_sessions_holds_whoever_shows_where_he_is(
    limits: dict[str, int], reason: str
) -> None:
    town = Town(**limits)
    for number in range(1, 7):
        node = ScriptedNode(town, number, Endpoint(ONE_HOST, number))
        node.connect()
        town.advance(0.1)
        if not node.is_connected:
            node.connect()
        assert node.is_connected is (number <= 4)
    assert town.server.drops[reason] == 2
    assert town.server.status(town.clock.now)["sessions"] == 4


# Moving


def test_a_node_counts_for_where_it_has_shown_to_be() -> None:
    town = Town(max_nodes_per_source=1)
    node, _ = try_to_register(town, 1, Endpoint(ONE_HOST, 1))
    there = Endpoint("198.51.100.99", 1)
    node.is_honest = False
    node.move(there)
    node.keep_alive()
    node.register(2)
    _, refused = try_to_register(town, 2, there._replace(port=2), tag(2))
    assert refused is None, "it only says that it is there"
    node.is_honest = True
    town.advance(1)
    node.keep_alive()
    node.register(3)
    _, refused = try_to_register(town, 3, there._replace(port=3), tag(3))
    assert refused is RefusalReason.SOURCE_FULL
    _, refused = try_to_register(town, 4, Endpoint(ONE_HOST, 4), tag(4))
    assert refused is None


# The counts


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["connect", "register", "leave", "move", "wait"]),
            st.integers(1, 6),
            st.integers(1, 3),
        ),
        max_size=40,
    )
)
def test_counts_agree_with_what_is_there(steps: list[tuple[str, int, int]]) -> None:
    town = Town(max_nodes_per_source=2, max_nodes_per_network=2, max_networks_per_source=1)
    nodes = {n: ScriptedNode(town, n, Endpoint(f"192.0.2.{n % 3}", n)) for n in range(1, 7)}
    for step, (what, number, place) in enumerate(steps):
        node = nodes[number]
        if what == "connect":
            node.connect()
        elif what == "wait":
            town.advance(100.0 * place)
        elif what == "move":
            node.move(Endpoint(f"192.0.2.{place}", 1000 + step))
        elif node.is_connected and what == "register":
            node.register(step, tag=tag(place))
        elif node.is_connected:
            node.send(Leave())
        acknowledge(node)
        check_counts(town)
    town.advance(2 * LIFETIME)
    check_counts(town)
    assert vars(town.server._admission) == vars(Admission(town.server.config))


def check_counts(town: Town) -> None:
    server, counts = town.server, town.server._admission
    registered = [r for r in server._registrants.values() if r.network is not None]
    assert counts.nodes == len(registered)
    assert counts.waiting == len(server._registrants) - len(registered)
    assert counts._nodes_of.total() == counts.nodes
    assert counts._waiting_of.total() == counts.waiting
    assert counts._founded_from.keys() == server._networks.keys()
    assert counts._networks_of.total() == len(server._networks)
    for source, count in counts._nodes_of.items():
        assert count == sum(r.source == source for r in registered)
