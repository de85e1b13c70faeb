from __future__ import annotations

from collections.abc import Callable

import pytest

from tunnel.core.server_echoes import MAX_PENDING, ServerEchoes
from tunnel.wire.endpoint import Endpoint

SERVER, OTHER = Endpoint("203.0.113.10", 12345), Endpoint("203.0.113.10", 12346)


def counting() -> Callable[[int], bytes]:
    numbers = iter(range(1000))
    return lambda size: next(numbers).to_bytes(size, "little")


def test_each_is_answered_once() -> None:
    echoes = ServerEchoes(counting())
    transaction = echoes.begin(OTHER, 1.0, is_main=False)
    assert echoes.end(transaction + 1, 2.0) is None
    sent = echoes.end(transaction, 2.0)
    assert sent is not None
    assert (sent.at, sent.endpoint, sent.is_main) == (1.0, OTHER, False)
    assert echoes.end(transaction, 2.0) is None
    assert echoes.rtt is None


def test_the_round_trip_is_smoothed() -> None:
    echoes = ServerEchoes(counting())
    for sample, smoothed in ((0.08, 0.08), (0.16, 0.09), (0.01, 0.08)):
        echoes.end(echoes.begin(SERVER, 5.0, is_main=True), 5.0 + sample)
        assert echoes.rtt == pytest.approx(smoothed)


def test_what_is_forgotten_is_not_answered() -> None:
    echoes = ServerEchoes(counting())
    sent = [echoes.begin(SERVER, 1.0, is_main=True) for _ in range(MAX_PENDING + 1)]
    assert echoes.end(sent[0], 2.0) is None
    assert echoes.end(sent[1], 2.0) is not None
    echoes.clear()
    assert echoes.end(sent[2], 2.0) is None
