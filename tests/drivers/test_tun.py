"""TUN devices, each test in a network namespace of its own."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Callable

import pytest

from tunnel.drivers.network import configure_interface
from tunnel.drivers.tun import TunDevice, _explained
from tunnel.errors import OperatorError, UsageError

InNamespace = Callable[[Callable[[], None]], None]


def packet(payload: bytes, destination: str = "10.7.0.1") -> bytes:
    """A UDP packet from 10.7.0.2 to port 9."""
    udp = struct.pack(">HHHH", 7, 9, 8 + len(payload), 0) + payload
    header = bytearray(struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0))
    header += socket.inet_aton("10.7.0.2") + socket.inet_aton(destination)
    total = sum(struct.unpack(">10H", header))
    header[10:12] = struct.pack(">H", ~(total % 0xFFFF) & 0xFFFF)
    return bytes(header) + udp


@pytest.mark.root
def test_packets_pass_both_ways(in_namespace: InNamespace) -> None:
    def check() -> None:
        tun = TunDevice("pt0")
        assert (tun.name, tun.index) == ("pt0", socket.if_nametoindex("pt0"))
        assert tun.read(8) == []
        configure_interface("pt0", ["10.7.0.1/24"], 1280)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inner:
            inner.bind(("10.7.0.1", 9))
            inner.settimeout(10)
            assert tun.write([packet(b"in"), bytearray(packet(b"and")), packet(b"again")]) == 3
            assert [inner.recv(99) for _ in range(3)] == [b"in", b"and", b"again"]
            for i in range(5):
                inner.sendto(bytes([i]) * 1252, ("10.7.0.2", 7))
        read: list[bytes] = []
        while len(read) < 5:
            assert select.select([tun], [], [], 10)[0]
            batch = tun.read(2)
            assert 0 < len(batch) <= 2
            read += batch
        assert [p[28:] for p in read] == [bytes([i]) * 1252 for i in range(5)]
        assert not tun.drops
        tun.close()
        tun.close()

    in_namespace(check)


@pytest.mark.root
def test_names(in_namespace: InNamespace) -> None:
    def check() -> None:
        first, second = TunDevice(), TunDevice()
        assert (first.name, second.name) == ("punchtun0", "punchtun1")
        first.close()
        third = TunDevice()
        assert third.name == "punchtun0"
        for taken in ("punchtun1", "lo"):
            with pytest.raises(OperatorError, match=f"interface {taken} already.*--interface"):
                TunDevice(taken)
        assert socket.if_nametoindex("punchtun1") == second.index
        assert not os.get_inheritable(second.fileno())

    in_namespace(check)


@pytest.mark.root
def test_a_persistent_tun_of_somebody_else_is_not_taken(in_namespace: InNamespace) -> None:
    def check() -> None:
        assert os.system("ip tuntap add pt1 mode tun") == 0
        with pytest.raises(OperatorError, match="already"):
            TunDevice("pt1")

    in_namespace(check)


@pytest.mark.root
def test_what_the_kernel_does_not_take_is_counted(in_namespace: InNamespace) -> None:
    def check() -> None:
        tun = TunDevice("pt0")
        assert tun.write([packet(b"down")]) == 0
        assert tun.drops == {"EIO": 1}
        configure_interface("pt0", ["10.7.0.1/24"], 1280)
        assert tun.write([b"", b"\xff" * 30, packet(b"good")]) == 1
        assert tun.drops == {"EIO": 1, "EINVAL": 2}

    in_namespace(check)


@pytest.mark.root
def test_an_interface_that_somebody_deletes(in_namespace: InNamespace) -> None:
    def check() -> None:
        tun = TunDevice("pt0")
        assert os.system("ip link delete pt0") == 0
        assert select.select([tun], [], [], 10)[0]
        assert tun.write([packet(b"too late")]) == 0
        with pytest.raises(OperatorError, match="pt0 was deleted"):
            tun.read(1)
        tun.close()

    in_namespace(check)


@pytest.mark.parametrize("name", ["", "x" * 16, "a/b", "a b", "..", ".", "%d", "tün0", "a\n"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name an interface"):
        TunDevice(name)


@pytest.mark.parametrize(
    ("number", "cause", "cure"),
    [
        (errno.EPERM, "CAP_NET_ADMIN", "sudo"),
        (errno.EACCES, "CAP_NET_ADMIN", "--cap-add NET_ADMIN"),
        (errno.ENOENT, "/dev/net/tun", "modprobe tun"),
        (errno.ENODEV, "/dev/net/tun", "--device /dev/net/tun"),
        (errno.EMFILE, "punchtunN", "Too many"),
    ],
)
def test_errors_name_cause_and_cure(number: int, cause: str, cure: str) -> None:
    text = str(_explained(OSError(number, os.strerror(number)), None))
    assert cause in text
    assert cure in text
