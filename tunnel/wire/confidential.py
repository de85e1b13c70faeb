"""What marks the classes whose objects hold what nobody else may learn."""

from __future__ import annotations

from typing import NoReturn


class Confidential:
    """It is not pickled, and so neither copied by `copy` nor sent to another process by accident.

    That its ``repr`` shows nothing is up to each class; `tests/test_secrets.py` asks them all.
    """

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        refuse_pickling(self)


def refuse_pickling(holder: object) -> NoReturn:
    """For classes that cannot have `Confidential` as their base."""
    raise TypeError(f"{type(holder).__name__} holds secrets: it is not to be pickled or copied")
