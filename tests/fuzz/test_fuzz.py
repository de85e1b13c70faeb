"""Every target over its corpus and some mutations; the same ones in every run."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz.mutate import mutate
from tests.fuzz.targets import TARGETS, corpus

MUTATIONS = 2000
SLOW = {"server_says": 1000, "traversal": 300, "port_guessing": 200}


@pytest.mark.parametrize("name", TARGETS)
def test_target(name: str) -> None:
    target, seeds = TARGETS[name], corpus(name)
    assert target.__doc__
    for seed in (b"", *seeds):
        target(seed)
    random = Random(name)
    pool = list(seeds)
    for _ in range(SLOW.get(name, MUTATIONS)):
        data = mutate(random.choice(pool), seeds, random)
        target(data)
        if len(pool) < 200:
            pool.append(data)
