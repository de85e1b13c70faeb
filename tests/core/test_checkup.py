"""What `punchtun doctor` makes of the facts of a machine: level, cure, verdict, exit code."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel.core.checkup import Finding, Level, MachineFacts, Report, examine
from tunnel.core.examination import Way

UDP, UDP6, TCP = "UDP over IPv4", "UDP over IPv6", "TCP"
NAT: dict[str, Any] = {
    "mapping": "endpoint-independent",
    "filtering": "address-and-port-dependent",
    "hairpin": False,
    "present": True,
    "routers": ["192.168.1.1", "203.0.113.1"],
    "carrier_nat": False,
    "evidence": [],
    "port_mapping": {
        "state": "mapped",
        "protocol": "pcp",
        "external": "198.51.100.7:40000",
        "reason": None,
    },
    "mapping_lifetime_s": 100.0,
    "keepalive_s": 75.0,
}
DIRECT = {
    "name": "pi",
    "state": "direct",
    "path": {"remote": "192.0.2.33:5", "rtt_ms": 12.5},
    "why_not_direct": None,
}
RELAYED = {
    "name": "cam",
    "state": "relayed",
    "path": {"remote": "relay", "rtt_ms": None},
    "why_not_direct": {"reason": "both NATs are odd", "fix": "buy another"},
}
USUAL = MachineFacts(
    server="punchtun://vps:12345",
    ways=(Way(UDP, True, 0.02, ""), Way(TCP, True, 0.03, "")),
    is_node_running=True,
    is_node_connected=True,
    nat=NAT,
    path_mtu=1500,
    clock_offset=0.2,
    has_ipv6=True,
    is_forwarding=False,
    listen_port=40000,
    peers=(DIRECT,),
)


def change(**changes: Any) -> Report:
    return examine(dataclasses.replace(USUAL, **changes))


def with_nat(**changes: Any) -> Report:
    return change(nat=NAT | changes)


def port_mapping(state: str, reason: str = "said so") -> dict[str, Any]:
    return {"state": state, "protocol": None, "external": None, "reason": reason}


def refusal(code: str, until: int | None) -> dict[str, Any]:
    return {"code": code, "reason": "it is so", "fix": "do this", "until": until}


def find(report: Report, name: str) -> Finding:
    return next(finding for finding in report.findings if finding.name == name)


def test_all_is_well() -> None:
    report = examine(USUAL)
    assert report.verdict == "All is well here."
    assert report.exit_code == 0
    assert {finding.level for finding in report.findings} == {Level.OK}


NOT_REACHED = (Way(UDP, False, None, "no answer"), Way(TCP, False, None, "refused"))


@pytest.mark.parametrize(
    ("report", "name", "level", "words"),
    [
        (change(is_resolved=False), "server", Level.PROBLEM, "resolve"),
        (
            change(ways=NOT_REACHED, is_node_connected=False),
            "server",
            Level.PROBLEM,
            "answers by no way",
        ),
        (change(is_node_connected=False), "server", Level.PROBLEM, "not registered"),
        (
            change(is_node_connected=False, refusal=refusal("network-full", None)),
            "server",
            Level.PROBLEM,
            "refuses the running node: it is so",
        ),
        (
            change(relay_refusal=refusal("relay-quota", 1_800_009_000), wall_time=1.8e9),
            "relay",
            Level.PROBLEM,
            "it is so; it begins anew in 2.5 hours",
        ),
        (change(relay_refusal=refusal("relay-pairs", None)), "relay", Level.PROBLEM, "it is so"),
        (change(relay_refusal=refusal("relay-rate", None)), "relay", Level.NOTE, "it is so"),
        (
            change(ways=(NOT_REACHED[0], USUAL.ways[1]), transport="tcp"),
            "udp",
            Level.PROBLEM,
            "UDP to the server is blocked",
        ),
        (change(ways=(USUAL.ways[0], NOT_REACHED[1])), "tcp", Level.NOTE, "refused"),
        (change(clock_offset=-61.0), "clock", Level.PROBLEM, "61 s behind"),
        (change(clock_offset=3600.0), "clock", Level.PROBLEM, "3600 s ahead"),
        (change(clock_offset=59.0), "clock", Level.OK, "+59.0 s"),
        (change(path_mtu=1024), "mtu", Level.NOTE, "1024 bytes"),
        (with_nat(mapping="address-dependent"), "nat", Level.NOTE, "another port"),
        (with_nat(mapping=None), "nat", Level.NOTE, "not known yet"),
        (with_nat(present=False), "nat", Level.OK, "no NAT"),
        (with_nat(mapping_lifetime_s=12.0), "lifetime", Level.NOTE, "12 s"),
        (with_nat(carrier_nat=True), "routers", Level.NOTE, "carrier-grade"),
        (
            with_nat(evidence=["router 2 is 10.0.0.1: a second NAT, or so"]),
            "routers",
            Level.NOTE,
            "double NAT",
        ),
        (with_nat(port_mapping=None), "port-mapping", Level.NOTE, "switched off"),
        (
            with_nat(port_mapping=port_mapping("unavailable", "PCP: no answer")),
            "port-mapping",
            Level.NOTE,
            "PCP: no answer",
        ),
        (with_nat(port_mapping=port_mapping("refused")), "port-mapping", Level.NOTE, "said so"),
        (
            with_nat(port_mapping=port_mapping("double-nat")),
            "port-mapping",
            Level.NOTE,
            "behind a NAT",
        ),
        (with_nat(port_mapping=port_mapping("idle")), "port-mapping", Level.NOTE, "idle"),
        (change(has_ipv6=False), "ipv6", Level.NOTE, "no public IPv6"),
        (
            change(ways=(*USUAL.ways, Way(UDP6, False, None, "no answer"))),
            "ipv6",
            Level.NOTE,
            "no answer by it",
        ),
        (
            change(ways=(*USUAL.ways, Way(UDP6, True, 0.01, ""))),
            "ipv6",
            Level.OK,
            "the server answers by it",
        ),
        (change(has_tun=False), "tun", Level.PROBLEM, "/dev/net/tun"),
        (
            change(is_node_running=False, may_administer=False),
            "privileges",
            Level.NOTE,
            "may not create",
        ),
        (change(clash="a clashes with b"), "routes", Level.PROBLEM, "a clashes with b"),
        (change(has_fixed_port=True), "port", Level.OK, "40000, fixed"),
        (change(is_forwarding=True), "forwarding", Level.NOTE, "is on"),
        (change(peers=(RELAYED,)), "peer cam", Level.NOTE, "both NATs are odd"),
    ],
)
def test_each_finding(report: Report, name: str, level: Level, words: str) -> None:
    found = find(report, name)
    assert found.level is level
    assert words in found.text
    if level is Level.PROBLEM:
        assert found.cure
        assert report.exit_code in (1, 5)
        assert report.verdict != "All is well here."
    else:
        assert report.exit_code == 0


def test_the_verdict_is_the_worst() -> None:
    away = change(ways=NOT_REACHED, is_node_connected=False, clock_offset=99.0)
    assert away.exit_code == 5
    assert "is not reached" in away.verdict
    two = change(clock_offset=99.0, clash="a clashes with b")
    assert two.exit_code == 1
    assert "99 s ahead" in two.verdict
    assert "and 1 more" in two.verdict
    relayed = change(peers=(RELAYED, DIRECT))
    assert relayed.exit_code == 0
    assert relayed.verdict.endswith("direct: cam.")


def test_a_machine_that_is_revoked_is_told_that_and_nothing_else() -> None:
    """That the server is not reached follows from it, and mending that would be in vain."""
    report = change(is_revoked=True, is_node_connected=False, ways=NOT_REACHED)
    assert report.exit_code == 1
    assert "revoked" in report.verdict
    (finding,) = report.findings
    assert (finding.name, finding.level) == ("membership", Level.PROBLEM)
    assert "new invitation" in finding.cure


def test_json() -> None:
    described = change(clash="a clashes with b").describe()
    assert set(described) == {"verdict", "exit_code", "findings"}
    for entry in described["findings"]:
        assert set(entry) == {"name", "level", "text", "cure"}
        assert entry["level"] in ("ok", "note", "problem")


behaviours = st.none() | st.sampled_from(["endpoint-independent", "address-dependent"])
ways = st.lists(
    st.builds(
        Way,
        st.sampled_from([UDP, UDP6, TCP, "WebSocket"]),
        st.none() | st.booleans(),
        st.none() | st.floats(0, 10),
        st.text(max_size=5),
    ),
    max_size=5,
)


@settings(max_examples=200, deadline=None)
@given(
    st.builds(
        MachineFacts,
        server=st.just("x"),
        is_resolved=st.booleans(),
        ways=ways,
        is_node_running=st.booleans(),
        is_node_connected=st.booleans(),
        is_revoked=st.booleans(),
        transport=st.sampled_from(["udp", "tcp"]),
        nat=st.just({})
        | st.just(NAT)
        | st.fixed_dictionaries(
            {"mapping": behaviours, "filtering": behaviours, "present": st.none() | st.booleans()}
        ),
        path_mtu=st.none() | st.integers(0, 9000),
        clock_offset=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        has_ipv6=st.booleans(),
        has_tun=st.booleans(),
        may_administer=st.booleans(),
        is_forwarding=st.none() | st.booleans(),
        clash=st.sampled_from(["", "a clash"]),
        listen_port=st.none() | st.integers(1, 65535),
        has_fixed_port=st.booleans(),
        peers=st.lists(st.sampled_from([DIRECT, RELAYED]), max_size=3),
    )
)
def test_any_facts_have_a_verdict(facts: MachineFacts) -> None:
    report = examine(facts)
    assert report.verdict
    has_problem = any(finding.level is Level.PROBLEM for finding in report.findings)
    is_away = not facts.is_reached and not facts.is_revoked
    assert report.exit_code == (5 if is_away else 1 if has_problem else 0)
