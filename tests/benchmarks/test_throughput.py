"""The parts of `benchmarks.throughput` that measure nothing: reading, searching, showing."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.throughput import costs, figures, readings, roster
from benchmarks.throughput.contest import Result
from benchmarks.throughput.plot import draw
from benchmarks.throughput.search import FIRST, HIGHEST, LOWEST, PRECISION, Trial, highest_rate
from benchmarks.throughput.table import show

# What tools print


def test_iperf_reports_what_was_received() -> None:
    end = {
        "sum_sent": {"bytes": 1100, "bits_per_second": 8800.0},
        "sum_received": {"bytes": 1000, "bits_per_second": 8000.0},
    }
    assert readings.parse_iperf(json.dumps({"end": end})) == (1000, 8000.0)


def test_both_directions_of_iperf_are_added() -> None:
    end = {
        "sum_received": {"bytes": 1000, "bits_per_second": 8000.0},
        "sum_received_bidir_reverse": {"bytes": 500, "bits_per_second": 4000.0},
    }
    assert readings.parse_iperf(json.dumps({"end": end})) == (1500, 12000.0)


def test_an_error_of_iperf_is_passed_on() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        readings.parse_iperf('{"end": {}, "error": "unable to connect to server"}')


def test_no_answer_of_iperf_is_an_error() -> None:
    with pytest.raises(ValueError):  # noqa: PT011, the words are those of json
        readings.parse_iperf("")


PING = """\
PING 10.99.0.3 (10.99.0.3) 56(84) bytes of data.
64 bytes from 10.99.0.3: icmp_seq=1 ttl=64 time=0.250 ms
64 bytes from 10.99.0.3: icmp_seq=2 ttl=64 time=1.50 ms
64 bytes from 10.99.0.3: icmp_seq=4 ttl=64 time=10 ms

--- 10.99.0.3 ping statistics ---
4 packets transmitted, 3 received, 25% packet loss, time 15ms
rtt min/avg/max/mdev = 0.250/3.916/10.000/4.345 ms
"""


def test_ping_times_are_seconds() -> None:
    found = readings.parse_ping(PING)
    assert found.sent == 4
    assert found.times == pytest.approx([0.00025, 0.0015, 0.010])


def test_pings_without_answer_are_an_error() -> None:
    with pytest.raises(ValueError, match="no ping"):
        readings.parse_ping("2 packets transmitted, 0 received, 100% packet loss, time 5ms")


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (1, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)]
)
def test_percentile_is_the_nearest_rank(percent: float, expected: int) -> None:
    assert readings.percentile(range(100, 0, -1), percent) == expected


# What /proc says


def test_a_process_may_be_named_anything() -> None:
    line = "4 (a) b) R 3 " + " ".join(map(str, range(5, 53)))
    # Fields 14 to 17 of proc(5): utime, stime, cutime, cstime.
    assert costs.parse_stat(line) == (3, 14 + 15 + 16 + 17)


def test_own_ticks_grow_only() -> None:
    before = costs.read_all_stats()[os.getpid()]
    assert before.parent == os.getppid()
    sum(range(1_000_000))
    assert costs.read_all_stats()[os.getpid()].ticks >= before.ticks


def test_waiting_and_stolen_time_is_not_busy() -> None:
    assert costs.parse_busy("cpu  1 2 4 1000 1000 8 16 1000 1000 1000\ncpu0 9 9 9 9\n") == 31


def test_peak_memory_is_in_bytes() -> None:
    assert costs.parse_peak("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n") == 2048 * 1024
    assert costs.parse_peak("Name:\tkthread\n") == 0
    assert costs.peak_memory(os.getpid()) > 1 << 20


def test_a_family_is_all_descendants() -> None:
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 20: 1, 21: 20}
    assert costs.family([10, 21], parents) == {10, 11, 12, 21}


# The search


@given(capacity=st.floats(LOWEST * 1.1, HIGHEST))
def test_the_search_ends_near_the_capacity(capacity: float) -> None:
    """Of a tunnel that carries just so much, and drops the rest."""
    attempts = []

    def attempt(rate: float) -> Trial:
        attempts.append(rate)
        return Trial(rate, rate, min(rate, capacity))

    found = highest_rate(attempt)
    assert found.passes
    # What is offered may exceed what arrives by the loss that is allowed.
    assert capacity / PRECISION / 1.001 <= found.offered <= capacity / 0.99
    assert len(attempts) < 40


@given(limit=st.floats(FIRST, HIGHEST / 2))
def test_a_sender_at_its_end_ends_the_search(limit: float) -> None:
    found = highest_rate(lambda rate: Trial(rate, min(rate, limit), min(rate, limit)))
    assert found.offered == pytest.approx(limit, rel=0.06)


def test_one_hiccup_is_not_the_tunnels() -> None:
    failures = iter([True])

    def attempt(rate: float) -> Trial:
        delivered = 0.0 if next(failures, False) else min(rate, 100_000.0)
        return Trial(rate, rate, delivered)

    assert highest_rate(attempt).offered == pytest.approx(100_000, rel=0.06)


def test_nothing_comes_of_a_tunnel_that_loses_at_any_rate() -> None:
    found = highest_rate(lambda rate: Trial(rate, rate, rate / 2))
    assert found.delivered == 0.0
    assert found.wanted <= LOWEST


# Who takes part


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A nebula that can't do anything."""
    for name in ("nebula", "nebula-cert"):
        file = tmp_path / name
        file.write_text("#!/bin/sh\necho Version: 9.9\n")
        file.chmod(0o755)
    return tmp_path / "nebula"


