"""Metrics: what is exported is what docs/metrics.md lists, can be parsed, and holds no secret; the
dashboard asks for nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.core.ends import Town
from tests.sim.nat import Nat
from tests.sim.world import World
from tests.spellings import Search
from tests.test_secrets import reachable, secrets_of
from tunnel.drivers import metrics
from tunnel.drivers.metrics import (
    CONTENT_TYPE,
    MAX_REASONS,
    NODE,
    OTHER,
    PROCESS,
    SERVER,
    Metrics,
    node_metrics,
    server_metrics,
)
from tunnel.drivers.node import NodeDriver
from tunnel.drivers.web import Visit
from tunnel.wire.http import HttpRequest

DOCS = Path(__file__).parents[2] / "docs"
DECLARED = {each.name: each for each in (*NODE, *SERVER, *PROCESS)}

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(of: Metrics) -> str:
    answer = of.answer(Visit(HttpRequest("GET", "/metrics", {}), True))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert f"Content-Type: {CONTENT_TYPE}; charset=utf-8".encode() in head
    return body.decode()


def series(text: str) -> Series:
    """No two of which may have the same name and labels."""
    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


class Watched:
    """A node in the simulator, as far as metrics look at its driver."""

    def __init__(self, world: World, name: str) -> None:
        host = world.hosts[name]
        self.node = world.node(name)
        self._clock = host
        self.metrics = node_metrics(cast(NodeDriver, self))

    def drops(self) -> dict[str, int]:
        return dict(self.node.drops)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    world.add_node("a", Nat())
    world.add_node("b", Nat())
    monkeypatch.setattr(metrics, "clock", SimpleNamespace(now=lambda: world.hosts["a"].now))
    return world


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Town:
    town = Town()
    town.add(1)
    town.add(2)
    return town


def of_server(town: Town, **more: Any) -> Metrics:
    status = {"version": "7", "errors": {}}
    return server_metrics(lambda: status | town.server.status(town.clock.now) | more)


# What is documented


def documented() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Name, type, labels."""
    for line in (DOCS / "metrics.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        found = re.fullmatch(r"`((?:punchtun|process)_\w+)`", cells[1]) if len(cells) > 3 else None
        if found:
            yield found[1], cells[2], tuple(re.findall(r"`(\w+)`", cells[3]))


def test_the_page_lists_what_there_is() -> None:
    listed = list(documented())
    declared = [
        (name, "counter" if name.endswith("_total") else "gauge", each.labels)
        for name, each in DECLARED.items()
    ]
    assert sorted(listed) == sorted(declared)


def test_labels_are_documented_and_bounded() -> None:
    text = (DOCS / "metrics.md").read_text()
    section = text[text.index("## Labels") : text.index("## Node")]
    first_cells = "".join(line.split("|")[1] for line in section.splitlines() if "|" in line)
    used = {label for each in DECLARED.values() for label in each.labels}
    assert set(re.findall(r"`(\w+)`", first_cells)) == used


def test_what_is_exported_is_what_is_declared(world: World, town: Town) -> None:
    """Families that have no series now included: a scrape tells their type."""
    assert world.wait_until_direct()
    for of, declared in (
        (Watched(world, "a").metrics, (*NODE, *PROCESS)),
        (of_server(town), (*SERVER, *PROCESS)),
    ):
        text = scrape(of)
        told = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
        assert set(told) == {each.name for each in declared}
        for name, kind in told.items():
            assert kind == ("counter" if name.endswith("_total") else "gauge")
        for name, labels in series(text):
            assert tuple(label for label, _ in labels) == tuple(sorted(DECLARED[name].labels))


DASHBOARD = json.loads((DOCS / "grafana/punchtun.json").read_text())


def expressions(of: object) -> Iterator[str]:
    if isinstance(of, dict):
        for key, value in of.items():
            if key in ("expr", "definition", "query") and isinstance(value, str):
                yield value
            else:
                yield from expressions(value)
    elif isinstance(of, list):
        for each in of:
            yield from expressions(each)


def test_the_dashboard_asks_for_what_there_is() -> None:
    asked = list(expressions(DASHBOARD))
    assert len(asked) > 20
    used: set[str] = set()
    for expression in asked:
        named = set(re.findall(r"\b(?:punchtun|process)_\w+", expression.partition("__name__")[0]))
        assert named <= set(DECLARED), expression
        used |= named
        for label in re.findall(r'([a-z_]+)(?:=|=~|!=|!~)"', expression):
            known = {"instance", "job", "__name__", *(x for n in named for x in DECLARED[n].labels)}
            assert label in known, expression
    # Nothing but what says who it is, or what no one looks at every day, is left out.
    assert set(DECLARED) - used == {
        "process_start_time_seconds",
        "punchtun_node_clock_offset_seconds",
        "punchtun_node_info",
        "punchtun_node_keepalive_seconds",
        "punchtun_node_mapping_lifetime_seconds",
        "punchtun_node_server_transport",
        "punchtun_peer_duplicates_dropped_total",
        "punchtun_peer_handshake_age_seconds",
        "punchtun_peer_path_info",
        "punchtun_server_errors_total",
        "punchtun_server_info",
        "punchtun_server_letters_refused_total",
        "punchtun_server_relayed_datagrams_total",
        "punchtun_server_sessions",
        "punchtun_server_streams_refused_total",
        "punchtun_server_stun_answers_total",
    }


def test_panels_do_not_overlap_and_legends_use_labels() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        area = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not area & taken, panel["title"]
        assert max(x for x, _ in area) < 24
        taken |= area
        for target in panel.get("targets", []):
            (name,) = set(re.findall(r"\b(?:punchtun|process)_\w+", target["expr"]))
            labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert labels <= {"instance", *DECLARED[name].labels}


# What is told


def test_a_direct_pair(world: World) -> None:
    assert world.wait_until_direct()
    watched = Watched(world, "a")
    told = series(scrape(watched.metrics))
    peer = (("peer", "b"),)
    for state in ("direct", "relayed", "connecting", "offline"):
        key = ("punchtun_peer_state", (*peer, ("state", state)))
        assert told[key] == (state == "direct")
    (found,) = watched.node.peers
    assert found.traversal.best is not None
    assert told["punchtun_peer_rtt_seconds", peer] == found.traversal.best.rtt
    kind = (("kind", found.traversal.best.kind.text), *peer)
    assert told["punchtun_peer_path_info", kind] == 1
    assert told["punchtun_peer_path_changes_total", peer] >= 1
    assert told["punchtun_peer_path_repairs_total", peer] == 0
    assert told["punchtun_node_server_connected", ()] == 1
    assert told["punchtun_node_server_transport", (("transport", "udp"),)] == 1
    config = watched.node.config
    own = (("name", "a"), ("network", config.identity.id), ("version", config.version))
    assert told["punchtun_node_info", own] == 1


def test_packets_are_counted(world: World) -> None:
    assert world.wait_until_direct()
    watched = Watched(world, "a")
    (peer,) = watched.node.peers
    peer.counters.tx_packets, peer.counters.tx_bytes = 3, 300
    peer.counters.rx_packets, peer.counters.rx_bytes = 2, 200
    told = series(scrape(watched.metrics))
    named = (("peer", "b"),)
    for way, packets in (("sent", 3), ("received", 2)):
        assert told[f"punchtun_peer_{way}_packets_total", named] == packets
        assert told[f"punchtun_peer_{way}_bytes_total", named] == 100 * packets


def test_what_is_not_known_is_not_told(world: World) -> None:
    assert world.wait_until_direct()
    world.hosts["b"].call(lambda node, now: node.close(now))
    world.hosts["b"].stop()
    world.net.run_for(2)
    told = {name for name, _ in series(scrape(Watched(world, "a").metrics))}
    assert "punchtun_peer_sent_bytes_total" in told
    for name in ("path_info", "rtt_seconds", "handshake_age_seconds"):
        assert f"punchtun_peer_{name}" not in told


def test_two_of_one_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add_node("c", Nat())
    world.net.run_for(5)
    watched = Watched(world, "a")
    monkeypatch.setattr("tunnel.core.peer.Peer.name", "same")
    names = {dict(labels).get("peer", "same ") for _, labels in series(scrape(watched.metrics))}
    keys = {str(peer.key)[:8] for peer in watched.node.peers}
    assert names == {"same ", *(f"same {key}" for key in keys)}
    assert len(keys) == 2


def test_a_scrape_changes_nothing(world: World) -> None:
    """Nor does it begin anything: the same would be sent without it."""
    assert world.wait_until_direct()
    watched = Watched(world, "a")
    timer = watched.node.get_timer()
    status = watched.node.status(world.hosts["a"].now)
    for _ in range(3):
        scrape(watched.metrics)
    assert watched.node.get_timer() == timer
    assert watched.node.status(world.hosts["a"].now) == status
    assert watched.node.datagrams_to_send(world.hosts["a"].now) == []


def test_the_server(town: Town) -> None:
    told = series(scrape(of_server(town)))
    assert told["punchtun_server_nodes", ()] == 2
    assert told["punchtun_server_channels", ()] == 1
    assert told["punchtun_server_introductions_total", ()] == 1
    assert told["punchtun_server_info", (("version", "7"),)] == 1


def test_reasons_are_bounded_and_what_was_told_goes_on(town: Town) -> None:
    counts = {f"reason {n}": n for n in range(1000)}
    name = "punchtun_server_dropped_total"

    def told() -> dict[str, float]:
        found = series(scrape(of_server(town, drops=counts)))
        return {dict(labels)["reason"]: v for (key, labels), v in found.items() if key == name}

    before = told()
    assert len(before) == MAX_REASONS + 1
    assert sum(before.values()) == sum(counts.values())
    counts |= {"reason 0": 5, "reason 999": 1999, "new": 1}
    after = told()
    assert list(after) == list(before)
    assert all(after[reason] >= before[reason] for reason in before)
    assert after[OTHER] == before[OTHER] + 1001


def test_odd_reasons_break_no_line(town: Town) -> None:
    odd = {'quote " and \\ backslash\nnew line\n# TYPE a b': 1, "é\u2028": 2, "": 3}
    told = series(scrape(of_server(town, drops=odd)))
    for reason, count in odd.items():
        assert told["punchtun_server_dropped_total", (("reason", reason),)] == count


def test_no_secret_is_told(world: World, town: Town) -> None:
    assert world.wait_until_direct()
    everything = list(reachable([world, town]))
    search = Search(secret for each in everything for secret in secrets_of(each))
    assert len(search.secrets) > 10
    assert not search.finds_any(scrape(Watched(world, "a").metrics))
    assert not search.finds_any(scrape(of_server(town)))


@pytest.mark.parametrize("path", ["/", "/metrics/", "/metricsx", "//metrics", "/METRICS"])
def test_elsewhere(town: Town, path: str) -> None:
    answer = of_server(town).answer(Visit(HttpRequest("GET", path, {}), True))
    assert answer.startswith(b"HTTP/1.1 404 ")


def test_parameters_are_ignored(town: Town) -> None:
    """Prometheus may be configured to send some."""
    target = "/metrics?name[]=up"
    answer = of_server(town).answer(Visit(HttpRequest("GET", target, {}), True))
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_who_wants_none_loads_nothing_for_them() -> None:
    code = (
        "import sys, tunnel.drivers.startup\n"
        "print([name for name in sys.modules if name.startswith('prometheus_client')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
