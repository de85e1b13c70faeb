"""A network without UDP: to the server by a stream, and back."""

from __future__ import annotations

from functools import partial

import pytest

from tests.sim.host import Host
from tests.sim.nat import Nat
from tests.sim.streams import VirtualStreams
from tests.sim.world import AB, BA, World
from tunnel.core.events import PeerGone, ServerLost, SessionEstablished, TransportChanged
from tunnel.core.transport import ASK_DELAYS, ASK_SPACING, ROUND_DELAYS, UDP_PATIENCE


class Blocked:
    """`a` is behind a network that may block UDP; `b` is at home. Not started yet."""

    def __init__(self, *, is_blocked: bool = True) -> None:
        self.world = World()
        self.net = self.world.net
        self.world.add_node("b", Nat())
        self.world.add_node("a", Nat())
        self.a, self.b = self.world.hosts["a"], self.world.hosts["b"]
        self.streams = VirtualStreams(self.net, self.world.server_host, self.a, self.b)
        if is_blocked:
            self.net.block_udp(self.a)

    @property
    def transport(self) -> str:
        node = self.world.node("a")
        return node.registration.transport.kind if node.registration.is_connected else "none"

    def wait_for(self, transport: str, timeout: float = 30.0) -> float:
        """Seconds until then."""
        began = self.net.now
        assert self.net.run_until_true(lambda: self.transport == transport, timeout), (
            f"{self.transport} after {timeout} s, not {transport}"
        )
        return self.net.now - began

    def ping_pong(self) -> bool:
        """Whether a packet gets through, each way."""
        for way, host in ((AB, self.a), (BA, self.b)):
            other = self.world.hosts[way[1]]
            count = len(other.packets_received)
            host.send_packet(self.world.packet(*way, b"hello"))
            arrived = partial(_has_more_than, other, count)
            if not self.net.run_until_true(arrived, 2.0):
                return False
        return True


def _has_more_than(host: Host, count: int) -> bool:
    return len(host.packets_received) > count


def transports(blocked: Blocked) -> list[str]:
    return [event.after for event in blocked.world.events("a", TransportChanged)]


def test_where_udp_passes_no_stream_is_opened() -> None:
    free = Blocked(is_blocked=False)
    assert free.world.wait_until_direct()
    free.net.run_for(600.0)
    assert free.streams.opened == []
    assert transports(free) == []


def test_connected_by_tcp_and_the_pair_is_relayed() -> None:
    blocked = Blocked()
    assert blocked.wait_for("tcp") < UDP_PATIENCE + 0.5
    assert blocked.net.run_until_true(lambda: blocked.world.states() == {"relayed"}, 5.0)
    assert blocked.ping_pong()
    node = blocked.world.node("a")
    assert node.registration.is_udp_blocked
    assert node.status(blocked.a.now)["server"]["transport"] == "tcp"
    assert node.registration.reflexive_endpoints() == []
    assert not blocked.world.node("b").registration.is_udp_blocked
    assert [e for _, e in blocked.streams.opened] == ["tcp"], "nothing else is asked for"
    assert blocked.world.events("a", ServerLost) == []


def test_only_a_websocket_passes() -> None:
    blocked = Blocked()
    blocked.streams.passes = ("websocket",)
    assert blocked.wait_for("websocket") < UDP_PATIENCE + 0.5
    assert blocked.net.run_until_true(lambda: blocked.world.states() == {"relayed"}, 5.0)
    assert blocked.ping_pong()
    # Next time what worked comes first.
    blocked.streams.opened.clear()
    blocked.streams.break_all()
    blocked.net.run_for(1.0)
    assert blocked.transport == "websocket"
    assert blocked.streams.opened[0][1] == "websocket"


def test_only_a_websocket_passes_and_tcp_is_dropped_in_silence() -> None:
    blocked = Blocked()
    blocked.streams.passes = ("websocket",)
    blocked.streams.is_dropping = True
    assert blocked.wait_for("websocket") < UDP_PATIENCE + 1.0


def test_back_to_udp_and_direct_again() -> None:
    blocked = Blocked()
    blocked.wait_for("tcp")
    blocked.net.run_for(300.0)
    blocked.net.unblock_udp(blocked.a)
    assert blocked.wait_for("udp") <= 1.25 * ASK_DELAYS[-1]
    assert blocked.world.wait_until_direct()
    assert blocked.ping_pong()
    blocked.net.run_for(5.0)
    assert blocked.world.server.status(blocked.net.now)["streams"] == 0
    assert transports(blocked) == ["tcp", "udp"]
    assert blocked.world.node("a").lifetime.get_timer() is not None


def test_back_to_udp_at_once_when_the_network_changes() -> None:
    blocked = Blocked()
    blocked.wait_for("tcp")
    blocked.net.run_for(300.0)
    blocked.net.unblock_udp(blocked.a)
    blocked.world.tell_addresses("a")
    assert blocked.wait_for("udp") < 0.5


