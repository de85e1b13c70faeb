from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.core.machine import Transmit
from tunnel.dataplane.train import TRAIN_LENGTH, TRAIN_SEGMENTS, join, split
from tunnel.wire.endpoint import Endpoint

A, B = Endpoint("192.0.2.1", 1), Endpoint("2001:db8::1", 2)


def datagrams(transmits: list[Transmit]) -> list[tuple[Endpoint, int, int | None, bytes]]:
    return [
        (t.endpoint, t.local, t.ttl, bytes(datagram))
        for t in transmits
        for datagram in split(bytes(t.data), t.segment_size)
    ]


def of(endpoint: Endpoint, *lengths: int) -> list[Transmit]:
    return [Transmit(bytes([i % 256]) * length, endpoint) for i, length in enumerate(lengths)]


def shape(transmits: list[Transmit]) -> list[tuple[int, int | None]]:
    return [(len(t.data), t.segment_size) for t in transmits]


singles = st.builds(
    Transmit,
    data=st.one_of(
        st.sampled_from([0, 1, 99, 100, 1200, 1400, 20_000, 65_507]).map(bytes),
        st.binary(max_size=5),
        st.sampled_from([b"a" * 7, b"b" * 7, b"c" * 3]),
    ),
    endpoint=st.sampled_from([A, B]),
    segment_size=st.none(),
    local=st.integers(0, 1),
    ttl=st.sampled_from([None, None, 5]),
)


@given(st.lists(singles, max_size=200))
def test_split_undoes_join_and_every_endpoint_keeps_its_order(transmits: list[Transmit]) -> None:
    joined = join(transmits)
    for endpoint in (A, B):
        before = [d for d in datagrams(transmits) if d[0] == endpoint]
        assert [d for d in datagrams(joined) if d[0] == endpoint] == before


@given(st.lists(singles, max_size=200))
def test_no_train_is_longer_than_the_kernel_takes(transmits: list[Transmit]) -> None:
    for train in join(transmits):
        if train.segment_size is not None:
            parts = split(train.data, train.segment_size)
            assert 2 <= len(parts) <= TRAIN_SEGMENTS
            assert len(train.data) <= TRAIN_LENGTH
            assert 0 < len(parts[-1]) <= train.segment_size


@given(st.lists(singles, max_size=200))
def test_a_joined_list_does_not_change_when_joined_again(transmits: list[Transmit]) -> None:
    joined = join(transmits)
    assert join(joined) == joined


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([], []),
        ([100], [(100, None)]),
        ([100, 100, 100], [(300, 100)]),
        ([100, 100, 40], [(240, 100)]),
        ([100, 40, 100], [(140, 100), (100, None)]),  # a shorter one ends the train
        ([40, 100], [(40, None), (100, None)]),
        ([0, 0], [(0, None), (0, None)]),
        ([100, 0, 100], [(100, None), (0, None), (100, None)]),
        ([10] * 65, [(640, 10), (10, None)]),
        ([1400] * 47, [(46 * 1400, 1400), (1400, None)]),
        ([TRAIN_LENGTH - 1, 1], [(TRAIN_LENGTH, TRAIN_LENGTH - 1)]),
        ([TRAIN_LENGTH, 1], [(TRAIN_LENGTH, None), (1, None)]),
        ([65_507, 65_507], [(65_507, None), (65_507, None)]),
    ],
)
def test_join(lengths: list[int], expected: list[tuple[int, int | None]]) -> None:
    assert shape(join(of(A, *lengths))) == expected


def test_trains_for_two_endpoints_grow_side_by_side() -> None:
    joined = join([t for pair in zip(of(A, 9, 9, 9), of(B, 7, 7, 7), strict=True) for t in pair])
    assert [(t.endpoint, *s) for t, s in zip(joined, shape(joined), strict=True)] == [
        (A, 27, 9),
        (B, 21, 7),
    ]


@pytest.mark.parametrize(
    "other",
    [
        Transmit(b"xxx", A, local=1),
        Transmit(b"xxx", A, ttl=3),
        Transmit(b"xxx", A, 2),
        Transmit(b"xxx", A, dont_fragment=True),
    ],
)
def test_what_differs_in_more_than_its_bytes_does_not_join(other: Transmit) -> None:
    one = Transmit(b"xxx", A)
    assert join([one, other, one]) == [one, other, one]


def test_unfragmentable_ones_do_not_join_each_other() -> None:
    one = Transmit(b"xxx", A, dont_fragment=True)
    assert join([one, one]) == [one, one]


def test_what_stands_alone_is_not_copied() -> None:
    lone, train = Transmit(b"x" * 10, A), Transmit(bytearray(30), B, segment_size=10)
    assert [a is b for a, b in zip(join([lone, train]), [lone, train], strict=True)] == [True, True]


def test_any_kind_of_buffer_joins() -> None:
    [train] = join([Transmit(kind(b"ab"), A) for kind in (bytes, bytearray, memoryview)])
    assert train == Transmit(b"ababab", A, segment_size=2)


def test_split_of_a_view_copies_nothing() -> None:
    buffer = bytearray(b"aabbc")
    parts = split(memoryview(buffer), 2)
    buffer[0:1] = b"z"
    assert [bytes(part) for part in parts] == [b"za", b"bb", b"c"]


def test_split_edges() -> None:
    assert split(b"", None) == [b""]
    assert split(b"", 5) == [b""]
    assert split(b"abc", 5) == [b"abc"]
    with pytest.raises(ValueError, match="segment of 0"):
        split(b"abc", 0)
