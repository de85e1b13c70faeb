"""From who sees us where to RFC 4787's words."""

from __future__ import annotations

import pytest

from tunnel.core.nat_mapping import (
    ADDRESS,
    ADDRESS_AND_PORT,
    INDEPENDENT,
    Observation,
    classify_mapping,
)
from tunnel.wire.endpoint import Endpoint

A1, A2 = Endpoint("203.0.113.10", 12345), Endpoint("203.0.113.10", 12346)
B1 = Endpoint("203.0.113.20", 12345)
PEER, PEER_2 = Endpoint("198.51.100.7", 40000), Endpoint("198.51.100.8", 40000)


def at(port: int, host: str = "192.0.2.1") -> Endpoint:
    return Endpoint(host, port)


@pytest.mark.parametrize(
    ("seen", "behaviour"),
    [
        ({}, None),
        ({A1: at(1)}, None),
        ({A1: at(1), A2: at(1)}, INDEPENDENT),
        ({A1: at(1), A2: at(2)}, ADDRESS_AND_PORT),
        ({A1: at(1), A2: at(1), B1: at(1)}, INDEPENDENT),
        ({A1: at(1), A2: at(1), B1: at(2)}, ADDRESS),
        ({A1: at(1), A2: at(2), B1: at(1)}, ADDRESS_AND_PORT),
        ({A1: at(1), A2: at(2), B1: at(3)}, ADDRESS_AND_PORT),
        ({A1: at(1), B1: at(1)}, INDEPENDENT),
        ({A1: at(1), B1: at(2)}, ADDRESS),
        # a pool that is not paired: the address varies, not the port
        ({A1: at(1), A2: at(1), B1: at(1, "192.0.2.2")}, ADDRESS),
        ({A1: at(1), A2: at(1), PEER: at(2)}, ADDRESS),
        ({A1: at(1), A2: at(1), PEER: at(2), PEER_2: at(3)}, ADDRESS),
        # somebody elsewhere agrees: whoever does not is an exception
        ({A1: at(1), A2: at(1), B1: at(1), PEER: at(2)}, INDEPENDENT),
        ({A1: at(1), A2: at(1), PEER: at(1), PEER_2: at(2)}, INDEPENDENT),
        ({A1: at(1), A2: at(1), PEER: at(1), PEER._replace(port=9): at(2)}, INDEPENDENT),
        ({A1: at(1), PEER: at(1), PEER._replace(port=9): at(2)}, ADDRESS_AND_PORT),
    ],
)
def test_behaviour(seen: dict[Endpoint, Endpoint], behaviour: str | None) -> None:
    mapping = classify_mapping([Observation(*pair) for pair in seen.items()])
    assert mapping.behaviour == behaviour
    for destination, observed in seen.items():
        assert f"{destination} sees {observed}" in mapping.evidence


def test_the_evidence_says_when_one_address_was_asked_only() -> None:
    said = "only one address was asked"
    one = classify_mapping([Observation(A1, at(1)), Observation(A2, at(1))])
    two = classify_mapping([Observation(A1, at(1)), Observation(B1, at(1))])
    assert said in one.evidence
    assert said not in two.evidence


def test_the_evidence_names_an_exception() -> None:
    seen = {A1: at(1), B1: at(1), PEER: at(2)}
    mapping = classify_mapping([Observation(*pair) for pair in seen.items()])
    assert "occupied" in mapping.evidence[-1]
