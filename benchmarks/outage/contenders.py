"""All contenders by name."""

from __future__ import annotations

from .contender import Contender
from .punchtun import Punchtun
from .rivals import RIVALS

_ALL: tuple[type[Contender], ...] = (Punchtun, *RIVALS)
CONTENDERS = {one.name: one for one in _ALL}
