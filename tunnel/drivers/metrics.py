"""What Prometheus is told: docs/metrics.md lists it, and a test compares.

Nothing is counted for it that is not counted anyway: each scrape reads the objects of the core as
they are then. Imported only where metrics were asked for, with ``prometheus_client``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tunnel.core.status import path_in_state
from tunnel.drivers import clock
from tunnel.drivers.load import STARTED_AT, read_load
from tunnel.drivers.web import Visit
from tunnel.wire.http import pack_answer

if TYPE_CHECKING:
    from tunnel.core.peer import Peer
    from tunnel.drivers.node import NodeDriver

CONTENT_TYPE = "text/plain; version=0.0.4"
STATES = ("direct", "relayed", "connecting", "offline")
MAX_REASONS = 64
"""Values of a label ``reason``; the rest is counted as ``OTHER``."""
OTHER = "other reasons"


class Declared(NamedTuple):
    name: str
    """Of a counter it ends in ``_total``."""
    help: str
    labels: tuple[str, ...] = ()

    def family(self) -> GaugeMetricFamily | CounterMetricFamily:
        if self.name.endswith("_total"):
            return CounterMetricFamily(self.name, self.help, labels=self.labels)
        return GaugeMetricFamily(self.name, self.help, labels=self.labels)


PROCESS = (
    Declared("process_cpu_seconds_total", "Seconds of a core that the process has taken."),
    Declared("process_resident_memory_bytes", "Memory that it occupies."),
    Declared("process_start_time_seconds", "Unix time at which it was started."),
)
"""By the names that Prometheus' own libraries use."""
NODE = (
    Declared("punchtun_node_info", "Always 1.", ("name", "network", "version")),
    Declared("punchtun_node_server_connected", "Whether the rendezvous server answers."),
    Declared("punchtun_node_server_rtt_seconds", "Round trip to the server."),
    Declared(
        "punchtun_node_server_transport",
        "1 for what carries datagrams to the server: udp, tcp or websocket.",
        ("transport",),
    ),
    Declared("punchtun_node_clock_offset_seconds", "How far our clock is ahead of the server's."),
    Declared("punchtun_node_keepalive_seconds", "Between keep-alives."),
    Declared(
        "punchtun_node_mapping_lifetime_seconds", "Longest silence the NAT's mapping survived."
    ),
    Declared("punchtun_node_dropped_total", "Datagrams and packets dropped.", ("reason",)),
    Declared("punchtun_peer_state", "1 for the state that the peer is in.", ("peer", "state")),
    Declared("punchtun_peer_path_info", "1 for the kind of the path in use.", ("peer", "kind")),
    Declared("punchtun_peer_rtt_seconds", "Round trip by the path in use.", ("peer",)),
    Declared("punchtun_peer_handshake_age_seconds", "Age of the keys.", ("peer",)),
    Declared("punchtun_peer_received_bytes_total", "Of IP packets from the peer.", ("peer",)),
    Declared("punchtun_peer_sent_bytes_total", "Of IP packets to the peer.", ("peer",)),
    Declared("punchtun_peer_received_packets_total", "IP packets from the peer.", ("peer",)),
    Declared("punchtun_peer_sent_packets_total", "IP packets to the peer.", ("peer",)),
    Declared("punchtun_peer_duplicates_dropped_total", "Second copies of frames.", ("peer",)),
    Declared("punchtun_peer_path_changes_total", "Times another path came into use.", ("peer",)),
    Declared("punchtun_peer_path_repairs_total", "Times a path in doubt proved good.", ("peer",)),
)
SERVER = (
    Declared("punchtun_server_info", "Always 1.", ("version",)),
    Declared("punchtun_server_nodes", "Nodes registered."),
    Declared("punchtun_server_sessions", "Nodes and others with keys, such as joiners."),
    Declared("punchtun_server_networks", "Networks with a node at least."),
    Declared("punchtun_server_channels", "Pairs that may relay."),
    Declared("punchtun_server_relayed_pairs", "Pairs that the relay has served lately."),
    Declared("punchtun_server_streams", "Streams open over TCP and WebSocket."),
    Declared("punchtun_server_letters", "Join requests and answers that wait for somebody."),
    Declared("punchtun_server_streams_refused_total", "Streams refused for a bound."),
    Declared("punchtun_server_letters_refused_total", "Letters refused for a bound."),
    Declared("punchtun_server_introductions_total", "Introductions made."),
    Declared("punchtun_server_relayed_datagrams_total", "Datagrams relayed."),
    Declared("punchtun_server_relayed_bytes_total", "Bytes relayed."),
    Declared("punchtun_server_stun_answers_total", "STUN requests answered."),
    Declared("punchtun_server_dropped_total", "Datagrams dropped.", ("reason",)),
    Declared("punchtun_server_errors_total", "Errors of sockets, ends of streams.", ("reason",)),
)

