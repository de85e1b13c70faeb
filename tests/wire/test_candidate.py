from __future__ import annotations

import pytest

from tests.wire.messages import CANDIDATES, V4_HEX, V6
from tunnel.errors import Malformed
from tunnel.wire.candidate import (
    CANDIDATE_LENGTH,
    MAX_CANDIDATES,
    Announcement,
    Candidate,
    CandidateKind,
    pack_candidates,
    parse_announcement,
    parse_candidates,
)
from tunnel.wire.endpoint import Endpoint


def many(count: int) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(CandidateKind.HOST, Endpoint("10.0.0.1", port)) for port in range(1, count + 1)
    )


def test_as_many_as_allowed() -> None:
    assert parse_candidates(pack_candidates(many(MAX_CANDIDATES))) == many(MAX_CANDIDATES)
    assert parse_candidates(b"\x00") == ()


def test_too_many() -> None:
    with pytest.raises(ValueError, match="33 candidates, at most 32"):
        pack_candidates(many(MAX_CANDIDATES + 1))
    one = pack_candidates(many(1))[1:]
    for count in (MAX_CANDIDATES + 1, 255):
        with pytest.raises(Malformed, match=r"^candidates length$"):
            parse_candidates(bytes([count]) + one * count)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_count_and_length_must_agree(count: int) -> None:
    packed = pack_candidates(CANDIDATES)
    with pytest.raises(Malformed, match=r"^candidates length$"):
        parse_candidates(bytes([count]) + packed[1:])


def test_nothing_is_no_list() -> None:
    with pytest.raises(Malformed):
        parse_candidates(b"")


@pytest.mark.parametrize("kind", [0, 8, 255])
def test_a_kind_of_the_future_is_skipped(kind: int) -> None:
    packed = bytearray(pack_candidates(CANDIDATES))
    packed[1 + CANDIDATE_LENGTH] = kind
    assert parse_candidates(bytes(packed)) == CANDIDATES[:1]


def test_port_zero_is_malformed() -> None:
    with pytest.raises(Malformed, match=r"^candidate port$"):
        parse_candidates(pack_candidates([Candidate(CandidateKind.HOST, Endpoint("10.0.0.1", 0))]))


def test_announcement_of_another_version() -> None:
    packed = Announcement(1, 2, b"certificate", CANDIDATES).pack()
    for version in (0, 2):
        with pytest.raises(Malformed, match=r"^announcement version$"):
            parse_announcement(bytes([version]) + packed[1:])


def test_a_mapped_address_is_read_as_ipv4() -> None:
    (candidate,) = parse_candidates(bytes.fromhex(f"01 01 {V4_HEX}"))
    assert candidate.endpoint.host == "192.0.2.1"
    assert not candidate.endpoint.is_ipv6
    assert V6.is_ipv6


@pytest.mark.parametrize(
    ("kind", "text"),
    [(CandidateKind.HOST, "host"), (CandidateKind.SERVER_REFLEXIVE, "server-reflexive")],
)
def test_text(kind: CandidateKind, text: str) -> None:
    assert kind.text == text
