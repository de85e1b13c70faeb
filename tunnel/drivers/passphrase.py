"""The passphrase of a backup: asked of a person, or read from where a program left it. Never from
an argument or the environment, which others can see."""

from __future__ import annotations

import getpass
import os
import stat
import sys
import unicodedata

from tunnel.errors import OperatorError, UsageError

MAX_LENGTH = 1024
"""Bytes."""


def ask_passphrase(*, is_new: bool) -> bytes:
    """At the terminal; a new one twice. Raises OperatorError: empty, or the two differ; UsageError:
    there is no terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError as error:
        raise UsageError(
            "there is no terminal to ask for the passphrase: give it by --passphrase-file"
        ) from error
    try:
        passphrase = getpass.getpass("Passphrase: ")
        _pack(passphrase, "the passphrase")
        if is_new and getpass.getpass("The same again: ") != passphrase:
            raise OperatorError("the two passphrases differ: nothing is written, run it again")
    except (EOFError, KeyboardInterrupt):
        raise OperatorError("no passphrase was given: nothing is done") from None
    return _pack(passphrase, "the passphrase")


def read_passphrase(path: str) -> bytes:
    """The first line of the file; "-" is standard input, and /dev/fd/3 what a script has opened
    as 3. Raises OperatorError: empty, too long, or others may read the file."""
    try:
        if path == "-":
            line = sys.stdin.buffer.readline(MAX_LENGTH + 2)
        else:
            with open(path, "rb") as file:
                facts = os.fstat(file.fileno())
                if stat.S_ISREG(facts.st_mode) and facts.st_mode & 0o077:
                    raise OperatorError(f"others may read {path}: `chmod 600 {path}`")
                line = file.readline(MAX_LENGTH + 2)
    except OSError as error:
        raise OperatorError(
            f"cannot read the passphrase from {path}: {error.strerror or error}"
        ) from error
    try:
        return _pack(line.rstrip(b"\r\n").decode(), path)
    except UnicodeDecodeError as error:
        raise OperatorError(f"{path} does not begin with a line of UTF-8: write it anew") from error


def _pack(passphrase: str, source: str) -> bytes:
    """In one of the forms that the same letters may have on another keyboard."""
    packed = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogateescape")
    if not packed:
        raise OperatorError(f"{source} is empty: a backup needs a passphrase")
    if len(packed) > MAX_LENGTH:
        raise OperatorError(f"{source} is too long: use at most {MAX_LENGTH} bytes")
    return packed
