"""One node in the middle, which a server has registered, and others that know nobody else.

::

              server
                |
    n1 --+-- hub --+-- n3       direct paths, no NAT
         |         |
        n2        n4  ...
"""

from __future__ import annotations

import ipaddress

from tests.sim.host import Host
from tests.sim.world import World
from tunnel.core.configuration import KnownPeer
from tunnel.core.membership import sign_certificate
from tunnel.noise.keys import PrivateKey
from tunnel.wire.certificate import Certificate

HUB = "hub"


class Star(World):
    def __init__(self, count: int, settle: float, *, is_examined: bool = True) -> None:
        """`settle`: virtual seconds after the last has begun; all are direct then. `is_examined`:
        with thousands that takes too long."""
        super().__init__(seed=1)
        self.names = [f"n{number}" for number in range(1, count + 1)]
        for name in [HUB, *self.names]:
            self.hosts[name] = host = self.net.add_host(name)
            host.opens_sockets, host.is_examined = True, is_examined
            self._certify(name, host)
        self.start_node(HUB, tuple(KnownPeer(self.certificate(name)) for name in self.names))
        self.net.run_for(1)
        at = (self.hosts[HUB].endpoint(),)
        self.server_names = ()
        for name in self.names:
            self.start_node(name, (KnownPeer(self.certificate(HUB), at),))
            self.net.run_for(0.01)
        self.net.run_for(settle)
        assert all(self.state(HUB, name) == "direct" for name in self.names)

    def _certify(self, name: str, host: Host) -> Certificate:
        number = len(self._certificates) + 1
        key = self._keys[name] = PrivateKey.generate(host.random_bytes)
        address = ipaddress.IPv4Interface((0x0A090000 + number, 16))
        certificate = Certificate(key.public_key.data, name, (address,), number, 0)
        self._certificates[name] = sign_certificate(certificate, self._signing_key)
        return self._certificates[name]
