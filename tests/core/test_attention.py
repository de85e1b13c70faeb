"""Who is looked at, and when the first of all wants to be woken."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunnel.core.attention import SPARE, Attention
from tunnel.core.machine import earliest


class One:
    def __init__(self, at: float | None = None) -> None:
        self.at = at

    def get_timer(self) -> float | None:
        return self.at


def planned(*times: float | None) -> tuple[Attention[One], list[One]]:
    attention: Attention[One] = Attention()
    those = [One(at) for at in times]
    for one in those:
        attention.plan(one)
    return attention, those


def test_nobody() -> None:
    attention, _ = planned()
    assert attention.get_timer() is None
    assert attention.take_due(1e9) == []
    assert attention.take_touched() == []


def test_touched_once_is_looked_at_once_in_the_order_of_touching() -> None:
    attention, (a, b, c) = planned(None, None, None)
    for one in (c, a, c):
        attention.touch(one)
    assert attention.take_touched() == [c, a]
    assert attention.take_touched() == []
    attention.touch(b)
    assert attention.take_touched() == [b]


def test_those_that_are_due_are_touched() -> None:
    attention, (a, b, c) = planned(3.0, 1.0, 2.0)
    assert attention.get_timer() == 1.0
    assert attention.take_due(0.9) == []
    assert attention.take_due(2.0) == [b, c]
    assert attention.take_touched() == [b, c]
    assert attention.get_timer() == 3.0
    assert attention.take_due(3.0) == [a]


def test_due_at_the_same_time_in_the_order_of_planning() -> None:
    attention, those = planned(1.0, 1.0, 1.0)
    assert attention.take_due(1.0) == those


def test_who_is_planned_again_is_woken_at_the_new_time_only() -> None:
    attention, (a, b) = planned(1.0, 5.0)
    for at in (2.0, 1.0, 7.0):
        a.at = at
        attention.plan(a)
    assert attention.get_timer() == 5.0
    assert attention.take_due(6.0) == [b]
    a.at = None
    attention.plan(a)
    b.at = None
    attention.plan(b)
    assert attention.get_timer() is None
    assert attention.take_due(1e9) == []


def test_the_timer_of_one_that_was_touched_counts_before_it_is_looked_at() -> None:
    attention, (a, b) = planned(3.0, 4.0)
    b.at = 1.0
    attention.touch(b)
    assert attention.get_timer() == 1.0
    assert attention.take_due(2.0) == [b]
    a.at, b.at = 9.0, None
    attention.touch(a)
    assert attention.take_due(5.0) == []


def test_what_is_forgotten_leaves_the_heap() -> None:
    attention, (a, b) = planned(1.0, 2.0)
    for number in range(10_000):
        b.at = 1e6 - number
        attention.plan(b)
    assert len(attention._heap) <= 2 * 2 + SPARE + 1
    assert attention.take_due(1.0) == [a]
    a.at = None
    assert attention.get_timer() == b.at


def test_who_leaves_is_neither_touched_nor_woken() -> None:
    attention, (a, b) = planned(1.0, 2.0)
    attention.touch(a)
    attention.forget(a)
    assert not attention.has_touched
    assert attention.get_timer() == 2.0
    assert attention.take_due(5.0) == [b]
    attention.forget(a)
    attention.forget(b)
    assert attention.get_timer() is None


INSTRUCTIONS = st.lists(
    st.tuples(
        st.sampled_from(["change", "touch", "look", "wake"]),
        st.integers(0, 4),
        st.none() | st.integers(0, 20),
    ),
    max_size=60,
)


@given(INSTRUCTIONS)
def test_like_asking_all_of_them(instructions: list[tuple[str, int, int | None]]) -> None:
    """Whatever is done to whom: as long as who changes is touched, the first timer is that of all,
    and those that are due are those that would be found due by asking everybody."""
    attention, those = planned(*[None] * 5)
    now = 0.0
    for what, number, value in instructions:
        one = those[number]
        if what == "change":
            one.at = None if value is None else now + value
            attention.touch(one)
        elif what == "touch":
            attention.touch(one)
        elif what == "look":
            for touched in attention.take_touched():
                attention.plan(touched)
            assert attention.get_timer() == earliest(each.at for each in those)
        else:
            now += value or 0
            due = [each for each in those if each.at is not None and each.at <= now]
            assert set(attention.take_due(now)) == set(due)
            for each in due:
                each.at = None
        timer, first = attention.get_timer(), earliest(each.at for each in those)
        assert timer == first or (timer is not None and (first is None or timer < first))
