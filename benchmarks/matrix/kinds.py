"""The NATs that pairs are made of, each for the lab and for the simulator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.netns.host import Host
from tests.netns.lab import Lab, Router
from tests.netns.soft_nat import SoftwareNat
from tests.sim.nat import Filtering, Firewall, Mapping, Nat
from tests.sim.theory import Side

VARYING = "address-and-port-dependent"
_PUBLIC = ("198.51.100.7", "192.0.2.33")


class Site(NamedTuple):
    """One side in the lab."""

    host: Host
    routers: list[Router]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a node is behind."""

    name: str
    about: str
    build: Callable[[Lab, int], Site]
    """In the lab; the number of the side is 0 or 1."""
    side: Callable[[], Side]
    """The same for the simulator."""


def _public(lab: Lab, number: int) -> Site:
    return Site(lab.public_host(f"host{number}", _PUBLIC[number]), [])


def _kernel(**options: Any) -> Callable[[Lab, int], Site]:
    def build(lab: Lab, number: int) -> Site:
        router = lab.home_router(
            f"home{number}", public=_PUBLIC[number], lan=f"192.168.{number + 1}.0/24", **options
        )
        return Site(router.host(f"host{number}"), [router])

    return build


def _dual_stack(lab: Lab, number: int) -> Site:
    prefix = f"2001:db8:{number + 1}:"
    return _kernel(public6=f"{prefix}:1", lan6=f"{prefix}1::/64")(lab, number)


def _behind_carrier(**options: Any) -> Callable[[Lab, int], Site]:
    def build(lab: Lab, number: int) -> Site:
        inside = f"100.{64 + number}.0.0/16"
        carrier = lab.carrier(f"cgn{number}", public=_PUBLIC[number], inside=inside, **options)
        home = carrier.home_router(f"home{number}", lan=f"192.168.{number + 1}.0/24")
        return Site(home.host(f"host{number}"), [home, carrier])

    return build


def _software(name: str, about: str, **options: Any) -> Kind:
    nat = SoftwareNat(**options)
    build = _kernel(software=True, **options)
    return Kind(name, about, build, lambda: nat.simulated())


def _carrier(name: str, about: str, **options: Any) -> Kind:
    nat = SoftwareNat(**options)
    build = _behind_carrier(software=True, **options)
    return Kind(name, about, build, lambda: [Nat.linux(), nat.simulated()])


_RANDOM: dict[str, Any] = {"mapping": VARYING, "allocation": "random"}
_BLOCK: dict[str, Any] = {"mapping": VARYING, "allocation": "random-in-block"}
_OPEN, _BY_ADDRESS = Filtering.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT

KINDS = {
    kind.name: kind
    for kind in (
        Kind("open", "a public address, nothing filtered", _public, lambda: None),
        Kind(
            "ipv6-wall",
            "IPv6 behind a stateful firewall, IPv4 behind a Linux router",
            _dual_stack,
            Firewall,
        ),
        _software("eim-eif", "steady mapping, lets everybody in", filtering="endpoint-independent"),
        _software("eim-adf", "steady, filters by address", filtering="address-dependent"),
        Kind(
            "linux",
            "steady, filters by address and port: nftables masquerade, the kernel's own",
            _kernel(),
            Nat.linux,
        ),
        Kind(
            "linux-tracks",
            "the same, and it tracks what comes unasked",
            _kernel(unsolicited="track"),
            lambda: Nat.linux(drops=False),
        ),
        _software(
            "adm-random",
            "a random port per address",
            mapping="address-dependent",
            allocation="random",
        ),
        _software(
            "apdm-seq",
            "the next port per endpoint",
            mapping=VARYING,
            allocation="sequential",
        ),
        Kind(
            "apdm-random",
            "a random port of the full range per endpoint: the kernel's fully-random",
            _kernel(mapping=VARYING),
            lambda: Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT, inbound_refresh=True),
        ),
        _software("apdm-b64", "a random port of a block of 64", **_BLOCK, block_size=64),
        _software("apdm-b512", "the same of 512", **_BLOCK, block_size=512),
        _software("apdm-b2048", "the same of 2048", **_BLOCK, block_size=2048),
        _carrier(
            "cgn-eim",
            "a Linux router behind a carrier's steady mapping, filtered by address",
            filtering="address-dependent",
        ),
        _carrier("cgn-b512", "the same, random in a block of 512", **_BLOCK, block_size=512),
        _carrier("cgn-random", "the same, random of the full range", **_RANDOM),
    )
}

QUICK = ("open", "linux", "linux-tracks", "apdm-seq", "apdm-random", "cgn-b512")
"""Kinds of `--quick`."""
