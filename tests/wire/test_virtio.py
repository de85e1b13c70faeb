from __future__ import annotations

import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.messages import octets, words
from tunnel.wire.virtio import (
    CHECKSUM_LEFT,
    GSO_ECN,
    GSO_TCP6,
    GSO_UDP,
    NO_VIRTIO,
    VIRTIO_LENGTH,
    Virtio,
    parse_virtio,
)

GOLDEN = [
    (Virtio(0, 0, 0, 0, 0, 0), "00 00 0000 0000 0000 0000"),
    (Virtio(CHECKSUM_LEFT, GSO_TCP6 | GSO_ECN, 72, 1428, 40, 16), "01 84 4800 9405 2800 1000"),
    (Virtio(CHECKSUM_LEFT, GSO_UDP, 28, 1200, 20, 6), "01 05 1c00 b004 1400 0600"),
]


@pytest.mark.parametrize(("virtio", "golden"), GOLDEN)
def test_golden(virtio: Virtio, golden: str) -> None:
    """As a machine of little-endian order has it; another swaps the bytes of all but the first."""
    packed = bytes.fromhex(golden)
    if sys.byteorder == "big":
        packed = packed[:2] + struct.pack(">4H", *struct.unpack("<4H", packed[2:]))
    assert virtio.pack() == packed
    assert parse_virtio(packed) == virtio


def test_a_plain_packet() -> None:
    assert Virtio(0, 0, 0, 0, 0, 0).pack() == NO_VIRTIO


@given(st.builds(Virtio, words(8), words(8), words(16), words(16), words(16), words(16)))
def test_packing_and_parsing(virtio: Virtio) -> None:
    assert len(virtio.pack()) == VIRTIO_LENGTH
    assert parse_virtio(memoryview(virtio.pack() + b"packet")) == virtio


@given(octets(VIRTIO_LENGTH))
def test_any_bytes(header: bytes) -> None:
    assert parse_virtio(header).pack() == header
