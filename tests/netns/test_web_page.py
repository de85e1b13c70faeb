"""The server's page in a real browser, fed by a real server with real nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from .browser import Browser, Tab
from .host import Host
from .lab import Lab
from .world import PUNCHTUN, Json, World

pytestmark = pytest.mark.root

LIVE = "document.getElementById('state').textContent === 'live'"
RATED = "document.getElementById('cpu').textContent.endsWith('%')"
ASKED = "!document.getElementById('ask').hidden && document.getElementById('told').hidden"

CONTRASTS = """
(() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const light = text => {
    const [r, g, b] = numbers(text).map(c => c / 255)
      .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor, [, , , alpha] = numbers(colour);
      if (alpha === undefined || alpha > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("body *")]
    .filter(element => element.checkVisibility() && [...element.childNodes]
      .some(node => node.nodeType === 3 && node.textContent.trim()))
    .map(element => {
      const pair = [light(getComputedStyle(element).color), light(behind(element))];
      const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
      return [element.outerHTML.slice(0, 60), contrast];
    });
})()
"""
"""Of each element with text: what it is, and its contrast as WCAG 2.2 reckons it."""


def full(uptime: float, cpu: float, relayed: int) -> Json:
    """The status of a server that has much to do, and strange things to tell."""
    network = {"nodes": 1000, "pairs": 499500, "relayed_pairs": 123456}
    return {
        **dict.fromkeys(("nodes", "networks", "relayed_pairs", "streams", "letters"), 100_000),
        "version": "10.20.30",
        "uptime_s": uptime,
        "cpu_s": cpu,
        "memory_bytes": 987_654_321,
        "channels": 4_950_000,
        "relayed_bytes": relayed,
        "busiest_networks": [
            {"id": f"{number:08x}", "relayed_bytes": relayed // 20} | network
            for number in range(20)
        ],
        "ports": list(range(12345, 12355)),
        "drops": {"a_reason_without_a_space_" * 9: 10**12, "<img src=x onerror=alert(1)>": 7},
        "errors": {"ECONNREFUSED": 3},
    }


FULL = json.dumps(
    [
        full(10_000_000.0, 0.0, 0),
        full(10_000_002.0, 1.0, 200_000_000),
        full(10_000_004.0, 2.5, 700_000_000),
        full(10_000_006.0, 4.498, 950_000_000),
    ]
)


def page_link(host: Host, folder: Path, *arguments: str) -> str:
    argv = [PUNCHTUN, "server", "page", *arguments, "--state-dir", str(folder / "server")]
    return host.run(argv).stdout.strip()


class Site:
    """A server with a page for itself, and a pair."""

    def __init__(self, lab: Lab, folder: Path, web: str) -> None:
        self.world = World(lab, folder)
        self.vps = lab.public_host("vps", "203.0.113.10")
        self.world.start_server("--web", web, host=self.vps)
        self.attic = self.world.found("attic", lab.public_host("a", "198.51.100.7"))
        self.camera = self.world.join("camera", lab.public_host("b", "192.0.2.33"), self.attic)
        self.world.wait_direct(self.attic, self.camera)


@pytest.fixture
def site(lab: Lab, tmp_path: Path) -> Iterator[Site]:
    site = Site(lab, tmp_path, "8080")
    yield site
    site.world.close()


@pytest.fixture
def browser(site: Site, tmp_path: Path) -> Iterator[Browser]:
    with Browser(site.vps.namespace, tmp_path) as browser:
        yield browser


def check_quiet(tab: Tab, *origins: str) -> None:
    """It asked nobody else, and the console has no word of it."""
    assert tab.complaints() == []
    urls = [request["url"] for request in tab.requests()]
    assert len(urls) > 1
    assert [url for url in urls if not url.startswith(("data:", *origins))] == []


def test_the_page_shows_what_goes_on(site: Site, browser: Browser, tmp_path: Path) -> None:
    link = page_link(site.vps, tmp_path)
    assert link == "http://127.0.0.1:8080/"
    tab = browser.open(link)
    tab.wait(f"{LIVE} && {RATED}")
    status = site.world.server_status()
    (network,) = status["busiest_networks"]
    assert tab.text("nodes") == "2"
    assert tab.text("networks") == "1"
    pairs = [int(tab.text(name)) for name in ("relayed_pairs", "other_pairs")]
    assert sum(pairs) == status["channels"] == 1
    cells = tab.evaluate(
        "[...document.querySelectorAll('#networks-told tr > *')].map(cell => cell.textContent)"
    )
    assert cells[:3] == [network["id"], "2", "1"]
    assert cells[4].endswith("B/s")
    assert status["version"] in tab.text("process")
    tab.take_picture(tmp_path / "light.png")

    # It is live.
    assert site.camera.stop() == 0
    tab.wait("document.getElementById('nodes').textContent === '1'")
    assert tab.evaluate("document.getElementById('curve').getAttribute('points')").count(" ") >= 1
    check_quiet(tab, link)

    # The server is gone, and back.
    site.world.server.send_signal(15)
    assert site.world.server.wait() == 0
    tab.wait("document.getElementById('state').textContent.startsWith('no answer since')")
    site.world.start_server("--web", "8080")
    tab.wait(f"{LIVE} && document.getElementById('nodes').textContent === '1'")


@pytest.mark.parametrize("dark", [False, True])
def test_everybody_can_read_it(site: Site, browser: Browser, tmp_path: Path, dark: bool) -> None:
    tab = browser.open("http://127.0.0.1:8080/", dark=dark)
    tab.wait(f"{LIVE} && {RATED}")
    poor = [each for each in tab.evaluate(CONTRASTS) if each[1] < 4.5]
    assert poor == []
    assert len(tab.evaluate(CONTRASTS)) > 30
    tab.evaluate(f"const shown = show; show = () => {{}}; for (const s of {FULL}) shown(s)")
    tab.wait("document.querySelectorAll('#networks-told tr').length === 20")
    assert [each for each in tab.evaluate(CONTRASTS) if each[1] < 4.5] == []
    assert tab.text("relay_rate") == "125 MB/s"
    assert tab.text("cpu") == "99.9 %"
    assert "At most 250 MB/s in the last " in tab.text("peak")
    assert tab.evaluate("document.querySelectorAll('#drops-told img').length") == 0
    for width in (1000, 360, 320):
        tab.resize(width, 800, dark=dark)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        tab.take_picture(tmp_path / f"{width}-{'dark' if dark else 'light'}.png")
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    told = {
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    }
    assert {("heading", "punchtun server"), ("heading", "Networks"), ("main", "")} <= told
    assert ("region", "Now") in told
    assert {("columnheader", "Nodes"), ("columnheader", "Reason")} <= told
    assert {role for role, _ in told} >= {"status", "table", "rowheader", "term", "definition"}
    assert any(role == "image" and name.startswith("Relay traffic.") for role, name in told)
    assert tab.evaluate("document.documentElement.lang") == "en"


def test_nothing_runs_but_the_page_itself(site: Site, browser: Browser) -> None:
    tab = browser.open("http://127.0.0.1:8080/")
    tab.wait(LIVE)
    assert tab.evaluate(
        """(() => {
          const script = document.createElement("script");
          script.textContent = "window.taken = true";
          document.body.append(script);
          document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.taken=true'>");
          return new Promise(done => setTimeout(() => done(window.taken === undefined), 300));
        })()"""
    )
    for elsewhere in ("http://203.0.113.10:8080/", "http://localhost:8080/status.json"):
        assert (
            tab.evaluate(f"fetch('{elsewhere}').then(() => 'sent', () => 'refused')") == "refused"
        )
    assert any("Content Security Policy" in each for each in tab.complaints())


def test_from_elsewhere_with_the_token(lab: Lab, tmp_path: Path) -> None:
    site = Site(lab, tmp_path, "*:8080")
    url = "http://203.0.113.10:8080/"
    link = page_link(site.vps, tmp_path, "--url", url)
    token = json.loads((tmp_path / "server/page.json").read_text())["token"]
    assert link == f"{url}#{token}"
    assert "sent in the clear" in site.world.server.stderr
    with Browser(site.attic.host.namespace, tmp_path) as browser:
        tab = browser.open(url)
        tab.wait(ASKED)
        assert "token is needed" in tab.text("state")
        assert tab.text("nodes") == ""
        tab.take_picture(tmp_path / "asked.png")
        type_in = "document.getElementById('token').value = {!r};"
        submit = "document.querySelector('#ask button').click()"
        tab.evaluate(type_in.format("A" * 22) + submit)
        tab.wait("document.getElementById('state').textContent.includes('not the page')")
        tab.evaluate(type_in.format(link) + submit)
        tab.wait(LIVE)

        # By the link: the token is out of sight at once, and survives a reload of this tab alone.
        tab = browser.open(link)
        tab.wait(f"{LIVE} && document.getElementById('nodes').textContent === '2'")
        assert tab.evaluate("location.href") == url
        tab.call("Page.reload")
        tab.wait(LIVE)
        assert tab.evaluate("location.href") == url
        for request in tab.requests():
            assert token not in request["url"]
            assert "Cookie" not in request["headers"]
        check_quiet(tab, url)
        other = browser.open(url)
        other.wait(ASKED)
    assert token not in site.world.server.stderr
    assert token not in json.dumps(site.world.server_status())
    site.world.close()


def test_behind_a_proxy_the_token_is_needed(site: Site, tmp_path: Path) -> None:
    """Who comes by a proxy on the same machine is not on it."""
    ask = [
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "http://127.0.0.1:8080/status.json",
    ]
    assert site.vps.run(ask).stdout == "200"
    for field in ("X-Forwarded-For: 198.51.100.7", "Host: vps.example.org"):
        assert site.vps.run([*ask, "-H", field]).stdout == "401"
    link = page_link(site.vps, tmp_path, "--url", "https://vps.example.org")
    token = link.partition("#")[2]
    proxied = ["-H", "Host: vps.example.org", "-H", f"Authorization: Bearer {token}"]
    assert site.vps.run([*ask, *proxied]).stdout == "200"


def test_no_page(lab: Lab, world: World) -> None:
    argv = [PUNCHTUN, "server", "page", "--state-dir", str(world.folder / "server")]
    refused = world.vps.run(argv, check=False)
    assert refused.returncode == 1
    assert "no page: start it with --web" in refused.stderr
    assert not (world.folder / "server/page.json").exists()
