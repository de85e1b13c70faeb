"""The thread pool, for what blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import gevent

T = TypeVar("T")


def run_in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """What `function` returns, or raises, when called in another thread. Blocks the calling
    greenlet, not the hub."""

    def call() -> tuple[T | None, Exception | None]:
        # The pool writes the traceback of everything raised in it to stderr, expected or not.
        try:
            return function(*arguments), None
        except Exception as error:
            return None, error

    result, error = gevent.get_hub().threadpool.apply(call)
    if error is not None:
        raise error
    value: T = result
    return value
