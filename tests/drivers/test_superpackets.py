"""How large the kernel makes superpackets, and whether it takes the limit it is given."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.drivers.tun_pair import TunPair
from tunnel.dataplane.limits import gso_max_size
from tunnel.dataplane.train import TRAIN_LENGTH
from tunnel.drivers.network import configure_interface
from tunnel.drivers.tun import TunDevice

InNamespace = Callable[[Callable[[], None]], None]

FIT = {1400: 45, 1280: 49, 1420: 44, 8900: 7}
"""MTU → frames of MTU and 52 that fit into one train."""
FRAME_OVERHEAD = 16 + 4 + 32


@pytest.mark.root
@pytest.mark.parametrize("timestamps", [True, False])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("mtu", FIT)
def test_a_superpacket_of_tcp_is_one_train(
    in_namespace: InNamespace, mtu: int, version: int, timestamps: bool
) -> None:
    def check() -> None:
        pair = TunPair(mtu, gso_max_size=gso_max_size(mtu), timestamps=timestamps)
        data = random.Random(1).randbytes(4_000_000)
        assert pair.transfer(data, version) == data
        for segments, size, headers in pair.superpackets:
            assert segments * (FRAME_OVERHEAD + headers + size) <= TRAIN_LENGTH
        most = max(segments for segments, _, _ in pair.superpackets)
        if timestamps:
            assert most == FIT[mtu]
        else:
            assert most in (FIT[mtu], FIT[mtu] - 1)

    in_namespace(check)


@pytest.mark.root
def test_without_the_limit_it_is_more(in_namespace: InNamespace) -> None:
    def check() -> None:
        pair = TunPair(1400)
        pair.transfer(bytes(4_000_000), 4)
        assert max(pair.superpackets)[0] > FIT[1400]

    in_namespace(check)


@pytest.mark.root
def test_a_device_without_offload_carries_the_same(in_namespace: InNamespace) -> None:
    def check() -> None:
        pair = TunPair(1400, offload=False, gso_max_size=gso_max_size(1400))
        data = random.Random(2).randbytes(1_000_000)
        assert pair.transfer(data, 6) == data
        assert not pair.superpackets

    in_namespace(check)


@pytest.mark.root
def test_a_kernel_that_refuses_the_limit(
    in_namespace: InNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    def check() -> None:
        tun = TunDevice("pt0")
        assert configure_interface(tun.name, ["10.7.0.1/24"], 1400, gso_max_size=2**31) == [
            "10.7.0.1/24"
        ]
        [record] = caplog.records
        assert "pt0 keeps its gso_max_size" in record.getMessage()

    caplog.set_level("INFO")
    in_namespace(check)
