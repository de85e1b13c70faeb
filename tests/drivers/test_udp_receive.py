"""What is received, whichever way: recvmmsg with UDP_GRO, recvmmsg alone, one call a datagram."""

from __future__ import annotations

import ctypes
import errno
import select
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunnel.core.machine import Transmit
from tunnel.drivers import mmsg, udp_receive, udp_send
from tunnel.drivers.udp import UdpSocket
from tunnel.drivers.udp_receive import AREA, SLACK, Arrival, copy_datagrams
from tunnel.wire.endpoint import Endpoint

LOCALHOST = "127.0.0.1"

Received = list[tuple[bytes, Endpoint]]


def one_by_one() -> UdpSocket:
    receiver = UdpSocket(None, 0)
    receiver._receiver._slots = None
    return receiver


WAYS: dict[str, Callable[[], UdpSocket]] = {
    "gro": lambda: UdpSocket(None, 0),
    "no gro": lambda: UdpSocket(None, 0, gro=False),
    "no gro, IPv4 only": lambda: UdpSocket(LOCALHOST, 0, gro=False),
    "one by one": one_by_one,
}


class Setting:
    def __init__(self) -> None:
        self.senders = [UdpSocket(LOCALHOST, 0, gso=i > 0) for i in range(3)]
        self.receivers = {name: make() for name, make in WAYS.items()}

    def close(self) -> None:
        for opened in (*self.senders, *self.receivers.values()):
            opened.close()


@pytest.fixture(scope="module")
def setting() -> Iterator[Setting]:
    setting = Setting()
    yield setting
    setting.close()


def take_all(receiver: UdpSocket, count: int) -> Received:
    """`count` datagrams by turns of `arrivals`; each arrival is as it should be."""
    received: Received = []
    while len(received) < count:
        assert select.select([receiver], [], [], 10)[0], f"{len(received)} of {count} arrived"
        for arrival in receiver.arrivals(5):
            received += [(datagram, arrival[4]) for datagram in datagrams_of(arrival)]
        assert not receiver.has_arrivals
    return received


def datagrams_of(arrival: Arrival) -> list[bytes]:
    offset, stride, size, length, _ = arrival
    assert offset >= 0
    assert offset + length + SLACK <= len(AREA)
    assert size <= stride
    datagrams = copy_datagrams(arrival)
    assert [len(datagram) for datagram in datagrams[:-1]] == [size] * (len(datagrams) - 1)
    assert min(size, 1) <= len(datagrams[-1]) <= size
    return datagrams


sizes = st.one_of(st.integers(0, 40), st.sampled_from([1, 100, 100, 1452, 9216]))
sends = st.tuples(
    st.integers(0, 2),
    st.one_of(
        st.tuples(sizes),
        st.tuples(st.integers(1, 10), st.integers(1, 1452), st.integers(0, 1452)),
    ),
)
"""Who sends: a datagram of that size, or a train: cars, their size, the last one's."""


@settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(st.lists(sends, max_size=12))
def test_the_same_datagrams_in_the_same_order(
    setting: Setting, plan: list[tuple[int, tuple[int, ...]]]
) -> None:
    for receiver in setting.receivers.values():
        expected: Received = []
        for i, (who, lengths) in enumerate(plan):
            sender = setting.senders[who]
            size = lengths[0] if len(lengths) == 1 else lengths[1]
            datagrams = [bytes([i]) * size] * (lengths[0] if len(lengths) == 3 else 1)
            if len(lengths) == 3:
                datagrams += [bytes([255 - i]) * min(lengths[2], size)] * (lengths[2] > 0)
            there = Endpoint(LOCALHOST, receiver.port)
            segment_size = size if len(lengths) == 3 else None
            assert sender.transmit(Transmit(b"".join(datagrams), there, segment_size))
            expected += [(datagram, Endpoint(LOCALHOST, sender.port)) for datagram in datagrams]
        assert take_all(receiver, len(expected)) == expected
        assert receiver.receive_arrival() is None
        assert not receiver.errors


def next_arrival(receiver: UdpSocket) -> Arrival:
    assert select.select([receiver], [], [], 10)[0], "nothing arrived"
    arrival = receiver.receive_arrival()
    assert arrival is not None
    return arrival


@pytest.mark.parametrize("host", [LOCALHOST, "::1"])
def test_a_train_is_one_arrival(host: str) -> None:
    a, b, c = UdpSocket(None, 0), UdpSocket(None, 0), UdpSocket(None, 0, gro=False)
    if not (a.sends_trains and b.receives_trains):
        pytest.skip("this kernel has no UDP_SEGMENT or UDP_GRO")
    data = b"".join([bytes([i]) * 1400 for i in range(30)]) + b"short"
    for receiver, dense in ((b, True), (c, False)):
        assert a.transmit(Transmit(data, Endpoint(host, receiver.port), 1400))
        arrival = next_arrival(receiver)
        offset, stride, size, length, source = arrival
        assert (size, source) == (1400, Endpoint(host, a.port))
        assert length == 30 * stride + 5
        assert (stride == 1400) == dense
        assert b"".join(datagrams_of(arrival)) == data
        assert AREA[offset : offset + 1400] == data[:1400]
        assert receiver.receive_arrival() is None
    for opened in (a, b, c):
        opened.close()


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("length", [0, 1, 1400, 9216])
def test_a_datagram_alone(setting: Setting, name: str, length: int) -> None:
    a, b = setting.senders[0], setting.receivers[name]
    assert a.transmit(Transmit(b"x" * length, Endpoint(LOCALHOST, b.port)))
    arrival = next_arrival(b)
    assert arrival[2:] == (length, length, Endpoint(LOCALHOST, a.port))
    assert datagrams_of(arrival) == [b"x" * length]
    assert b.receive_arrival() is None


