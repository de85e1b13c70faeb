"""An attacker on the path: it records, holds back, changes, cuts and replays what the pair says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.netns.capture import Capture
from tests.netns.lab import Lab
from tests.netns.machine import Machine
from tests.netns.namespace import run_tool
from tests.netns.packet import Packet
from tests.netns.traffic import ping_reaches
from tests.netns.world import World
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.handshake import INITIATION, RESPONSE
from tunnel.wire.relay import RELAY, RELAY_HEADER_LENGTH
from tunnel.wire.transport import TRANSPORT

from .datagrams import cut_short, one_bit_changed
from .packets import udp_packet
from .site import ATTACKER, Attacker, Result, Watch, ask, run_attack

PING = 200
"""Bytes of data in the pings held back: no other datagram here has their length."""


class OnPath:
    """Between attic, which has a public address, and camera, behind a router: in the internet."""

    def __init__(self, lab: Lab, folder: Path, *options: str) -> None:
        self.folder = folder
        self.internet = lab.internet()
        self.world = World(lab, folder)
        self.world.start_server()
        self.office = lab.public_host("office", "203.0.113.20")
        home = lab.home_router("homeA", public="198.51.100.7")
        with self.record("setup") as setup:
            # As trains the frames would be recorded together, for no real cable cuts them.
            options = ("--no-gso", *options)
            self.attic, self.camera = self.world.pair(self.office, home.host("b"), *options)
            assert ping_reaches(self.camera.host, self.attic.ip4)
        self.to_attic = [packet for packet in setup if packet.destination.host == self.office.ip4]
        """All that came to attic from the beginning, from camera and from the server."""
        vps = self.world.vps.ip4
        self.to_server = [packet for packet in setup if packet.destination.host == vps]
        """All that attic sent there."""
        self.mallory = Attacker(lab)

    @contextlib.contextmanager
    def record(self, name: str) -> Iterator[list[Packet]]:
        """What passes to and from attic meanwhile, even if it is then held back."""
        recorded: list[Packet] = []
        capture = Capture(self.office, "eth0", self.folder / f"{name}.pcap", "udp and ip")
        try:
            yield recorded
        finally:
            for frame in capture.stop():
                if len(frame) <= 1514:  # The server's trains, too.
                    recorded.append(Packet(bytearray(frame[14:])))

    def held_back(self) -> list[Packet]:
        """Frames of camera's that attic never got, for its machine drops what has their length
        after tcpdump has seen it."""
        length = 8 + 16 + 20 + 8 + PING
        argv = ["ping", "-n", "-q", "-c", "3", "-i", "0.2", "-W", "1", "-s", str(PING)]
        with self.record("held") as held, dropping(self.office, length + 16, length + 48):
            self.camera.host.run([*argv, self.attic.ip4], check=False)
        return [
            packet
            for packet in held
            if packet.destination.host == self.office.ip4 and len(payload(packet)) >= length + 8
        ]

    def send(
        self, name: str, datagrams: Iterable[bytes], source: Endpoint, target: Endpoint
    ) -> dict[str, int]:
        """As from `source`, from where the attacker is: its own machine or the path."""
        sender: Machine = self.mallory.host if source.host == ATTACKER else self.internet
        file = self.folder / f"{name}.packets"
        with file.open("wb") as out:
            for datagram in datagrams:
                packet = udp_packet(source, target, datagram)
                out.write(len(packet).to_bytes(2, "big") + packet)
        return run_attack(sender, "send", file=str(file))

    def attack(
        self, title: str, datagrams: Sequence[bytes], source: Endpoint, target: Endpoint
    ) -> Result:
        """Send them to attic or the server. Accepted is what was not dropped."""
        watch, before = Watch(self.world, [self.attic, self.camera]), self.mallory.answered()
        sent = self.send("attack", datagrams, source, target)
        is_server = target.host == self.world.vps.ip4
        dropped = watch.dropped(server=True) if is_server else watch.dropped(self.attic)
        where = "another address" if source.host == ATTACKER else "the sender's address"
        return Result(
            f"on the path: {title}, from {where}",
            sent["datagrams"],
            max(0, sent["datagrams"] - dropped.total()),
            sent["bytes"],
            self.mallory.answered() - before,
            watch.noticed(),
        )

    def held(self) -> tuple[list[bytes], Endpoint, Endpoint]:
        """Frames held back, where camera sent them from, and where to."""
        of_camera = [p for p in self.held_back() if payload(p)[0] == TRANSPORT]
        assert len(of_camera) >= 3, "nothing was held back"
        return [payload(p) for p in of_camera], of_camera[0].source, of_camera[0].destination


def payload(packet: Packet) -> bytes:
    return bytes(packet.data[packet.header + 8 :])


@contextlib.contextmanager
def dropping(machine: Machine, least: int, most: int) -> Iterator[None]:
    """UDP of those lengths, its header included, that comes in."""
    text = f"""
        table inet hold {{
            chain input {{
                type filter hook prerouting priority raw;
                udp length {least}-{most} drop
            }}
        }}"""
    run_tool(["nft", "-f", "-"], namespace=machine.namespace, text=text)
    try:
        yield
    finally:
        run_tool(["nft", "delete", "table", "inet", "hold"], namespace=machine.namespace)


def attack_on_path(
    lab: Lab, folder: Path, repetitions: int, *options: str, is_replaying: bool = True
) -> list[Result]:
    """All of it, or all but the replays, which are `repetitions` times over. `options` are the
    nodes'."""
    path = OnPath(lab, folder, *options)
    results = replay(path, repetitions) if is_replaying else []
    results += change_held(path, max(1, repetitions // 10))
    path.world.close()
    return results


def change_held(path: OnPath, most: int) -> list[Result]:
    """Frames that attic has not had, `most` of them at most, in all ways in which one can be
    changed a little; in the end those themselves."""
    held, camera, here = path.held()
    some = held[: min(len(held) - 1, most)]
    flipped = [changed for frame in some for changed in one_bit_changed(frame)]
    cut = [part for frame in some for part in cut_short(frame)]
    results = []
    for source in (camera, Endpoint(ATTACKER, 4000)):
        results.append(path.attack("one bit changed in frames held back", flipped, source, here))
        results.append(path.attack("frames held back, cut short", cut, source, here))
    # They are good, so that what was wrong with the others is what was changed.
    received = rx_packets(path)
    path.send("held", held * 2, camera, here)
    assert rx_packets(path) == received + len(held), "held back, and then let go: accepted once"
    return results


def replay(path: OnPath, repetitions: int) -> list[Result]:
    """What came to attic and to the server, again."""
    vps = path.world.vps.ip4
    frames = of_kind(path.to_attic, TRANSPORT)
    of_camera = [p for p in frames if p.source.host != vps]
    least = min(len(payload(p)) for p in of_camera)
    replays = [
        ("recorded frames replayed", of_camera),
        ("old keep-alives replayed", [p for p in of_camera if len(payload(p)) == least]),
        ("the server's frames replayed", [p for p in plain(path.to_attic) if p.source.host == vps]),
        ("relayed frames replayed", [p for p in path.to_attic if payload(p)[:1] == bytes([RELAY])]),
        ("handshakes replayed", of_kind(path.to_attic, INITIATION, RESPONSE)),
        ("frames to the server replayed", plain(path.to_server)),
        ("handshakes with the server replayed", of_kind(path.to_server, INITIATION)),
    ]
    results = []
    for title, packets in replays:
        assert packets, f"no {title}"
        datagrams = [payload(packet) for packet in packets] * repetitions
        first = packets[0]
        for source in (first.source, Endpoint(ATTACKER, 4000)):
            results.append(path.attack(title, datagrams, source, first.destination))
    return results


def plain(packets: Iterable[Packet]) -> list[Packet]:
    """Frames that are in no envelope."""
    return [packet for packet in packets if payload(packet)[:1] == bytes([TRANSPORT])]


def of_kind(packets: Iterable[Packet], *kinds: int) -> list[Packet]:
    """Those whose datagrams begin so, taken out of the relay's envelopes."""
    found = []
    for packet in packets:
        datagram = payload(packet)
        if datagram[:1] == bytes([RELAY]):
            datagram = datagram[RELAY_HEADER_LENGTH:]
            packet = Packet(packet.data[: packet.header + 8] + datagram)
        if datagram and datagram[0] in kinds:
            found.append(packet)
    return found


def rx_packets(path: OnPath) -> int:
    (status,) = ask(path.attic.state, "status")
    (camera,) = status["peers"]
    return int(camera["rx_packets"])
