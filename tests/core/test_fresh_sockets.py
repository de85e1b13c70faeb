"""Numbers of sockets: each one's at most once, and given up once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunnel.core.fresh_sockets import FIRST_FRESH, MAX_FRESH, FreshSockets

NUMBERS = range(FIRST_FRESH, FIRST_FRESH + MAX_FRESH)


def test_taken_and_released() -> None:
    sockets = FreshSockets()
    assert sockets.take(3) == [16, 17, 18]
    assert sockets.free == MAX_FRESH - 3
    sockets.release([17, 17, 0, 99])
    assert sockets.take_released() == (17,)
    assert sockets.take_released() == ()
    sockets.release([17])
    assert sockets.take_released() == ()


def test_a_number_just_released_is_not_soon_another_socket() -> None:
    sockets = FreshSockets()
    first = sockets.take(10)
    sockets.release(first)
    assert not set(first) & set(sockets.take(MAX_FRESH - 10))


def test_as_many_as_there_are() -> None:
    sockets = FreshSockets()
    assert len(sockets.take(400)) == 400
    assert len(sockets.take(400)) == MAX_FRESH - 400
    assert sockets.take(1) == []
    assert sockets.free == 0


def test_all_but_those_in_use() -> None:
    sockets = FreshSockets()
    sockets.take(5)
    sockets.release_all_but({0, 18, 300})
    assert sockets.take_released() == (16, 17, 19, 20)
    assert sockets.free == MAX_FRESH - 1


@given(st.lists(st.one_of(st.integers(0, 500), st.sets(st.integers(0, 500))), max_size=30))
def test_never_twice(steps: list[int | set[int]]) -> None:
    sockets, taken = FreshSockets(), set()
    for step in steps:
        if isinstance(step, int):
            found = sockets.take(step)
            assert not taken & set(found)
            taken |= set(found)
        else:
            sockets.release(step)
            released = sockets.take_released()
            assert set(released) == taken & step
            taken -= step
        assert taken <= set(NUMBERS)
        assert sockets.free == MAX_FRESH - len(taken)
