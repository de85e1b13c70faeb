"""pyroute2, as far as it is needed.

The package imports all of itself, some 75 modules for what a node never asks: 5 MiB, and a tenth of
its start. So what is needed is imported without the package's own `__init__`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from typing import Any, NamedTuple

_NAME = "pyroute2"


class Netlink(NamedTuple):
    route: Any
    """The class IPRoute."""
    error: Any
    """The class NetlinkError."""


@functools.cache
def load_netlink() -> Netlink:
    """Raises ImportError: there is no pyroute2."""
    if _NAME not in sys.modules and (spec := importlib.util.find_spec(_NAME)) is not None:
        sys.modules[_NAME] = importlib.util.module_from_spec(spec)
        try:
            return _import()
        except (ImportError, AttributeError):
            # A version whose parts need the whole.
            for name in [each for each in sys.modules if each.startswith(f"{_NAME}.")]:
                del sys.modules[name]
        finally:
            # Who imports the package later gets it whole.
            del sys.modules[_NAME]
    return _import()


def _import() -> Netlink:
    return Netlink(
        importlib.import_module(f"{_NAME}.iproute.linux").IPRoute,
        importlib.import_module(f"{_NAME}.netlink.exceptions").NetlinkError,
    )
