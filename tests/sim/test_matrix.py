"""The pairs that `benchmarks.matrix` measures, once in the simulator."""

from __future__ import annotations

import pytest

from benchmarks.matrix.pairs import Pair, all_pairs, named
from benchmarks.matrix.simulated import play
from benchmarks.matrix.table import show


@pytest.mark.parametrize("pair", all_pairs(), ids=lambda pair: pair.name)
def test_pairs_that_need_no_guessing_end_direct(pair: Pair) -> None:
    """And those that can't end direct stay relayed, and say why."""
    result = play(pair, 0, 15.0 if pair.is_simple else 5.0)
    if pair.is_simple:
        assert result["direct"], pair.rule
    elif pair.chance == 0.0:
        assert not result["direct"], pair.rule
    assert bool(result["why"]) is not result["direct"]


def test_pairs_are_named_in_either_order() -> None:
    assert named("linux:open") == named("open:linux") == [Pair("open", "linux")]
    assert len(named("linux")) == len(named("linux:")) > 10
    with pytest.raises(ValueError, match="no such pair"):
        named("linux:nobody")


def test_the_table_shows_every_pair_and_why() -> None:
    pairs = [*named("open:linux"), *named("open:open"), *named("apdm-random:apdm-random")]
    results = [
        {"where": "simulator", "pair": pair.name, "repetition": 0, **play(pair, 0, 5.0)}
        for pair in pairs
    ]
    failed = {"where": "simulator", "pair": "open:open", "repetition": 1, "error": "it broke"}
    text = show([*results, failed], pairs)
    assert all(f"\n{pair.name} " in text for pair in pairs)
    assert "(1 failed)" in text
    assert results[2]["why"][0] in text
