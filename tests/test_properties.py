"""What all tests with hypothesis share (tests/conftest.py)."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def test_no_stall_of_the_machine_fails_a_property() -> None:
    """By hypothesis's own defaults, 0.2 s in one example would."""
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check
