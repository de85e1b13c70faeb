"""Against wireguard-go: our handshake, cookies and frames are WireGuard's.

::

    network namespace of the test's own
    +---------------------------------------------------------------+
    |  this process, a UDP socket   <-- 127.0.0.1 -->  wireguard-go |
    |  10.77.0.2 inside                            10.77.0.1, TUN   |
    +---------------------------------------------------------------+
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import itertools
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from tunnel.errors import AuthenticationFailed
from tunnel.noise.cookie import CookieChecker, CookieGenerator
from tunnel.noise.handshake import WIREGUARD, FrameKeys, Initiator, consume_initiation
from tunnel.noise.keypair import Keypair
from tunnel.noise.keys import PresharedKey, PrivateKey
from tunnel.noise.tai64n import timestamp
from tunnel.wire.endpoint import Endpoint, pack_endpoint
from tunnel.wire.handshake import (
    COOKIE_REPLY,
    INITIATION,
    NO_MAC,
    RESPONSE,
    parse_cookie_reply,
    parse_initiation,
    parse_response,
)
from tunnel.wire.transport import TRANSPORT, parse_header

pytestmark = [pytest.mark.root, pytest.mark.wireguard]

DEADLINE = 20.0
CLONE_NEWNET = 0x40000000
LISTEN_PORT = 51820
THEIR_ADDRESS, OUR_ADDRESS = "10.77.0.1", "10.77.0.2"
ECHO_REQUEST, ECHO_REPLY = 8, 0

T = TypeVar("T")
_numbers = itertools.count()


def run(*command: str) -> str:
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=DEADLINE
    ).stdout


def poll(attempt: Callable[[], T | None], what: str) -> T:
    """What `attempt` gives as soon as it is not None; fails after DEADLINE seconds."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        result = attempt()
        if result is not None:
            return result
        time.sleep(0.02)
    pytest.fail(f"{what}: nothing in {DEADLINE} s")


