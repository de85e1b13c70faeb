"""Which name means which addresses: the same on every node that knows the same members."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from tunnel.core.membership import seniority
from tunnel.wire.certificate import Certificate

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def name_members(certificates: Iterable[Certificate]) -> dict[str, list[Address]]:
    """Names in order, each with the addresses at which its holder is reached. A name, or an
    address, that two certificates have belongs to the older: nobody can take another's."""
    names: dict[str, list[Address]] = {}
    taken: set[Address] = set()
    for certificate in sorted(certificates, key=seniority):
        addresses = [each.ip for each in certificate.addresses if each.ip not in taken]
        taken.update(addresses)
        if addresses and certificate.name not in names:
            names[certificate.name] = addresses
    return dict(sorted(names.items()))
