"""Every code has a row, built from facts; and no facts whatever make it raise."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.messages import KINDS, endpoints, ipv4, words
from tunnel.core import diagnosis
from tunnel.core.diagnosis import diagnose
from tunnel.core.pair_facts import PairFacts
from tunnel.core.prediction import PortRange
from tunnel.core.refusals import StandingRefusal
from tunnel.wire.check import PredictionKind, Refusal
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.nature import Behaviour, MappingState, Nature
from tunnel.wire.rendezvous import RefusalReason

STEADY = Nature(
    Behaviour.ENDPOINT_INDEPENDENT,
    Behaviour.ADDRESS_AND_PORT_DEPENDENT,
    has_nat=True,
    port_mapping=MappingState.UNAVAILABLE,
    routers=1,
)
VARYING = STEADY._replace(mapping=Behaviour.ADDRESS_AND_PORT_DEPENDENT)
US, THEM = Endpoint("198.51.100.7", 40000), Endpoint("192.0.2.33", 50000)
US6, THEM6 = Endpoint("2001:db8::7", 40000), Endpoint("2001:db8:1::7", 50000)
WHOLE = PortRange(PredictionKind.SCATTERED, Endpoint(US.host, 1024), 65535)
BLOCK = PortRange(PredictionKind.SCATTERED, Endpoint(THEM.host, 2048), 4095)
EXACT = PortRange(PredictionKind.EXACT, US, US.port)
NETWORK_FULL = StandingRefusal(RefusalReason.NETWORK_FULL, None, 0.0)
QUOTA = RefusalReason.RELAY_QUOTA
USUAL = PairFacts(
    peer="pi",
    ours=STEADY,
    theirs=STEADY,
    our_endpoints=(US,),
    their_hosts=(THEM.host,),
    our_candidates=(US,),
    their_candidates=(THEM,),
    checks=40,
    punches=3,
    failures=3,
    next_attempt=12.0,
)
ROWS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("server-unreachable", {"state": "offline", "is_registered": False}, ["not registered"]),
    ("server-unreachable", {"state": "connecting", "is_registered": False}, ["not registered"]),
    (
        "server-refuses",
        {"state": "offline", "is_registered": False, "refusal_of_server": NETWORK_FULL},
        ["the server refuses us: this network has as many nodes"],
    ),
    (
        "server-refuses",
        {"state": "connecting", "is_registered": False, "refusal_of_server": NETWORK_FULL},
        ["the server refuses us: this network has as many nodes"],
    ),
    (
        "relay-quota",
        {"state": "connecting", "refusal_of_relay": StandingRefusal(QUOTA, 1_800_000_000, 0.0)},
        ["the server says: this network has used up"],
    ),
    (
        "relay-pairs",
        {
            "state": "connecting",
            "has_relay": False,
            "refusal_of_relay": StandingRefusal(RefusalReason.RELAY_PAIRS, None, 0.0),
        },
        ["the server says: as many pairs", "no relay channel"],
    ),
    ("peer-offline", {"state": "offline", "has_left": True}, ["good-bye"]),
    ("peer-offline", {"state": "offline"}, ["does not know it"]),
    ("clock-wrong", {"state": "connecting", "clock_offset": -3600.0}, ["3600 s behind", "-3600 s"]),
    ("no-relay", {"state": "connecting", "has_relay": False}, ["no relay channel"]),
    ("connecting", {"state": "connecting", "punches": 0, "handshakes": 0}, ["no handshake"]),
    ("udp-blocked", {"ours": STEADY._replace(is_udp_blocked=True)}, ["by a stream only"]),
    (
        "peer-udp-blocked",
        {"theirs": STEADY._replace(is_udp_blocked=True)},
        ["at pi: the server is reached by a stream only"],
    ),
    ("punching", {"failures": 0, "is_punching": True}, ["40 checks in 3 punches"]),
    ("punching", {"theirs": None}, ["pi has said nothing", "next attempt in 12 s"]),
    ("no-candidates", {"their_candidates": ()}, []),
    ("no-common-family", {"their_candidates": (THEM6,)}, []),
    (
        "same-nat-no-hairpin",
        {"their_hosts": (US.host,), "ours": STEADY._replace(hairpin=False)},
        ["one address for both", "does not hairpin"],
    ),
    (
        "guessing-off",
        {"ours": VARYING._replace(guesses_not=True)},
        ["here: port guessing is switched off"],
    ),
    ("guessing-off", {"ours": VARYING, "refusal": Refusal.OFF}, ["this node declined"]),
    (
        "guessing-off-peer",
        {"ours": VARYING, "refusal": Refusal.OFF, "refused_by_peer": True},
        ["pi declined"],
    ),
    (
        "guessing-off-peer",
        {"theirs": VARYING._replace(guesses_not=True)},
        ["at pi: port guessing is switched off"],
    ),
    (
        "both-scattered",
        {"ours": VARYING, "theirs": VARYING, "refusal": Refusal.HOPELESS, "refused_by_peer": True},
        ["pi declined the last attempt: hopeless"],
    ),
    (
        "both-scattered",
        {
            "ours": VARYING,
            "theirs": VARYING,
            "our_range": WHOLE,
            "their_range": WHOLE,
            "chance": 0.00005,
            "tries": 1,
        },
        ["draws ports at random, 1024 to 65535", "less than 1 %"],
    ),
    ("both-scattered", {"ours": VARYING, "theirs": VARYING, "tries": 5}, ["5 attempts"]),
    ("guessing", {"ours": VARYING, "theirs": VARYING, "tries": 5, "chance": 0.3}, ["30%"]),
    ("guessing", {"ours": Nature(), "our_range": BLOCK}, ["not known yet"]),
    ("unpredictable", {"ours": VARYING, "refusal": Refusal.UNPREDICTABLE}, ["not to be learned"]),
    ("unpredictable", {"refusal": Refusal.UNPREDICTABLE, "refused_by_peer": True}, ["pi declined"]),
    ("guess-budget", {"ours": VARYING, "refusal": Refusal.BUSY}, ["busy, or out of budget"]),
    (
        "guessing",
        {
            "theirs": VARYING,
            "our_range": EXACT,
            "their_range": BLOCK,
            "chance": 0.99,
            "tries": 4,
        },
        ["4 attempts", "chance of 99%", "draws ports at random, 2048 to 4095"],
    ),
    ("guessing", {"ours": VARYING}, ["here: mapping address-and-port-dependent"]),
    ("one-way", {"heard_from": (THEM,)}, [f"datagrams of pi arrive from {THEM}"]),
    (
        "firewall-ipv6",
        {
            "ours": VARYING._replace(has_ipv6=True),
            "theirs": VARYING._replace(has_ipv6=True),
            "our_candidates": (US, US6),
            "their_candidates": (THEM, THEM6),
            "refusal": Refusal.HOPELESS,
        },
        ["here: has a public IPv6 address", "at pi: has a public IPv6 address"],
    ),
    ("nothing-arrives", {}, [f"the server sees us at {US}", f"it sees pi at {THEM.host}"]),
]


@pytest.mark.parametrize(("code", "changes", "words"), ROWS)
def test_every_code(code: str, changes: dict[str, Any], words: list[str]) -> None:
    found = diagnose(dataclasses.replace(USUAL, **changes))
    assert found is not None
    assert found.code == code
    described = found.describe()
    said = " ".join(described.values())
    for word in words:
        assert word in said
    assert list(described) == ["code", "reason", "evidence", "fix"]
    assert all(described.values())


def test_every_documented_code_has_a_row() -> None:
    documented = set(re.findall(r"^([a-z0-9-]+)  +\S", diagnosis.__doc__ or "", re.MULTILINE))
    assert documented - {"code"} == {code for code, _, _ in ROWS}


def test_direct_is_nothing_to_explain() -> None:
    assert diagnose(dataclasses.replace(USUAL, state="direct")) is None


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        (VARYING, "switch on UPnP, NAT-PMP or PCP in the router here"),
        (VARYING._replace(port_mapping=MappingState.OFF), "without --no-port-mapping"),
        (VARYING._replace(port_mapping=MappingState.DOUBLE_NAT), "bridge mode"),
        (VARYING._replace(routers=2), "bridge mode"),
        (VARYING._replace(routers=2, has_carrier_nat=True), "ask the carrier"),
        (VARYING._replace(port_mapping=MappingState.SEARCHING), "--listen-port"),
    ],
)
def test_the_fix_is_what_this_router_needs(ours: Nature, words: str) -> None:
    found = diagnose(dataclasses.replace(USUAL, ours=ours))
    assert found is not None
    assert words in found.fix


def test_both_ends_say_the_same_from_their_sides() -> None:
    one = dataclasses.replace(USUAL, ours=VARYING, theirs=STEADY)
    other = dataclasses.replace(USUAL, peer="attic", ours=STEADY, theirs=VARYING)
    first, second = diagnose(one), diagnose(other)
    assert first is not None
    assert second is not None
    assert first.code == second.code == "guessing"
    assert "the NAT here gives" in first.reason
    assert "the NAT at attic gives" in second.reason


natures = next(kind for kind in KINDS if kind.name == "nature").any
ranges = st.builds(PortRange, st.sampled_from(PredictionKind), endpoints, words(16))
seconds = st.floats(allow_nan=False, allow_infinity=False, width=32)
endpoint_lists = st.lists(endpoints, max_size=4).map(tuple)


@settings(max_examples=300, deadline=None)
@given(
    st.builds(
        PairFacts,
        peer=st.text(max_size=8),
        state=st.sampled_from(["direct", "relayed", "connecting", "offline"]),
        ours=natures,
        theirs=st.none() | natures,
        is_registered=st.booleans(),
        is_known_online=st.booleans(),
        has_left=st.booleans(),
        has_relay=st.booleans(),
        handshakes=words(8),
        clock_offset=st.none() | seconds,
        our_endpoints=endpoint_lists,
        their_hosts=st.lists(ipv4, max_size=2).map(tuple),
        our_candidates=endpoint_lists,
        their_candidates=endpoint_lists,
        checks=words(16),
        punches=words(8),
        failures=words(8),
        is_punching=st.booleans(),
        next_attempt=st.none() | st.floats(0, 1e6),
        heard_from=endpoint_lists,
        tries=words(8),
        our_range=st.none() | ranges,
        their_range=st.none() | ranges,
        chance=st.none() | st.floats(0, 1),
        refusal=st.none() | st.sampled_from(Refusal),
        refused_by_peer=st.booleans(),
    )
)
def test_any_facts_have_a_reason_and_a_fix(facts: PairFacts) -> None:
    found = diagnose(facts)
    if facts.state == "direct":
        assert found is None
    else:
        assert found is not None
        assert found.code in {code for code, _, _ in ROWS}
        assert all(found.describe().values())
