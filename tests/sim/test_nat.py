"""NATs alone: behaviours of RFC 4787 as a table, timeouts, limits, and what a Linux router does."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.nat import Filtering, Firewall, Mapping, Nat, Pooling
from tests.sim.ports import Allocation
from tests.sim.trace import Why
from tunnel.wire.endpoint import Endpoint

PUBLIC = "5.0.0.1"
INSIDE = Endpoint("192.168.1.2", 40000)
NEIGHBOUR = Endpoint("192.168.1.3", 40000)
REMOTE = Endpoint("5.0.0.9", 1111)
OTHER_PORT = Endpoint("5.0.0.9", 2222)
OTHER_HOST = Endpoint("5.0.0.10", 1111)
REMOTES = (REMOTE, OTHER_PORT, OTHER_HOST)
STRICT = Filtering.ADDRESS_AND_PORT_DEPENDENT


def nat(*behaviour: object, **options: object) -> Nat:
    return Nat(*behaviour, addresses=[PUBLIC], **options)  # type: ignore[arg-type]


def out(router: Nat, source: Endpoint, to: Endpoint, now: float = 0.0) -> Endpoint:
    external = router.outbound(source, to, now)
    assert isinstance(external, Endpoint)
    return external


@pytest.mark.parametrize(
    ("mapping", "same_as_first"),
    [
        (Mapping.ENDPOINT_INDEPENDENT, (True, True, True)),
        (Mapping.ADDRESS_DEPENDENT, (True, True, False)),
        (Mapping.ADDRESS_AND_PORT_DEPENDENT, (True, False, False)),
    ],
)
@pytest.mark.parametrize("filtering", Filtering)
@pytest.mark.parametrize("allocation", Allocation)
def test_mapping(
    mapping: Mapping, filtering: Filtering, allocation: Allocation, same_as_first: tuple[bool, ...]
) -> None:
    router = nat(mapping, filtering, allocation)
    seen = [out(router, INSIDE, remote) for remote in REMOTES]
    assert tuple(endpoint == seen[0] for endpoint in seen) == same_as_first
    assert [out(router, INSIDE, remote, 1.0) for remote in REMOTES] == seen


@pytest.mark.parametrize(
    ("filtering", "let_in"),
    [
        (Filtering.ENDPOINT_INDEPENDENT, (True, True, True)),
        (Filtering.ADDRESS_DEPENDENT, (True, True, False)),
        (Filtering.ADDRESS_AND_PORT_DEPENDENT, (True, False, False)),
    ],
)
@pytest.mark.parametrize("mapping", Mapping)
@pytest.mark.parametrize("allocation", Allocation)
@pytest.mark.parametrize("inbound_refresh", [False, True])
def test_filtering(
    mapping: Mapping,
    filtering: Filtering,
    allocation: Allocation,
    inbound_refresh: bool,
    let_in: tuple[bool, ...],
) -> None:
    router = nat(mapping, filtering, allocation, inbound_refresh=inbound_refresh)
    external = out(router, INSIDE, REMOTE)
    results = [router.inbound(remote, external, 1.0) for remote in REMOTES]
    assert results == [INSIDE if allowed else Why.FILTERED for allowed in let_in]
    elsewhere = Endpoint(PUBLIC, external.port ^ 1)
    assert router.inbound(REMOTE, elsewhere, 1.0) is Why.NO_MAPPING


@pytest.mark.parametrize("mapping", Mapping)
def test_allocation(mapping: Mapping) -> None:
    sources = [Endpoint(f"192.168.1.{n}", 40000 + 7 * n) for n in range(2, 30)]

    def ports(allocation: Allocation) -> list[int]:
        router = nat(mapping, STRICT, allocation, block_size=64)
        return [out(router, source, REMOTE).port for source in sources]

    assert ports(Allocation.PRESERVING) == [source.port for source in sources]
    sequential = ports(Allocation.SEQUENTIAL)
    assert all((b - a) % 64512 == 1 for a, b in pairwise(sequential))
    for allocation in Allocation:
        assert len(set(ports(allocation))) == len(sources)
    blocks = [(port - 1024) // 64 for port in ports(Allocation.RANDOM_IN_BLOCK)]
    assert len(set(blocks)) == len(sources)


def test_preserving_allocation_gives_the_second_host_another_port() -> None:
    router = nat(Mapping.ENDPOINT_INDEPENDENT, STRICT, Allocation.PRESERVING)
    assert out(router, INSIDE, REMOTE).port == INSIDE.port
    assert out(router, NEIGHBOUR, REMOTE).port != NEIGHBOUR.port
    assert out(router, NEIGHBOUR, OTHER_HOST) == out(router, NEIGHBOUR, REMOTE)


def test_shared_ports_break_endpoint_independence() -> None:
    """NATs as measured, 6."""
    router = nat(Mapping.ENDPOINT_INDEPENDENT, STRICT, Allocation.PRESERVING, shares_ports=True)
    assert out(router, INSIDE, REMOTE).port == INSIDE.port
    assert out(router, NEIGHBOUR, OTHER_HOST).port == INSIDE.port
    assert out(router, NEIGHBOUR, REMOTE).port != INSIDE.port
    assert router.inbound(OTHER_HOST, Endpoint(PUBLIC, INSIDE.port), 0.0) == NEIGHBOUR
    assert router.inbound(REMOTE, Endpoint(PUBLIC, INSIDE.port), 0.0) == INSIDE


@pytest.mark.parametrize("inbound_refresh", [False, True])
def test_varying_mapping_answers_from_another_port(inbound_refresh: bool) -> None:
    """Even whom open filtering let in: by RFC 4787 the destination decides, and the rule for the 81
    pairs rests on it. A conntrack with a full-cone patch would answer from the first port."""
    router = nat(
        Mapping.ADDRESS_AND_PORT_DEPENDENT,
        Filtering.ENDPOINT_INDEPENDENT,
        inbound_refresh=inbound_refresh,
    )
    external = out(router, INSIDE, REMOTE)
    assert router.inbound(OTHER_PORT, external, 0.0) == INSIDE
    assert out(router, INSIDE, OTHER_PORT) != external
    assert router.inbound(OTHER_PORT, external, 1.0) == INSIDE


def test_port_block_is_used_up_until_the_timeout() -> None:
    """NATs as measured, 9: the 65th mapping is dropped silently; closed sockets hold their port."""
    router = nat(Mapping.ENDPOINT_INDEPENDENT, STRICT, Allocation.RANDOM_IN_BLOCK, block_size=64)
    sources = [Endpoint(INSIDE.host, 40000 + n) for n in range(65)]
    for source in sources[:64]:
        out(router, source, REMOTE)
    assert router.outbound(sources[64], REMOTE, 29.0) is Why.PORTS_EXHAUSTED
    assert isinstance(router.outbound(sources[64], REMOTE, 30.0), Endpoint)


def test_unreplied_mapping_times_out() -> None:
    router = nat(mapping_timeout=30.0)
    external = out(router, INSIDE, REMOTE, 100.0)
    assert router.peek(REMOTE, external) == INSIDE
    assert out(router, INSIDE, REMOTE, 129.0) == external
    assert router.inbound(REMOTE, external, 158.9) == INSIDE
    assert router.inbound(REMOTE, external, 159.0) is Why.NO_MAPPING
    assert router.entries == 0
    assert out(router, INSIDE, REMOTE, 160.0) != external


@pytest.mark.parametrize("inbound_refresh", [False, True])
def test_inbound_refreshes_only_where_asked(inbound_refresh: bool) -> None:
    router = nat(inbound_refresh=inbound_refresh)
    external = out(router, INSIDE, REMOTE, 0.0)
    assert router.inbound(REMOTE, external, 1.0) == INSIDE
    expected = INSIDE if inbound_refresh else Why.NO_MAPPING
    assert router.inbound(REMOTE, external, 30.5) == expected


@pytest.mark.parametrize(
    ("replied", "last", "lifetime"), [(True, 2.5, 120.0), (True, 1.5, 30.0), (False, 2.5, 30.0)]
)
def test_stream_timeout(replied: bool, last: float, lifetime: float) -> None:
    """NATs as measured, 5: only with traffic both ways that still flows more than 2 s later."""
    router = nat()
    external = out(router, INSIDE, REMOTE, 0.0)
    if replied:
        router.inbound(REMOTE, external, 0.1)
    out(router, INSIDE, REMOTE, last)
    assert router.external_endpoints(INSIDE, last + lifetime - 0.1) == {external}
    assert router.external_endpoints(INSIDE, last + lifetime) == set()


def test_stream_timeout_may_be_the_shorter_one() -> None:
    """An LTE network for things has 30 s, and 12 s for a stream."""
    router = nat(mapping_timeout=30.0, stream_timeout=12.0)
    external = out(router, INSIDE, REMOTE, 0.0)
    router.inbound(REMOTE, external, 0.1)
    out(router, INSIDE, REMOTE, 5.0)
    assert router.inbound(REMOTE, external, 16.9) == INSIDE
    assert router.inbound(REMOTE, external, 17.0) is Why.NO_MAPPING


def test_sessions_of_one_mapping_expire_apart() -> None:
    router = nat(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT)
    external = out(router, INSIDE, REMOTE, 0.0)
    out(router, INSIDE, OTHER_HOST, 20.0)
    assert router.inbound(REMOTE, external, 31.0) is Why.FILTERED
    assert router.inbound(OTHER_HOST, external, 31.0) == INSIDE
    assert out(router, INSIDE, REMOTE, 32.0) == external


def test_flush_and_reboot() -> None:
    for allocation in Allocation:
        router = nat(Mapping.ENDPOINT_INDEPENDENT, STRICT, allocation)
        before = out(router, INSIDE, REMOTE)
        router.flush()
        assert router.entries == 0
        assert router.inbound(REMOTE, before, 0.0) is Why.NO_MAPPING
        after = out(router, INSIDE, REMOTE)
        assert (after == before) is (allocation is Allocation.PRESERVING)
        router.reboot()
        assert out(router, INSIDE, REMOTE) not in (before, after)
        router.reboot("5.0.0.2")
        assert out(router, INSIDE, REMOTE).host == "5.0.0.2"


def test_address_change_keeps_a_preserved_port() -> None:
    """NATs as measured, 1: the first outbound datagram heals it."""
    router = nat(Mapping.ENDPOINT_INDEPENDENT, STRICT, Allocation.PRESERVING)
    out(router, INSIDE, REMOTE)
    router.change_address("5.0.0.2")
    assert router.inbound(REMOTE, Endpoint("5.0.0.2", INSIDE.port), 0.0) is Why.NO_MAPPING
    assert out(router, INSIDE, REMOTE) == Endpoint("5.0.0.2", INSIDE.port)


def test_table_is_limited_and_counted() -> None:
    router = nat(max_mappings=10)
    for n in range(10):
        out(router, INSIDE, Endpoint("5.0.0.9", 1000 + n))
    assert router.outbound(INSIDE, OTHER_HOST, 1.0) is Why.TABLE_FULL
    assert out(router, INSIDE, Endpoint("5.0.0.9", 1000), 1.0)
    assert (router.entries, router.peak_entries) == (10, 10)
    out(router, INSIDE, OTHER_HOST, 30.0)
    assert (router.entries, router.peak_entries) == (2, 10)


def test_tracked_unsolicited_datagram_occupies_the_port() -> None:
    """NATs as measured, 2, and 4: it clears only after both were silent for the timeout."""
    router = Nat.linux(drops=False)
    router.change_address(PUBLIC)
    usual = out(router, INSIDE, OTHER_HOST)
    assert usual.port == INSIDE.port
    assert router.inbound(REMOTE, usual, 0.0) is Why.FILTERED
    poisoned = out(router, INSIDE, REMOTE, 1.0)
    assert poisoned.port != usual.port
    assert router.inbound(REMOTE, usual, 20.0) is Why.FILTERED
    assert router.inbound(REMOTE, poisoned, 20.0) == INSIDE
    assert out(router, INSIDE, REMOTE, 40.0) == poisoned
    assert router.entries == 2  # towards REMOTE, and what REMOTE sent at 20 s
    out(router, INSIDE, OTHER_HOST, 160.0)
    assert out(router, INSIDE, REMOTE, 160.0) == usual


def test_dropped_unsolicited_datagram_changes_nothing() -> None:
    router = Nat.linux()
    router.change_address(PUBLIC)
    usual = out(router, INSIDE, OTHER_HOST)
    assert router.inbound(REMOTE, usual, 0.0) is Why.FILTERED
    assert out(router, INSIDE, REMOTE) == usual


def test_pooling() -> None:
    pool = [f"5.0.0.{n}" for n in range(1, 9)]
    paired = Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT, addresses=pool)
    assert len({out(paired, INSIDE, remote).host for remote in REMOTES}) == 1
    assert out(paired, NEIGHBOUR, REMOTE).host != out(paired, INSIDE, REMOTE).host
    arbitrary = Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT, pooling=Pooling.ARBITRARY, addresses=pool)
    many = [Endpoint("5.0.0.9", port) for port in range(1, 50)]
    assert len({out(arbitrary, INSIDE, remote).host for remote in many}) > 4


def test_forwarded_port_lets_everybody_in_and_survives() -> None:
    router = nat()
    external = router.forward(7777, INSIDE)
    for now, remote in enumerate(REMOTES):
        assert router.inbound(remote, external, 1000.0 * now) == INSIDE
    assert out(router, INSIDE, REMOTE, 5000.0) == external
    router.flush()
    assert router.inbound(REMOTE, external, 5000.0) == INSIDE
    router.remove_forward(7777)
    assert router.inbound(REMOTE, external, 5000.0) is Why.NO_MAPPING


def test_who_comes_in_by_a_forwarded_port_is_answered_from_it() -> None:
    router = Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT, addresses=("203.0.113.1",))
    external = router.forward(7777, INSIDE)
    assert router.outbound(INSIDE, REMOTES[0], 0.0) != external
    assert router.inbound(REMOTE, external, 0.0) == INSIDE
    assert router.outbound(INSIDE, REMOTE, 0.1) == external


@pytest.mark.parametrize("filtering", Filtering)
def test_firewall_keeps_addresses(filtering: Filtering) -> None:
    inside, remote = Endpoint("2a00:1::1", 40000), Endpoint("2a00:2::1", 1111)
    other_port, other_host = Endpoint("2a00:2::1", 2222), Endpoint("2a00:3::1", 1111)
    wall = Firewall(filtering)
    assert wall.inbound(remote, inside, 0.0) is Why.NO_MAPPING
    assert wall.outbound(inside, remote, 0.0) == inside
    assert wall.inbound(remote, inside, 0.0) == inside
    assert (wall.inbound(other_port, inside, 0.0) == inside) is (filtering < STRICT)
    opened = filtering is Filtering.ENDPOINT_INDEPENDENT
    assert (wall.inbound(other_host, inside, 0.0) == inside) is opened
    assert wall.inbound(remote, inside, 30.0) is Why.NO_MAPPING


BEHAVIOURS = list(product(Mapping, Filtering, Allocation, [False, True]))
INSIDERS = [Endpoint(f"192.168.1.{n}", port) for n in (2, 3) for port in (40000, 40001)]
PEERS = [Endpoint(f"5.0.0.{n}", port) for n in (9, 10) for port in (1111, 2222)]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("out"), st.sampled_from(INSIDERS), st.sampled_from(PEERS)),
        st.tuples(st.just("in"), st.sampled_from(PEERS), st.integers(0, 7)),
        st.tuples(st.just("wait"), st.floats(0, 50), st.none()),
        st.tuples(st.sampled_from(["flush", "reboot"]), st.none(), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(
    steps=STEPS,
    behaviour=st.sampled_from(BEHAVIOURS),
    shares=st.booleans(),
    tracks=st.booleans(),
    full=st.booleans(),
)
def test_nat_properties(
    steps: list[tuple[str, object, object]],
    behaviour: tuple[Mapping, Filtering, Allocation, bool],
    shares: bool,
    tracks: bool,
    full: bool,
) -> None:
    """Checked against a plain record of who sent what from where: nobody gets what he did not open
    the mapping for, as the filtering says; no two insiders share an external port towards a
    remote; the same insider keeps its port while its mapping lives; entries are counted right."""
    mapping, filtering, allocation, inbound_refresh = behaviour
    router = nat(
        mapping,
        filtering,
        allocation,
        block_size=64,
        inbound_refresh=inbound_refresh,
        shares_ports=shares,
        tracks_unsolicited=tracks,
        max_mappings=5 if full else 100,
    )
    now = 0.0
    opened: set[tuple[Endpoint, Endpoint, Endpoint]] = set()  # inside, external, remote
    current: set[tuple[Endpoint, Endpoint, Endpoint]] = set()  # of these, never expired since
    known: list[Endpoint] = [Endpoint(PUBLIC, 40000)]
    for kind, first, second in steps:
        current &= set(router.sessions(now))
        before = {(i, r): e for i, e, r in current}
        if kind == "out":
            assert isinstance(first, Endpoint)
            assert isinstance(second, Endpoint)
            external = router.outbound(first, second, now)
            if isinstance(external, Endpoint):
                assert before.get((first, second), external) == external
                opened.add((first, external, second))
                current.add((first, external, second))
                known.append(external)
        elif kind == "in":
            assert isinstance(first, Endpoint)
            assert isinstance(second, int)
            external = known[-1 - second % len(known)]
            inside = router.inbound(first, external, now)
            if isinstance(inside, Endpoint):
                mine = [r for i, e, r in opened if (i, e) == (inside, external)]
                assert mine
                if filtering is Filtering.ADDRESS_DEPENDENT:
                    assert first.host in {remote.host for remote in mine}
                if filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT:
                    assert first in mine
        elif kind == "wait":
            assert isinstance(first, float)
            now += first
        else:
            (router.flush if kind == "flush" else router.reboot)()
            opened.clear()
            current.clear()
        live = router.sessions(now)
        assert len({(external, remote) for _, external, remote in live}) == len(live)
        assert len(live) <= router.entries <= router.peak_entries
        assert router.peak_entries <= (5 if full else 100)
        if not shares:
            owners = {(external, inside) for inside, external, _ in live}
            assert len({external for external, _ in owners}) == len(owners)