def open_socket(namespace: str) -> socket.socket:
    """A UDP socket on 127.0.0.1 in `namespace`."""

    def in_namespace() -> socket.socket:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{namespace}") as target:
            if libc.setns(target.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    # A namespace is a thread's: this one enters it and ends, the socket stays there.
    with ThreadPoolExecutor(1) as thread:
        udp = thread.submit(in_namespace).result()
    udp.bind(("127.0.0.1", 0))
    udp.settimeout(0.2)
    return udp


class WireguardGo:
    """wireguard-go in a namespace of its own, and our end: a socket, a key, a checker."""

    def __init__(self, folder: Path) -> None:
        unique = f"{os.getpid()}x{next(_numbers)}"
        self.namespace = f"pt{unique}wg"
        self.interface = f"pt{unique}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._control = Path(f"/var/run/wireguard/{self.interface}.sock")
        self.theirs = PrivateKey.generate(os.urandom)
        self.ours = PrivateKey.generate(os.urandom)
        self.preshared = PresharedKey(os.urandom(32))
        self.checker = CookieChecker(WIREGUARD, self.ours.public_key, os.urandom)
        self.generator = CookieGenerator(WIREGUARD, self.theirs.public_key)

    def start(self) -> None:
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        self.udp = open_socket(self.namespace)
        with (self._folder / "wireguard-go.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, "wireguard-go", "-f", self.interface],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        poll(lambda: self._control.exists() or None, "control socket of wireguard-go")
        key, preshared = self._folder / "key", self._folder / "preshared"
        key.write_bytes(base64.b64encode(self.theirs.data))
        preshared.write_bytes(base64.b64encode(self.preshared.data))
        self.set("private-key", str(key), "listen-port", str(LISTEN_PORT))
        self.set_peer("preshared-key", str(preshared), "allowed-ips", f"{OUR_ADDRESS}/32")
        run(
            "ip",
            "-n",
            self.namespace,
            "address",
            "add",
            f"{THEIR_ADDRESS}/24",
            "dev",
            self.interface,
        )
        run("ip", "-n", self.namespace, "link", "set", self.interface, "up")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if hasattr(self, "udp"):
            self.udp.close()
        self._control.unlink(missing_ok=True)
        subprocess.run(["ip", "netns", "delete", self.namespace], check=False, timeout=DEADLINE)

    def set(self, *words: str) -> None:
        run("ip", "netns", "exec", self.namespace, "wg", "set", self.interface, *words)

    def set_peer(self, *words: str) -> None:
        self.set("peer", base64.b64encode(self.ours.public_key.data).decode(), *words)

    def initiate(self) -> None:
        """Make wireguard-go begin a handshake with us."""
        port = self.udp.getsockname()[1]
        self.set_peer("endpoint", f"127.0.0.1:{port}", "persistent-keepalive", "1")

    def send(self, datagram: bytes) -> None:
        self.udp.sendto(datagram, ("127.0.0.1", LISTEN_PORT))

    def receive(self, kind: int) -> tuple[bytes, bytes] | None:
        """The next datagram of `kind` and its source, packed; None if there is none for a while."""
        try:
            while True:
                datagram, source = self.udp.recvfrom(2048)
                if datagram[0] == kind:
                    return datagram, pack_endpoint(Endpoint(*source))
        except TimeoutError:
            return None


@pytest.fixture
def wireguard(tmp_path: Path) -> Iterator[WireguardGo]:
    node = WireguardGo(tmp_path)
    try:
        node.start()
        yield node
    finally:
        node.stop()


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def icmp(kind: int, source: str, destination: str, rest: bytes) -> bytes:
    """An ICMP echo packet, padded to 16 bytes as WireGuard pads. `rest`: identifier and on."""
    message = struct.pack("!BBH", kind, 0, 0) + rest
    message = struct.pack("!BBH", kind, 0, checksum(message)) + rest
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0, 64, 1, 0) + addresses
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    packet = header + message
    return packet + bytes(-len(packet) % 16)


def parse_icmp(payload: bytes) -> tuple[int, str, str, bytes]:
    """What `icmp` takes, out of a payload that must be padded."""
    assert len(payload) % 16 == 0
    packet = payload[: int.from_bytes(payload[2:4], "big")]
    assert packet[0] == 0x45
    assert packet[9] == 1
    assert checksum(packet[:20]) == checksum(packet[20:]) == 0
    source, destination = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
    return packet[20], source, destination, packet[24:]


def make_keypair(keys: FrameKeys, local: int, remote: int, initiator: bool) -> Keypair:
    return Keypair(
        cipher=keys.cipher,
        sending_key=keys.sending,
        receiving_key=keys.receiving,
        local_index=local,
        remote_index=remote,
        created_at=time.monotonic(),
        is_initiator=initiator,
    )


def receive_payload(node: WireguardGo, keypair: Keypair) -> bytes | None:
    received = node.receive(TRANSPORT)
    if received is None:
        return None
    receiver, counter = parse_header(received[0])
    assert receiver == keypair.local_index
    return keypair.open(counter, received[0])


def receive_packet(node: WireguardGo, keypair: Keypair) -> bytes | None:
    """The next payload that is no keep-alive."""
    return receive_payload(node, keypair) or None


def test_as_initiator(wireguard: WireguardGo) -> None:
    initiator = Initiator(
        WIREGUARD, wireguard.ours, wireguard.theirs.public_key, wireguard.preshared
    )
    initiation = initiator.create_initiation(
        sender=0xA1B2C3D4,
        ephemeral=PrivateKey.generate(os.urandom),
        timestamp=timestamp(time.time()),
    )
    wireguard.send(wireguard.generator.stamp(initiation.pack(), time.monotonic()))
    datagram, _ = poll(lambda: wireguard.receive(RESPONSE), "response")
    assert wireguard.checker.has_valid_mac1(datagram)
    response = parse_response(datagram)
    assert response.receiver == 0xA1B2C3D4
    keys = initiator.consume_response(response)
    keypair = make_keypair(keys, 0xA1B2C3D4, response.sender, True)

    for sequence in range(3):
        rest = struct.pack("!HH", 0x7074, sequence) + b"out and back" * sequence
        frame = keypair.seal(icmp(ECHO_REQUEST, OUR_ADDRESS, THEIR_ADDRESS, rest))
        wireguard.send(frame)
        reply = poll(lambda: receive_packet(wireguard, keypair), "echo reply")
        assert parse_icmp(reply) == (ECHO_REPLY, THEIR_ADDRESS, OUR_ADDRESS, rest)


def test_as_responder(wireguard: WireguardGo) -> None:
    wireguard.initiate()
    datagram, _ = poll(lambda: wireguard.receive(INITIATION), "initiation")
    assert wireguard.checker.has_valid_mac1(datagram)
    received = consume_initiation(WIREGUARD, wireguard.ours, parse_initiation(datagram))
    assert received.remote_static == wireguard.theirs.public_key
    # One system, one clock: their TAI64N and ours are of the same minute.
    assert timestamp(time.time() - 60) < received.timestamp <= timestamp(time.time() + 1)

    response, keys = received.create_response(
        sender=0x01020304,
        ephemeral=PrivateKey.generate(os.urandom),
        preshared=wireguard.preshared,
    )
    wireguard.send(wireguard.generator.stamp(response.pack(), time.monotonic()))
    keypair = make_keypair(keys, 0x01020304, received.sender, False)
    keep_alive = poll(lambda: receive_payload(wireguard, keypair), "keep-alive")
    assert keep_alive == b""

    in_namespace = ["ip", "netns", "exec", wireguard.namespace]
    ping = subprocess.Popen(
        [*in_namespace, "ping", "-n", "-c", "1", "-W", str(int(DEADLINE)), OUR_ADDRESS],
        stdout=subprocess.DEVNULL,
    )
    try:
        request = poll(lambda: receive_packet(wireguard, keypair), "echo request")
        kind, source, destination, rest = parse_icmp(request)
        assert (kind, source, destination) == (ECHO_REQUEST, THEIR_ADDRESS, OUR_ADDRESS)
        wireguard.send(keypair.seal(icmp(ECHO_REPLY, OUR_ADDRESS, THEIR_ADDRESS, rest)))
        assert ping.wait(DEADLINE) == 0
    finally:
        ping.kill()
        ping.wait()


def test_our_cookie(wireguard: WireguardGo) -> None:
    """We refuse the first initiation with a cookie; the next one carries it."""
    wireguard.initiate()
    datagram, source = poll(lambda: wireguard.receive(INITIATION), "initiation")
    assert wireguard.checker.has_valid_mac1(datagram)
    assert not wireguard.checker.has_valid_mac2(datagram, source, time.monotonic())
    reply = wireguard.checker.create_reply(datagram, source, time.monotonic())
    wireguard.send(reply.pack())
    datagram, source = poll(lambda: wireguard.receive(INITIATION), "second initiation")
    assert wireguard.checker.has_valid_mac1(datagram)
    assert wireguard.checker.has_valid_mac2(datagram, source, time.monotonic())
    assert not wireguard.checker.has_valid_mac2(datagram, bytes(18), time.monotonic())
    received = consume_initiation(WIREGUARD, wireguard.ours, parse_initiation(datagram))
    assert received.remote_static == wireguard.theirs.public_key


def test_their_cookie(wireguard: WireguardGo) -> None:
    """wireguard-go under load refuses an initiation with a cookie, and takes one that carries it.

    It is under load from 128 waiting initiations until a second later (wireguard-go,
    device/device.go: IsUnderLoad).
    """
    initiator = Initiator(
        WIREGUARD, wireguard.ours, wireguard.theirs.public_key, wireguard.preshared
    )
    senders = itertools.count(1)

    def stamped(ahead: float) -> bytes:
        initiation = initiator.create_initiation(
            sender=next(senders),
            ephemeral=PrivateKey.generate(os.urandom),
            timestamp=timestamp(time.time() + ahead),
        )
        return wireguard.generator.stamp(initiation.pack(), time.monotonic())

    first = stamped(0.0)
    assert first[-16:] == NO_MAC

    def flood() -> bytes | None:
        """A cookie reply shows that the load is there."""
        for _ in range(1000):
            wireguard.send(first)
        received = wireguard.receive(COOKIE_REPLY)
        return received and received[0]

    reply = parse_cookie_reply(poll(flood, "cookie reply"))
    assert reply.receiver == 1
    wireguard.generator.consume_reply(reply, time.monotonic())

    def answered() -> bool | None:
        # Maybe more than once: of one peer wireguard-go takes an initiation every 20 ms, and
        # datagrams get lost in the flood. The timestamp is later than that of the last one taken.
        if flood() is None:
            return None
        datagram = stamped(1.0)
        assert datagram[-16:] != NO_MAC
        wireguard.send(datagram)
        while (received := wireguard.receive(RESPONSE)) is not None:
            with contextlib.suppress(AuthenticationFailed):  # the answer to an earlier one
                initiator.consume_response(parse_response(received[0]))
                return True
        return None

    assert poll(answered, "response to an initiation with a cookie")
