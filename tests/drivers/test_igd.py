"""What miniupnpc says, as the core is told it. The real one, with a real daemon: tests/netns."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tunnel.core.upnp_operations import Internal, UpnpFind, UpnpMap, UpnpResult, UpnpUnmap
from tunnel.drivers.igd import Igd

HOME = Internal("192.168.1.1", "192.168.1.2", 51820)


class Device:
    """miniupnpc.UPnP, as far as we call it."""

    location = "http://192.168.1.1:5000/ctl/IPConn"
    error = ""
    calls: list[tuple[Any, ...]]

    def __init__(self, **options: Any) -> None:
        assert options["multicastif"] == HOME.host
        type(self).calls = []

    def discover(self) -> int:
        if not self.location:
            raise Exception("Success")  # So it says that there is none.
        return 1

    def selectigd(self) -> str:
        return self.location

    def externalipaddress(self) -> str:
        return "203.0.113.9"

    def addportmapping(self, *arguments: Any) -> bool:
        if self.error:
            raise Exception(self.error)
        self.calls.append(arguments)
        return True

    def deleteportmapping(self, *arguments: Any) -> bool:
        self.calls.append(arguments)
        return True


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> type[Device]:
    fresh = type("Device", (Device,), {})
    monkeypatch.setitem(sys.modules, "miniupnpc", SimpleNamespace(UPnP=fresh))  # type: ignore[arg-type]
    return fresh


def found() -> Igd:
    igd = Igd()
    assert igd.carry_out(UpnpFind(1, HOME)) == UpnpResult(1)
    return igd


def test_mapped_and_deleted(device: type[Device]) -> None:
    igd = found()
    assert igd.carry_out(UpnpMap(2, HOME, 40123, 7200)) == UpnpResult(2, "203.0.113.9")
    assert igd.carry_out(UpnpUnmap(3, HOME, 40123)) == UpnpResult(3)
    mapped = (40123, "UDP", HOME.host, HOME.port, "punchtun", "", 7200)
    assert device.calls == [mapped, (40123, "UDP")]


def test_nobody_answers(device: type[Device]) -> None:
    device.location = ""
    result = Igd().carry_out(UpnpFind(1, HOME))
    assert result == UpnpResult(1, error="no IGD answers", is_silence=True)


@pytest.mark.parametrize("location", ["http://192.168.1.77:80/", "http://192.168.1.1.evil/", "?"])
def test_another_device_than_our_router_is_not_asked(device: type[Device], location: str) -> None:
    device.location = location
    igd = Igd()
    result = igd.carry_out(UpnpFind(1, HOME))
    assert result.is_silence
    assert "which is not our router" in result.error
    assert igd.carry_out(UpnpMap(2, HOME, 40123, 7200)).error == "no IGD is known"
    assert device.calls == []


@pytest.mark.parametrize(
    ("error", "is_silence"),
    [
        ("ConflictInMappingEntry", False),
        ("Action not authorized", False),
        ("Miniupnpc HTTP error", True),
        ("UnknownError", True),
    ],
)
def test_errors(device: type[Device], error: str, *, is_silence: bool) -> None:
    igd = found()
    device.error = error
    result = igd.carry_out(UpnpMap(2, HOME, 40123, 7200))
    assert result == UpnpResult(2, error=error, is_silence=is_silence)


def test_without_miniupnpc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "miniupnpc", None)
    result = Igd().carry_out(UpnpFind(1, HOME))
    assert result == UpnpResult(1, error="miniupnpc is missing", is_silence=True)
