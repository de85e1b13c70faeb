"""Lines of the log, for people or as JSON."""

from __future__ import annotations

import json
import logging
import sys

from tunnel.drivers import journal


class LogFormat(logging.Formatter):
    """One line per entry: words for people, or one JSON object."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__("%(message)s")
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if self._as_json:
            entry = {"time": round(record.created, 3), "level": record.levelname.lower()}
            text = json.dumps(entry | {"message": text})
        prefix = journal.prefix(record.levelno)
        return "\n".join(prefix + line for line in text.split("\n"))


def start_logging(*, as_json: bool, verbose: bool) -> None:
    """Log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormat(as_json=as_json))
    root = logging.getLogger("tunnel")
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
