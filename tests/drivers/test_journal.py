from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tunnel.drivers import journal
from tunnel.drivers.log import LogFormat


@pytest.fixture
def stderr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file as stderr, and JOURNAL_STREAM as systemd sets it for it."""
    with (tmp_path / "stderr").open("w") as file:
        facts = os.fstat(file.fileno())
        # pytest puts its own stderr back after fixtures.
        monkeypatch.setattr(journal, "sys", SimpleNamespace(stderr=file))
        monkeypatch.setenv("JOURNAL_STREAM", f"{facts.st_dev}:{facts.st_ino}")
        yield file


@pytest.mark.parametrize(
    ("level", "prefix"),
    [
        (logging.DEBUG, "<7>"),
        (logging.INFO, "<6>"),
        (logging.WARNING, "<4>"),
        (logging.ERROR, "<3>"),
        (logging.CRITICAL, "<2>"),
    ],
)
def test_the_journal_is_told_how_much_it_matters(stderr, level: int, prefix: str) -> None:
    assert journal.prefix(level) == prefix


@pytest.mark.parametrize("stream", [None, "", "1", "x:y", "0:0"])
def test_nobody_else_sees_prefixes(stderr, stream: str | None, monkeypatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM")
    if stream is not None:
        monkeypatch.setenv("JOURNAL_STREAM", stream)
    assert journal.prefix(logging.ERROR) == ""


def test_stderr_may_be_no_file(stderr, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr.close()
    assert journal.prefix(logging.ERROR) == ""


def test_each_line_of_an_entry_has_its_prefix(stderr) -> None:
    record = logging.LogRecord("tunnel", logging.WARNING, "", 0, "one\ntwo", (), None)
    assert LogFormat(as_json=False).format(record) == "<4>one\n<4>two"
