"""The `user` fixture."""

from __future__ import annotations

from tests.cli.command import user

__all__ = ["user"]
