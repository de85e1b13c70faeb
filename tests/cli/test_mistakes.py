"""What people mistype or lack: one line with cause and cure, the right exit code, nothing left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest
from nacl.utils import random as random_bytes

from tests.cli.command import Result, User
from tunnel.wire.invitation import JoinString, ServerUrl

URL = ServerUrl("203.0.113.10", 12345, bytes(range(32)), bytes(16)).text
KEY = bytes([9]) + bytes(31)
JOIN = JoinString(KEY, bytes(16), ServerUrl("203.0.113.10", 12345, KEY, bytes(16))).text


def test_up_without_privileges(user: User) -> None:
    user.ask("up", "--server", URL).refused(1, "needs root or CAP_NET_ADMIN", "sudo")
    user.ask("up", JOIN).refused(1, "needs root or CAP_NET_ADMIN")
    assert not user.state.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["up", JOIN[:-3]], ["no join string", "cut short or mistyped", "punchtun invite"]),
        (["up", JOIN.replace("A", "B", 1)], ["no join string"]),
        (["up", "punchtun-join:"], ["no join string"]),
        (["up", "no-such-file"], ["neither a join string nor a file", "No such file"]),
        (["up", "--server", "https://example.org"], ["no server URL", "punchtun://HOST"]),
        (["up", "--server", "203.0.113.10"], ["no server URL", "punchtun server url"]),
        (["up", "--server", URL[:-5]], ["no server URL", "key"]),
        (["up", "--server", URL.replace(":12345", ":99999")], ["no server URL", "port"]),
        (["up", "--server", URL, "--ip", "10.99.0.999"], ["--ip 10.99.0.999", "10.99.0.1/24"]),
        (["up", "--server", URL, "--ip", "10.99.0.1/31"], ["--ip", "/8 to /30"]),
        (["up", "--server", URL, "--ip", "10.99.0.0/24"], ["--ip", "use 10.99.0.1"]),
        (["up", "--server", URL, "--ip", "10.99.0.255/24"], ["--ip", "broadcast"]),
        (["up", "--server", URL, "--ip", "fd00::1/64"], ["--ip", "IPv4"]),
        (["up", "--server", URL, "--mtu", "500"], ["--mtu 500", "576"]),
        (["up", "--server", URL, "--name", "My Pi"], ["--name My Pi", "hyphens"]),
        (["up", "--server", URL, "--interface", "a/b"], ["interface", "15 letters"]),
        (
            ["up", "--server", URL, "--metrics", "localhost:91"],
            ["--metrics localhost:91", "a port"],
        ),
        (["up", "--server", URL, "--metrics", "91000"], ["--metrics 91000", "ADDRESS:PORT"]),
        (["server", "run", "--web", "everywhere:80"], ["--web everywhere:80", "a port"]),
        (["server", "run", "--metrics", "::1"], ["--metrics ::1", "a port"]),
        (["invite", "pi", "--expires", "5y"], ["'5y'", "24h"]),
        (["server", "run", "--listen", "here"], ["--listen here", "ADDRESS:PORT"]),
        (["server", "run", "--listen", "[::]:65535"], ["--listen", "65535"]),
        (["server", "run", "--relay-rate", "fast"], ["--relay-rate fast", "10M"]),
        (["server", "run", "--relay-quota", "50G"], ["--relay-quota 50G", "50G/month"]),
        (["server", "run", "--no-relay", "--relay-rate", "1M"], ["--no-relay", "nothing to limit"]),
    ],
)
def test_mistyped(user: User, arguments: list[str], words: list[str]) -> None:
    user.ask(*arguments).refused(2, *words)
    assert not user.state.exists()


def test_a_join_string_on_standard_input_is_read_and_judged(user: User) -> None:
    user.run("up", "-", "--state-dir", str(user.state), stdin="nonsense\n").refused(
        2, "join string"
    )
    refused = user.run("up", "-", "--state-dir", str(user.state), stdin=f"  {JOIN}\n")
    refused.refused(1, "needs root")


@pytest.mark.parametrize(
    "arguments",
    [
        ["up", "--listen-port", "70000"],
        ["up", "--mtu", "much"],
        ["dance"],
        ["ping"],
        ["invite"],
        ["invite", "pi", "--uses", "0"],
        ["revoke"],
    ],
)
def test_wrong_usage_is_exit_code_2_and_shows_the_usage(user: User, arguments: list[str]) -> None:
    result = user.run(*arguments)
    assert result.code == 2
    assert result.stdout == ""
    assert "Usage: punchtun" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["down"],
        ["status"],
        ["status", "--json"],
        ["peers"],
        ["ping", "pi"],
        ["wait"],
        ["wait", "--peer", "pi", "--direct"],
        ["events"],
        ["doctor"],
        ["doctor", "pi"],
        ["doctor", "--drill"],
        ["invite", "pi"],
        ["revoke", "pi"],
        ["rotate-key"],
    ],
)
def test_without_a_running_node(user: User, arguments: list[str]) -> None:
    user.ask(*arguments).refused(6, "no node is running", str(user.state), "punchtun up")
    assert not user.state.exists()


def test_without_a_running_server(user: User) -> None:
    user.ask("server", "page").refused(6, "no server is running", "punchtun server run")
    user.ask("server", "status").refused(6, "no server is running", "punchtun server run")
    assert not user.state.exists()


def test_a_socket_nobody_serves_is_no_running_node(user: User) -> None:
    user.state.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(user.state / "control.sock"))
    user.own(user.state / "control.sock")
    user.ask("status").refused(6, "no node is running")


def test_the_socket_of_another_user_needs_sudo(user: User) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    user.state.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(user.state / "control.sock"))
    (user.state / "control.sock").chmod(0o600)
    user.ask("status").refused(1, "may not use", "sudo")


# The server, which needs no privileges


class Server:
    """`punchtun server run` on a free port."""

    def __init__(self, user: User, *options: str) -> None:
        self.port = free_port()
        listen = f"127.0.0.1:{self.port}"
        state_dir = str(user.state)
        argv = user.argv("server", "run", "--listen", listen, "--state-dir", state_dir, *options)
        self.process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr
        # A checkout in a closed directory is worth a line before that (tests/privileges.py).
        self.said = next((line for line in self.process.stderr if line.startswith("ready")), "")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10) == 0
        assert self.process.stderr
        self.process.stderr.close()


def free_port() -> int:
    """A port that is free for UDP, and so is the next."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second:
                    second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


