"""Which name means which addresses: the same on every node that knows the same members. And the
lines in which that is written down, as in /etc/hosts (hosts(5))::

    10.81.7.2 pi.punchtun
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping

from tunnel.core.membership import seniority
from tunnel.wire.certificate import Certificate, is_valid_name

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

DOMAIN = "punchtun"
_LINE = re.compile(rb"([0-9a-f.:]{2,39}) ([a-z0-9-]{1,63})\.punchtun")


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


def format_names(names: Mapping[str, Iterable[Address]]) -> bytes:
    """A line for each address."""
    return b"".join(
        f"{address} {name}.{DOMAIN}\n".encode()
        for name, addresses in names.items()
        for address in addresses
    )


def parse_names(text: bytes) -> tuple[dict[str, list[Address]], int]:
    """What `format_names` wrote, if somebody who is not trusted says that it did; and how many
    lines are left out, since they are none of its lines, or name an address at which no other
    machine is."""
    names: dict[str, list[Address]] = {}
    refused = 0
    for line in text.split(b"\n"):
        match = _LINE.fullmatch(line)
        address = _parse_address(match[1].decode()) if match else None
        if match and address is not None and is_valid_name(match[2].decode()):
            names.setdefault(match[2].decode(), []).append(address)
        elif line:
            refused += 1
    return names, refused


def _parse_address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    is_elsewhere = (
        address.is_unspecified
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        # Limited broadcast among them; and ::127.0.0.1.
        or address.is_reserved
        # "This network" (RFC 1122 section 3.2.1.3): the kernel takes 0.x for itself.
        or (address.version == 4 and address.packed[0] == 0)
        or (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None)
    )
    return None if is_elsewhere or str(address) != text else address
