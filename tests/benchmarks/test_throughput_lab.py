"""The parts of `benchmarks.throughput` that need namespaces."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.throughput import flood
from benchmarks.throughput.contender import Plain
from benchmarks.throughput.contest import Contest
from benchmarks.throughput.measures import Setting, warm_up
from benchmarks.throughput.roster import Entry, muster
from benchmarks.throughput.site import LINKS, Site
from tests.netns.host import Host
from tests.netns.lab import Lab
from tests.netns.namespace import NAMESPACES
from tests.netns.wait import wait_until

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
PORT = 7117


def names(prefix: str) -> list[str]:
    return [entry.name for entry in NAMESPACES.iterdir() if entry.name.startswith(prefix)]


@pytest.mark.parametrize("link", LINKS)
def test_only_the_plain_veth_carries_frames_above_the_mtu(link: str, tmp_path: Path) -> None:
    with Lab() as lab:
        site, plain = Site(lab, 0), Plain()
        site.start(plain, tmp_path)
        site.set_link(link)
        assert warm_up(Setting(site, plain, 1.0)) == (link == "veth")


def test_every_datagram_of_a_flood_is_counted_once(tmp_path: Path) -> None:
    with Lab() as lab:
        site = Site(lab, 0)
        site.start(Plain(), tmp_path)
        program = [sys.executable, "-I", str(flood.__file__)]
        receiver = site.right.popen([*program, "receive", site.right.ip4, str(PORT)])
        receiver.wait_for("ready")
        flows = [site.left.ip4, site.right.ip4, str(PORT)]
        # Fewer than the receiver's buffer holds: none is lost however busy the machine is.
        sent = site.left.run([*program, "send", *flows, "--seconds", "0.2", "--rate", "5000"])
        # The first of them once more.
        with site.left.udp_socket() as again:
            again.sendto(bytes(flood.SIZE), (site.right.ip4, PORT))
        count = json.loads(sent.stdout)["sent"]
        assert 0 < count <= 1000 + flood.BATCH
        site.left.run(["ping", "-c", "1", site.right.ip4])  # What was sent before has arrived.
        receiver.send_signal(signal.SIGTERM)
        assert receiver.wait() == 0, receiver.tail()
        assert json.loads(receiver.stdout.splitlines()[-1]) == {
            "datagrams": count + 1,
            "distinct": count,
        }


def test_what_strays_from_the_cable_is_no_contender(tmp_path: Path) -> None:
    """A tunnel that goes another way is refused."""

    class Relayed(Plain):
        def start(self, vps: Host, left: Host, right: Host, folder: Path) -> tuple[str, str]:
            for host, other in ((left, right), (right, left)):
                host.run(["ip", "route", "del", f"{other.ip4}/32"])
            return super().start(vps, left, right, folder)

    with Lab() as lab, pytest.raises(RuntimeError, match=r": \d crossed the cable"):
        Site(lab, 0).start(Relayed(), tmp_path)


def test_one_that_can_not_be_started_does_not_stop_the_others(tmp_path: Path) -> None:
    plain = muster([])["plain"]
    broken = Entry("punchtun", muster([])["punchtun"].kind, {"punchtun": "/bin/false"})
    with Contest([broken, plain], tmp_path, 0.2) as contest:
        assert list(contest.unavailable) == ["punchtun"]
        (result,) = contest.play(["veth"], ["small"], 1)
    assert result.contender == "plain"
    assert result.figures["delivered_per_second"] > 0
    assert names(f"pt{os.getpid()}-") == []


def test_all_contenders_take_turns(tmp_path: Path) -> None:
    plain = muster([])["plain"]
    entries = [Entry(name, plain.kind, {}) for name in ("plain", "plain-too")]
    with Contest(entries, tmp_path, 0.2) as contest:
        played = [(r.repetition, r.contender) for r in contest.play(["nic"], ["small"], 2)]
    assert played == [(0, "plain"), (0, "plain-too"), (1, "plain-too"), (1, "plain")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_shows_what_it_has_and_leaves_nothing(
    number: int, tmp_path: Path
) -> None:
    argv = [sys.executable, "-m", "benchmarks.throughput", "--contender", "plain", "--seconds", "1"]
    errors = tmp_path / "errors"
    with errors.open("wb") as stderr:
        running = subprocess.Popen(
            [*argv, "--measure", "small", "--repetitions", "100", "--json", f"{tmp_path}/json"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
    try:
        wait_until(lambda: "1/100" in errors.read_text(), timeout=60, what="the first result")
        running.send_signal(number)
        out, _ = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 1
    assert b"link veth" in out
    assert json.loads((tmp_path / "json").read_text())["results"]
    assert names(f"pt{running.pid}-") == []
    assert not list(tmp_path.glob("throughput-*"))
