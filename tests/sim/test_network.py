"""The simulated internet: the way of a datagram, trouble on it, hosts, and time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.host import Host
from tests.sim.nat import Filtering, Firewall, Mapping, Nat
from tests.sim.network import RunawayError, VirtualInternet
from tests.sim.ports import Allocation
from tests.sim.tiny import Echo, Introducer, Puncher, Sender
from tests.sim.topology import Link, Router
from tests.sim.trace import Why
from tunnel.core.machine import Buffer
from tunnel.wire.endpoint import Endpoint


def add_sender(net: VirtualInternet, name: str, *args: str, **options: object) -> Host:
    return net.add_host(name, *args, machine=Sender(), **options)  # type: ignore[arg-type]


def add_server(net: VirtualInternet) -> Host:
    return net.add_host("server", ports=(12345, 12346), machine=Echo())


def send(host: Host, to: Endpoint, data: bytes = b"hello", **fields: int) -> None:
    host.call(lambda machine, now: machine.send(data, to, **fields))


def received(host: Host) -> list[bytes]:
    return [data for _, data, _, _ in host.machine.received]


def sources(host: Host) -> list[Endpoint]:
    return [source for _, _, source, _ in host.machine.received]


def ask(net: VirtualInternet, host: Host, server: Host, local: int = 0) -> Endpoint | None:
    """As what the server sees the host."""
    host.machine.received.clear()
    send(host, server.endpoint(local))
    net.run_for(1)
    for data in received(host):
        name, _, port = data.decode().rpartition(":")
        return Endpoint(name.strip("[]"), int(port))
    return None


def test_echo_sees_the_external_endpoint() -> None:
    net = VirtualInternet()
    server = add_server(net)
    home = net.add_router(Nat(), "home", address="5.5.5.5")
    a = add_sender(net, "a", behind=home)
    assert ask(net, a, server) in home.external_endpoints(a.endpoint(), net.now)
    assert sources(server)[0].host == "5.5.5.5"
    assert [time for time, *_ in server.machine.received] == [0.02]
    assert ask(net, a, server, local=1) == sources(server)[0]
    assert [local for *_, local in server.machine.received] == [0, 1]


def test_nested_nats() -> None:
    net = VirtualInternet()
    server = add_server(net)
    carrier = net.add_router(Nat(), "carrier", address="5.5.5.5")
    homes = [net.add_router(Nat(), f"home{n}", behind=carrier) for n in range(2)]
    hosts = [add_sender(net, f"h{n}", behind=homes[n // 2]) for n in range(4)]
    seen = [ask(net, host, server) for host in hosts]
    assert len(set(seen)) == 4
    assert {endpoint.host for endpoint in seen if endpoint} == {"5.5.5.5"}
    assert all(home.addresses[0].startswith("100.64.") for home in homes)
    assert [home.entries for home in homes] == [2, 2]
    assert carrier.entries == 4


def test_lan_delivery_crosses_no_nat() -> None:
    net = VirtualInternet()
    home = net.add_router(Nat())
    a, b = (add_sender(net, name, behind=home) for name in "ab")
    send(a, b.endpoint(), ttl=1)
    net.run_for(0)
    assert sources(b) == [a.endpoint()]
    assert home.entries == 0


def test_overlapping_lans_stay_apart() -> None:
    net = VirtualInternet()
    homes = [net.add_router(Nat(), prefix="192.168.1.") for _ in range(2)]
    a, b = (add_sender(net, name, behind=home) for name, home in zip("ab", homes, strict=True))
    assert a.address == b.address
    c = add_sender(net, "c", "192.168.1.77", behind=homes[1])
    send(a, c.endpoint())
    net.run_for(1)
    assert received(c) == []
    assert net.trace.dropped_because(Why.NO_ROUTE, "core") == 1


@pytest.mark.parametrize("hairpin", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_hairpin(hairpin: bool, nested: bool) -> None:
    net = VirtualInternet()
    server = add_server(net)
    outer = net.add_router(
        Nat(Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT, hairpin=hairpin)
    )
    homes: list[Nat] = [outer, outer]
    if nested:
        open_to_all = (Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT)
        homes = [net.add_router(Nat(*open_to_all), behind=outer) for _ in range(2)]
    a, b = (add_sender(net, name, behind=home) for name, home in zip("ab", homes, strict=True))
    seen_a, seen_b = ask(net, a, server), ask(net, b, server)
    assert seen_b is not None
    b.machine.received.clear()
    send(a, seen_b)
    net.run_for(1)
    assert sources(b) == ([seen_a] if hairpin else [])
    assert net.trace.dropped_because(Why.NO_HAIRPIN) == (0 if hairpin else 1)


def test_firewall_announces_what_is_inside() -> None:
    net = VirtualInternet()
    server = add_server(net)
    server.attach("2a00:ffff::1")
    wall = net.add_router(Firewall())
    a, b = (add_sender(net, name, behind=wall) for name in "ab")
    to = Endpoint("2a00:ffff::1", 12345)
    send(server, a.endpoint(), b"unasked")
    net.run_for(1)
    send(a, to)
    send(b, a.endpoint(), b"inside")
    net.run_for(1)
    assert received(a) == [b"inside", str(a.endpoint()).encode()]
    assert net.trace.dropped_because(Why.NO_MAPPING, wall.name) == 1
    assert net.trace.statistics["a"].bytes_sent == 48 + 5


def test_dual_stack_host_behind_nat_and_firewall() -> None:
    net = VirtualInternet()
    server = add_server(net)
    server.attach("2a00:ffff::1")
    home, wall = net.add_router(Nat()), net.add_router(Firewall())
    a = add_sender(net, "a", behind=home)
    a.attach(behind=wall)
    send(a, server.endpoint())
    send(a, Endpoint("2a00:ffff::1", 12345))
    net.run_for(1)
    assert sources(server)[0].host == home.addresses[0]
    assert sources(server)[1] == a.endpoints()[1]


@pytest.mark.parametrize(
    ("ttl", "dies_at", "mapped", "tracked"),
    [(1, "nat-a", 0, 0), (2, "core", 1, 0), (4, "core", 1, 0), (5, "nat-b", 1, 1)],
)
def test_ttl_of_an_opener(ttl: int, dies_at: str, mapped: int, tracked: int) -> None:
    net = VirtualInternet(core_hops=3)
    nats = [net.add_router(Nat(tracks_unsolicited=True), f"nat-{name}") for name in "ab"]
    a = add_sender(net, "a", behind=nats[0])
    send(a, Endpoint(nats[1].addresses[0], 5000), ttl=ttl)
    net.run_for(1)
    assert [where for where, _ in net.trace.drops] == [dies_at]
    assert [nat.entries for nat in nats] == [mapped, tracked]


def test_ttl_that_just_reaches_the_peer() -> None:
    net = VirtualInternet(core_hops=3)
    server = add_server(net)
    nats = [net.add_router(Nat(), f"nat-{name}") for name in "ab"]
    a, b = (add_sender(net, name, behind=nat) for name, nat in zip("ab", nats, strict=True))
    seen_a, seen_b = ask(net, a, server), ask(net, b, server)
    assert seen_a is not None
    assert seen_b is not None
    b.machine.received.clear()
    send(b, seen_a, ttl=2)
    send(a, seen_b, b"5", ttl=5)
    send(a, seen_b, b"6", ttl=6)
    net.run_for(1)
    assert received(b) == [b"6"]


def test_router_down_and_plain_router() -> None:
    net = VirtualInternet()
    server = add_server(net)
    hop = net.add_router(Router(), prefix="5.77.0.")
    a = add_sender(net, "a", behind=hop)
    assert ask(net, a, server) == a.endpoint()
    hop.up = False
    assert ask(net, a, server) is None
    assert net.trace.dropped_because(Why.ROUTER_DOWN) == 1


def pair(seed: int = 1, **link: float) -> tuple[VirtualInternet, Host, Host]:
    """Two hosts on the core; `link` holds for what the second receives."""
    net = VirtualInternet(seed)
    a, b = add_sender(net, "a"), add_sender(net, "b")
    for name, value in link.items():
        setattr(b.link.down, name, value)
    return net, a, b


def send_many(net: VirtualInternet, a: Host, b: Host, count: int, interval: float) -> list[int]:
    for n in range(count):
        net.call_later(n * interval, send, a, b.endpoint(), n.to_bytes(4, "big"))
    net.run_for(count * interval + 10)
    return [int.from_bytes(data, "big") for data in received(b)]


def test_loss() -> None:
    net, a, b = pair(loss=0.2)
    arrived = send_many(net, a, b, 5000, 0.001)
    assert 3850 < len(arrived) < 4150
    assert net.trace.dropped_because(Why.LOSS, "b") == 5000 - len(arrived)
    send(b, a.endpoint())
    net.run_for(1)
    assert received(a) == [b"hello"]


def test_delay_and_jitter_keep_the_order() -> None:
    net, a, b = pair(delay=0.05, jitter=0.02)
    assert send_many(net, a, b, 1000, 0.005) == list(range(1000))
    took = [time - 0.005 * n for n, (time, *_) in enumerate(b.machine.received)]
    assert 0.06 <= min(took) < 0.062
    assert 0.078 < max(took) <= 0.0801
    assert abs(sum(took) / len(took) - 0.0725) < 0.003


def test_reorder_and_duplicate() -> None:
    net, a, b = pair(reorder=0.1, reorder_by=0.01)
    arrived = send_many(net, a, b, 2000, 0.002)
    assert sorted(arrived) == list(range(2000))
    overtaken = sum(1 for x, y in pairwise(arrived) if y < x)
    assert 130 < overtaken < 230
    net, a, b = pair(duplicate=0.1)
    assert 2140 < len(send_many(net, a, b, 2000, 0.002)) < 2260


def test_duplicate_through_a_nat() -> None:
    net = VirtualInternet()
    server = add_server(net)
    home = net.add_router(Nat())
    a = add_sender(net, "a", behind=home)
    a.link.set(duplicate=1.0)
    home.link.set(delay=0.0)
    assert ask(net, a, server) is not None
    assert len(server.machine.received) == 2
    assert len(set(sources(server))) == 1


def test_copies_are_translated_apart() -> None:
    net = VirtualInternet()
    server = add_server(net)
    home = net.add_router(Nat())
    a = add_sender(net, "a", behind=home)
    a.link.set(duplicate=1.0, delay=0.01)
    assert ask(net, a, server) in home.external_endpoints(a.endpoint(), net.now)
    assert len(set(sources(server))) == 1
    assert home.entries == 1


def test_icmp_names_the_endpoint_sent_to_even_for_a_copy() -> None:
    net = VirtualInternet()
    server = add_server(net)
    carrier = net.add_router(Nat())
    home = net.add_router(Nat(), behind=carrier)
    a = add_sender(net, "a", behind=home)
    seen = ask(net, a, server)
    assert seen is not None
    home.link.set(duplicate=1.0)
    a.link.set(mtu=1280, reports_mtu=True)
    send(server, seen, bytes(1300))
    net.run_for(1)
    assert [error.endpoint for _, error in server.icmp_errors] == [seen, seen]


def test_datagrams_for_two_sockets_are_not_read_together() -> None:
    net = VirtualInternet()
    server = add_server(net)
    a = add_sender(net, "a")
    send(a, server.endpoint(0))
    send(a, server.endpoint(1))
    net.run_for(1)
    assert [local for *_, local in server.machine.received] == [0, 1]


@pytest.mark.parametrize(("size", "arrives"), [(1252, True), (1253, False)])
@pytest.mark.parametrize("reports", [False, True])
def test_mtu(size: int, arrives: bool, reports: bool) -> None:
    net, a, b = pair(mtu=1280, reports_mtu=reports)
    send(a, b.endpoint(), bytes(size))
    net.run_for(1)
    assert (received(b) == [bytes(size)]) is arrives
    heard = [(error.endpoint, error.mtu) for _, error in a.icmp_errors]
    assert heard == ([(b.endpoint(), 1280)] if reports and not arrives else [])


def test_link_down_and_changes_at_run_time() -> None:
    net, a, b = pair()
    a.link.up.up = False
    send(a, b.endpoint(), b"1")
    a.link.set(up=True, delay=1.0)
    send(a, b.endpoint(), b"2")
    net.run_for(0.5)
    assert received(b) == []
    net.run_for(1)
    assert received(b) == [b"2"]
    with pytest.raises(TypeError, match="no 'dealy'"):
        a.link.set(dealy=1.0)


def test_block_is_one_way_and_only_between_two_hosts() -> None:
    net = VirtualInternet()
    server = add_server(net)
    home = net.add_router(Nat(), "home")
    a, b = (add_sender(net, name, behind=home) for name in "ab")
    net.block(server, a)
    assert ask(net, a, server) is None
    assert ask(net, b, server) is not None
    assert len(server.machine.received) == 2
    assert net.trace.dropped_because(Why.BLOCKED, "core") == 1
    net.unblock(server, a)
    assert ask(net, a, server) is not None
    net.block(home.addresses[0], server.endpoint(1))
    assert ask(net, a, server, local=0) is not None
    assert ask(net, a, server, local=1) is None


def test_udp_blocked() -> None:
    net, a, b = pair()
    net.block_udp(a)
    send(a, b.endpoint())
    send(b, a.endpoint())
    net.run_for(1)
    assert received(a) == received(b) == []
    net.unblock_udp(a)
    send(a, b.endpoint())
    net.run_for(1)
    assert received(b) == [b"hello"]


def test_segments_are_split_and_read_together() -> None:
    net, a, b = pair()
    send(a, b.endpoint(), b"aaaabbbbcc", segment_size=4)
    net.run_for(1)
    assert received(b) == [b"aaaa", b"bbbb", b"cc"]
    assert b.machine.batches == [3]
    assert net.trace.statistics["a"].datagrams_sent == 3
    assert net.trace.statistics["b"].bytes_received == 10 + 3 * 28


def test_sockets() -> None:
    net, a, b = pair()
    server = add_server(net)
    old = a.endpoint()
    assert a.rebind() == a.sockets[0] != old.port
    send(b, old)
    net.run_for(1)
    assert net.trace.dropped_because(Why.NO_SOCKET, "a") == 1
    with pytest.raises(LookupError):
        send(a, server.endpoint(), local=5)
    a.opens_sockets = True
    send(a, server.endpoint(), local=5)
    net.run_for(1)
    assert sources(server) == [a.endpoint(5)]
    assert [local for *_, local in a.machine.received] == [5]


def test_roaming() -> None:
    net = VirtualInternet()
    server = add_server(net)
    home, lte = net.add_router(Nat(), "home"), net.add_router(Nat(), "lte")
    a = add_sender(net, "a", behind=home)
    port = a.sockets[0]
    seen = ask(net, a, server)
    send(server, seen or a.endpoint(), b"late")
    new = a.move(behind=lte)
    assert a.addresses == [new]
    assert a.sockets[0] == port
    net.run_for(1)
    assert b"late" not in received(a)
    moved = ask(net, a, server)
    assert moved is not None
    assert moved.host == lte.addresses[0]


def test_router_reboot_with_a_new_address() -> None:
    net = VirtualInternet()
    server = add_server(net)
    home = net.add_router(Nat(allocation=Allocation.PRESERVING), address="5.5.5.5")
    a = add_sender(net, "a", behind=home)
    before = ask(net, a, server)
    home.flush()
    assert ask(net, a, server) == before
    home.reboot("5.5.5.6")
    after = ask(net, a, server)
    assert before is not None
    assert after is not None
    assert after.host == "5.5.5.6"
    assert after.port != before.port
    send(server, before)
    net.run_for(1)
    assert net.trace.dropped_because(Why.NO_ROUTE, "core") == 1


class Ticker(Sender):
    """Ticks once a second, notes when, and reports each tick as an event."""

    def __init__(self, now: float) -> None:
        super().__init__()
        self.next = now + 1
        self.ticks: list[float] = []
        self._events: list[float] = []

    def get_timer(self) -> float | None:
        return self.next

    def handle_timer(self, now: float) -> None:
        if now >= self.next:
            self.next += 1
            self.ticks.append(now)
            self._events.append(now)

    def next_event(self) -> object | None:
        return self._events.pop(0) if self._events else None


def test_timer_and_events() -> None:
    net = VirtualInternet()
    a = net.add_host("a")
    ticker = Ticker(a.now)
    a.start(ticker)
    net.run_for(3.5)
    assert ticker.ticks == [1, 2, 3]
    assert a.events == [(1, 1), (2, 2), (3, 3)]
    a.stop()
    net.run_for(10)
    assert len(ticker.ticks) == 3
    again = Ticker(a.now)
    a.start(again)
    net.run_for(2)
    assert again.ticks == [14.5, 15.5]


def test_suspend_stops_the_clock() -> None:
    net = VirtualInternet()
    a, b = net.add_host("a"), add_sender(net, "b")
    ticker = Ticker(a.now)
    a.start(ticker)
    net.run_for(1.5)
    a.suspend()
    wall = a.wall_clock()
    send(b, a.endpoint())
    net.run_for(100.1)
    assert a.now == 1.5
    assert a.wall_clock() - wall == pytest.approx(100.1)
    a.resume()
    net.run_for(1)
    assert a.now == pytest.approx(2.5)
    assert ticker.ticks == pytest.approx([1, 2])
    assert [time for time, _ in a.events] == pytest.approx([1, 102.1])
    assert net.trace.dropped_because(Why.SUSPENDED, "a") == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0.001, 3), st.floats(0.001, 3)), max_size=10))
def test_time_never_goes_back_over_suspends(pauses: list[tuple[float, float]]) -> None:
    net = VirtualInternet()
    a = net.add_host("a")
    ticker = Ticker(a.now)
    a.start(ticker)
    for awake, asleep in pauses:
        net.run_for(awake)
        a.suspend()
        net.run_for(asleep)
        a.resume()
    total = sum(awake for awake, _ in pauses)
    assert a.now == pytest.approx(total)
    assert abs(len(ticker.ticks) - total) <= 1.001
    assert ticker.ticks == sorted(ticker.ticks)


class Borrower(Sender):
    """Breaks the contract: keeps the buffer it was lent."""

    def receive_datagrams(
        self, datagrams: list[Buffer], source: Endpoint, now: float, local: int
    ) -> Sequence[Buffer] | None:
        self.kept = datagrams[0]
        return [bytes(datagrams[0])]


def test_lent_buffers_are_overwritten() -> None:
    net, a, b = pair()
    b.start(Borrower())
    b.lends_buffers = True
    send(a, b.endpoint())
    net.run_for(1)
    assert bytes(b.machine.kept) == b"\xdd" * 5
    assert b.packets_received == [(0.02, b"hello")]


def test_runs_and_conditions() -> None:
    net, a, b = pair()
    send(a, b.endpoint())
    assert net.run_until_true(lambda: bool(received(b)), timeout=1)
    assert net.now == 0.02
    assert not net.run_until_true(lambda: False, timeout=1)
    assert net.now == 1.02
    assert net.run_while(lambda: not received(b), timeout=1)
    assert net.now == 1.02
    net.run_until(5)
    assert net.now == 5


class Stuck(Sender):
    def get_timer(self) -> float | None:
        return 1.0


def test_runaway_is_noticed() -> None:
    net = VirtualInternet(max_events=10_000)
    net.add_host("a", machine=Stuck())
    with pytest.raises(RunawayError, match=r"at 1\.0"):
        net.run_for(2)


def test_names_and_addresses_are_unique() -> None:
    net, a, _ = pair()
    with pytest.raises(ValueError, match="there is a a already"):
        net.add_host("a")
    with pytest.raises(ValueError, match="is taken"):
        net.add_host("c", a.address)


def lossy_hour(seed: int, loss: float = 0.2) -> VirtualInternet:
    """Two nodes behind NATs, idle for a virtual hour."""
    net = VirtualInternet(seed)
    server = net.add_host("server", ports=(12345,), machine=Introducer())
    for name in "ab":
        host = net.add_host(name, behind=net.add_router(Nat(), f"nat-{name}"))
        host.link.set(loss=loss)
        host.start(Puncher(name, server.endpoint(), host.now))
    net.run_for(3600)
    return net


def test_same_seed_same_run() -> None:
    assert lossy_hour(1).trace.digest() == lossy_hour(1).trace.digest()
    assert lossy_hour(1).trace.digest() != lossy_hour(2).trace.digest()


def test_digest_covers_what_is_no_longer_kept() -> None:
    long, short = (VirtualInternet(1) for _ in range(2))
    short.trace._limit = 10
    for net in (long, short):
        a, b = add_sender(net, "a"), add_sender(net, "b")
        send_many(net, a, b, 100, 0.1)
    assert len(short.trace.records) < 20
    assert long.trace.digest() == short.trace.digest()


def test_statistics_of_an_idle_hour() -> None:
    net = lossy_hour(1, loss=0.0)
    a = net.trace.statistics["a"]
    assert a.datagrams_sent > 2 * 3600 / 15 - 10
    assert a.bytes_per_day(3600) == a.bytes * 24


def test_drawing() -> None:
    net = VirtualInternet(describe=lambda data: data.decode())
    a, b = add_sender(net, "node-a"), add_sender(net, "b")
    send(a, b.endpoint(), b"ping")
    net.trace.note(net.now, "b", "rebooted")
    send(b, Endpoint("5.9.9.9", 1), b"lost")
    net.run_for(1)
    assert net.trace.mermaid().splitlines() == [
        "sequenceDiagram",
        "    participant node_a as node-a",
        "    participant b as b",
        "    participant core as core",
        "    node_a->>b: 0.000 ping 32 B",
        "    Note over b: 0.000 rebooted",
        "    b-xcore: 0.000 lost 32 B to 5.9.9.9:1 no route",
    ]


def test_link_is_shared_by_nat_and_firewall() -> None:
    net = VirtualInternet()
    line = Link(0.5)
    home, wall = net.add_router(Nat(), link=line), net.add_router(Firewall(), link=line)
    server = add_server(net)
    server.attach("2a00:ffff::1")
    a = add_sender(net, "a", behind=home)
    a.attach(behind=wall)
    send(a, server.endpoint())
    send(a, Endpoint("2a00:ffff::1", 12345))
    net.run_for(5)
    assert [time for time, *_ in a.machine.received] == pytest.approx([1.02, 1.02])