def test_a_kind_may_have_several_builds(program: Path) -> None:
    entries = roster.muster([f"nebula-next={program}"])
    entry = entries["nebula-next"]
    assert entry.missing == ""
    assert entry.version == "Version: 9.9"
    assert entry.files == {"nebula": str(program), "nebula-cert": f"{program}-cert"}
    # Builds of a kind stand together.
    names = list(entries)
    assert abs(names.index("nebula") - names.index("nebula-next")) == 1
    assert names[0] == figures.CEILING


def test_what_is_not_found_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    entries = roster.muster([])
    assert entries["nebula"].missing == "nebula, nebula-cert not found"
    assert entries["plain"].missing == ""


@pytest.mark.parametrize("argument", ["nebula=/nowhere/nebula", "nebula", "vpn=/bin/sh"])
def test_a_program_that_is_none_is_refused(argument: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011, each has words of its own
        roster.muster([argument])


def test_arguments_may_follow_the_program() -> None:
    entry = roster.muster(['punchtun-x=/bin/sh --mtu "13 00"'])["punchtun-x"]
    assert entry.extra == ("--mtu", "13 00")
    assert entry.files == {"punchtun": "/bin/sh"}


def test_an_option_that_the_program_lacks_makes_it_missing() -> None:
    entry = roster.muster(["punchtun=/bin/true"])["punchtun-chacha"]
    assert "--no-aegis" in entry.missing


# What is shown


def result(contender: str, gigabits: float, repetition: int = 0, link: str = "veth") -> Result:
    taken = {"bits_per_second": gigabits * 1e9, "memory": 2**20 * (repetition + 1)}
    return Result(contender, link, "bulk-1", repetition, taken)


RESULTS = [
    *(result("plain", 30.0, n) for n in range(3)),
    *(result("punchtun", value, n) for n, value in enumerate((6.0, 100.0, 4.0))),
    *(result("punchtun-chacha", 2.0, n) for n in range(3)),
    *(result("nebula", value, n) for n, value in enumerate((3.0, 4.0, 1.0))),
    *(result("tinc", 0.5, n) for n in range(3)),
]


def test_the_typical_value_is_the_median_and_of_memory_the_most() -> None:
    speed, memory = figures.measured(RESULTS)
    assert figures.typical(RESULTS, "punchtun", "veth", speed) == pytest.approx(6.0)
    assert figures.typical(RESULTS, "punchtun", "veth", memory) == pytest.approx(3.0)
    assert figures.typical(RESULTS, "punchtun", "nic", speed) is None


def test_neither_the_cable_nor_punchtun_is_a_rival() -> None:
    assert figures.fastest_rival(RESULTS, "veth") == "nebula"
    assert figures.fastest_rival([result("plain", 1.0), result("punchtun", 1.0)], "veth") is None


def test_of_delays_the_smallest_is_the_best() -> None:
    slow = Result("tinc", "veth", "rtt", 0, {"p50": 2e-3})
    quick = Result("n2n", "veth", "rtt", 0, {"p50": 1e-3})
    assert figures.fastest_rival([slow, quick], "veth") == "n2n"


@pytest.mark.parametrize(
    ("value", "against", "expected"), [(3.0, 2.0, 1.5), (None, 2.0, None), (3.0, 0.0, None)]
)
def test_a_ratio_needs_something_to_compare_with(
    value: float | None, against: float | None, expected: float | None
) -> None:
    assert figures.ratio(value, against) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0"), (1234.6, "1235"), (12.345, "12.3"), (0.012345, "0.0123")],
)
def test_three_digits_are_shown(value: float | None, text: str) -> None:
    assert figures.digits(value) == text


def test_the_table_has_medians_then_ratios() -> None:
    lines = [line.split() for line in show(RESULTS, None).splitlines()]
    assert lines[1] == ["1", "flow", "memory"]
    assert ["punchtun", "6", "3"] in lines
    at = lines.index(["in", "those", "of", "nebula:"])
    assert lines[at + 1] == ["plain", "10", "1"]
    assert lines[at + 2] == ["punchtun", "2", "1"]
    assert ["in", "those", "of", "tinc:"] in [
        line.split() for line in show(RESULTS, "tinc").splitlines()
    ]


def test_each_link_has_a_block_and_failures_are_told() -> None:
    failed = Result("tinc", "nic", "small", 0, {}, "died\nof old age")
    text = show([*RESULTS, result("tinc", 1.0, link="nic"), failed], None)
    assert text.startswith("link veth")
    assert "\n\nlink nic" in text
    assert "failed: small of tinc: died of old age" in text


def test_results_survive_being_written() -> None:
    one = RESULTS[0]
    assert Result(**json.loads(json.dumps(one.as_json()))) == one


def test_the_picture_is_svg_with_bars_to_scale() -> None:
    root = ElementTree.fromstring(draw(RESULTS))
    bars = [one for one in root.iter() if one.tag.endswith("rect")]
    widths = [float(one.get("width", "")) for one in bars if float(one.get("x", 0)) >= 150]
    panel = dict(zip(("plain", "punchtun", "chacha", "nebula", "tinc"), widths[-10:], strict=False))
    # The scale is that of the tunnels; the cable is cut off.
    assert panel["plain"] == panel["punchtun"]
    assert math.isclose(panel["nebula"] / panel["punchtun"], 3 / 6, rel_tol=0.01)


def test_a_picture_of_nothing_is_empty() -> None:
    root = ElementTree.fromstring(draw([]))
    assert root.tag.endswith("svg")
