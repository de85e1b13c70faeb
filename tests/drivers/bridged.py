"""Two nodes that have found each other, with the drivers between interface and sockets, and neither
an interface nor a socket."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.sim.host import Host
from tests.sim.world import World
from tunnel.core.machine import Transmit
from tunnel.core.node import Node
from tunnel.core.peer import Peer
from tunnel.dataplane.train import split
from tunnel.drivers.egress import Egress
from tunnel.drivers.ingress import Ingress
from tunnel.drivers.udp_receive import AREA, Arrival
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.segment import cut_superpacket
from tunnel.wire.virtio import NO_VIRTIO, VIRTIO_LENGTH


class Interface:
    """Stands for a TunDevice: what the kernel would give, and what it was given."""

    def __init__(self, *, has_header: bool = True, has_uso: bool = True) -> None:
        self.has_header = has_header
        self.has_uso = has_uso
        self.outgoing: list[tuple[bytes, bytes]] = []
        """Virtio header and packet, the next one first."""
        self.received: list[bytes] = []
        """Packets, complete, as they would come out at the far end."""
        self.writes = 0

    def read_packet(self, buffer: memoryview) -> int:
        if not self.outgoing:
            return -1
        header, packet = self.outgoing.pop(0)
        whole = header + packet if self.has_header else packet
        assert self.has_header or header == NO_VIRTIO
        buffer[: len(whole)] = whole
        return len(packet)

    def write_packet(self, packet: memoryview) -> bool:
        assert self.has_header
        self.writes += 1
        whole = bytes(packet)
        self.received += cut_superpacket(whole[:VIRTIO_LENGTH], whole[VIRTIO_LENGTH:])
        return True

    def write(self, packets: Sequence[bytes]) -> int:
        self.received += [bytes(packet) for packet in packets]
        self.writes += len(packets)
        return len(packets)


class Loop:
    """Stands for a MachineLoop."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.has_to_settle = False
        self.sent: list[Transmit] = []

    def transmit(self, transmit: Transmit) -> None:
        self.sent.append(transmit._replace(data=bytes(transmit.data)))

    def settle(self, now: float) -> None:
        for transmit in self._node.datagrams_to_send(now):
            self.transmit(transmit)

    def settle_soon(self) -> None:
        self.has_to_settle = True


class Socket:
    """Stands for a UdpSocket that has received these datagrams of one source."""

    def __init__(self, arrivals: Sequence[tuple[Sequence[bytes], Endpoint]], gap: int = 0) -> None:
        self._arrivals = arrivals
        self._gap = gap

    def arrivals(self, budget: int) -> Iterator[Arrival]:
        for datagrams, source in self._arrivals:
            size = len(datagrams[0])
            stride = size + self._gap
            for number, datagram in enumerate(datagrams):
                at = number * stride
                AREA[at : at + len(datagram)] = datagram
            yield 0, stride, size, (len(datagrams) - 1) * stride + len(datagrams[-1]), source


class Bridged:
    """Node a, whose interface packets leave by; node b, and maybe `others`."""

    def __init__(
        self,
        monkeypatch: Any,
        *,
        relayed: bool = False,
        aegis: bool = True,
        others: str = "",
        **interface: bool,
    ) -> None:
        self.names = "ab" + others
        self.world = World()
        self.world.without_aegis = set() if aegis else {"a"}
        for name in self.names:
            self.world.add_node(name)
        for name in self.names[1:]:
            assert self.world.wait_until_direct("a", name)
        self.world.net.run_for(5)
        self.now: float = self.world.net.now
        monkeypatch.setattr("tunnel.drivers.egress.clock.now", lambda: self.now)
        self.nodes = {name: self.world.node(name) for name in self.names}
        self.interfaces = {name: Interface(**interface) for name in self.names}
        self.loops = {name: Loop(self.nodes[name]) for name in self.names}
        self._egress: dict[str, Egress] = {}
        self._ingress: dict[str, Ingress] = {}
        for name in self.names:
            parts: Any = self.nodes[name], self.interfaces[name], self.loops[name]
            self._egress[name] = Egress(*parts)
            self._ingress[name] = Ingress(*parts)
        # What is sent when traffic begins is not to be among the frames.
        pairs = [("a", name) for name in self.names[1:]]
        for name, other in pairs + [(other, name) for name, other in pairs]:
            self.world.peer(name, other).note_activity(self.now)
            self.world.peer(name, other).note_large(self.now)
            self.nodes[name].datagrams_to_send(self.now)
        best = self.peer("b").traversal.best
        assert best is not None
        self.source = best.endpoint
        """Where what node a sends comes from."""
        if relayed:
            for name in "ab":
                self.peer(name).traversal.forget_paths()

    def peer(self, name: str) -> Peer:
        """The other node, as node `name` has it."""
        return self.world.peer(name, "a" if name == "b" else "b")

    def host(self, name: str) -> Host:
        return self.world.hosts[name]

    def address(self, name: str, version: int = 4) -> bytes:
        addresses = self.nodes[name].config.certificate.addresses
        return next(address.ip.packed for address in addresses if address.version == version)

    def send(self, packets: Sequence[tuple[bytes, bytes]]) -> list[Transmit]:
        """What node a sends when its interface has given these."""
        self.interfaces["a"].outgoing += packets
        while self.interfaces["a"].outgoing:
            self._egress["a"].read_interface()
        sent, self.loops["a"].sent = self.loops["a"].sent, []
        return sent

    def receive(
        self, arrivals: Sequence[tuple[Sequence[bytes], Endpoint]], gap: int = 0, name: str = "b"
    ) -> None:
        socket: Any = Socket(arrivals, gap)
        self._ingress[name].read_socket(0, socket, self.now)

    def deliver(self, transmits: Sequence[Transmit]) -> None:
        """To those of the nodes that they are for."""
        for name in self.names[1:]:
            best = self.world.peer("a", name).traversal.best
            assert best is not None
            theirs = [datagrams_of(t) for t in transmits if t.endpoint == best.endpoint]
            self.receive([(datagrams, self.source) for datagrams in theirs], name=name)


def datagrams_of(transmit: Transmit) -> list[bytes]:
    return [bytes(one) for one in split(transmit.data, transmit.segment_size)]
