"""pyroute2 without what is not needed; each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

FIRST = "import sys\nfrom tunnel.drivers.netlink import load_netlink\n"


def run(code: str) -> str:
    argv = [sys.executable, "-c", FIRST + code]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def test_routes_are_read_without_the_rest() -> None:
    code = """
from tunnel.drivers.network import local_network
local_network()
print("pyroute2" in sys.modules, "pyroute2.ndb" in sys.modules, "pyroute2.netlink" in sys.modules)
"""
    assert run(code) == "False False True"


def test_the_package_can_be_imported_afterwards_and_before() -> None:
    code = "from pyroute2 import IPRoute, NetlinkError\n"
    same = "print(load_netlink() == (IPRoute, NetlinkError))"
    assert run("load_netlink()\n" + code + same) == "True"
    assert run(code + same) == "True"


def test_a_version_whose_parts_need_the_whole() -> None:
    code = """
import importlib, importlib.util
make = importlib.util.module_from_spec
def spoilt(spec):
    module = make(spec)
    module.__path__ = []
    return module
importlib.util.module_from_spec = spoilt
found = load_netlink()
importlib.util.module_from_spec = make
import pyroute2
print(found == (pyroute2.IPRoute, pyroute2.NetlinkError))
"""
    assert run(code) == "True"
