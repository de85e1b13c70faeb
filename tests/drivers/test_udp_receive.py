"""What `receive_arrival` returns, in either way of receiving."""

from __future__ import annotations

import select

import pytest

from tunnel.core.machine import Transmit
from tunnel.drivers.udp import UdpSocket
from tunnel.drivers.udp_receive import AREA, SLACK, Arrival
from tunnel.wire.endpoint import Endpoint


def next_arrival(receiver: UdpSocket) -> Arrival:
    assert select.select([receiver], [], [], 10)[0], "nothing arrived"
    arrival = receiver.receive_arrival()
    assert arrival is not None
    return arrival


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_train_is_one_arrival(host: str) -> None:
    a, b = UdpSocket(None, 0), UdpSocket(None, 0)
    if not (a.sends_trains and b.receives_trains):
        pytest.skip("this kernel has no UDP_SEGMENT or UDP_GRO")
    data = b"".join([bytes([i]) * 1400 for i in range(45)]) + b"short"
    assert a.transmit(Transmit(data, Endpoint(host, b.port), 1400))
    offset, stride, size, length, source = next_arrival(b)
    assert (stride, size, length, source) == (1400, 1400, len(data), Endpoint(host, a.port))
    assert AREA[offset : offset + length] == data
    assert len(AREA) - offset - length >= SLACK
    assert b.receive_arrival() is None
    a.close()
    b.close()


@pytest.mark.parametrize("length", [0, 1, 1400, 65_507])
def test_a_datagram_alone(length: int) -> None:
    a, b = UdpSocket(None, 0), UdpSocket(None, 0)
    assert a.transmit(Transmit(b"x" * length, Endpoint("127.0.0.1", b.port)))
    offset, _, *rest = next_arrival(b)
    assert rest == [length, length, Endpoint("127.0.0.1", a.port)]
    assert AREA[offset : offset + length] == b"x" * length
    assert b.receive_arrival() is None
    a.close()
    b.close()


def test_a_closed_socket_brings_nothing() -> None:
    a = UdpSocket(None, 0)
    a.close()
    assert a.receive_arrival() is None
    assert a.errors == {"EBADF": 1}
