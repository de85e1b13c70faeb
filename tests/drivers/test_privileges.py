"""Each in a process of its own: there is no way back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.privileges import as_nobody

pytestmark = pytest.mark.root

NET_ADMIN, READ_SEARCH = 1 << 12, 1 << 2


class Afterwards(NamedTuple):
    fields: dict[str, str]
    """Of /proc/self/status, and `prints`."""
    log: str

    def capabilities(self, kind: str) -> int:
        return int(self.fields[f"Cap{kind}"], 16)

    @property
    def all_kinds(self) -> dict[str, int]:
        return {kind: self.capabilities(kind) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")}


def run(code: str, *before: str) -> Afterwards:
    program = f"""
import logging, sys
logging.basicConfig(format="%(message)s")
from tunnel.drivers import privileges
from tunnel.drivers.privileges import *
{code}
print(open("/proc/self/status").read())
"""
    done = subprocess.run(
        [*before, sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    lines = [line.split(":", 1) for line in done.stdout.splitlines() if ":" in line]
    return Afterwards({key: value.strip() for key, value in lines}, done.stderr)


def only(**kinds: int) -> dict[str, int]:
    return dict.fromkeys(("Inh", "Prm", "Eff", "Bnd", "Amb"), 0) | kinds


def test_root_keeps_what_is_to_be_kept() -> None:
    after = run("drop_privileges({CAP_NET_ADMIN}, [])")
    assert after.all_kinds == only(Prm=NET_ADMIN, Eff=NET_ADMIN)
    assert after.fields["NoNewPrivs"] == "1"
    assert after.log == ""


def test_root_keeps_nothing() -> None:
    after = run("drop_privileges((), [])")
    assert after.all_kinds == only()
    assert after.fields["NoNewPrivs"] == "1"
    assert after.log == ""


def test_a_program_executed_afterwards_has_nothing() -> None:
    shown = run(
        "drop_privileges({CAP_NET_ADMIN}, [])\n"
        "import subprocess; print(subprocess.run(['cat', '/proc/self/status'],"
        "capture_output=True, text=True).stdout); sys.exit()"
    )
    assert shown.all_kinds == only()


def test_threads_begun_afterwards_have_no_more() -> None:
    after = run(
        "drop_privileges({CAP_NET_ADMIN}, [])\n"
        "import threading\n"
        "def show(): print(open('/proc/thread-self/status').read())\n"
        "thread = threading.Thread(target=show); thread.start(); thread.join(); sys.exit()"
    )
    assert after.all_kinds == only(Prm=NET_ADMIN, Eff=NET_ADMIN)


def test_a_thread_that_was_there_before_is_told_of() -> None:
    after = run(
        "import threading\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "drop_privileges((), [])"
    )
    assert after.log == "1 threads were there too early and keep their privileges\n"


def test_a_user_with_one_capability_keeps_it_without_passing_it_on() -> None:
    """As systemd starts a node. The bounding set is not his to change."""
    after = run("drop_privileges({CAP_NET_ADMIN}, sys.path)", *as_nobody("net_admin"))
    assert after.capabilities("Eff") & ~READ_SEARCH == NET_ADMIN
    assert after.capabilities("Inh") == after.capabilities("Amb") == 0
    assert after.fields["NoNewPrivs"] == "1"
    assert "refuses" not in after.log


def test_a_user_without_any_is_told_nothing() -> None:
    after = run("stay_out_of_dumps(); drop_privileges((), [])", *as_nobody())
    assert after.fields["NoNewPrivs"] == "1"
    assert after.log == ""


def test_what_must_be_read_stays_readable(tmp_path: Path) -> None:
    """A checkout, or a state directory, in the home of somebody else."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "file").write_text("content")
    os.chown(home, 65534, 65534)
    reading = f"print('prints:', open({str(home / 'file')!r}).read())"
    after = run(f"drop_privileges((), [{str(home / 'file')!r}])\n{reading}")
    assert after.fields["prints"] == "content"
    assert after.all_kinds == only(Prm=READ_SEARCH, Eff=READ_SEARCH)
    assert len(after.log.splitlines()) == 1
    assert f"{home / 'file'} can be read only with CAP_DAC_READ_SEARCH" in after.log


def test_what_could_not_be_read_before_does_not_matter(tmp_path: Path) -> None:
    after = run(f"drop_privileges((), [{str(tmp_path / 'nothing')!r}])")
    assert after.all_kinds == only()
    assert after.log == ""


def test_what_is_refused_is_one_line_and_the_rest_is_done() -> None:
    """A container without CAP_SETPCAP, and a kernel that knows some calls only."""
    after = run(
        "call = privileges._call\n"
        "privileges._call = lambda name, *rest: -1 if rest[0] == 47 else call(name, *rest)\n"
        "drop_privileges({CAP_NET_ADMIN}, [])",
        *("setpriv", "--bounding-set=-setpcap", "--inh-caps=-setpcap"),
    )
    assert after.capabilities("Prm") == after.capabilities("Eff") == NET_ADMIN
    assert after.fields["NoNewPrivs"] == "1"
    assert after.capabilities("Bnd") != 0
    assert len(after.log.splitlines()) == 1
    assert "going on although the system refuses to clear the ambient" in after.log
    assert "to empty the bounding set (Operation not permitted)" in after.log


def test_without_proc_and_without_being_told_what_there_is() -> None:
    """The start does not fail for it."""
    after = run(
        "call, listed = privileges._call, privileges.os.listdir\n"
        "def refuse(name, *rest):\n"
        "    return -1 if name == 'capget' else call(name, *rest)\n"
        "def missing(path): raise FileNotFoundError(2, 'No such file or directory')\n"
        "privileges._call, privileges.os.listdir = refuse, missing\n"
        "drop_privileges({CAP_NET_ADMIN}, [])\n"
        "privileges.os.listdir = listed"
    )
    assert after.fields["NoNewPrivs"] == "1"
    assert len(after.log.splitlines()) == 1
    assert "refuses to tell the capabilities" in after.log


def test_no_core_dump_and_no_memory_for_others() -> None:
    after = run(
        "import resource, ctypes\n"
        "stay_out_of_dumps()\n"
        "dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"
        "print('prints:', dumpable, resource.getrlimit(resource.RLIMIT_CORE))"
    )
    assert after.fields["prints"] == "0 (0, 0)"
    assert after.log == ""
