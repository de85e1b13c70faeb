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
        self.is_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """The JSON object has what is given as ``extra={"event": …}``, too."""
        text = super().format(record)
        if self.is_json:
            entry = {"time": round(record.created, 3), "level": record.levelname.lower()}
            event = getattr(record, "event", None)
            text = json.dumps(
                entry | {"message": text} | ({} if event is None else {"event": event})
            )
        prefix = journal.prefix(record.levelno)
        return "\n".join(prefix + line for line in text.split("\n"))


def start_logging(*, as_json: bool, verbose: bool) -> None:
    """Log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormat(as_json=as_json))
    root = logging.getLogger("tunnel")
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbose else logging.INFO)


def tell(sentence: str) -> None:
    """A line for the person at the terminal; an entry, where the log is JSON."""
    _say(sentence, "punchtun: ", logging.INFO)


def tell_ready(sentence: str) -> None:
    """As `tell`, and begins with the word that others wait for."""
    _say(f"ready: {sentence}", "", logging.INFO)


def tell_error(sentence: str) -> None:
    """As `tell`, of what has ended the process."""
    _say(sentence, "punchtun: ", logging.ERROR)


def _say(sentence: str, prefix: str, level: int) -> None:
    root = logging.getLogger("tunnel")
    formats = [handler.formatter for handler in root.handlers]
    if any(isinstance(each, LogFormat) and each.is_json for each in formats):
        root.log(level, "%s", sentence)
    else:
        print(f"{journal.prefix(level)}{prefix}{sentence}", file=sys.stderr, flush=True)