def test_udp_is_blocked_on_a_direct_pair() -> None:
    """The peers' session lives on, and what is sent meanwhile arrives."""
    blocked = Blocked(is_blocked=False)
    assert blocked.world.wait_until_direct()
    blocked.net.run_for(10.0)
    blocked.net.block_udp(blocked.a)
    for _ in range(100):
        blocked.a.send_packet(blocked.world.packet(*AB, b"x" * 100))
        blocked.net.run_for(0.05)
    assert blocked.transport == "tcp"
    received = len(blocked.b.packets_received)
    assert received > 90
    assert blocked.ping_pong()
    assert len(blocked.world.events("a", SessionEstablished)) == 1
    assert blocked.world.events("b", PeerGone) == []
    blocked.net.unblock_udp(blocked.a)
    blocked.wait_for("udp")
    assert blocked.world.wait_until_direct()


@pytest.mark.parametrize("way", ["in", "out"])
def test_udp_passes_one_way_only(way: str) -> None:
    """What gets to the server over UDP while its answers do not must not keep it there."""
    blocked = Blocked(is_blocked=False)
    server = blocked.world.server_host
    source, destination = (server, blocked.a) if way == "in" else (blocked.a, server)
    blocked.net.block(source, destination)
    assert blocked.wait_for("tcp") < UDP_PATIENCE + 3.0
    blocked.net.run_for(120.0)
    assert blocked.transport == "tcp"
    assert blocked.ping_pong()
    blocked.net.unblock(source, destination)
    assert blocked.wait_for("udp") <= 1.25 * ASK_DELAYS[-1]


def test_a_stream_that_ends_is_replaced() -> None:
    blocked = Blocked()
    blocked.wait_for("tcp")
    blocked.net.run_for(60.0)
    blocked.streams.break_all()
    assert blocked.transport == "none"
    assert blocked.wait_for("tcp") < 1.0
    blocked.net.run_for(1.0)
    assert blocked.ping_pong()


def test_a_stream_that_goes_silent_is_replaced() -> None:
    blocked = Blocked()
    blocked.wait_for("tcp")
    blocked.net.run_for(60.0)
    blocked.streams.is_dead = True
    blocked.net.run_for(60.0)
    assert blocked.transport == "none"
    blocked.streams.is_dead = False
    registration = blocked.world.node("a").registration
    assert blocked.net.run_until_true(lambda: registration.is_connected, 90.0)
    assert blocked.transport in ("tcp", "websocket")
    assert blocked.ping_pong()


def test_nothing_passes_and_trying_is_gentle() -> None:
    blocked = Blocked()
    blocked.streams.passes = ()
    blocked.net.run_for(1200.0)
    assert blocked.transport == "none"
    rounds = len(blocked.streams.opened) / 3
    assert 1200 / (ROUND_DELAYS[-1] * 1.6) < rounds < 1200 / ROUND_DELAYS[-1] + 10
    blocked.streams.passes = ("tcp",)
    assert blocked.wait_for("tcp", 150.0) < 2 * ROUND_DELAYS[-1]


def test_the_server_restarts() -> None:
    blocked = Blocked()
    blocked.wait_for("tcp")
    blocked.net.run_for(60.0)
    blocked.world.start_server()
    blocked.streams.break_all()
    blocked.wait_for("tcp")
    blocked.net.run_for(120.0)  # Until the other one has noticed, too.
    assert blocked.world.states() == {"relayed"}
    assert blocked.ping_pong()


def test_both_by_tcp() -> None:
    blocked = Blocked()
    blocked.net.block_udp(blocked.b)
    blocked.wait_for("tcp")
    assert blocked.net.run_until_true(lambda: blocked.world.states() == {"relayed"}, 30.0)
    assert blocked.ping_pong()
    large = b"y" * 1300
    count = len(blocked.b.packets_received)
    blocked.a.send_packet(blocked.world.packet(*AB, large))
    blocked.net.run_for(3.0)
    assert [p[-1300:] for _, p in blocked.b.packets_received[count:]] == [large]
    path = blocked.world.peer("a", "b").traversal.relay
    assert path is not None
    assert path.mtu.limit == 1400, "a stream carries any size"


def test_asking_over_udp_is_bounded() -> None:
    """Peers in doubt make a node show itself to the server again and again."""
    blocked = Blocked()
    blocked.wait_for("tcp")
    blocked.net.run_for(100.0)
    node, sent = blocked.world.node("a"), 0
    for _ in range(200):
        node.registration.refresh(blocked.a.now)
        transmits = node.registration.datagrams_to_send()
        sent += sum(transmit.local == 0 for transmit in transmits)
        blocked.net.run_for(0.05)
    assert 0 < sent <= 200 * 0.05 / ASK_SPACING + 1


def test_same_seed_same_run() -> None:
    def run() -> list[tuple[float, object]]:
        blocked = Blocked()
        blocked.net.run_for(100.0)
        blocked.net.unblock_udp(blocked.a)
        blocked.net.run_for(60.0)
        return blocked.a.events

    assert run() == run()
