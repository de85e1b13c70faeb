"""The `lab` fixture: one small internet a test, its programs' output shown when the test fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab
    print(lab.transcript())