Sample = tuple[str, tuple[str, ...], float | None]
"""Of which metric, values of its labels, value; None: there is none now."""


class Metrics(Collector):
    """All that one process tells."""

    def __init__(self, declared: Iterable[Declared], read: Callable[[], Iterable[Sample]]) -> None:
        self._declared = (*declared, *PROCESS)
        self._read = read
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        families = {each.name: each.family() for each in self._declared}
        for name, labels, value in (*self._read(), *_process_samples()):
            if value is not None:
                families[name].add_metric(labels, value)
        yield from families.values()

    def answer(self, visit: Visit) -> bytes:
        """For `WebServer`."""
        if visit.request.path != "/metrics":
            return pack_answer("404 Not Found", b"metrics are at /metrics\n")
        return pack_answer("200 OK", generate_latest(self._registry), CONTENT_TYPE)


def node_metrics(driver: NodeDriver) -> Metrics:
    return Metrics(NODE, lambda: _node_samples(driver, clock.now()))


def server_metrics(read_status: Callable[[], dict[str, Any]]) -> Metrics:
    """`read_status` gives what ``punchtun server status --json`` shows."""
    return Metrics(SERVER, lambda: _server_samples(read_status()))


def _process_samples() -> Iterator[Sample]:
    load = read_load()
    yield "process_cpu_seconds_total", (), load.cpu
    yield "process_resident_memory_bytes", (), load.memory
    yield "process_start_time_seconds", (), STARTED_AT


def _server_samples(status: Mapping[str, Any]) -> Iterator[Sample]:
    yield "punchtun_server_info", (status["version"],), 1
    for declared in SERVER:
        key = declared.name.removeprefix("punchtun_server_").removesuffix("_total")
        if not declared.labels:
            yield declared.name, (), status[key]
    yield from _by_reason("punchtun_server_dropped_total", status["drops"])
    yield from _by_reason("punchtun_server_errors_total", status["errors"])


def _by_reason(name: str, counts: Mapping[str, int]) -> Iterator[Sample]:
    """Reasons are a few dozen sentences of ours and of the libraries'; should they ever be more, a
    series that was told once goes on to be told."""
    others = 0
    for number, (reason, count) in enumerate(counts.items()):
        if number < MAX_REASONS:
            yield name, (reason,), count
        else:
            others += count
    yield name, (OTHER,), others or None


def _node_samples(driver: NodeDriver, now: float) -> Iterator[Sample]:
    node = driver.node
    config, registration = node.config, node.registration
    own = (config.certificate.name, config.identity.id, config.version)
    yield "punchtun_node_info", own, 1
    yield "punchtun_node_server_connected", (), registration.is_connected
    yield "punchtun_node_server_rtt_seconds", (), registration.rtt
    yield "punchtun_node_server_transport", (registration.transport.kind,), 1
    yield "punchtun_node_clock_offset_seconds", (), registration.clock_offset
    yield "punchtun_node_keepalive_seconds", (), registration.keepalive_interval
    yield "punchtun_node_mapping_lifetime_seconds", (), node.lifetime.lifetime
    yield from _by_reason("punchtun_node_dropped_total", driver.drops())
    for label, peer in _labelled(node.peers):
        yield from _peer_samples(label, peer, now)


def _labelled(peers: Iterable[Peer]) -> Iterator[tuple[str, Peer]]:
    """Two members may have one name, as long as their certificates are not reconciled; two series
    with the same labels would cost the whole scrape."""
    known = list(peers)
    bearers = Counter(peer.name for peer in known)
    for peer in known:
        is_alone = bearers[peer.name] == 1
        yield peer.name if is_alone else f"{peer.name} {str(peer.key)[:8]}", peer


def _peer_samples(label: str, peer: Peer, now: float) -> Iterator[Sample]:
    state, counters = peer.state(now), peer.counters
    for each in STATES:
        yield "punchtun_peer_state", (label, each), each == state
    path = path_in_state(peer, state)
    if path is not None:
        yield "punchtun_peer_path_info", (label, path.kind.text), 1
        yield "punchtun_peer_rtt_seconds", (label,), path.rtt
    yield "punchtun_peer_handshake_age_seconds", (label,), peer.session.handshake_age(now)
    yield "punchtun_peer_received_bytes_total", (label,), counters.rx_bytes
    yield "punchtun_peer_sent_bytes_total", (label,), counters.tx_bytes
    yield "punchtun_peer_received_packets_total", (label,), counters.rx_packets
    yield "punchtun_peer_sent_packets_total", (label,), counters.tx_packets
    yield "punchtun_peer_duplicates_dropped_total", (label,), counters.duplicates_dropped
    yield "punchtun_peer_path_changes_total", (label,), counters.path_changes
    yield "punchtun_peer_path_repairs_total", (label,), counters.path_repairs
