"""How long until two machines behind NAT reach each other, and what a forgotten mapping costs.

    sudo .venv/bin/python -m benchmarks.first_light [REPETITIONS]

A home router on one side, a home router behind a carrier-grade NAT on the other, real nftables
NATs, a server on the public internet, links without delay. Prints one line a repetition and the
medians: seconds from `punchtun up` to the first answered ping and to a direct path; then, under a
ping every 10 ms, replies lost and the longest gap after the mappings of one NAT are flushed.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from tests.netns.lab import Host, Lab, Router

PUNCHTUN = str(Path(sys.executable).with_name("punchtun"))
INTERVAL = 0.01
PINGS = 600


def measure(directory: Path) -> dict[str, float]:
    with Lab() as lab:
        lab.internet()
        vps = lab.public_host("vps", "203.0.113.10")
        home = lab.home_router("home", public="198.51.100.7")
        carrier = lab.carrier("carrier", public="192.0.2.33")
        lte = carrier.home_router("lte", lan="192.168.8.0/24")
        alpha, pi = home.host("alpha"), lte.host("pi")

        def punchtun(host: Host, *arguments: str, state: str) -> str:
            command = [PUNCHTUN, *arguments, "--state-dir", str(directory / state)]
            return str(host.run(command, check=False).stdout).strip()

        server = vps.popen([PUNCHTUN, "server", "run", "--state-dir", str(directory / "vps")])
        server.wait_for("ready", timeout=10)
        url = punchtun(vps, "server", "url", "--host", "203.0.113.10", state="vps")
        alpha_state = ["--state-dir", str(directory / "alpha")]
        first = alpha.popen([PUNCHTUN, "up", "--server", url, "--name", "alpha", *alpha_state])
        first.wait_for("alpha is", timeout=10)
        punchtun(alpha, "wait", state="alpha")
        join = punchtun(alpha, "invite", "pi", state="alpha")
        pi_state = ["--state-dir", str(directory / "pi")]
        joining = pi.popen([PUNCHTUN, "up", join, *pi_state])
        joining.wait_for("pi is", timeout=10)
        punchtun(pi, "wait", "--peer", "alpha", state="pi")
        joining.stop()

        # A member starts: what everyone sees after a reboot.
        address = json.loads(punchtun(alpha, "status", "--json", state="alpha"))
        target = address["node"]["addresses"][0]
        began, began_at = time.monotonic(), time.time()
        up = pi.popen([PUNCHTUN, "up", *pi_state])
        up.wait_for("pi is", timeout=10)
        interface = time.monotonic() - began
        while pi.run(["ping", "-c", "1", "-W", "0.2", target], check=False).returncode:
            time.sleep(0.005)
        first_reply = time.monotonic() - began
        punchtun(pi, "wait", "--peer", "alpha", "--direct", "--timeout", "20", state="pi")
        history = punchtun(pi, "events", "--json", state="pi").splitlines()
        events = [json.loads(line) for line in history]
        direct = next(e["time"] for e in events if e["event"] == "path_changed")
        result = {
            "up_to_interface_s": interface,
            "up_to_first_reply_s": first_reply,
            "up_to_direct_s": direct - began_at,
        }
        for name, nat in (("home", home), ("lte", lte), ("carrier", carrier)):
            lost, gap = flush_under_ping(alpha, nat, pi, target, directory)
            result[f"flush_{name}_lost"] = lost
            result[f"flush_{name}_gap_s"] = gap
        return result


def flush_under_ping(
    alpha: Host, nat: Router, pi: Host, target: str, directory: Path
) -> tuple[float, float]:
    """Replies lost, and the longest time between two, around `nat.flush_mappings()`."""
    command = ["ping", "-D", "-i", str(INTERVAL), "-c", str(PINGS), "-W", "1", target]
    ping = pi.popen(command)
    time.sleep(PINGS * INTERVAL / 2)
    nat.flush_mappings()
    ping.wait(PINGS * INTERVAL + 10)
    times = [float(match) for match in re.findall(r"^\[([\d.]+)\].*icmp_seq", ping.stdout, re.M)]
    gap = max(later - earlier for earlier, later in pairwise(times))
    return PINGS - len(times), gap


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    results = []
    for number in range(repetitions):
        with tempfile.TemporaryDirectory() as directory:
            result = measure(Path(directory))
        results.append(result)
        shown = "  ".join(f"{key}={value:.3f}" for key, value in result.items())
        print(f"{number + 1:3}  {shown}", flush=True)
    print()
    for key in results[0]:
        values = [result[key] for result in results]
        print(f"{key:24} median {statistics.median(values):8.3f}   worst {max(values):8.3f}")


if __name__ == "__main__":
    main()
