"""All that an object of the core holds, by name, so that a test can say what has changed in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

Found = dict[str, Any]
_LISTS = (list, tuple, deque)
_SETS = (set, frozenset)


def describe_state(root: object, without: Collection[str] = ()) -> Found:
    """Every value that can be reached from `root`, by the way to it. What hangs on an attribute
    named in `without` is left out, and so is what a function holds."""
    return dict(_walk(root, "", {}, frozenset(without)))


def find_changes(before: Found, after: Found) -> dict[str, tuple[Any, Any]]:
    """What is not the same in both."""
    return {
        way: (before.get(way), after.get(way))
        for way in before.keys() | after.keys()
        if before.get(way) != after.get(way)
    }


def measure_tables(root: object) -> dict[str, int]:
    """How many entries everything has that can have entries, by the way to it."""
    return {
        way: value.count
        for way, value in describe_state(root).items()
        if isinstance(value, _Entries)
    }


class _Entries:
    """How many a collection has, and in which order the keys are."""

    def __init__(self, count: int, keys: tuple[str, ...] = ()) -> None:
        self.count = count
        self.keys = keys

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Entries) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self.count} entries {self.keys}"


def _walk(
    value: Any, way: str, seen: dict[int, str], without: frozenset[str]
) -> Iterator[tuple[str, Any]]:
    if value is None or isinstance(value, (bool, int, float, str, bytes, Enum)):
        yield way, value
    elif isinstance(value, (bytearray, memoryview)):
        yield way, bytes(value)
    elif callable(value) and not _is_ours(value):
        return
    elif id(value) in seen:
        yield way, f"what {seen[id(value)]} is"
    elif _is_ours(value) or isinstance(value, (Mapping, *_LISTS, *_SETS)):
        if not isinstance(value, tuple):  # Those are equal if what they hold is.
            seen[id(value)] = way
        yield from _walk_inside(value, way, seen, without)
    else:
        yield way, type(value).__name__ if type(value).__repr__ is object.__repr__ else str(value)


def _walk_inside(
    value: Any, way: str, seen: dict[int, str], without: frozenset[str]
) -> Iterator[tuple[str, Any]]:
    if _is_ours(value) and not isinstance(value, tuple):
        for name in _attributes(value):
            if name not in without and hasattr(value, name):
                yield from _walk(getattr(value, name), f"{way}.{name}", seen, without)
    if isinstance(value, Mapping):
        yield way, _Entries(len(value), tuple(map(_name, value)))
        for key, entry in value.items():
            yield from _walk(entry, f"{way}[{_name(key)}]", seen, without)
    elif isinstance(value, _SETS):
        yield way, _Entries(len(value), tuple(sorted(map(_name, value))))
    elif isinstance(value, _LISTS):
        yield way, _Entries(len(value))
        for number, entry in enumerate(value):
            yield from _walk(entry, f"{way}[{number}]", seen, without)


def _is_ours(value: object) -> bool:
    return type(value).__module__.startswith("tunnel.") and not isinstance(value, type)


def _attributes(value: object) -> Iterable[str]:
    names = dict.fromkeys(getattr(value, "__dict__", ()))
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        names.update(dict.fromkeys((slots,) if isinstance(slots, str) else slots))
    return names


def _name(key: object) -> str:
    """Of an entry: what it is, or which number it has where that can change with the run."""
    if isinstance(key, bytes):
        return key.hex()
    return type(key).__name__ if _is_ours(key) and not isinstance(key, tuple) else str(key)


def changes_of(
    root: object, act: Callable[[], object], without: Collection[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """What `act` changes in `root`."""
    before = describe_state(root, without)
    act()
    return find_changes(before, describe_state(root, without))
