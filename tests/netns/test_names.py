"""Members by name, as every program of the machine resolves them: /etc/hosts of the namespace."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drivers.test_landlock import needs_landlock

from .lab import Lab
from .wait import wait_until
from .world import PATIENCE, Node, World

pytestmark = pytest.mark.root


def resolved(node: Node, name: str, version: int = 4) -> str:
    """The address that libc finds; "" for none."""
    found = node.host.run(["getent", f"ahostsv{version}", name], check=False).stdout.split()
    return found[0] if found else ""


def wait_for_name(node: Node, name: str, address: str) -> None:
    wait_until(
        lambda: resolved(node, name) == address, timeout=PATIENCE, what=f"{name} is {address!r}"
    )


def test_members_by_name(world: World, lab: Lab) -> None:
    home = lab.home_router("homeA", public="198.51.100.7")
    attic, pi = home.host("a"), lab.carrier("cgn", public="192.0.2.33").host("b")
    pi.name_hosts({"printer.lan": ["192.168.1.9"]})
    before = pi.hosts_file.read_bytes()
    one = world.found("attic", attic)
    other = world.join("pi", pi, one)
    world.wait_direct(one, other)
    for node in (one, other):
        for named in (one, other):
            wait_for_name(node, f"{named.name}.punchtun", named.ip4)
            assert resolved(node, f"{named.name}.punchtun", 6) == named.ip6
    one.host.run(["ping", "-c1", "pi.punchtun"])
    other.host.run(["ping", "-6", "-c1", "attic.punchtun"])
    assert resolved(other, "printer.lan") == "192.168.1.9"

    # Shells complete them.
    words = f"punchtun ping --state-dir {one.state} p"
    asked = {"_PUNCHTUN_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "4"}
    assert one.host.run([one.program], env=asked).stdout.split(",")[-1].strip() == "pi"

    # A crash leaves the block, and the next start repairs it.
    other.kill()
    assert resolved(other, "attic.punchtun") == one.ip4
    text = pi.hosts_file.read_text()
    pi.hosts_file.write_text(text.replace(one.ip4, "10.1.2.3"))
    other.up()
    wait_for_name(other, "attic.punchtun", one.ip4)
    assert pi.hosts_file.read_text() == text
    other.run("down")
    assert pi.hosts_file.read_bytes() == before

    # After a crash without the wish to have one again it goes, too.
    other.up()
    wait_for_name(other, "attic.punchtun", one.ip4)
    other.kill()
    other.up("--no-hosts")
    assert pi.hosts_file.read_bytes() == before

    # Who is revoked has no name any more.
    one.run("revoke", "pi")
    wait_for_name(one, "pi.punchtun", "")
    assert resolved(one, "attic.punchtun") == one.ip4


def test_what_cannot_be_written_is_said_once_and_all_else_works(world: World, lab: Lab) -> None:
    host = lab.public_host("a", "203.0.113.20")
    # As in a container or on a system whose /etc is read-only.
    argv = ["unshare", "-m", "sh", "-c", 'mount -o remount,bind,ro /etc/hosts && exec "$@"', "sh"]
    node = world.node("attic", host)
    up = [node.program, "up", "--server", world.url, "--state-dir", str(node.state)]
    node.processes.append(host.popen([*argv, *up, "--name", "attic"]))
    node.wait_until_up()
    node.wait()
    said = [line for line in node.process.stderr.splitlines() if "pi.punchtun" in line]
    cause = "/etc/hosts cannot be written: Read-only file system"
    assert said == [f"names such as pi.punchtun do not resolve here: {cause}"]
    assert resolved(node, "attic.punchtun") == ""


@needs_landlock
def test_a_file_that_another_program_has_replaced(world: World, lab: Lab, tmp_path: Path) -> None:
    """Landlock forbids a running node to open the new one: it says so."""
    host = lab.public_host("a", "203.0.113.20")
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "hosts").write_text("127.0.0.1 localhost\n")
    # A directory of its own, in which files may be replaced; names resolve by it no more here.
    argv = ["unshare", "-m", "sh", "-c"]
    argv += [f'umount -l /etc/hosts; mount --bind {folder} /etc && exec "$@"', "sh"]
    node = world.node("attic", host)
    up = [node.program, "up", "--server", world.url, "--state-dir", str(node.state)]
    node.processes.append(host.popen([*argv, *up, "--name", "attic"]))
    node.wait_until_up()
    node.wait()
    wait_until(lambda: "attic" in (folder / "hosts").read_text(), timeout=PATIENCE)
    (folder / "fresh").write_text("127.0.0.1 localhost\n")
    (folder / "fresh").replace(folder / "hosts")
    node.stop()
    assert "/etc/hosts has been replaced by another program" in node.process.stderr
    assert (folder / "hosts").read_text() == "127.0.0.1 localhost\n"
