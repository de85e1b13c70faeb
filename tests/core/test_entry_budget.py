"""The bound on entries in the tables of the NATs before us."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.core.entry_budget import ENTRY_LIFETIME, LONGEST_LIFETIME, MAX_ENTRIES, EntryBudget

NOW = 1000.0


def test_spent_until_the_nat_has_forgotten() -> None:
    budget = EntryBudget()
    budget.spend(100, NOW)
    budget.spend(50, NOW, NOW + 10)
    assert budget.left(NOW) == MAX_ENTRIES - 150
    assert budget.left(NOW + ENTRY_LIFETIME - 0.1) == MAX_ENTRIES - 150
    assert budget.left(NOW + ENTRY_LIFETIME) == MAX_ENTRIES - 50
    assert budget.left(NOW + 10 + ENTRY_LIFETIME) == MAX_ENTRIES


def test_an_end_in_the_past_is_now() -> None:
    budget = EntryBudget()
    budget.spend(100, NOW, NOW - 100)
    assert budget.left(NOW) == MAX_ENTRIES - 100


@pytest.mark.parametrize(
    ("measured", "counts"), [(None, 30.0), (12.0, 30.0), (65.0, 65.0), (1000.0, LONGEST_LIFETIME)]
)
def test_lifetime(measured: float | None, counts: float) -> None:
    budget = EntryBudget()
    budget.set_lifetime(measured)
    budget.spend(1, NOW)
    assert budget.left(NOW + counts - 0.1) == MAX_ENTRIES - 1
    assert budget.left(NOW + counts) == MAX_ENTRIES


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 480)), max_size=40))
def test_never_more_at_any_moment(steps: list[tuple[float, int]]) -> None:
    """Whoever spends no more than is left."""
    budget, now, spent = EntryBudget(), NOW, []
    for pause, count in steps:
        now += pause
        count = min(count, budget.left(now))
        budget.spend(count, now)
        spent.append((now, count))
        alive = sum(count for at, count in spent if at > now - ENTRY_LIFETIME)
        assert alive <= MAX_ENTRIES
