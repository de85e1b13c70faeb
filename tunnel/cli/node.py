"""``punchtun up``, ``down``, ``invite``, ``revoke``."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import click

from tunnel.cli.completion import complete_peers
from tunnel.cli.config_file import NodeConfigured
from tunnel.cli.masking import mask
from tunnel.errors import UsageError

state_dir = click.option(
    "--state-dir",
    metavar="DIR",
    envvar="PUNCHTUN_STATE_DIR",
    help="Keep everything here, the control socket too. [default: /var/lib/punchtun]",
)


@click.command(cls=NodeConfigured)
@click.argument("join", required=False)
@click.option("--server", metavar="URL", help="The line that `punchtun server url` printed.")
@click.option(
    "--name",
    metavar="NAME",
    help="This machine's name: of a new network, or if the invitation is for several machines.",
)
@click.option("--ip", metavar="ADDRESS/LENGTH", help="Tunnel address, when creating a network.")
@click.option("--interface", metavar="IF", help="Name of the interface. [default: punchtun0, …]")
@click.option("--mtu", type=int, help="Of the interface, in bytes. [default: 1400]")
@click.option("--listen-port", type=click.IntRange(1, 65535), help="UDP port. [default: random]")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="[default: text]")
@click.option(
    "--no-port-mapping", is_flag=True, help="Ask no router to forward a port (PCP, NAT-PMP, UPnP)."
)
@click.option("--no-port-guessing", is_flag=True, help="Send to no ports that have to be guessed.")
@click.option("--no-tun-offload", is_flag=True, help="Read and write packets one by one.")
@click.option("--no-uso", is_flag=True, help="The same for UDP packets only.")
@click.option("--no-gso", is_flag=True, help="Send datagrams without UDP_SEGMENT.")
@click.option("--no-gro", is_flag=True, help="Receive datagrams without UDP_GRO.")
@click.option(
    "--no-aegis",
    is_flag=True,
    help="Seal with ChaCha20-Poly1305 only: to compare, or where AEGIS-128L misbehaves.",
)
@click.option(
    "--metrics",
    metavar="[ADDRESS:]PORT",
    help="Where Prometheus finds metrics, at /metrics. [address: 127.0.0.1; default: nowhere]",
)
@click.option(
    "--hosts/--no-hosts",
    default=None,
    help="Keep names of members, such as pi.punchtun, in /etc/hosts. [default: yes]",
)
@click.option(
    "--config",
    metavar="FILE",
    help="TOML file with these options. [default: /etc/punchtun/node.toml, without --state-dir]",
)
@state_dir
def up(
    join: str | None,
    server: str | None,
    name: str | None,
    ip: str | None,
    interface: str | None,
    mtu: int | None,
    listen_port: int | None,
    log_format: str | None,
    no_port_mapping: bool,
    no_port_guessing: bool,
    no_tun_offload: bool,
    no_uso: bool,
    no_gso: bool,
    no_gro: bool,
    no_aegis: bool,
    metrics: str | None,
    hosts: bool | None,
    config: str | None,
    state_dir: str | None,
) -> None:
    """Bring the tunnel up and stay in the foreground. Needs root.

    JOIN is a join string, a file that holds one, or - for standard input. With --server and no
    JOIN the first call creates a network. Later plain `punchtun up` is enough.
    """
    from tunnel.config import UpOptions
    from tunnel.drivers.log import start_logging
    from tunnel.drivers.places import node_places
    from tunnel.drivers.startup import run_node

    options = UpOptions(
        *(_read_join(join), server, name, ip, interface, mtu, listen_port, log_format, state_dir),
        port_mapping=False if no_port_mapping else None,
        port_guessing=False if no_port_guessing else None,
        tun_offload=False if no_tun_offload else None,
        uso=False if no_uso else None,
        gso=False if no_gso else None,
        gro=False if no_gro else None,
        aegis=False if no_aegis else None,
        metrics=metrics,
        hosts=hosts,
    )
    start_logging(as_json=options.log_format == "json", verbose=False)
    run_node(options, node_places(options.state_dir))


@click.command()
@state_dir
def down(state_dir: str | None) -> None:
    """Stop the running node, and wait until it is gone."""
    import time

    from tunnel.drivers.control import request
    from tunnel.drivers.places import node_places
    from tunnel.errors import NotRunning, OperatorError

    control = node_places(state_dir).control
    next(request(control, {"command": "down"}, timeout=5.0))
    for _ in range(100):
        try:
            next(request(control, {"command": "status"}, timeout=5.0))
        except (NotRunning, StopIteration):
            return
        except OperatorError:
            # It is on its way out and cut our question off.
            pass
        time.sleep(0.1)
    raise OperatorError("the node has not stopped within 10 s; see its log")


@click.command()
@click.argument("name")
@click.option("--ip", metavar="ADDRESS", help="Tunnel address. [default: the next free one]")
@click.option("--expires", metavar="TIME", default="24h", help="As 30m, 24h or 7d. [default: 24h]")
@click.option(
    "--uses",
    metavar="N",
    type=click.IntRange(1),
    default=1,
    help="For so many machines: NAME-1, NAME-2, … unless they say --name. [default: 1]",
)
@click.option("--qr", is_flag=True, help="Draw it on stderr too, for a camera.")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
@state_dir
def invite(
    name: str,
    ip: str | None,
    expires: str,
    uses: int,
    qr: bool,
    as_json: bool,
    state_dir: str | None,
) -> None:
    """Print a join string for one new machine, to be called NAME, or for several."""
    from tunnel.drivers.control import request
    from tunnel.drivers.places import node_places

    body = {"command": "invite", "name": name, "ip": ip, "expires": parse_duration(expires)}
    body["uses"] = uses
    answer = next(request(node_places(state_dir).control, body, timeout=10.0))
    if qr:
        import segno

        segno.make(answer["join"], error="l").terminal(out=sys.stderr, compact=True)
    if uses > 1:
        names = f"{name}-1, {name}-2, … unless they say --name"
        click.echo(f"punchtun: good for {uses} machines, to be called {names}", err=True)
    click.echo(json.dumps(answer) if as_json else answer["join"])


@click.command()
@click.argument("name", shell_complete=complete_peers)
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
@state_dir
def revoke(name: str, as_json: bool, state_dir: str | None) -> None:
    """Expel the member NAME, for ever; on a machine that may invite.

    Members that are online hear of it at once, the others from any member they meet. Its name and
    address may then be given to another machine. An invitation that has not been used is withdrawn.
    """
    import json

    from tunnel.drivers.control import request
    from tunnel.drivers.places import node_places

    body = {"command": "revoke", "name": name}
    answer = next(request(node_places(state_dir).control, body, timeout=10.0))
    click.echo(format_revoked(answer), err=True)
    if as_json:
        click.echo(json.dumps(answer))


@click.command("rotate-key")
@click.option("--timeout", default=15.0, show_default=True, help="Seconds to wait for an answer.")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
@state_dir
def rotate_key(timeout: float, as_json: bool, state_dir: str | None) -> None:
    """Replace this machine's key; its name and addresses stay.

    A machine that may invite has to be online. The new key is used from the next start on, and the
    old one is void everywhere then.
    """
    import json

    from tunnel.drivers.control import request
    from tunnel.drivers.places import node_places

    body = {"command": "rotate", "timeout": timeout}
    answer = next(request(node_places(state_dir).control, body, timeout=timeout + 10.0))
    click.echo(
        f"punchtun: the new key is {answer['public_key']}. It is used from the next start on: "
        "`punchtun down`, then `punchtun up`; for a service, `systemctl restart`",
        err=True,
    )
    if as_json:
        click.echo(json.dumps(answer))


def format_revoked(answer: dict[str, Any]) -> str:
    name, told = answer["name"], answer["told"]
    if answer["public_key"] is None:
        return f"punchtun: the invitation for {name} is withdrawn"
    who = f"told {', '.join(told)}" if told else "nobody is online to be told"
    return (
        f"punchtun: {name} is revoked; {who}. Members that are offline hear of it from any other "
        "they meet"
    )


def parse_duration(text: str) -> float:
    """Seconds in "90s", "30m", "24h" or "7d". Raises UsageError."""
    match = re.fullmatch(r"(\d+)([smhd])", text.strip())
    if match is None or int(match[1]) == 0:
        raise UsageError(f"'{text}' is no duration: write 30m, 24h or 7d")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def _read_join(text: str | None) -> str | None:
    if text is not None and not text.strip():
        raise UsageError("the join string is empty: did `punchtun invite` print one?")
    if text is None or text.startswith("punchtun-join:"):
        return text
    if text == "-":
        return sys.stdin.read()
    try:
        return Path(text).read_text()
    except OSError as error:
        raise UsageError(
            f"'{mask(text)}' is neither a join string nor a file that can be read "
            f"({error.strerror})"
        ) from error
