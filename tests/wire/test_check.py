from __future__ import annotations

import pytest

from tunnel.errors import Malformed
from tunnel.wire.check import (
    PONG_LENGTH,
    UNOBSERVED,
    Phase,
    Ping,
    Pong,
    Prediction,
    PredictionKind,
    Refusal,
    parse_check,
)
from tunnel.wire.endpoint import Endpoint


@pytest.mark.parametrize("size", [0, 12, 13, 1252])
def test_padding_of_a_ping(size: int) -> None:
    """A padded check measures what fits through the path."""
    packed = Ping(7, size).pack()
    assert len(packed) == max(size, 12)
    assert parse_check(packed) == Ping(7, len(packed))


def test_pong_is_as_long_as_it_says() -> None:
    assert len(Pong(1, 2, UNOBSERVED).pack()) == PONG_LENGTH


def test_other_kinds() -> None:
    for kind in [0, *range(15, 256)]:
        with pytest.raises(Malformed, match=r"^check kind or length$"):
            parse_check(bytes([kind]) + bytes(60))


@pytest.mark.parametrize("length", range(4))
def test_shorter_than_any(length: int) -> None:
    with pytest.raises(Malformed, match=r"^check length$"):
        parse_check(b"\x05\0\0\0"[:length])


PREDICTED = Prediction(
    Phase.ASK, PredictionKind.SCATTERED, 0, 7, 64, 0, Endpoint("192.0.2.1", 4096), 4607
)


def test_size_of_a_prediction() -> None:
    assert PREDICTED.size == 512
    assert PREDICTED._replace(last=4096).size == 1
    assert PREDICTED._replace(last=4000).size == 97


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"phase": 0}, "prediction phase or kind"),
        ({"phase": 4}, "prediction phase or kind"),
        ({"kind": 0}, "prediction phase or kind"),
        ({"kind": 4}, "prediction phase or kind"),
        ({"phase": Phase.DECLINE, "kind": 5}, "prediction phase or kind"),
        ({"last": 0}, "prediction port or sockets"),
        ({"sockets": 0}, "prediction port or sockets"),
        ({"first": Endpoint("192.0.2.1", 0)}, "prediction port or sockets"),
    ],
)
def test_malformed_predictions(change: dict[str, int], reason: str) -> None:
    with pytest.raises(Malformed, match=f"^{reason}$"):
        parse_check(PREDICTED._replace(**change).pack())  # type: ignore[arg-type]


def test_a_refusal_needs_no_ports() -> None:
    refusal = Prediction(Phase.DECLINE, Refusal.OFF, 0, 7, 0, 0, UNOBSERVED, 0)
    assert parse_check(refusal.pack()) == refusal
