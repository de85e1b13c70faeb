"""Attackers against the real server and real nodes: nothing is accepted, nothing moves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from .attacks.members import attack_as_member
from .attacks.on_path import attack_on_path
from .attacks.site import UNMOVED, Result
from .attacks.strangers import attack_as_stranger
from .lab import Lab

pytestmark = pytest.mark.root


def test_strangers_are_not_heard(lab: Lab, tmp_path: Path) -> None:
    noise, handshakes, stun = attack_as_stranger(lab, tmp_path, 1000)
    refuse([noise, handshakes, stun], answered=False)
    assert noise.tried == 1000
    assert stun.answered > 0, "what is answered to forged sources is counted"


@pytest.mark.parametrize("cipher", ["aegis", "chacha"])
def test_who_is_on_the_path_gets_nothing_in(lab: Lab, tmp_path: Path, cipher: str) -> None:
    """Replayed, changed by a bit, cut short, from the sender's address and from another."""
    options = ["--no-aegis"] if cipher == "chacha" else []
    results = attack_on_path(lab, tmp_path, 10, *options)
    refuse(results, answered=False)
    assert len(results) == 2 * 9
    assert all(result.noticed == UNMOVED for result in results), results


def test_a_member_cannot_be_another(lab: Lab, tmp_path: Path) -> None:
    results = attack_as_member(lab, tmp_path, 20)
    refuse(results, answered=False)
    assert all(result.noticed == UNMOVED for result in results), results


def refuse(results: Sequence[Result], *, answered: bool) -> None:
    """None was accepted; if `answered`, some were answered by less than they were."""
    for result in results:
        assert result.tried > 0, result
        assert result.accepted == 0, result
        assert result.answered <= (result.sent if answered else 0) or "STUN" in result.attack, (
            result
        )
