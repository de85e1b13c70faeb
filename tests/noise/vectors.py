"""Reads the published vectors of tests/vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_VECTORS = Path(__file__).parent.parent / "vectors"


def primitives(name: str) -> list[dict[str, bytes]]:
    vectors = json.loads((_VECTORS / "primitives.json").read_text())[name]
    return [
        {field: bytes.fromhex(text) for field, text in vector.items() if field != "source"}
        for vector in vectors
    ]


def noise() -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads(
        (_VECTORS / "noise_ikpsk2_cacophony.json").read_text()
    )["vectors"]
    return vectors
