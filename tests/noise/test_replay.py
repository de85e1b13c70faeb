from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.noise.replay import WINDOW, ReplayFilter


class SlowFilter:
    """What the window is meant to be: the set of all counters seen."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def is_fresh(self, counter: int) -> bool:
        greatest = max(self.seen, default=-1)
        return counter > greatest - WINDOW and counter not in self.seen

    def accept(self, counter: int) -> bool:
        fresh = self.is_fresh(counter)
        if fresh:
            self.seen.add(counter)
        return fresh


# Steps from the greatest counter so far: small ones, ones around the edge of the window, long ones.
steps = st.one_of(
    st.integers(-70, 70),
    st.integers(-WINDOW - 3, -WINDOW + 3),
    st.integers(WINDOW - 3, WINDOW + 3),
    st.integers(-3 * WINDOW, 3 * WINDOW),
    st.just(1),
)


@given(st.integers(0, 2 * WINDOW), st.lists(steps, max_size=60))
def test_agrees_with_a_set(start: int, moves: list[int]) -> None:
    window, model = ReplayFilter(), SlowFilter()
    greatest = start
    for move in [0, *moves]:
        counter = max(greatest + move, 0)
        # Neighbours too: whatever accepting does to other slots must show.
        for near in (counter - 1, counter, counter + 1, counter - WINDOW, counter + WINDOW):
            if near >= 0:
                assert window.is_fresh(near) == model.is_fresh(near)
        assert window.accept(counter) == model.accept(counter)
        greatest = max(greatest, counter)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30))
def test_agrees_with_a_set_over_all_counters(counters: list[int]) -> None:
    window, model = ReplayFilter(), SlowFilter()
    for counter in counters:
        assert window.is_fresh(counter) == model.is_fresh(counter)
        assert window.accept(counter) == model.accept(counter)


runs = st.tuples(steps, st.integers(0, 70) | st.integers(WINDOW - 3, WINDOW + 3))


@given(st.integers(0, 2 * WINDOW), st.lists(runs, max_size=40))
def test_a_run_is_as_good_as_its_counters_one_by_one(
    start: int, moves: list[tuple[int, int]]
) -> None:
    whole, singly, greatest = ReplayFilter(), ReplayFilter(), start
    for move, count in moves:
        first = max(greatest + move, 0)
        counters = range(first, first + count)
        # Accepting the later ones of a long run may push the window past the earlier ones.
        is_good = 0 < count <= WINDOW and all(singly.is_fresh(counter) for counter in counters)
        assert whole.accept_run(first, count) == is_good
        if is_good:
            assert all(singly.accept(counter) for counter in counters)
            greatest = max(greatest, first + count - 1)
        assert whole.greatest == singly.greatest
        for near in {first - 1, first, first + count - 1, first + count, greatest + 1, 0}:
            for counter in (near - WINDOW, near - 1, near, near + 1):
                if counter >= 0:
                    assert whole.is_fresh(counter) == singly.is_fresh(counter)


T = WINDOW

# The cases of wireguard-go's replay test, for a window of exactly 8192: (counter, accepted).
CASES = {
    "first ones, and once more": [
        (0, True),
        (1, True),
        (1, False),
        (9, True),
        (8, True),
        (7, True),
        (7, False),
        (8, False),
        (0, False),
    ],
    "edge of the window": [(T, True), (T - 1, True), (T - 1, False), (1, True), (0, False)],
    "twice around": [
        (2, True),
        (2, False),
        (T + 16, True),
        (3, False),
        (T + 16, False),
        (T * 4, True),
        (T * 4 - (T - 1), True),
        (10, False),
        (T * 4 - T, False),
        (T * 4 - (T + 1), False),
        (T * 4 - (T - 2), True),
        (T * 4 + 1 - T, False),
        (0, False),
    ],
    "ascending": [(counter, True) for counter in range(1, 3 * T)] + [(0, False)],
    "descending": [(counter, True) for counter in range(T - 1, -1, -1)] + [(0, False)],
    "descending, one too many": [(counter, True) for counter in range(T, 0, -1)] + [(0, False)],
    "ascending, none at 0": [*((counter, True) for counter in range(1, T + 1)), (T, False)],
    "jump over the whole window": [
        (0, True),
        (T, True),
        (1, True),
        (2 * T + 5, True),
        (T + 5, False),
        (T + 6, True),
        (2 * T, True),
        (2 * T, False),
    ],
    "greatest there is": [(2**64 - 1, True), (2**64 - T, True), (2**64 - T - 1, False)],
}


@pytest.mark.parametrize("name", CASES)
def test_cases(name: str) -> None:
    window = ReplayFilter()
    for counter, accepted in CASES[name]:
        assert window.is_fresh(counter) == accepted, counter
        assert window.accept(counter) == accepted, counter


def test_asking_changes_nothing() -> None:
    window = ReplayFilter()
    assert window.is_fresh(10 * WINDOW)
    assert window.accept(0)
    assert window.is_fresh(1)
    assert window.accept(1)