def test_what_is_larger_than_a_slot_is_counted_and_spoils_nothing() -> None:
    a, b = UdpSocket(LOCALHOST, 0), UdpSocket(LOCALHOST, 0, gro=False)
    for data in (b"a" * 9000, b"b" * 9217, b"c" * 9000, b"d", b"e" * 60_000, b"f"):
        assert a.transmit(Transmit(data, Endpoint(LOCALHOST, b.port)))
    received = [datagram for datagram, _ in take_all(b, 4)]
    assert received == [b"a" * 9000, b"c" * 9000, b"d", b"f"]
    assert b.errors == {"MSG_TRUNC": 2}
    assert b.receive_arrival() is None
    a.close()
    b.close()


def test_what_another_socket_overwrites_is_counted() -> None:
    a, b, c = (UdpSocket(LOCALHOST, 0) for _ in range(3))
    for data in (b"one", b"two.", b"three"):  # Longer and longer: each is an arrival.
        a.transmit(Transmit(data, Endpoint(LOCALHOST, b.port)))
    c.transmit(Transmit(b"other", Endpoint(LOCALHOST, a.port)))
    assert datagrams_of(next_arrival(b)) == [b"one"]
    assert b.has_arrivals
    assert datagrams_of(next_arrival(a)) == [b"other"]
    assert not b.has_arrivals
    assert b.errors == {"overwritten": 2}
    a.transmit(Transmit(b"four", Endpoint(LOCALHOST, b.port)))
    assert datagrams_of(next_arrival(b)) == [b"four"]
    for opened in (a, b, c):
        opened.close()


def test_arrivals_end_with_their_budget_and_with_what_there_is() -> None:
    a, b = UdpSocket(LOCALHOST, 0), UdpSocket(LOCALHOST, 0)
    for i in range(20):
        a.transmit(Transmit(bytes(i + 1), Endpoint(LOCALHOST, b.port)))
    assert select.select([b], [], [], 10)[0]
    assert len(list(b.arrivals(8))) == 8  # one call
    assert len(list(b.arrivals(8))) == 12
    assert list(b.arrivals(8)) == []
    a.close()
    b.close()


def test_more_at_a_time_where_nothing_is_put_together() -> None:
    """Of trains as few as before."""
    a, b = UdpSocket(LOCALHOST, 0), UdpSocket(LOCALHOST, 0)
    there = Endpoint(LOCALHOST, b.port)
    if not (a.sends_trains and b.receives_trains):
        pytest.skip("this kernel has no UDP_SEGMENT or UDP_GRO")
    for i in range(400):
        a.transmit(Transmit(bytes(i % 2 + 1), there))
    assert select.select([b], [], [], 10)[0]
    for count in (8, 16, 32, 64, 128, 128):
        received = [datagram for arrival in b.arrivals(1) for datagram in datagrams_of(arrival)]
        assert len(received) == count
    assert sum(len(datagrams_of(arrival)) for arrival in b.arrivals(100)) == 400 - 376
    for _ in range(20):
        a.transmit(Transmit(bytes(2000), there, 1000))
    assert select.select([b], [], [], 10)[0]
    assert len(list(b.arrivals(1))) == 20
    for _ in range(20):
        a.transmit(Transmit(bytes(2000), there, 1000))
    assert select.select([b], [], [], 10)[0]
    assert [len(list(b.arrivals(1))) for _ in range(3)] == [8, 8, 4]
    a.close()
    b.close()


def test_alike_but_not_put_together_they_are_one_arrival() -> None:
    """Where nothing on the way does UDP_GRO, trains come as their frames."""
    a, b = UdpSocket(LOCALHOST, 0, gso=False), UdpSocket(LOCALHOST, 0)
    frames = [bytes([i]) * 1452 for i in range(7)] + [b"short"]
    for frame in frames:
        a.transmit(Transmit(frame, Endpoint(LOCALHOST, b.port)))
    arrival = next_arrival(b)
    assert datagrams_of(arrival) == frames
    assert not b.has_arrivals
    a.close()
    b.close()


def test_a_closed_socket_brings_nothing() -> None:
    for gro in (True, False):
        a = UdpSocket(None, 0, gro=gro)
        a.close()
        assert a.receive_arrival() is None
        assert list(a.arrivals(9)) == []
        assert a.errors == {"EBADF": 2}


@pytest.mark.parametrize("is_in_library", [True, False])
@pytest.mark.parametrize("offload", [True, False])
def test_a_system_without_these_calls(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_in_library: bool,
    offload: bool,
) -> None:
    class Library:
        if is_in_library:

            def recvmmsg(self, *_: object) -> int:
                ctypes.set_errno(errno.ENOSYS)
                return -1

            sendmmsg = recvmmsg

    caches = (udp_receive._make_slots, udp_send._make_outgoing)
    monkeypatch.setattr(mmsg, "_libc", Library())
    caplog.set_level("INFO")
    for cached in caches:
        cached.cache_clear()
    try:
        a, b = (UdpSocket(None, 0, gso=offload, gro=offload) for _ in range(2))
    finally:
        for cached in caches:
            cached.cache_clear()
    assert sorted(record.getMessage().split(" one by one")[0] for record in caplog.records) == [
        "receiving datagrams",
        "sending datagrams",
    ]
    assert a.transmit(Transmit(b"aabbc", Endpoint("::1", b.port), 2))
    assert [datagram for datagram, _ in take_all(b, 3)] == [b"aa", b"bb", b"c"]
    a.close()
    b.close()
