from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tunnel.drivers.passphrase import MAX_LENGTH, read_passphrase
from tunnel.errors import OperatorError


def at_a_terminal(*lines: str, is_new: bool) -> tuple[str, str]:
    """What a person sees who types these lines, each when something is asked; and what came."""
    program = (
        "from tunnel.drivers.passphrase import ask_passphrase\n"
        "from tunnel.errors import OperatorError\n"
        "try:\n"
        f"    print(ask_passphrase(is_new={is_new}).decode())\n"
        "except OperatorError as error:\n"
        "    print(f'refused: {error}')\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    seen = b""
    for line in lines:
        before = len(seen)
        while not seen[before:].endswith(b": "):
            seen += os.read(ours, 1000)
        os.write(ours, line.encode() + b"\n")
    said, complaints = process.communicate()
    os.close(ours)
    assert complaints == ""
    return seen.decode(), said.strip()


def test_a_new_one_is_asked_twice_and_not_shown() -> None:
    seen, said = at_a_terminal("secret wörds", "secret wörds", is_new=True)
    assert seen.startswith("Passphrase: ")
    assert "The same again: " in seen
    assert "secret" not in seen
    assert said == "secret wörds"


def test_a_known_one_is_asked_once() -> None:
    assert at_a_terminal("words", is_new=False)[1] == "words"


def test_two_that_differ() -> None:
    said = at_a_terminal("words", "wards", is_new=True)[1]
    assert said.startswith("refused: the two passphrases differ")


@pytest.mark.parametrize("is_new", [True, False])
def test_an_empty_one_is_refused_at_once(is_new: bool) -> None:
    assert "empty" in at_a_terminal("", is_new=is_new)[1]


@pytest.mark.parametrize("is_new", [True, False])
def test_who_gives_up(is_new: bool) -> None:
    assert at_a_terminal("\x04", is_new=is_new)[1].startswith("refused: no passphrase")


def test_the_first_line_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "words"
    for content in (b"a b ", b"a b \n", b"a b \r\n", b"a b \nmore\n"):
        file.write_bytes(content)
        file.chmod(0o600)
        assert read_passphrase(str(file)) == b"a b "


def test_a_file_descriptor(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"words\n")
    assert read_passphrase(f"/dev/fd/{reading}") == b"words"
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("bits", [0o640, 0o604])
def test_a_file_that_others_may_read(tmp_path: Path, bits: int) -> None:
    file = tmp_path / "words"
    file.write_text("words")
    file.chmod(bits)
    with pytest.raises(OperatorError, match="chmod 600"):
        read_passphrase(str(file))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\n", "UTF-8"),
        (b"a" * (MAX_LENGTH + 1), "too long"),
        (b"a" * 10 * MAX_LENGTH, "too long"),
    ],
)
def test_files_without_a_passphrase(tmp_path: Path, content: bytes, fault: str) -> None:
    file = tmp_path / "words"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(OperatorError, match=fault):
        read_passphrase(str(file))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="No such file"):
        read_passphrase(str(tmp_path / "words"))
