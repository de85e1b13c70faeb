"""RFC 6887 §8.5 and RFC 6886 §3.6: has the router started again?"""

from __future__ import annotations

import pytest

from tunnel.core.epoch import EpochCheck


@pytest.mark.parametrize(
    ("first", "passed", "second", "is_consistent"),
    [
        (100, 60, 160, True),
        (100, 60, 158, True),
        (100, 60, 163, True),
        (100, 0, 100, True),
        (100, 0.1, 99, True),  # Reordered on the way.
        (100, 0.1, 98, False),
        (100, 60, 0, False),
        (1, 60, 0, False),
        (100, 1600, 1650, True),  # Its clock is slow by 3 %.
        (100, 1600, 1595, False),  # By 7 %.
        (100, 1600, 1750, True),
        (100, 1600, 1900, False),
        (0, 3600, 3600, True),
        (2**32 - 5, 60, 55, False),  # The counter ran over: mapping again does no harm.
    ],
)
def test_second_against_first(
    first: int, passed: float, second: int, *, is_consistent: bool
) -> None:
    check = EpochCheck()
    assert check.note(first, 1000.0)
    assert check.note(second, 1000.0 + passed) is is_consistent


def test_after_a_restart_the_new_count_counts() -> None:
    check = EpochCheck()
    check.note(500, 0.0)
    assert not check.note(3, 10.0)
    assert check.note(13, 20.0)
