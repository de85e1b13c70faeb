"""Each in a process of its own: there is no way back. Where the kernel has no Landlock, what is
tested is that this is said."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

ABI = ctypes.CDLL(None).syscall(444, None, 0, 1)
needs_landlock = pytest.mark.skipif(ABI < 3, reason="this kernel has no Landlock, or an early one")


def run(code: str) -> tuple[str, str]:
    program = f"""
import ctypes, logging, os, socket
logging.basicConfig(format="%(message)s", level=logging.INFO)
from tunnel.drivers import landlock
from tunnel.drivers.landlock import *
from tunnel.drivers.privileges import *
drop_privileges((), [])
def attempt(call, *arguments):
    try:
        call(*arguments)
        print("done")
    except OSError as error:
        print(error.strerror)
{code}
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr


@needs_landlock
def test_written_is_below_the_given_places_only(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "file").write_text("content")
    said, log = run(f"""
kept = open({str(outside / "file")!r}, "a")
print(write_only_below([{str(inside)!r}, {str(tmp_path / "nothing")!r}]))
for place in ({str(inside)!r}, {str(outside)!r}):
    attempt(open, place + "/file", "w")
    attempt(open, place + "/new", "x")
    attempt(os.mkdir, place + "/folder")
    attempt(os.symlink, "/", place + "/link")
    attempt(socket.socket(socket.AF_UNIX).bind, place + "/socket")
    attempt(os.replace, place + "/file", place + "/other")
    attempt(os.unlink, place + "/" + os.listdir(place)[0])
    attempt(os.truncate, place + "/" + os.listdir(place)[0], 0) if place == {str(outside)!r} else 0
print(open({str(outside / "file")!r}).read())
kept.write(", and more"); kept.flush()
""")
    assert said.splitlines() == ["True"] + ["done"] * 7 + ["Permission denied"] * 8 + ["content"]
    assert (outside / "file").read_text() == "content, and more"
    assert os.listdir(outside) == ["file"]
    assert log == ""


@pytest.mark.parametrize(
    ("number", "words"),
    [("ENOSYS", "this kernel has no Landlock"), ("EOPNOTSUPP", "Landlock is switched off")],
)
def test_a_kernel_without_it_is_named_in_one_line(tmp_path: Path, number: str, words: str) -> None:
    said, log = run(f"""
import errno
def refuse(*_): raise OSError(errno.{number}, "no")
landlock._call = refuse
print(write_only_below([{str(tmp_path)!r}]))
attempt(open, {str(tmp_path / "file")!r}, "w")
""")
    assert said.split() == ["False", "done"]
    assert log == f"root's files elsewhere could still be written: {words}\n"


@needs_landlock
def test_no_descriptor_is_left(tmp_path: Path) -> None:
    said, _ = run(f"""
before = os.listdir("/proc/self/fd")
write_only_below([{str(tmp_path)!r}])
print(os.listdir("/proc/self/fd") == before)
""")
    assert said == "True\n"