@pytest.fixture
def server(user: User) -> Iterator[Server]:
    server = Server(user)
    yield server
    server.stop()
    assert not (user.state / "control.sock").exists()


def test_the_server_says_ready_and_answers_status(user: User, server: Server) -> None:
    assert server.said.startswith("ready")
    assert str(server.port) in server.said
    status = json.loads(user.ask("server", "status", "--json").stdout)
    assert status["nodes"] == 0
    assert status["drops"] == {}
    assert status["ports"] == [server.port, server.port + 1]
    assert user.ask("server", "url", "--host", "::1").stdout.startswith(
        f"punchtun://[::1]:{server.port}/"
    )


def test_a_second_server_on_the_same_directory(user: User, server: Server) -> None:
    listen = f"127.0.0.1:{free_port()}"
    refused = user.ask("server", "run", "--listen", listen)
    refused.refused(1, "already running", str(server.process.pid), "--state-dir")


def test_the_port_is_in_use(user: User, server: Server) -> None:
    for port in (server.port, server.port - 1):  # The second port may be in use as well.
        other = str(user.home / "other")
        refused = user.run("server", "run", "--listen", f"127.0.0.1:{port}", "--state-dir", other)
        refused.refused(1, f"port {server.port} is in use", "--listen", "ss -ulpn")


def test_a_port_for_root_and_an_address_of_others(user: User) -> None:
    refused = user.ask("server", "run", "--listen", "203.0.113.77:12345")
    refused.refused(1, "203.0.113.77", "no address of this machine", "ip addr")


def test_the_url_is_one_line_and_stays_the_same(user: User) -> None:
    first = user.ask("server", "url", "--host", "vps.example.org")
    assert first.code == 0
    assert first.stderr == ""
    assert len(first.stdout.splitlines()) == 1
    assert first.stdout.startswith("punchtun://vps.example.org:12345/")
    assert user.ask("server", "url", "--host", "vps.example.org") == first
    assert (user.state / "server.json").stat().st_mode & 0o777 == 0o600
    assert user.state.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("host", ["", "a b", "vps/x", "vps:1"])
def test_a_url_for_no_host(user: User, host: str) -> None:
    user.ask("server", "url", "--host", host).refused(2, "--host")
    assert not user.state.exists()


def with_key(user: User) -> Result:
    return user.ask("server", "url", "--host", "vps")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"private_key": "x"}', "null"])
def test_a_damaged_key_file(user: User, content: str) -> None:
    before = with_key(user)
    file = user.state / "server.json"
    good = file.read_text()
    file.write_text(content)
    with_key(user).refused(1, "server.json", "damaged", "backup")
    user.ask("server", "run").refused(1, "server.json", "damaged")
    assert file.read_text() == content  # Nothing was made up in its place.
    file.write_text(good)
    assert with_key(user) == before


def test_a_key_file_others_may_read(user: User) -> None:
    with_key(user)
    (user.state / "server.json").chmod(0o644)
    with_key(user).refused(1, "server.json", "chmod 600")
    user.ask("server", "run").refused(1, "server.json", "chmod 600")


def test_a_state_directory_others_may_write_to(user: User) -> None:
    with_key(user)
    user.state.chmod(0o777)
    with_key(user).refused(1, "others may write", "chmod 700")


def test_a_state_directory_that_cannot_be(user: User) -> None:
    file = user.home / "file"
    file.touch()
    for state, word in ((file, "is a file"), (file / "x", "create"), ("/proc/x", "create")):
        user.run("server", "url", "--host", "vps", "--state-dir", str(state)).refused(1, word)


def test_a_key_file_of_another_user(user: User) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    with_key(user)
    os.chown(user.state / "server.json", 0, 0)
    with_key(user).refused(1, "server.json", "")
    os.chown(user.state, 0, 0)
    user.ask("server", "run").refused(1, str(user.state))


# Shells and pipes


def test_help_and_version(user: User) -> None:
    text = user.run("--help").stdout
    names = "up down invite revoke rotate-key status peers ping wait events server"
    for command in names.split():
        assert f"\n  {command} " in text
        shown = user.run(command, "--help")
        assert shown.code == 0
        assert shown.stdout.startswith(f"Usage: punchtun {command}")
    assert user.run("--version").stdout.startswith("punchtun")


def test_secrets_do_not_show_in_what_is_said(user: User) -> None:
    token = random_bytes(16)
    url = ServerUrl("203.0.113.10", 12345, bytes(range(32)), token)
    join = JoinString(KEY, token, url)
    for argument in (["--server", url.text], [join.text], [join.text[:-1]]):
        result = user.ask("up", *argument)
        secret = url.text.rpartition("/")[2][-20:]
        assert secret not in result.stderr + result.stdout
        assert join.text[40:60] not in result.stderr


def test_an_interrupted_server_leaves_in_order(user: User, server: Server) -> None:
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(10) == 0
    assert not (user.state / "control.sock").exists()
