"""TUN devices, each test in a network namespace of its own."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
import pytun

from tunnel.drivers.network import configure_interface
from tunnel.drivers.tun import TunDevice, _explained
from tunnel.errors import OperatorError, UsageError
from tunnel.wire.virtio import GSO_UDP, VIRTIO_LENGTH

SO_NO_CHECK, UDP_SEGMENT = 11, 103

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
        tun = TunDevice("pt0", offload=False)
        assert (tun.has_header, tun.has_uso) == (False, False)
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
@pytest.mark.parametrize("offload", [True, False])
def test_single_packets_pass_both_ways(in_namespace: InNamespace, offload: bool) -> None:
    def check() -> None:
        tun = TunDevice("pt0", offload=offload)
        assert tun.has_header == offload
        buffer = memoryview(bytearray(VIRTIO_LENGTH + 65_535))
        header, area = buffer[:VIRTIO_LENGTH], buffer[VIRTIO_LENGTH:]
        into = buffer if offload else area
        assert tun.read_packet(into) == -1
        configure_interface("pt0", ["10.7.0.1/24"], 1280)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inner:
            inner.bind(("10.7.0.1", 9))
            inner.settimeout(10)
            inner.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
            before = bytes(VIRTIO_LENGTH) if offload else b""
            assert tun.write([packet(b"in"), bytearray(packet(b"and"))]) == 2
            assert tun.write_packet(before + packet(b"again"))
            assert [inner.recv(99) for _ in range(3)] == [b"in", b"and", b"again"]
            inner.sendto(b"out", ("10.7.0.2", 7))
        assert select.select([tun], [], [], 10)[0]
        assert tun.read_packet(into) == 31
        assert bytes(area[28:31]) == b"out"
        assert not any(header)
        assert tun.read_packet(into) == -1
        assert not tun.drops

    in_namespace(check)


@pytest.mark.root
@pytest.mark.parametrize("uso", [True, False])
def test_superpackets_pass_both_ways(in_namespace: InNamespace, uso: bool) -> None:
    """UDP's: one read each, which written back arrives as the datagrams it was made of."""

    def check() -> None:
        tun = TunDevice("pt0", uso=uso)
        if not tun.has_uso and uso:
            pytest.skip("this kernel has no USO")
        configure_interface("pt0", ["10.7.0.1/24"], 1280)
        buffer = bytearray(VIRTIO_LENGTH + 65_535)
        sent = [bytes([i]) * 1000 for i in range(20)] + [b"short"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inner:
            inner.bind(("10.7.0.1", 9))
            inner.settimeout(10)
            inner.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
            inner.sendto(b"".join(sent), ("10.7.0.2", 9))
            lengths = []
            while (length := tun.read_packet(buffer)) >= 0:
                lengths.append(length)
            assert lengths == ([28 + 20_005] if uso else [1028] * 20 + [33])
            inner.sendto(b"".join(sent), ("10.7.0.2", 9))
            packets = tun.read(1 if uso else 99)
            assert [packet[28:] for packet in packets] == sent
            assert all(is_complete(packet) for packet in packets)
            if uso:
                assert buffer[1] == GSO_UDP
                assert struct.unpack_from("=H", buffer, 4) == (1000,)
                buffer[22:26], buffer[26:30] = buffer[26:30], buffer[22:26]
                assert tun.write_packet(buffer[: VIRTIO_LENGTH + lengths[0]])
                assert [inner.recv(9999) for _ in sent] == sent
        assert not tun.drops

    in_namespace(check)


def is_complete(packet: bytes) -> bool:
    """Whether the checksum of a UDP packet in IPv4 is right."""
    pseudo = packet[12:20] + struct.pack(">HH", 17, len(packet) - 20)
    words = pseudo + packet[20:] + bytes(len(packet) % 2)
    return bool(sum(struct.unpack(f">{len(words) // 2}H", words)) % 0xFFFF == 0)


USO = 0x60


@pytest.mark.root
@pytest.mark.parametrize(
    ("refused", "has_header", "logged"),
    [
        (USO, True, "pt0 does without UDP superpackets"),
        (0xFFFF, False, "pt0 does without superpackets"),
        (None, False, "pt0 does without superpackets"),
    ],
    ids=["before Linux 6.2", "no offloads", "no virtio header"],
)
def test_what_the_kernel_does_not_have_is_done_without(
    in_namespace: InNamespace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    refused: int | None,
    has_header: bool,
    logged: str,
) -> None:
    """None: the flag itself is refused."""

    def ioctl(file: int, request: int, offloads: int) -> None:
        if refused is not None and offloads & refused:
            raise OSError(errno.EINVAL, "Invalid argument")

    def open_device(name: str, flags: int) -> Any:
        if refused is None and flags & pytun.IFF_VNET_HDR:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(name=name, flags=flags)

    def check() -> None:
        tun = TunDevice("pt0")
        assert (tun.name, tun.has_header, tun.has_uso) == ("pt0", has_header, False)
        assert [logged in record.getMessage() for record in caplog.records] == [True]
        configure_interface("pt0", ["10.7.0.1/24"], 1280)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inner:
            inner.bind(("10.7.0.1", 9))
            inner.settimeout(10)
            assert tun.write([packet(b"in")]) == 1
            assert inner.recv(99) == b"in"

    real = pytun.TunTapDevice
    monkeypatch.setattr("tunnel.drivers.tun.fcntl.ioctl", ioctl)
    monkeypatch.setattr("tunnel.drivers.tun.pytun.TunTapDevice", open_device)
    caplog.set_level("INFO")
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
            tun.read_packet(bytearray(99))
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
