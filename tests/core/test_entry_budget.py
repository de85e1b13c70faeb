"""The bound on entries in the tables of the NATs before us."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.core.entry_budget import MAX_ENTRIES, MAX_SAMPLES, EntryBudget
from tunnel.core.entry_lifetime import ASSUMED_LIFETIME

NOW = 1000.0


def test_spent_until_the_nat_has_forgotten() -> None:
    budget = EntryBudget()
    budget.spend(100, NOW)
    budget.spend(50, NOW, NOW + 10)
    assert budget.left(NOW) == MAX_ENTRIES - 150
    assert budget.left(NOW + ASSUMED_LIFETIME - 0.1) == MAX_ENTRIES - 150
    assert budget.left(NOW + ASSUMED_LIFETIME) == MAX_ENTRIES - 50
    assert budget.left(NOW + 10 + ASSUMED_LIFETIME) == MAX_ENTRIES


def test_an_end_in_the_past_is_now() -> None:
    budget = EntryBudget()
    budget.spend(100, NOW, NOW - 100)
    assert budget.left(NOW) == MAX_ENTRIES - 100


@pytest.mark.parametrize("lifetime", [30.0, 120.0])
def test_lifetime(lifetime: float) -> None:
    budget = EntryBudget()
    budget.spend(1, NOW)
    budget.lifetime = lifetime
    assert budget.left(NOW + lifetime - 0.1) == MAX_ENTRIES - 1
    assert budget.left(NOW + lifetime) == MAX_ENTRIES


def test_samples_have_entries_of_their_own() -> None:
    budget = EntryBudget()
    budget.spend(MAX_ENTRIES, NOW)
    budget.spend_samples(12, NOW)
    assert (budget.left(NOW), budget.left_for_samples(NOW)) == (0, MAX_SAMPLES - 12)
    assert budget.left_for_samples(NOW + ASSUMED_LIFETIME) == MAX_SAMPLES


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 480)), max_size=40))
def test_never_more_at_any_moment(steps: list[tuple[float, int]]) -> None:
    """Whoever spends no more than is left."""
    budget, now, spent = EntryBudget(), NOW, []
    for pause, count in steps:
        now += pause
        count = min(count, budget.left(now))
        budget.spend(count, now)
        spent.append((now, count))
        alive = sum(count for at, count in spent if at > now - ASSUMED_LIFETIME)
        assert alive <= MAX_ENTRIES
