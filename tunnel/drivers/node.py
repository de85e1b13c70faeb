"""A node's process: TUN interface, UDP socket, netlink, files, control socket."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event

from tunnel.core.configuration import NodeConfig
from tunnel.core.events import Event as CoreEvent
from tunnel.core.events import (
    InvitationRedeemed,
    KeyReplaced,
    MappingMoved,
    MemberRevoked,
    PathChanged,
    PeerGone,
    PeerIntroduced,
    PeersChanged,
    PingAnswered,
    RebindWanted,
    RotationAsked,
    ServerLost,
    ServerRegistered,
    SocketsReleased,
)
from tunnel.core.ledger import InvitationLedger
from tunnel.core.node import Node
from tunnel.core.sieve import EVERYTHING
from tunnel.drivers import clock, systemd
from tunnel.drivers.control import ControlServer
from tunnel.drivers.egress import Egress
from tunnel.drivers.files import StateDirectory
from tunnel.drivers.hosts_file import HostsFile
from tunnel.drivers.ingress import Ingress
from tunnel.drivers.key_rotation import KeyRotation
from tunnel.drivers.ledger_file import LedgerFile
from tunnel.drivers.loop import MachineLoop
from tunnel.drivers.member_names import MemberNames
from tunnel.drivers.names_file import NamesFile
from tunnel.drivers.narration import describe, narrate, narrate_status
from tunnel.drivers.network import LocalNetwork, local_network
from tunnel.drivers.network_watch import NetworkWatch
from tunnel.drivers.node_control import NodeControl
from tunnel.drivers.offloads import Offloads
from tunnel.drivers.resolve import resolve
from tunnel.drivers.revocations_file import RevocationsFile
from tunnel.drivers.streams import Streams
from tunnel.drivers.threads import run_in_thread
from tunnel.drivers.tun import TunDevice
from tunnel.drivers.udp import UdpSocket
from tunnel.errors import OperatorError
from tunnel.noise.keys import PublicKey
from tunnel.state import PEERS_FILE, pack_peers
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.sieve import assemble, pack_program

if TYPE_CHECKING:
    from tunnel.drivers.port_mapping import PortMapping

log = logging.getLogger(__name__)

RESOLVE_AGAIN = 5.0
SETTLE_NETWORK = 0.05
"""Seconds to let a burst of netlink messages end before addresses are read."""
SUSPEND_CHECK = 1.0
SAVE_PEERS_AFTER = 2.0
MAX_EVENTS = 1000
STATUS_EVENTS = (ServerRegistered, ServerLost, PeerIntroduced, PeerGone, PathChanged)
"""After these `systemctl status` says something else."""


class NodeDriver:
    def __init__(
        self,
        config: NodeConfig,
        ledger: InvitationLedger | None,
        state: StateDirectory,
        tun: TunDevice,
        socket: UdpSocket,
        control_path: Path,
        offloads: Offloads,
        hosts: HostsFile | NamesFile | None = None,
    ) -> None:
        """`offloads`: as `socket` has been opened, and others will be. `hosts`: where names of
        members are to stand."""
        self.node = Node(
            config,
            now=clock.now(),
            random_bytes=clock.random_bytes,
            wall_clock=clock.wall_clock,
            ledger=ledger,
        )
        self.history: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)
        """Events as they are told to programs, with their time."""
        self.answers: dict[int, PingAnswered] = {}
        self.stopped = Event()
        self._changed = Event()
        self._config = config
        self._state = state
        self._revocations_file = RevocationsFile(state, self.node.revocations)
        self._ledger_file = LedgerFile(state)
        self._tun = tun
        self._socket = socket
        self._offloads = offloads
        self._sieve: bytes | None = None
        """The program that all sockets have."""
        self._second_socket = self._open_socket()
        self._loop = MachineLoop(
            self.node,
            [socket, self._second_socket],
            on_packets=self._write_packets,
            after_settling=self._report,
            open_socket=self._open_socket,
            read_socket=self._read_socket,
            before_sending=self._set_sieve,
        )
        self._egress = Egress(self.node, tun, self._loop)
        self._ingress = Ingress(self.node, tun, self._loop)
        self._streams = Streams(self._loop)
        self._watch = NetworkWatch(ignore=[tun.name])
        self._suspend = clock.SuspendWatch()
        self._control = ControlServer(control_path, NodeControl(self).answer)
        self._port_mapping: PortMapping | None = None
        self._greenlets: list[Any] = []
        self._network = LocalNetwork()
        self._network_timer: Any = None
        self._must_save_peers = False
        self._rotation = KeyRotation(state, self.node, self.command)
        self._names = MemberNames(hosts, config.certificate, self.node)
        self._keeping: Any = None
        self._locating: Any = None

    # What the control socket asks

    def status(self) -> dict[str, Any]:
        status = self.node.status(clock.now())
        status["node"]["interface"] = self._tun.name
        status["node"]["listen_port"] = self._socket.port
        in_use = Offloads(
            tun=self._tun.has_header,
            uso=self._tun.has_uso,
            gso=self._socket.sends_trains,
            gro=self._socket.receives_trains,
        )
        status["node"]["offloads"] = asdict(in_use)
        if self._port_mapping is not None:
            status["nat"]["port_mapping"] = self._port_mapping.describe()
        status["drops"] = self.drops()
        for peer in status["peers"]:
            if peer["path"] is not None:
                socket = self._loop.sockets.get(peer["path"]["local"])
                peer["path"]["local"] = None if socket is None else f"port {socket.port}"
        return status

    def drops(self) -> dict[str, int]:
        """Reason → what was dropped for it, by whatever part."""
        drops = Counter(self.node.drops)
        counters = (self._loop.drops, self._streams.counters)
        for errors in (self._socket.errors, self._tun.drops, *counters):
            drops.update(errors)
        return dict(drops)

    def command(self, call: Callable[[float], Any]) -> Any:
        """Do something with the node, and settle."""
        now = clock.now()
        try:
            return call(now)
        finally:
            self._loop.settle(now)

    def wait_for_change(self, timeout: float | None) -> None:
        """Until something is reported, or `timeout` seconds have passed."""
        self._changed.wait(timeout)

    def save_ledger(self) -> None:
        """Blocks the calling greenlet, not the hub, until the disk has it; answers the joiners that
        waited for that."""
        revision = self._ledger_file.save(self.node.inviter)
        self.command(partial(self.node.ledger_saved, revision))

    def revoke(self, name: str) -> tuple[str, list[str]]:
        """Expel the member of that name, for good: its key, and the members told so far. Blocks the
        calling greenlet, not the hub. Raises OperatorError."""
        node = self.node
        revocation = node.inviter.sign_revocation(name)
        if node.revocations.is_full:
            raise OperatorError(
                f"{len(node.revocations)} members have been revoked, and no more can be: create a "
                "new network"
            )
        # First of all it is safe here; a crash then delays it, and no more.
        self._revocations_file.save_with(revocation)
        self.command(partial(node.revoke, revocation))
        try:
            self.save_ledger()
        except OperatorError as error:
            # The ledger is mended from the revocations when the node starts again.
            raise OperatorError(f"{name} is revoked all the same; {error}") from None
        now = clock.now()
        told = [peer.name for peer in node.peers if peer.session.is_established(now)]
        return str(PublicKey(revocation.key)), sorted(told)

    def rotate_key(self, timeout: float) -> str:
        """As `KeyRotation.ask`."""
        return self._rotation.ask(timeout, self.wait_for_change)

    # Running

    def run(self, stopped: Event, on_ready: Callable[[], None]) -> None:
        """Until `stopped` is set; then say good-bye and leave nothing behind. `on_ready` is called
        when commands are answered."""
        self.stopped = stopped
        self._loop.start()
        self._loop.watch(self._tun.fileno(), self._egress.read_interface)
        self._loop.watch(self._watch.fileno(), self._netlink_readable)
        self._control.start()
        on_ready()
        self._names.changed()
        self._read_network()
        self.locate_server()
        systemd.obey_reload(self._reload)
        systemd.ready("looking for the server")
        if self._config.port_mapping:
            self._greenlets.append(gevent.spawn(self._map_port))
        self._greenlets += [gevent.spawn(self._beat), gevent.spawn(self._save_peers)]
        try:
            self.stopped.wait()
        finally:
            self._shut_down()

    def _open_socket(self) -> UdpSocket:
        opened = UdpSocket(None, 0, gso=self._offloads.gso, gro=self._offloads.gro)
        if self._sieve is not None:
            opened.set_sieve(self._sieve)
        return opened

    def _set_sieve(self) -> None:
        # Before an initiation is sent, for the response names its index.
        admitted = self.node.sieve.take_change()
        if admitted is not None:
            is_all = admitted == EVERYTHING
            self._sieve = None if is_all else pack_program(assemble(*admitted))
            for udp in self._loop.sockets.values():
                udp.set_sieve(self._sieve)

    def rebind(self) -> int:
        """Take another local port, and let everyone know. The old mapping is given up."""
        socket = self._open_socket()
        self._loop.replace_socket(0, socket)
        self._socket = socket
        self.command(partial(self.node.rebound, socket.port))
        if self._port_mapping is not None:
            gevent.spawn(self._port_mapping.network_changed, socket.port)
        return socket.port

    def locate_server(self) -> None:
        """Resolve the server's name, again and again until it does."""
        if self._locating is None or self._locating.ready():
            self._locating = gevent.spawn(self._locate_server)

    def _locate_server(self) -> None:
        server = self._config.server
        has_complained = False
        while True:
            endpoints = resolve(server.host, server.port, allow_ipv6=self._socket.is_ipv6)
            if endpoints:
                self.command(partial(self.node.set_server_endpoints, endpoints))
                return
            if not has_complained:
                log.warning("%s does not resolve; trying on", server.host)
                has_complained = True
                # A proxy may know more names than we do.
                self.command(partial(self.node.set_server_endpoints, []))
            gevent.sleep(RESOLVE_AGAIN)

    def _map_port(self) -> None:
        # Only now, when the node has begun to register.
        from tunnel.drivers.port_mapping import PortMapping

        if self.node.is_revoked:
            return
        if self._port_mapping is None:
            self._port_mapping = PortMapping(
                self._config.static,
                self._tun.name,
                self._port_mapped,
                self._record,
                lambda state: self.command(partial(self.node.disclosure.set_port_mapping, state)),
            )
        self._port_mapping.network_changed(self._socket.port)

    def _port_mapped(self, external: Endpoint | None) -> None:
        self.command(partial(self.node.set_mapped_endpoint, external))

    def _shut_down(self) -> None:
        systemd.stopping()
        self.command(self.node.close)
        if self._port_mapping is not None:
            self._port_mapping.close()
        self._control.close()
        self._names.close()
        for greenlet in [*self._greenlets, self._locating, self._keeping]:
            if greenlet is not None:
                greenlet.kill()
        self._streams.close()
        self._loop.close()
        if self._network_timer is not None:
            self._network_timer.stop()
        if self._must_save_peers:
            self._write_peers()
        self._revocations_file.close()
        self._watch.close()
        self._socket.close()
        self._second_socket.close()
        self._tun.close()

    # Inputs

    def _read_socket(self, number: int, socket: UdpSocket, now: float) -> bool:
        has_read = self._ingress.read_socket(number, socket, now)
        if has_read:
            # What the kernel itself answers, echoes and acknowledgements, is there already.
            self._egress.read_interface()
        return has_read

    def _write_packets(self, packets: list[bytes]) -> None:
        self._tun.write(packets)

    def _netlink_readable(self) -> None:
        if self._watch.drain() and self._network_timer is None:
            self._network_timer = gevent.get_hub().loop.timer(SETTLE_NETWORK)
            self._network_timer.start(self._network_settled)

    def _network_settled(self) -> None:
        self._network_timer = None
        # Reading addresses takes milliseconds and switches greenlets; the hub must not.
        gevent.spawn(self._read_network)

    def _read_network(self, *, must_refresh: bool = False) -> None:
        self._read_addresses(must_refresh=must_refresh)
        if self._port_mapping is not None:
            self._port_mapping.network_changed(self._socket.port)

    def _read_addresses(self, *, must_refresh: bool = False) -> None:
        network = local_network(exclude=[self._tun.name])
        is_first = not self._network.addresses and not must_refresh
        has_moved = network.addresses != self._network.addresses
        self._network = network
        if has_moved or must_refresh or is_first:
            self._tell_network()
        else:
            self.command(partial(self.node.routes_changed, network.routes))

    def _reload(self) -> None:
        log.info("told to reload: looking at the network and for the server anew")
        self._read_network(must_refresh=True)
        self.locate_server()

    def _tell_network(self) -> None:
        addresses, routes = self._network
        port = self._socket.port
        self.command(lambda now: self.node.network_changed(addresses, port, now, routes))

    def _beat(self) -> None:
        """Watchdog, and waking from suspend."""
        watchdog = systemd.watchdog_interval()
        next_alive = 0.0
        while True:
            gevent.sleep(SUSPEND_CHECK)
            slept = self._suspend.slept()
            if slept:
                log.info("the machine slept for %.0f s: punching again", slept)
                self._read_network(must_refresh=True)
            if watchdog is not None and clock.now() >= next_alive:
                systemd.alive()
                next_alive = clock.now() + watchdog

    # Outputs

    def _report(self) -> None:
        while (event := self.node.next_event()) is not None:
            if isinstance(event, SocketsReleased):
                self._loop.release_sockets(event.locals)
                continue
            if isinstance(event, PeersChanged):
                self._must_save_peers = True
                self._names.changed()
                continue
            if isinstance(event, PingAnswered):
                self.answers[event.transaction] = event
                while len(self.answers) > 256:
                    self.answers.pop(next(iter(self.answers)))
                self._announce_change()
                continue
            if isinstance(event, RebindWanted):
                gevent.spawn(self.rebind)
            if isinstance(event, InvitationRedeemed):
                gevent.spawn(self._answer_joiner, event.name)
            if isinstance(event, RotationAsked):
                gevent.spawn(self._answer_rotation, event.peer)
            if isinstance(event, KeyReplaced) and event.key:
                self._keeping = gevent.spawn(self._rotation.keep, self._announce_change)
            self._record(event)

    def _record(self, event: CoreEvent) -> None:
        self.history.append(entry := describe(event, clock.wall_clock()))
        is_end = isinstance(event, MemberRevoked) and event.is_own
        level = logging.ERROR if is_end else logging.INFO
        log.log(level, "%s", narrate(event), extra={"event": entry})
        if isinstance(event, STATUS_EVENTS):
            self._tell_systemd()
        if isinstance(event, MemberRevoked):
            self._revocations_file.save_soon()
            if event.is_own:
                self._fall_silent()
        elif isinstance(event, MappingMoved) and self._port_mapping is not None:
            self._port_mapping.check()
        elif isinstance(event, ServerLost):
            self.locate_server()
        self._announce_change()

    def _tell_systemd(self) -> None:
        now = clock.now()
        states = [peer.state(now) for peer in self.node.peers]
        systemd.status(narrate_status(self.node.registration.is_connected, states))

    def _announce_change(self) -> None:
        self._changed.set()
        self._changed = Event()

    def _answer_joiner(self, name: str) -> None:
        try:
            self.save_ledger()
        except OperatorError as error:
            # It will ask again, and be answered when there is room.
            log.error("cannot let %s in: %s", name or "a joiner", error)
            return
        if name:
            log.info("%s has joined", name)

    def _answer_rotation(self, name: str) -> None:
        try:
            self.save_ledger()
        except OperatorError as error:
            log.error("cannot give %s a new key: %s", name, error)  # It will ask again.

    def _fall_silent(self) -> None:
        """We are a member no more. The process stays, to say so when it is asked."""
        systemd.status("this machine has been revoked")
        self._names.changed()
        if self._port_mapping is not None:
            gevent.spawn(self._port_mapping.close)
            self._port_mapping = None

    def _save_peers(self) -> None:
        while True:
            gevent.sleep(SAVE_PEERS_AFTER)
            if self._must_save_peers:
                self._must_save_peers = False
                content = self._pack_peers()
                try:
                    run_in_thread(self._state.write_json, PEERS_FILE, content)
                except OperatorError as error:
                    # Peers can be learned again; a full disk must not end this for good.
                    log.warning("%s", error)

    def _write_peers(self) -> None:
        self._state.write_json(PEERS_FILE, self._pack_peers())

    def _pack_peers(self) -> dict[str, Any]:
        return pack_peers(self.node.peers) | {"listen_port": self._socket.port}
