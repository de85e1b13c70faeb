"""The block in /etc/hosts, on files that stand for it."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.drivers import hosts_file
from tunnel.drivers.hosts_file import HostsFile, without_block
from tunnel.errors import OperatorError

STATE = Path("/var/lib/punchtun/home net")
NAMES = {"attic": ["10.81.7.1", "fd00::1"], "pi": ["10.81.7.2"]}
BLOCK = """\
# punchtun begin /var/lib/punchtun/home%20net (punchtun0): names of members, while the node runs
10.81.7.1 attic.punchtun
fd00::1 attic.punchtun
10.81.7.2 pi.punchtun
# punchtun end /var/lib/punchtun/home%20net
"""
OTHERS = "127.0.0.1\tlocalhost  # ours\r\n\n#10.81.7.1 attic.punchtun\n::1 localhost ip6\n"
BEGIN, END = (f"# punchtun {w} /var/lib/punchtun/home%20net".encode() for w in ("begin", "end"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_bytes(OTHERS.encode())
    return path


def opened(path: Path, state: Path = STATE) -> HostsFile:
    return HostsFile(state, "punchtun0", path)


def content(path: Path) -> str:
    return path.read_bytes().decode()


def test_the_block_comes_and_goes(path: Path) -> None:
    path.chmod(0o640)
    before = path.stat()
    hosts = opened(path)
    hosts.write(NAMES)
    assert content(path) == OTHERS + BLOCK
    hosts.write({"pi": ["10.81.7.9"]})
    begin, *_, end = BLOCK.splitlines(keepends=True)
    assert content(path) == OTHERS + begin + "10.81.7.9 pi.punchtun\n" + end
    hosts.close()
    assert content(path) == OTHERS
    after = path.stat()
    kept = ("st_ino", "st_mode", "st_uid", "st_gid")
    assert [getattr(after, k) for k in kept] == [getattr(before, k) for k in kept]
    assert os.listdir(path.parent) == ["hosts"]
    hosts.write(NAMES)
    hosts.close()
    assert content(path) == OTHERS


def test_nothing_is_written_when_nothing_is_new(path: Path) -> None:
    hosts = opened(path)
    hosts.write(NAMES)
    os.utime(path, (1, 1))
    hosts.write(NAMES)
    assert path.stat().st_mtime == 1


def test_two_nodes_have_a_block_each(path: Path) -> None:
    one, other = opened(path), opened(path, Path("/srv/other"))
    one.write(NAMES)
    other.write({"pi": ["10.9.0.2"]})
    one.write({"nas": ["10.81.7.3"]})
    text = content(path)
    assert text.startswith(OTHERS)
    assert sorted(re.findall(r"^1.*punchtun$", text, re.MULTILINE)) == [
        "10.81.7.3 nas.punchtun",
        "10.9.0.2 pi.punchtun",
    ]
    one.close()
    other.close()
    assert content(path) == OTHERS


@pytest.mark.parametrize(
    "left",
    [
        BLOCK,
        BLOCK + BLOCK,
        BLOCK[: BLOCK.index("10.81.7.2")],
        BLOCK.replace("attic", "cellar"),
        BLOCK.replace("(punchtun0)", "(punchtun7)"),
        "".join(BLOCK.splitlines(keepends=True)[:1]),
        "".join(BLOCK.splitlines(keepends=True)[-1:]),
    ],
)
def test_what_a_crash_has_left_is_repaired(path: Path, left: str) -> None:
    path.write_bytes((OTHERS + left).encode())
    hosts = opened(path)
    hosts.write(NAMES)
    assert content(path) == OTHERS + BLOCK
    path.write_bytes((left + OTHERS).encode())
    hosts.close()
    assert content(path) == OTHERS


def test_lines_that_somebody_wrote_behind_and_between_stay(path: Path) -> None:
    hosts = opened(path)
    hosts.write(NAMES)
    lines = content(path).replace("fd00::1", "192.0.2.1 mine\nfd00::1") + "192.0.2.2 his\n"
    path.write_bytes(lines.encode())
    hosts.write({"pi": ["10.81.7.2"]})
    assert content(path).startswith(
        OTHERS + "192.0.2.1 mine\n192.0.2.2 his\n" + str(BEGIN, "ascii")
    )
    hosts.close()
    assert content(path) == OTHERS + "192.0.2.1 mine\n192.0.2.2 his\n"


def test_a_last_line_without_end_gets_one(path: Path) -> None:
    path.write_text("127.0.0.1 localhost")
    hosts = opened(path)
    hosts.write(NAMES)
    assert content(path) == "127.0.0.1 localhost\n" + BLOCK


def test_a_file_that_took_its_place_is_followed(path: Path) -> None:
    hosts = opened(path)
    hosts.write(NAMES)
    fresh = path.with_name("fresh")
    fresh.write_bytes(b"192.0.2.7 new\n" + BLOCK.encode())
    fresh.replace(path)
    hosts.write({"pi": ["10.81.7.2"]})
    assert content(path).startswith("192.0.2.7 new\n# punchtun")
    hosts.close()
    assert content(path) == "192.0.2.7 new\n"


def test_a_file_that_may_not_be_followed_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = opened(path)
    fresh = path.with_name("fresh")
    fresh.write_bytes(b"")
    fresh.replace(path)

    def refuse(*_: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(hosts_file.os, "open", refuse)
    with pytest.raises(OperatorError, match=r"replaced by another program.*next start"):
        hosts.write(NAMES)


def test_who_holds_the_lock_does_not_hold_us(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_file, "_LOCK_PAUSE", 0.0)
    hosts = opened(path)
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OperatorError, match="locked by another program"):
            hosts.write(NAMES)
        assert content(path) == OTHERS
    hosts.write(NAMES)
    assert content(path) == OTHERS + BLOCK


def test_a_full_disk_leaves_what_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = opened(path)
    hosts.write(NAMES)
    text = content(path) + "192.0.2.2 his\n"
    path.write_bytes(text.encode())
    write, calls = os.pwrite, []

    def half(file: int, part: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, part[: len(part) // 2] if len(calls) == 1 else part, offset)

    monkeypatch.setattr(hosts_file.os, "pwrite", half)
    with pytest.raises(OperatorError, match="No space left"):
        hosts.write(NAMES | {"nas": ["10.81.7.3"] * 9})
    assert content(path) == text


def test_a_shorter_file_has_whole_lines_before_it_is_cut(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = opened(path)
    hosts.write(NAMES)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(hosts_file.os, "ftruncate", die)
        with pytest.raises(KeyboardInterrupt):
            hosts.write({"pi": ["10.81.7.2"]})
    lines = content(path).removeprefix(OTHERS).rstrip("\n").splitlines()
    assert lines[1:] == ["10.81.7.2 pi.punchtun", str(END, "ascii")]


def test_what_is_no_file_or_may_not_be_written_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, words in (
        ("pipe", "is no file"),
        ("none", "cannot be written: No such file"),
    ):
        with pytest.raises(OperatorError, match=words):
            opened(tmp_path / name)


LINES = st.lists(
    st.sampled_from(
        [BEGIN + b" x\n", END + b"\n", b"10.0.0.1 a.punchtun\n", b"1.2.3.4 mine\n", b"\n",
         b"# punchtun begin /other x\n", b"# punchtun end /other\n", b"no end"]
    ) | st.binary(max_size=12)
)  # fmt: skip


@given(LINES)
def test_only_lines_of_ours_go(lines: list[bytes]) -> None:
    text = b"".join(lines)
    rest = without_block(text, BEGIN, END)
    assert without_block(rest, BEGIN, END) == rest
    kept = rest.splitlines(keepends=True)
    gone = text.splitlines(keepends=True)
    for line in kept:
        gone.remove(line)
    for line in gone:
        assert line.startswith((BEGIN, END)) or line.rstrip().endswith(b".punchtun")


@given(st.binary(max_size=9), st.integers(0, 9000), st.binary(max_size=9))
def test_the_first_difference_is_found(one: bytes, same: int, other: bytes) -> None:
    a, b = bytes(same) + one, bytes(same) + other
    common = hosts_file._common(a, b)
    assert a[:common] == b[:common]
    assert a[common : common + 1] != b[common : common + 1] or a == b
