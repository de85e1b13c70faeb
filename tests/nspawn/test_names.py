"""Names of members where the node is a service, which may not write /etc/hosts itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netns.wait import wait_until

from .conftest import Machines
from .container import Container
from .test_life import NODE, SERVER, kill

pytestmark = pytest.mark.root

STATE = "/var/lib/punchtun/default"
HOSTS = "127.0.0.1\tlocalhost  # ours\n\n203.0.113.9 vps\n# the last one"
PATH, NAMES = "punchtun-names@default.path", "punchtun-names@default.service"


@pytest.fixture
def home(connected: Machines) -> Iterator[Container]:
    """A member, with its names in a file that is as it was."""
    home = connected.home
    home.run("systemctl", "stop", NODE)
    wait_until_gone(home)
    home.run("tee", "/etc/hosts", stdin=HOSTS)
    home.run("systemctl", "start", NODE)
    wait_until_there(home)
    yield home
    home.run("systemctl", "start", NODE)
    home.run("punchtun", "wait", "--peer", "vps")


def resolves(machine: Container, name: str = "vps") -> bool:
    return machine.try_run("getent", "hosts", f"{name}.punchtun").returncode == 0


def hosts(machine: Container) -> str:
    # Its last newlines, too.
    return machine.try_run("cat", "/etc/hosts").stdout


def wait_until_there(machine: Container) -> None:
    wait_until(lambda: resolves(machine), timeout=60, interval=0.2, what="names in /etc/hosts")
    assert hosts(machine).startswith(f"{HOSTS}\n# punchtun begin {STATE} ")


def wait_until_gone(machine: Container) -> None:
    wait_until(
        lambda: "punchtun" not in hosts(machine),
        timeout=60,
        interval=0.2,
        what="end of the names in /etc/hosts",
    )


def processes(machine: Container) -> list[str]:
    return machine.run("ps", "-e", "-o", "comm=").split()


def leftovers(machine: Container) -> str:
    return machine.run("find", "/var/lib/private/punchtun", "/var/lib/punchtun", "-name", "*hosts*")


def wait_until_quiet(machine: Container) -> None:
    """Nothing changes any more, and it is not root that lives on."""
    wait_until(
        lambda: (
            "hosts-changed" not in leftovers(machine)
            and machine.show(NAMES, "ActiveState") == "inactive"
        ),
        timeout=60,
        interval=0.2,
        what="end of the names service",
    )


def test_members_have_names(connected: Machines, home: Container) -> None:
    before = home.run("stat", "--format=%i %a %U", "/etc/hosts")
    for name, machine in (("vps", connected.vps), ("home", home)):
        addresses = machine.status()["node"]["addresses"]
        found = home.run("getent", "ahosts", f"{name}.punchtun")
        assert {line.split()[0] for line in found.splitlines()} <= set(addresses)
    home.run("ping", "-c", "1", "-W", "5", "vps.punchtun")
    assert home.run("stat", "--format=%i %a %U", "/etc/hosts") == before
    wait_until_quiet(home)


def test_no_names_after_the_end(home: Container) -> None:
    home.run("systemctl", "stop", NODE)
    wait_until_gone(home)
    assert hosts(home) == HOSTS + "\n"
    assert not resolves(home)
    wait_until(lambda: leftovers(home) == "", timeout=60, interval=0.2, what="end of the files")


def test_names_after_a_crash(home: Container) -> None:
    wait_until_quiet(home)
    kill(home, NODE)
    # Whoever looks meanwhile finds them still.
    assert resolves(home)
    wait_until_quiet(home)
    assert resolves(home)
    # The last one.
    with home.drop_in(NODE, "Restart=no"):
        home.run("systemctl", "kill", "--signal=KILL", NODE)
        wait_until_gone(home)
        assert hosts(home) == HOSTS + "\n"
    home.run("systemctl", "start", NODE)
    wait_until_there(home)


def test_names_in_a_file_that_another_has_put_there(home: Container) -> None:
    wait_until_quiet(home)
    home.run("sed", "-i", "/punchtun/d", "/etc/hosts")
    assert not resolves(home)
    home.run("systemctl", "restart", NODE)
    wait_until_there(home)


@pytest.mark.parametrize("slow", ["sleep 5; {look}", "{look}; sleep 5"], ids=["before", "after"])
def test_a_file_that_is_replaced_while_the_service_runs(home: Container, slow: str) -> None:
    """It may not write the new one, which another process has to do."""
    wait_until_quiet(home)
    look = f"punchtun update-names --state-dir {STATE}"
    with home.drop_in(NAMES, f"ExecStart=\nExecStart=sh -c '{slow.format(look=look)}'"):
        home.run("systemctl", "start", "--no-block", NAMES)
        wait_until(lambda: "sleep" in processes(home), timeout=60, interval=0.2, what="its pause")
        home.run("sed", "-i", "/punchtun/d", "/etc/hosts")
        home.run("systemctl", "restart", NODE)
        wait_until_there(home)
    wait_until_quiet(home)


def test_names_after_a_reboot(home: Container) -> None:
    home.reboot()
    wait_until_there(home)


def test_no_names_where_they_are_not_wanted(home: Container) -> None:
    with home.drop_in(NODE, "Environment=PUNCHTUN_UP_HOSTS=no"):
        home.run("systemctl", "restart", NODE)
        home.run("punchtun", "wait", "--peer", "vps")
        wait_until_gone(home)
        wait_until(lambda: leftovers(home) == "", timeout=60, interval=0.2, what="end of the files")
        assert hosts(home) == HOSTS + "\n"
    home.run("systemctl", "restart", NODE)
    wait_until_there(home)


def test_each_node_has_a_block(connected: Machines, home: Container) -> None:
    url = connected.vps.run("punchtun", "server", "url", "--host", connected.vps.address)
    state = "/var/lib/punchtun/two"
    options = ("--ip", "10.82.0.1", "--name", "second", "--state-dir", state)
    by_hand = home.start("punchtun", "up", "--server", url, "--interface", "punchtun1", *options)
    home.wait_for("punchtun", "wait", "--state-dir", state)
    home.interrupt(by_hand)
    with home.drop_in("punchtun@two.service", "Environment=PUNCHTUN_UP_INTERFACE=punchtun1"):
        home.run("punchtun", "service", "install", "node", "two")
        wait_until(lambda: resolves(home, "second"), timeout=60, interval=0.2, what="both blocks")
        assert resolves(home)
        home.run("punchtun", "service", "uninstall", "node", "two", "--purge")
        assert not resolves(home, "second")
        wait_until_there(home)


def test_what_the_service_is_told_by_its_node_is_not_believed(home: Container) -> None:
    """As a node would that somebody has taken over."""
    state = "/var/lib/private/punchtun/default"
    before = hosts(home)
    lines = "127.0.0.1 vps.punchtun\\n203.0.113.9 example.org\\n10.6.6.6 evil.punchtun\\n"
    code = (
        "import fcntl, os, time\n"
        f"file = open('{state}/hosts', 'w')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        f"file.write('{lines}'); file.flush()\n"
        f"open('{state}/hosts-changed', 'w')\n"
        "print(flush=True)\n"
        "time.sleep(600)\n"
    )
    home.run("systemctl", "stop", NODE)
    wait_until_gone(home)
    evil = home.start("/opt/punchtun/bin/python", "-c", code)
    wait_until(lambda: resolves(home, "evil"), timeout=60, interval=0.2, what="a name")
    block = hosts(home).removeprefix(HOSTS + "\n").splitlines()
    assert [line for line in block if not line.startswith("#")] == ["10.6.6.6 evil.punchtun"]
    home.interrupt(evil)
    home.run("systemctl", "start", NODE)
    wait_until_there(home)
    wait_until(lambda: hosts(home) == before, timeout=60, interval=0.2, what="true names")


def test_a_change_while_the_service_runs(home: Container) -> None:
    """It is not overlooked: the service is started once more."""
    with home.drop_in(NAMES, f"ExecStartPost=touch {STATE}/hosts-changed"):
        home.run("systemctl", "start", NAMES)
        starts = set()

        def count_starts() -> int:
            starts.add(home.show(NAMES, "InvocationID"))
            return len(starts)

        # More than systemd's default for ten seconds.
        wait_until(lambda: count_starts() > 12, timeout=60, interval=0.2, what="many starts")
    wait_until_quiet(home)
    assert leftovers(home) == "/var/lib/private/punchtun/default/hosts"


def test_the_service_may_do_little(home: Container) -> None:
    said = home.run("systemd-analyze", "security", "--no-pager", "--threshold=20", NAMES)
    print(said.splitlines()[-1])
    for unit in (PATH, NAMES):
        assert home.run("systemd-analyze", "verify", "--recursive-errors=no", unit) == ""


def test_nothing_is_left(connected: Machines, home: Container) -> None:
    said = home.run("punchtun", "service", "uninstall", "node", "--dry-run")
    assert "would take the names of members out of /etc/hosts" in said
    assert resolves(home)
    home.run("punchtun", "service", "uninstall", "node")
    assert hosts(home) == HOSTS + "\n"
    assert home.run("find", "/etc/systemd", "/run/systemd/system", "-name", "punchtun*") == ""
    assert home.run("find", "/var/lib/punchtun", "-name", "*hosts*") == ""
    assert home.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "punchtun*") == ""
    # By hand, root writes the file itself.
    by_hand = home.start("punchtun", "up")
    home.wait_for("punchtun", "wait", "--peer", "vps")
    wait_until(lambda: resolves(home), timeout=60, interval=0.2, what="names in /etc/hosts")
    home.interrupt(by_hand)
    assert hosts(home) == HOSTS + "\n"
    home.run("punchtun", "service", "install", "node")
    assert connected.vps.show(SERVER, "ActiveState") == "active"
    wait_until_there(home)
