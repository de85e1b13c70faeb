from __future__ import annotations

import pytest

from tunnel.dataplane.limits import gso_max_size
from tunnel.dataplane.train import TRAIN_LENGTH, TRAIN_SEGMENTS

RESERVES = [192 + 1, 256 + 1, 320 + 1, 384 + 1]
"""What kernels may take off."""


def segments(mtu: int, headers: int, reserve: int, tag_length: int = 32) -> int:
    """Of a superpacket, as the kernel reckons."""
    return (gso_max_size(mtu, tag_length) - reserve) // (mtu - headers)


@pytest.mark.parametrize("tag_length", [16, 32])
@pytest.mark.parametrize("mtu", [1280, 1300, 1380, 1400, 1420, 1500, 2000, 4000, 8900, 9000])
def test_a_train_is_full_whatever_the_kernel_takes_off(mtu: int, tag_length: int) -> None:
    fit = min(TRAIN_SEGMENTS, TRAIN_LENGTH // (mtu + 20 + tag_length))
    for reserve in RESERVES:
        for headers in (52, 72):
            assert segments(mtu, headers, reserve, tag_length) == fit
        for headers in (40, 60):
            assert segments(mtu, headers, reserve, tag_length) in (fit, fit - 1)


def test_never_more_than_a_train() -> None:
    for mtu in range(1280, 9200):
        fit = min(TRAIN_SEGMENTS, TRAIN_LENGTH // (mtu + 52))
        assert 0 < gso_max_size(mtu) <= 65_536
        for reserve in RESERVES:
            assert fit - 1 <= segments(mtu, 72, reserve) <= fit


@pytest.mark.parametrize("mtu", [576, 900, 1279])
def test_interfaces_without_ipv6(mtu: int) -> None:
    for reserve in RESERVES:
        assert segments(mtu, 52, reserve) == min(64, TRAIN_LENGTH // (mtu + 52))


@pytest.mark.parametrize("mtu", [32_000, 50_000, 65_000])
def test_packets_that_fill_a_train_alone(mtu: int) -> None:
    assert gso_max_size(mtu) == 65_536
