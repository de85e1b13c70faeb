"""Whatever a node and a server print, answer, and show to `ps`: no secret of their state files is
in it, neither in the log of those who want to know all, nor when something goes wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.spellings import Search
from tunnel.drivers.control import request
from tunnel.errors import OperatorError
from tunnel.wire.invitation import decode_base64, parse_join_string, parse_server_url

from .lab import Lab
from .process import Process
from .world import PATIENCE, Node, World

pytestmark = pytest.mark.root

VERBOSE = f"""#!{sys.executable}
import sys
from tunnel.drivers import log
quiet = log.start_logging
log.start_logging = lambda **options: quiet(**options | {{"verbose": True}})
from tunnel.cli import main
sys.exit(main())
"""
SECRET = ("private_key", "network_secret", "signing_key", "access_token", "token")


@pytest.fixture
def program(tmp_path: Path) -> str:
    """The command, saying all it ever logs."""
    file = tmp_path / "verbose"
    file.write_text(VERBOSE)
    file.chmod(0o755)
    return str(file)


def secrets_in(state: Path) -> Iterator[bytes]:
    for file in state.glob("*.json"):
        content = json.loads(file.read_text())
        yield from (decode_base64(content[name]) for name in SECRET if name in content)
        if "server" in content:
            yield parse_server_url(content["server"]).access_token
        for invitation in content.get("invitations", []):
            yield decode_base64(invitation["token"])


def shown(process: Process) -> Iterator[tuple[str, str | bytes]]:
    """What it has printed, and if it runs, what `ps` shows."""
    yield f"{process.machine}: stdout", process.stdout
    yield f"{process.machine}: stderr", process.stderr
    if process.returncode is None:
        for name in ("cmdline", "environ"):
            yield f"{process.machine}: {name}", Path(f"/proc/{process.pid}/{name}").read_bytes()


def answered(node: Node) -> Iterator[tuple[str, str]]:
    for argv in (["status"], ["peers"], ["events"], ["doctor"]):
        for options in ([], ["--json"]):
            result = node.run(*argv, *options, check=False)
            yield f"{' '.join(argv + options)} of {node.name}", result.stdout + result.stderr


def test_nothing_that_is_said_holds_a_secret(world: World, lab: Lab, program: str) -> None:
    world.server.send_signal(15)
    assert world.server.wait() == 0
    state = ["--state-dir", str(world.folder / "server")]
    server = world.vps.popen([program, "server", "run", "--web", "*:8080", *state])
    world.server_processes.append(server)
    server.wait_for("ready", timeout=PATIENCE)
    router = lab.home_router("homeA", public="198.51.100.7")
    attic, camera = world.node("attic", router.host("a")), world.node("camera", router.host("b"))
    attic.program = camera.program = program
    attic.up("--server", world.url, "--name", "attic").wait()
    camera.up(attic.invite("camera"))
    open_invitation = attic.invite("never-used")
    world.wait_direct(attic, camera)

    # A mistake of ours, as far as the node can tell
    with pytest.raises(OperatorError, match="punchtun made a mistake"):
        next(request(attic.state / "control.sock", {"command": "invite", "expires": "soon"}))
    assert "Traceback" in attic.process.stderr

    folders = [world.folder / name for name in ("server", "attic", "camera")]
    search = Search(secret for folder in folders for secret in secrets_in(folder))
    assert parse_join_string(open_invitation).token in search.secrets
    assert len(search.secrets) == 9
    assert search.finds_any((attic.state / "node.json").read_text())
    said = [*shown(server), *shown(attic.process), *shown(camera.process)]
    said += [*answered(attic), *answered(camera)]
    status = world.vps.run([program, "server", "status", "--json", *state])
    said.append(("server status", status.stdout + status.stderr))
    for path in ("", "status.json", "?token=x"):
        page = world.vps.run(["curl", "-s", f"http://127.0.0.1:8080/{path}"])
        said.append((f"page {path}", page.stdout))
    camera.run("down")
    assert attic.stop() == 0
    said += [*shown(attic.process), *shown(camera.process)]
    assert sum(len(text) for _, text in said) > 10_000
    assert [where for where, text in said if search.finds_any(text)] == []
    # For `close`: that the traceback was wanted.
    attic.processes.clear()
