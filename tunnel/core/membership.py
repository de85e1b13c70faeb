"""Who belongs to the network: keys, certificates, tunnel addresses, what joining needs.

The network *is* an Ed25519 signing key, made on the first node. Members also share a secret, from
which three keys are derived: the tag under which they meet at the server (who knows the tag but can
derive nothing from it), the key that seals announcements, and the preshared key of their sessions.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

from tunnel.errors import AuthenticationFailed, Malformed, OperatorError
from tunnel.noise.keys import PresharedKey, PrivateKey, PublicKey, SigningKey, VerifyKey
from tunnel.noise.sealing import derive_key, open_blob
from tunnel.wire.certificate import SIGNED_PREFIX, Certificate, parse_certificate
from tunnel.wire.confidential import Confidential
from tunnel.wire.invitation import (
    INVITATION_ID_LENGTH,
    Admission,
    JoinAnswer,
    JoinStatus,
    parse_admission,
)
from tunnel.wire.rendezvous import NETWORK_TAG_LENGTH


@dataclass(frozen=True)
class NetworkIdentity(Confidential):
    key: VerifyKey
    secret: bytes = field(repr=False)
    """32 bytes shared by the members."""

    @cached_property
    def tag(self) -> bytes:
        return derive_key(b"network tag", self.secret)[:NETWORK_TAG_LENGTH]

    @cached_property
    def announcement_key(self) -> bytes:
        return derive_key(b"announcement", self.secret)

    @cached_property
    def preshared(self) -> PresharedKey:
        return PresharedKey(derive_key(b"session", self.secret))

    @property
    def id(self) -> str:
        """Short and public: for people and logs."""
        return derive_key(b"network id", self.key.data).hex()[:12]

    def verify(self, packed: bytes, wall_time: float) -> Certificate:
        """The certificate in `packed`, if this network signed it and it has not expired.

        Raises Malformed or AuthenticationFailed.
        """
        certificate = parse_certificate(packed)
        self.key.verify(SIGNED_PREFIX + certificate.signed_part(), certificate.signature)
        if certificate.expires and wall_time >= certificate.expires:
            raise AuthenticationFailed("certificate expired")
        return certificate


def sign_certificate(certificate: Certificate, signing_key: SigningKey) -> Certificate:
    return replace(
        certificate, signature=signing_key.sign(SIGNED_PREFIX + certificate.signed_part())
    )


def seniority(certificate: Certificate) -> tuple[int, bytes]:
    """Smaller is older. What two certificates claim belongs to the older: with several inviters,
    who know of each other's members late, nobody loses what he had. The same on every node, and
    after a certificate was issued anew, for which its serial grows."""
    return certificate.issued, certificate.key


# Tunnel addresses


def derive_ula(network: VerifyKey, node: PublicKey) -> ipaddress.IPv6Interface:
    """The node's IPv6 address: a /64 of the network (RFC 4193 §3.2.2), its key in the low half."""
    prefix = b"\xfd" + derive_key(b"ipv6 prefix", network.data)[:7]
    low = derive_key(b"ipv6 interface", node.data)[:8]
    return ipaddress.IPv6Interface((prefix + low, 64))


def choose_ipv4_network(
    network: VerifyKey, clashes: Callable[[ipaddress.IPv4Network], bool]
) -> ipaddress.IPv4Network:
    """A /24 of 10/8 derived from the network's key, the first that clashes with no local route.

    Never 100.64/10: that is what the carrier uses on exactly the machines we are for.
    """
    for attempt in range(256):
        low = derive_key(b"ipv4 prefix", network.data, bytes([attempt]))[:2]
        prefix = ipaddress.IPv4Network((b"\x0a" + low + b"\0", 24))
        if not clashes(prefix):
            return prefix
    raise OperatorError(
        "every prefix tried in 10.0.0.0/8 clashes with a local route; "
        "choose one yourself, for example --ip 192.168.77.1/24"
    )


def choose_ipv4_address(
    prefix: ipaddress.IPv4Network, taken: Iterable[ipaddress.IPv4Address], start: int = 0
) -> ipaddress.IPv4Interface:
    """The lowest address of `prefix` that is free; or the next free one from its number `start`
    on, any number, as if they lay in a circle."""
    used = set(taken)
    ends = 0 if prefix.prefixlen >= 31 else 1
    count = prefix.num_addresses - 2 * ends
    for step in range(count):
        address = prefix.network_address + ends + (start + step) % count
        if address not in used:
            return ipaddress.IPv4Interface((address, prefix.prefixlen))
    raise OperatorError(f"no address is free in {prefix}")


# Invitations


def invitation_id(token: bytes) -> bytes:
    """By it the inviter finds the token of a request; it tells nobody the token."""
    return derive_key(b"invitation id", token)[:INVITATION_ID_LENGTH]


def join_key(label: bytes, mine: PrivateKey, theirs: PublicKey, token: bytes) -> bytes:
    """What only the inviter and the holder of the token can derive."""
    return derive_key(label, mine.exchange(theirs), token)


def first_address(inviter: bytes) -> int:
    """From which number on the inviter of this key gives addresses away; the founder begins at the
    lowest. So two of them, or one that was restored from an old backup, seldom give the same
    address to two machines they do not both know of."""
    return int.from_bytes(derive_key(b"first address", inviter)[:4], "little")


def issue_time(wall_time: float, known: Iterable[Certificate]) -> int:
    """The time of a new certificate: never before one that is known, or a clock that is not set (a
    Raspberry Pi has none of its own) would make the newest member the oldest."""
    return max(int(wall_time), *(certificate.issued for certificate in known))


def found_network(
    *,
    signing_key: SigningKey,
    secret: bytes,
    static: PrivateKey,
    name: str,
    address: ipaddress.IPv4Interface,
    wall_time: float,
) -> tuple[NetworkIdentity, Certificate]:
    """A new network and its founder's certificate."""
    identity = NetworkIdentity(signing_key.verify_key, secret)
    certificate = Certificate(
        key=static.public_key.data,
        name=name,
        addresses=(address, derive_ula(identity.key, static.public_key)),
        serial=1,
        issued=int(wall_time),
        may_invite=True,
    )
    return identity, sign_certificate(certificate, signing_key)


def open_join_answer(
    answer: JoinAnswer, static: PrivateKey, inviter: PublicKey, token: bytes
) -> Admission | JoinStatus:
    """What the inviter said. Raises AuthenticationFailed or Malformed: it was not the inviter."""
    if answer.status is JoinStatus.GRANTED:
        key = join_key(b"join answer", static, inviter, token)
        return parse_admission(open_blob(key, answer.sealed))
    key = join_key(b"join refusal", static, inviter, b"")
    if open_blob(key, answer.sealed) != bytes([answer.status]):
        raise Malformed("join answer")
    return answer.status
