"""A small internet on this machine: network namespaces, joined by veth, with the kernel's own NATs.

::

      vps             vps2            (public_host: no NAT, IPv4 and IPv6)
    203.0.113.10    203.0.113.11
       |               |
    ===+===============+======== internet =========+==================+====
       (one router; 192.0.2.0/24, 198.51.100.0/24, |                  |
        203.0.113.0/24, 2001:db8::/32)             |                  |
                                             198.51.100.7        192.0.2.33
                                              homeA (NAT)         cgn (carrier's NAT)
                                              192.168.1.1         100.64.0.1
                                               |       |           |         |
                                              pi     laptop      modem     lteR (NAT again)
                                     192.168.1.2  192.168.1.3  100.64.0.2  100.64.0.3
                                                                           192.168.8.1
                                                                             |
                                                                           camera 192.168.8.2

::

    with Lab() as lab:
        vps = lab.public_host("vps", "203.0.113.10", ipv6="2001:db8::10")
        home = lab.home_router("homeA", public="198.51.100.7", lan="192.168.1.0/24")
        pi = home.host("pi")
        carrier = lab.carrier("cgn", public="192.0.2.33", mapping="address-and-port-dependent")
        camera = carrier.home_router("lteR", lan="192.168.8.0/24").host("camera")
        pi.run(["ping", "-c1", vps.ip4])

Every interface is made inside a namespace of the lab: nothing leaves it, and the machine's own
network isn't touched. Namespaces are named `pt<pid>-<number>-<name>` (`ip netns exec` takes them).
All is gone when the `with` ends: by an exception, Ctrl-C and SIGTERM too. What SIGKILL leaves
behind the next lab removes.
"""

from __future__ import annotations

import atexit
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from .cleanup import Cleanup, remove_stale
from .host import Host
from .internet import Internet
from .namespace import LabError, LabUnavailable, check_available
from .nat import Nat
from .router import Router, make_router
from .soft_nat import SoftwareNat
from .soft_router import SoftRouter

__all__ = [
    "Host",
    "Lab",
    "LabError",
    "LabUnavailable",
    "Nat",
    "Router",
    "SoftRouter",
    "SoftwareNat",
    "Terminated",
    "remove_stale",
]


class Terminated(KeyboardInterrupt):
    """SIGTERM, while a lab is open: ends scripts and pytest alike, as Ctrl-C does."""


class Lab:
    """The small internet; see above. NAT options are the fields of `Nat`; with `software=True`
    those of `SoftwareNat`, which has every combination of behaviours.

    Programs still running at the end get SIGTERM, and SIGKILL `grace` seconds later.
    """

    def __init__(self, *, grace: float = 3.0) -> None:
        self._grace = grace
        self._former: Any = None

    def __enter__(self) -> Lab:
        check_available()
        remove_stale()
        self._cleanup = Cleanup(self._grace)
        self.prefix = self._cleanup.prefix
        atexit.register(self._cleanup.run)
        self._former = _raise_on_sigterm()
        try:
            self._internet = Internet(self._cleanup)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        if error is not None and hasattr(error, "add_note") and self._cleanup.processes:
            error.add_note(self.transcript())

    def close(self) -> None:
        """End its processes, remove all it made. What `with` does at its end."""
        try:
            self._cleanup.run()
        finally:
            atexit.unregister(self._cleanup.run)
            if self._former is not None:
                signal.signal(signal.SIGTERM, self._former)
                self._former = None

    def internet(self) -> Internet:
        """The router between all public addresses."""
        return self._internet

    def public_host(self, name: str, address: str, *, ipv6: str | None = None) -> Host:
        """A machine directly on the internet."""
        host = Host(name, self._cleanup)
        host.attach(self._internet, address, ipv6)
        return host

    def home_router(
        self,
        name: str,
        *,
        public: str,
        lan: str = "192.168.1.0/24",
        public6: str | None = None,
        lan6: str | None = None,
        **nat: Any,
    ) -> Router:
        """A router on the internet. With `public6` and `lan6` its LAN has public IPv6 addresses
        behind a firewall that lets in only what was asked for."""
        router = make_router(name, self._cleanup, lan=lan, lan6=lan6, **nat)
        self._place(router, public, public6)
        return router

    def carrier(
        self,
        name: str,
        *,
        public: str,
        inside: str = "100.64.0.0/16",
        public6: str | None = None,
        inside6: str | None = None,
        isolated: bool = True,
        **nat: Any,
    ) -> Router:
        """A carrier-grade NAT; its subscribers can't reach each other unless `isolated=False`."""
        router = make_router(
            name, self._cleanup, lan=inside, lan6=inside6, isolated=isolated, **nat
        )
        self._place(router, public, public6)
        return router

    @property
    def cleanup(self) -> Cleanup:
        """For what is to end with the lab."""
        return self._cleanup

    def transcript(self) -> str:
        """What the processes started in this lab wrote last; also after its end."""
        return "\n".join(process.tail() for process in self._cleanup.processes)

    def _place(self, router: Router, public: str, public6: str | None) -> None:
        if (router.lan6 is None) != (public6 is None):
            raise ValueError(f"{router.name}: IPv6 needs both an address and a prefix")
        router.attach(self._internet, public, public6)
        if router.lan6 is not None:
            self._internet.route6(str(router.lan6), router)


def _raise_on_sigterm() -> Any:
    """Make SIGTERM end the `with` like an exception; the former disposition, None if unchanged."""
    if threading.current_thread() is not threading.main_thread():
        return None
    former = signal.getsignal(signal.SIGTERM)
    if former is not signal.SIG_DFL:
        return None

    def leave(number: int, frame: FrameType | None) -> None:
        raise Terminated(f"signal {number}")

    signal.signal(signal.SIGTERM, leave)
    return former
