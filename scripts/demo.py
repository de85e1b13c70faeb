"""punchtun at work, in a small internet of network namespaces on this machine.

A server, a node behind a home router, a node behind an LTE router behind a carrier's NAT: they are
introduced, talk directly, and go on talking when NATs forget their mappings and the server dies.
All programs are the real ones; the NATs are the kernel's. Run it with ``scripts/demo``.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Until there is something to clean up, Ctrl-C just ends it.
signal.signal(signal.SIGINT, signal.SIG_DFL)

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.netns.host import Host  # noqa: E402
from tests.netns.lab import Lab, LabError, LabUnavailable  # noqa: E402
from tests.netns.process import Process  # noqa: E402
from tests.netns.traffic import PingStream  # noqa: E402

PUNCHTUN = str(Path(sys.executable).with_name("punchtun"))
SERVER_ADDRESS = "203.0.113.10"
PING_INTERVAL = 0.01
WIDTH = 100

TOPOLOGY = """
                      vps  203.0.113.10
                       |   the rendezvous server, which anyone can reach
  =====================+===================== internet =======================
       |                                             |
  198.51.100.7                                  192.0.2.33
  [ home router: NAT ]                          [ the carrier's NAT ]
  192.168.1.1                                   100.64.0.1
       |                                             |
  192.168.1.2                                   100.64.0.2
  alpha                                         [ LTE router: NAT again ]
                                                192.168.8.1
                                                     |
                                                192.168.8.2
                                                pi
"""


class Failure(Exception):
    """A step did not show what it is meant to show."""


class Screen:
    """What the person sees: narration, commands, their output. Colours only on a terminal."""

    def __init__(self) -> None:
        self._is_colourful = sys.stdout.isatty()
        self._began = time.monotonic()
        self._step = 0

    def heading(self, text: str) -> None:
        self._step += 1
        at = f"{time.monotonic() - self._began:.1f} s"
        print()
        print(self._styled("1;36", f"{self._step}. {text}") + self._styled("2", f"   [{at}]"))

    def say(self, text: str) -> None:
        print(f"   {text}", flush=True)

    def good(self, text: str) -> None:
        print(f"   {self._styled('1;32', '✓')} {text}", flush=True)

    def bad(self, text: str) -> None:
        print(f"   {self._styled('1;31', '✗')} {text}", flush=True)

    def command(self, machine: str, words: Sequence[str]) -> None:
        shown = " ".join(_shortened(word) for word in words)
        print(f"   {self._styled('1', f'{machine}#')} {shown}", flush=True)

    def output(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            shown = " ".join(_shortened(word) for word in line.split(" "))
            print(self._styled("2", f"      {shown[:WIDTH]}"), flush=True)

    def plain(self, text: str) -> None:
        print(text, flush=True)

    def _styled(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._is_colourful else text


class Node:
    """A machine of the lab with punchtun on it, its state in a directory of its own."""

    def __init__(self, host: Host, state: Path, screen: Screen) -> None:
        self.host = host
        self.name = host.name
        self.process: Process | None = None
        self._state = state / host.name
        self._screen = screen

    def start(self, words: Sequence[str], *, until: str) -> None:
        """Run punchtun in the background until it has said `until`."""
        self._screen.command(self.name, ["punchtun", *words, "&"])
        self.process = self.host.popen([PUNCHTUN, *words, "--state-dir", str(self._state)])
        self.process.wait_for(until, timeout=15)
        told = [line for line in self.process.stderr.splitlines() if line.startswith("punchtun: ")]
        self._screen.output("\n".join(told) or self.process.stderr)

    def run(self, words: Sequence[str], *, quietly: bool = False, timeout: float = 30) -> str:
        """What punchtun prints on stdout."""
        if not quietly:
            self._screen.command(self.name, ["punchtun", *words])
        argv = [PUNCHTUN, *words, "--state-dir", str(self._state)]
        done = self.host.run(argv, check=False, timeout=timeout)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip()
            raise Failure(f"`punchtun {words[0]}` ended with {done.returncode}: {said}")
        if not quietly:
            self._screen.output(done.stdout)
        return done.stdout

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.run(["status", "--json"], quietly=True))
        return answer

    def events(self, since: float = 0.0) -> list[dict[str, Any]]:
        """What happened after the wall-clock time `since`."""
        lines = self.run(["events", "--json"], quietly=True).splitlines()
        return [entry for entry in map(json.loads, lines) if entry["time"] >= since]


class Pings:
    """A ping every 10 ms; afterwards, how many replies were lost and the longest time without."""

    def __init__(self, host: Host, address: str, seconds: float) -> None:
        self._sent = round(seconds / PING_INTERVAL)
        self._address = address
        self._stream = PingStream(host, address, interval=PING_INTERVAL, count=self._sent)

    def finish(self) -> str:
        """In words. Raises Failure if in the end there are no replies any more."""
        result = self._stream.result()
        if not set(range(self._sent - 20, self._sent + 1)) - set(result.lost):
            raise Failure(f"the replies from {self._address} ceased")
        lost = f"{len(result.lost)} lost" if result.lost else "none lost"
        return (
            f"{result.sent} pings, one every 10 ms: {lost}, longest time without a reply "
            f"{result.longest_gap * 1000:.0f} ms"
        )


class Demo:
    def __init__(self, lab: Lab, state: Path, screen: Screen) -> None:
        self._lab = lab
        self._state = state
        self._screen = screen

    def run(self) -> None:
        self.build()
        self.start_server()
        self.join()
        self.look()
        self.prove_direct()
        self.flush()
        self.reboot()
        self.kill_server()
        self.stop()

    def build(self) -> None:
        screen, lab = self._screen, self._lab
        screen.heading("A small internet")
        self.vps = lab.public_host("vps", SERVER_ADDRESS)
        home = lab.home_router("home", public="198.51.100.7", lan="192.168.1.0/24")
        self.carrier = lab.carrier("carrier", public="192.0.2.33", inside="100.64.0.0/16")
        self.lte = self.carrier.home_router("lte", lan="192.168.8.0/24")
        self.alpha = Node(home.host("alpha"), self._state, screen)
        self.pi = Node(self.lte.host("pi"), self._state, screen)
        screen.plain(TOPOLOGY)
        with contextlib.suppress(LabUnavailable):
            # Kernels without sch_netem: everything is then as near as the next process.
            home.shape(delay_ms=4)
            self.carrier.shape(delay_ms=6)
            self.lte.shape(delay_ms=15)
            screen.say("The links have delays: 4 ms at home, 6 ms the carrier, 15 ms the radio.")
        reached = self.alpha.host.run(["ping", "-c1", "-W1", "192.168.8.2"], check=False)
        if reached.returncode == 0:
            raise Failure("alpha reaches pi without punchtun: the lab is wrong")
        screen.good("neither alpha nor pi can be reached from outside, by anyone")

    def start_server(self) -> None:
        self._screen.heading("The rendezvous server, on any machine with a public address")
        self.server = Node(self.vps, self._state, self._screen)
        self.server.start(["server", "run"], until="ready")
        words = ["server", "url", "--host", SERVER_ADDRESS]
        self.url = self.server.run(words).strip()

    def join(self) -> None:
        screen = self._screen
        screen.heading("alpha creates a network and invites pi; pi joins")
        self.alpha.start(["up", "--server", self.url, "--name", "alpha"], until="alpha is")
        self.alpha.run(["wait", "--timeout", "15"], quietly=True)
        join = self.alpha.run(["invite", "pi"]).strip()
        began = time.time()
        self.pi.start(["up", join], until="pi is")
        self.alpha.run(["wait", "--peer", "pi", "--direct", "--timeout", "15"])
        introduced, direct = self._introduction(began)
        screen.good(
            f"introduced {introduced - began:.2f} s after pi's command, "
            f"direct {(direct - introduced) * 1000:.0f} ms after that:"
        )
        for entry in self.alpha.events(began):
            if entry["event"] in ("peer_introduced", "session_established", "path_changed"):
                screen.output(_told(entry, began))

    def look(self) -> None:
        screen = self._screen
        screen.heading("pi has a tunnel IP, and answers there")
        peer = self._peer()
        self.address = peer["addresses"][0]
        words = ["ping", "-n", "-c", "3", "-i", "0.2", self.address]
        screen.command("alpha", words)
        pinged = self.alpha.host.run(words, check=False)
        screen.output("\n".join(line for line in pinged.stdout.splitlines() if "time=" in line))
        if "3 received" not in pinged.stdout:
            raise Failure(f"only some pings were answered:\n{pinged.stdout}")
        self.alpha.run(["ping", "pi", "-c", "2"])
        self.alpha.run(["status"])

    def prove_direct(self) -> None:
        screen = self._screen
        screen.heading("Does the server really carry none of it? Its network card knows")
        server_before = self.vps.interface_counters()
        peer_before = self._peer()
        words = ["ping", "-q", "-s", "1000", "-i", "0.01", "-c", "200", self.address]
        screen.command("alpha", words)
        self.alpha.host.run(words)
        server_after = self.vps.interface_counters()
        peer_after = self._peer()
        through_tunnel = sum(peer_after[key] - peer_before[key] for key in ("tx_bytes", "rx_bytes"))
        at_server = server_after.rx_bytes - server_before.rx_bytes
        at_server += server_after.tx_bytes - server_before.tx_bytes
        screen.say(f"through the tunnel, both ways: {through_tunnel:>9,} bytes of packets")
        screen.say(f"past the server's interface:   {at_server:>9,} bytes of anything")
        if at_server > through_tunnel / 10:
            raise Failure("the server carried traffic that was said to be direct")
        screen.good("the traffic is direct; to the server go only signs of life")

    def flush(self) -> None:
        screen = self._screen
        screen.heading("Both NATs in front of pi forget everything, under traffic")
        since = time.time()
        pings = Pings(self.alpha.host, self.address, 4.0)
        time.sleep(1.5)
        for router in (self.lte, self.carrier):
            screen.command(router.name, ["conntrack", "-F"])
            router.flush_mappings()
        self._tell_repair(pings.finish(), since)

    def reboot(self) -> None:
        screen = self._screen
        screen.heading("Worse: the carrier's NAT restarts, and gives pi another port")
        since = time.time()
        pings = Pings(self.alpha.host, self.address, 4.0)
        time.sleep(1.5)
        self.carrier.reboot()
        self._tell_repair(pings.finish(), since)

    def kill_server(self) -> None:
        screen = self._screen
        screen.heading("The server dies")
        assert self.server.process
        pings = Pings(self.alpha.host, self.address, 3.0)
        time.sleep(1.0)
        screen.command("vps", ["kill", "-9", str(self.server.process.pid)])
        self.server.process.send_signal(signal.SIGKILL)
        self.server.process.wait(5)
        screen.good(pings.finish())
        screen.say("Proven paths need no server; only finding new ones does.")

    def stop(self) -> None:
        screen = self._screen
        screen.heading("Good-bye")
        for node in (self.pi, self.alpha):
            node.run(["down"])
            assert node.process
            code = node.process.wait(10)
            links = node.host.run(["ip", "-br", "link"]).stdout
            if code != 0 or "punchtun" in links:
                raise Failure(f"{node.name} ended with {code} and left these interfaces:\n{links}")
        screen.good("both nodes have stopped, their interfaces and routes are gone")

    # Inside

    def _introduction(self, since: float) -> tuple[float, float]:
        """When alpha heard of pi, and when the path became direct."""
        introduced = direct = None
        for entry in self.alpha.events(since):
            if entry["event"] == "peer_introduced":
                introduced = entry["time"]
            elif entry["event"] == "path_changed" and "relay" not in entry["after"]:
                direct = direct or entry["time"]
        if introduced is None or direct is None:
            raise Failure("there is no event that tells when the path became direct")
        return introduced, direct

    def _tell_repair(self, pings: str, since: float) -> None:
        screen = self._screen
        screen.good(pings)
        self.alpha.run(["wait", "--peer", "pi", "--direct", "--timeout", "10"], quietly=True)
        repairs = [
            entry for entry in self.alpha.events(since) if entry["event"].startswith("path_")
        ]
        if repairs:
            screen.say("alpha's record of it (punchtun events), in seconds since this step began:")
            for entry in repairs:
                screen.output(_told(entry, since))
        else:
            screen.say(
                "No event, no repair: pi's next echo (one every 100 ms under traffic) opened"
            )
            screen.say("the same mapping again before alpha had reason to doubt the path.")
        screen.good("direct again" if repairs else "still direct")

    def _peer(self) -> dict[str, Any]:
        for peer in self.alpha.status()["peers"]:
            if peer["name"] == "pi":
                return dict(peer)
        raise Failure("alpha's status does not show pi")


def _told(entry: dict[str, Any], since: float) -> str:
    """An event in a line that fits."""
    words = entry["event"].replace("_", " ")
    if entry["event"] == "path_changed":
        words += f" to {entry['after']} ({entry['cause']})"
    elif entry["event"] == "path_repaired":
        words += f" after {entry['seconds'] * 1000:.0f} ms: {entry['after']}"
    elif entry["event"] == "path_doubted":
        words += ": from now on direct and relayed"
    return f"{entry['time'] - since:6.3f} s  {words}"


def _shortened(word: str) -> str:
    """Join strings and URLs are longer than lines."""
    if not word.startswith("punchtun") or len(word) < 60:
        return word
    return f"{word[:44]}…{word[-4:]}"


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Signals that end a program end this one by an exception, so that it cleans up."""

    def leave(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    # A shell starts background jobs with SIGINT ignored: undo that.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def main() -> int:
    screen = Screen()
    state = Path(tempfile.mkdtemp(prefix="punchtun-demo-"))
    failure: BaseException | None = None
    lab = Lab()
    try:
        with _interruptible(), lab:
            try:
                Demo(lab, state, screen).run()
            except BaseException as error:
                failure = error
                raise
    except KeyboardInterrupt:
        screen.plain("\ninterrupted")
    except (Failure, LabError, TimeoutError, EOFError, OSError) as error:
        screen.plain("")
        # Those of a process repeat what the transcript says.
        is_brief = isinstance(error, (TimeoutError, EOFError))
        screen.bad(str(error).partition("\n")[0] if is_brief else str(error))
        if not isinstance(error, LabUnavailable):
            screen.plain("\nWhat the programs wrote last:\n")
            screen.plain(lab.transcript())
    finally:
        shutil.rmtree(state, ignore_errors=True)
    print()
    print("All namespaces, processes and files of this demo are gone.")
    if isinstance(failure, KeyboardInterrupt):
        return 130
    return 0 if failure is None else 1


if __name__ == "__main__":
    sys.exit(main())
