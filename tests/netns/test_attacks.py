"""Attackers against the real server and real nodes: nothing is accepted, nothing moves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from .attacks.floods import attack_by_flood
from .attacks.lies import attack_as_server
from .attacks.members import attack_as_member
from .attacks.on_path import attack_on_path
from .attacks.site import UNMOVED, Result
from .attacks.strangers import attack_as_stranger
from .attacks.streams import PER_SOURCE, attack_by_streams
from .lab import Lab

pytestmark = pytest.mark.root


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_strangers_are_not_heard(lab: Lab, tmp_path: Path, family: str) -> None:
    is_ipv6 = family == "IPv6"
    noise, handshakes, stun = attack_as_stranger(lab, tmp_path, 1000, is_ipv6=is_ipv6)
    refuse([noise, handshakes, stun], answered=False)
    assert noise.tried == 1000
    assert stun.answered > 0, "what is answered to forged sources is counted"


def test_who_is_on_the_path_gets_nothing_in(lab: Lab, tmp_path: Path) -> None:
    """Replayed, changed by a bit, cut short, from the sender's address and from another."""
    results = attack_on_path(lab, tmp_path, 10)
    refuse(results, answered=False)
    assert len(results) == 2 * 9
    assert all(result.noticed == UNMOVED for result in results), results


def test_nor_with_the_other_cipher(lab: Lab, tmp_path: Path) -> None:
    results = attack_on_path(lab, tmp_path, 10, "--no-aegis", is_replaying=False)
    refuse(results, answered=False)
    assert len(results) == 4
    assert all(result.noticed == UNMOVED for result in results), results


def test_a_member_cannot_be_another(lab: Lab, tmp_path: Path) -> None:
    results = attack_as_member(lab, tmp_path, 20)
    refuse(results, answered=False)
    assert all(result.noticed == UNMOVED for result in results), results


def test_a_server_against_its_users_can_only_deny(lab: Lab, tmp_path: Path) -> None:
    """Nobody joins by it, nothing is readable, the direct pair goes on, and what comes to whom it
    aims at is within the bounds."""
    results = {result.attack: result for result in attack_as_server(lab, tmp_path, 0.4)}
    assert len(results) == 12
    for attack, result in results.items():
        assert result.accepted == 0, result
        assert result.tried > 0 or "withhold" in attack, result
    relayed = "a lying server, what it relays: "
    for how in ("not at all", "spoil"):
        # Its lies are told, too, and the true frame is one of what it sends.
        assert not results[relayed + how].noticed.startswith("0 of"), results
    assert results[relayed + "withhold"].noticed.startswith("0 of"), results
    assert results["a lying server: aim"].answered > 0, "what comes to the victim is counted"
    assert "invitation" not in results["a lying server: forge"].noticed


def test_streams_of_strangers_are_few_and_end(lab: Lab, tmp_path: Path) -> None:
    """Whatever they say, or do not; and who needs streams is served meanwhile."""
    results = attack_by_streams(lab, tmp_path, PER_SOURCE + 16)
    refuse(results, answered=False)
    assert len(results) == 8
    assert "16 refused; joined by TCP" in results[0].noticed, "one too many, and no others"
    assert all("0 of 2 paths moved" in result.noticed for result in results), results


def test_a_flood_of_initiations_keeps_nobody_out(lab: Lab, tmp_path: Path) -> None:
    """Valid but for whom they are from, at the server and at a node: cookies let others in."""
    floods = attack_by_flood(lab, tmp_path, 1.0, kinds=2, rate=5_000.0)
    assert len(floods) == 2
    for flood in floods:
        refuse([flood.result], answered=True)
        assert flood.result.answered > 0
        assert flood.cookies > 100, flood
        assert flood.rate_during > 0
        for name, before in flood.memory_before.items():
            assert flood.memory_after[name] - before < 16 * 1024, flood
    at_server, at_node = floods
    assert at_server.sieve is None
    assert at_node.sieve is not None, "more than is read"
    assert at_node.read < at_node.sent / 2


def refuse(results: Sequence[Result], *, answered: bool) -> None:
    """None was accepted; if `answered`, some were answered by less than they were."""
    for result in results:
        assert result.tried > 0, result
        assert result.accepted == 0, result
        assert result.answered <= (result.sent if answered else 0) or "STUN" in result.attack, (
            result
        )
