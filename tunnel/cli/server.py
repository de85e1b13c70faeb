"""``punchtun server …``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from tunnel.cli.config_file import ServerConfigured
from tunnel.cli.peer_table import format_bytes
from tunnel.errors import NotRunning

state_dir = click.option(
    "--state-dir",
    metavar="DIR",
    envvar="PUNCHTUN_SERVER_STATE_DIR",
    help="Keep everything here. [default: /var/lib/punchtun/server]",
)


@click.group()
def server() -> None:
    """The rendezvous server, for a machine that everyone can reach."""


@server.command(cls=ServerConfigured)
@click.option(
    "--listen",
    metavar="ADDRESS:PORT",
    multiple=True,
    help="Where to listen on UDP, and on the next port too. [default: [::]:12345, IPv4 included]",
)
@click.option(
    "--relay/--no-relay",
    default=True,
    help="Relay sealed frames for pairs without a direct path. [default: yes]",
)
@click.option(
    "--relay-rate",
    metavar="SIZE",
    help="Bytes a second that each network may have relayed, such as 10M. [default: no limit]",
)
@click.option(
    "--relay-quota",
    metavar="SIZE/PERIOD",
    help="Bytes that each network may have relayed in a day or a month, such as 50G/month. "
    "[default: no limit]",
)
@click.option(
    "--relay-pairs",
    metavar="N",
    type=click.IntRange(1, 1_000_000),
    help="Pairs of each network that may be relayed. [default: 50000]",
)
@click.option(
    "--tcp",
    metavar="ADDRESS:PORT",
    multiple=True,
    help="Where to take streams of nodes whose network lets no UDP through, or `none`. "
    "[default: the number of the UDP port, if it is free]",
)
@click.option(
    "--http",
    metavar="ADDRESS:PORT",
    multiple=True,
    help="Where to take them by a WebSocket at /punchtun: itself with --tls-cert, or behind a "
    "web server. [default: nowhere]",
)
@click.option(
    "--web",
    metavar="[ADDRESS:]PORT",
    help="Where to serve a page that shows what goes on; `punchtun server page` prints its link. "
    "[address: 127.0.0.1; default: nowhere]",
)
@click.option("--tls-cert", metavar="FILE", help="Certificate chain for --http and --web, in PEM.")
@click.option("--tls-key", metavar="FILE", help="Its key.")
@click.option(
    "--metrics",
    metavar="[ADDRESS:]PORT",
    help="Where Prometheus finds metrics, at /metrics. [address: 127.0.0.1; default: nowhere]",
)
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", help="[default: text]"
)
@click.option(
    "--config",
    metavar="FILE",
    help="TOML file with these options. [default: /etc/punchtun/server.toml, without --state-dir]",
)
@state_dir
def run(
    listen: tuple[str, ...],
    relay: bool,
    relay_rate: str | None,
    relay_quota: str | None,
    relay_pairs: int | None,
    tcp: tuple[str, ...],
    http: tuple[str, ...],
    tls_cert: str | None,
    tls_key: str | None,
    web: str | None,
    metrics: str | None,
    log_format: str,
    config: str | None,
    state_dir: str | None,
) -> None:
    """Serve until stopped. Says `ready` on stderr when it does."""
    from tunnel.config import (
        RelayOptions,
        read_listen,
        read_tcp_options,
        read_tls_options,
        read_web_listen,
    )
    from tunnel.drivers.log import start_logging
    from tunnel.drivers.places import server_places
    from tunnel.drivers.startup import run_server

    start_logging(as_json=log_format == "json", verbose=False)
    addresses = [read_listen(text) for text in listen]
    run_server(
        addresses,
        relay=RelayOptions.read(relay, relay_rate, relay_quota, relay_pairs),
        places=server_places(state_dir),
        tcp=read_tcp_options(tcp),
        http=[read_listen(text, "--http") for text in http],
        tls=read_tls_options(tls_cert, tls_key, has_http=bool(http or web)),
        web=None if web is None else read_web_listen(web, "--web"),
        metrics=None if metrics is None else read_web_listen(metrics, "--metrics"),
    )


@server.command()
@click.option("--host", required=True, metavar="HOST", help="How nodes reach this machine.")
@click.option(
    "--tcp",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    help="Its TCP port, where that is not the UDP port.",
)
@click.option(
    "--websocket",
    metavar="URL",
    help="Its WebSocket, where that is not wss://HOST/punchtun or ws://HOST/punchtun.",
)
@state_dir
def url(host: str, tcp: int | None, websocket: str | None, state_dir: str | None) -> None:
    """Print the URL for `punchtun up --server`. It holds the access token: keep it to yourself."""
    from tunnel.config import read_host, read_websocket
    from tunnel.drivers.files import StateDirectory
    from tunnel.drivers.places import server_places
    from tunnel.drivers.startup import load_server_state

    host = read_host(host)
    # root may read what a unit's own user wrote; it learns nothing from it but what it prints.
    directory = StateDirectory(server_places(state_dir).state, root_may_use=True)
    state = load_server_state(directory)
    click.echo(state.url(host, tcp, read_websocket(websocket)).text)


@server.command()
@click.option(
    "--url",
    metavar="URL",
    help="By which it is reached, where the server cannot know: from elsewhere, or by a proxy.",
)
@state_dir
def page(url: str | None, state_dir: str | None) -> None:
    """Print the link to the running server's page (--web). From elsewhere it holds the page's
    token: keep it to yourself."""
    from tunnel.config import read_page_url

    answer = _ask(state_dir, "page")
    if url is None and answer["is_loopback"]:
        click.echo(answer["url"])
        return
    click.echo(f"{read_page_url(url, answer['url'])}#{answer['token']}")


@server.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir
def status(as_json: bool, state_dir: str | None) -> None:
    """What the running server is doing."""
    answer = _ask(state_dir, "status")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo(format_status(answer))


def _ask(state_dir: str | None, command: str) -> Any:
    from tunnel.drivers.control import request
    from tunnel.drivers.places import server_places

    places = server_places(state_dir)
    try:
        return next(request(places.control, {"command": command}, timeout=5.0, who="server"))
    except NotRunning as error:
        raise NotRunning(
            f"no server is running on {places.state}: start it with `punchtun server run`"
        ) from error


def format_status(status: dict[str, Any]) -> str:
    shown = dict(status)
    shown["uptime_s"] = format_seconds(status["uptime_s"])
    shown["cpu_s"] = f"{status['cpu_s']:.1f} s"
    for key in ("memory_bytes", "relayed_bytes"):
        shown[key] = None if status[key] is None else format_bytes(status[key])
    lines = [
        f"{_words(key):20} {value}"
        for key, value in shown.items()
        if not isinstance(value, (dict, list))
    ]
    lines.append(f"{'ports':20} {', '.join(map(str, status['ports']))}")
    if status["busiest_networks"]:
        columns = ("id", "nodes", "pairs", "relayed_pairs", "relayed_bytes")
        rows = [tuple(_words(column).upper() for column in columns)]
        for each in status["busiest_networks"]:
            size = format_bytes(each["relayed_bytes"])
            rows.append((*(str(each[column]) for column in columns[:-1]), size))
        lines += ["", format_table(rows), ""]
    for what in ("drops", "errors"):
        for reason, count in sorted(status[what].items()):
            lines.append(f"{what.removesuffix('s')}: {reason:40} {count}")
    return "\n".join(lines)


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Columns below each other."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def format_seconds(seconds: float) -> str:
    minutes, hours, days = (int(seconds // each) for each in (60, 3600, 86400))
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _words(key: str) -> str:
    for unit in ("_s", "_bytes"):
        key = key.removesuffix(unit)
    return key.replace("_", " ")
