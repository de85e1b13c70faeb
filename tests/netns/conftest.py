"""The `lab` fixture: one small internet a test, its programs' output shown when the test fails.
`world`: punchtun in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .lab import Lab
from .world import World


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab
    print(lab.transcript())


@pytest.fixture
def world(lab: Lab, tmp_path: Path) -> Iterator[World]:
    """With a server that serves. At the end all processes must leave in order."""
    world = World(lab, tmp_path)
    world.start_server()
    yield world
    world.close()
