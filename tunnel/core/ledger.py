"""What an inviter keeps: its invitations, and the certificates it has issued or knows of."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from tunnel.core.machine import RandomBytes
from tunnel.core.membership import (
    NetworkIdentity,
    choose_ipv4_address,
    derive_ula,
    first_address,
    invitation_id,
    issue_time,
    join_key,
    sign_certificate,
)
from tunnel.core.revocations import Revocations, sign_revocation
from tunnel.errors import AuthenticationFailed, OperatorError, UsageError
from tunnel.noise.keys import PrivateKey, PublicKey, SigningKey
from tunnel.noise.primitives import constant_time_equal
from tunnel.noise.sealing import OVERHEAD, open_blob, seal_blob
from tunnel.wire.certificate import Certificate, Interface, is_valid_name
from tunnel.wire.confidential import Confidential
from tunnel.wire.invitation import (
    JOIN_ANSWER_HEAD,
    REVOKED_LENGTH,
    TOKEN_LENGTH,
    Admission,
    JoinAnswer,
    JoinRequest,
    JoinStatus,
    parse_wish,
)
from tunnel.wire.rendezvous import MAX_SEALED
from tunnel.wire.revocation import Revocation
from tunnel.wire.rotation import RotationAnswer, RotationRequest, RotationStatus

DEFAULT_EXPIRY = 24 * 3600
"""Of an invitation, in seconds."""
MAX_USES = 1000
"""Machines that one invitation may admit: what a server takes of one network."""
MAX_ADMISSION = MAX_SEALED - JOIN_ANSWER_HEAD - OVERHEAD
"""Bytes for which there is room in a join answer."""


@dataclass
class Invitation(Confidential):
    token: bytes = field(repr=False)
    name: str
    """Of the machine; of several, what their names begin with."""
    addresses: tuple[ipaddress.IPv4Interface, ...]
    """One for each machine it admits, given in this order."""
    expires: int
    """Unix seconds."""
    redeemed: dict[bytes, str] = field(default_factory=dict)
    """X25519 key → name, of those it has admitted. Only they may ask again, when the answer was
    lost."""

    @property
    def uses(self) -> int:
        return len(self.addresses)

    @property
    def unused(self) -> tuple[ipaddress.IPv4Interface, ...]:
        return self.addresses[len(self.redeemed) :]

    @property
    def is_used_up(self) -> bool:
        return len(self.redeemed) >= self.uses

    def is_open(self, wall_time: float) -> bool:
        return not self.is_used_up and wall_time < self.expires

    def end(self) -> None:
        """Admit nobody any more; who was admitted may still ask again."""
        self.addresses = self.addresses[: len(self.redeemed)]

    def strike(self, revoked: AbstractSet[bytes]) -> None:
        """Forget those that it has admitted and are revoked, and admit nobody in their place: the
        join string was on their machines."""
        if not revoked.isdisjoint(self.redeemed):
            self.redeemed = {k: name for k, name in self.redeemed.items() if k not in revoked}
            self.end()


class InvitationLedger:
    """Invitations and certificates issued here, and the certificates known of other inviters. The
    owner saves it after every change, and *before* anything leaves this machine that depends on it:
    a token must not be spent twice by a crash."""

    def __init__(
        self,
        identity: NetworkIdentity,
        signing_key: SigningKey,
        static: PrivateKey,
        issued: Iterable[Certificate],
        invitations: Iterable[Invitation] = (),
        struck: Iterable[Certificate] = (),
        successors: Mapping[bytes, bytes] | None = None,
    ) -> None:
        self._identity = identity
        self._signing_key = signing_key
        self._static = static
        self.issued = list(issued)
        """Own certificate first."""
        self.invitations = list(invitations)
        self.struck = list(struck)
        """Certificates of those that are revoked."""
        self.successors = dict(successors or {})
        """Key → the one that a member was given instead: the first it asked for, and no other."""

    @property
    def prefix(self) -> ipaddress.IPv4Network:
        """The network's IPv4 prefix, fixed by the founder's address."""
        for interface in self.issued[0].addresses:
            if isinstance(interface, ipaddress.IPv4Interface):
                return interface.network
        raise OperatorError("this network has no IPv4 prefix")

    @property
    def _start(self) -> int:
        own = self.issued[0]
        return 0 if own.serial == 1 else first_address(own.key)

    @property
    def _taken(self) -> set[ipaddress.IPv4Address]:
        """Addresses of members."""
        return {
            interface.ip
            for certificate in self.issued
            for interface in certificate.addresses
            if isinstance(interface, ipaddress.IPv4Interface)
        }

    def learn(self, certificates: Iterable[Certificate]) -> bool:
        """Note what other inviters have issued; the caller has verified it. Whether any is new."""
        known = {*self.issued, *self.struck}
        new = [certificate for certificate in certificates if certificate not in known]
        self.issued += new
        return bool(new)

    def invite(
        self,
        name: str,
        wall_time: float,
        random_bytes: RandomBytes,
        address: ipaddress.IPv4Address | None = None,
        expires_in: float = DEFAULT_EXPIRY,
        uses: int = 1,
    ) -> Invitation:
        """A fresh invitation for `uses` machines. It takes the place of an earlier one for the same
        name. Raises UsageError when the name or address cannot be given, OperatorError when there
        are not as many addresses."""
        self._check_name(name, uses)
        ended = [
            other
            for other in self.invitations
            if other.name == name or not other.is_open(wall_time)
        ]
        taken = self._taken | {
            i.ip for other in self.invitations if other not in ended for i in other.unused
        }
        chosen: list[ipaddress.IPv4Interface] = []
        if address is None:
            for _ in range(uses):
                chosen.append(choose_ipv4_address(self.prefix, taken, self._start))
                taken.add(chosen[-1].ip)
        elif uses > 1:
            raise UsageError(
                f"--ip is one machine's address, and --uses {uses} admits {uses} machines: leave "
                "--ip out, or invite them one by one"
            )
        else:
            chosen.append(ipaddress.IPv4Interface((address, self.prefix.prefixlen)))
            if address not in self.prefix:
                raise UsageError(f"{address} is not in this network's prefix {self.prefix}")
            ends = (self.prefix.network_address, self.prefix.broadcast_address)
            if self.prefix.prefixlen < 31 and address in ends:
                raise UsageError(
                    f"{address} cannot be a machine's: in {self.prefix} it means all or none"
                )
            if address in taken:
                raise UsageError(f"{address} belongs to another member or invitation")
        invitation = Invitation(
            random_bytes(TOKEN_LENGTH), name, tuple(chosen), int(wall_time + expires_in)
        )
        kept = [other for other in self.invitations if other not in ended or other.redeemed]
        for other in kept:
            if other in ended:
                other.end()
        self.invitations = [*kept, invitation]
        return invitation

    def _check_name(self, name: str, uses: int) -> None:
        """Raises UsageError."""
        if not 1 <= uses <= MAX_USES:
            raise UsageError(f"--uses {uses}: use 1 to {MAX_USES}")
        if not is_valid_name(name):
            raise UsageError(
                f"'{name}' is no valid name: use a-z, 0-9 and hyphens, at most 63 characters"
            )
        if uses > 1:
            if not is_valid_name(f"{name}-{MAX_USES}"):
                raise UsageError(f"'{name}' is too long to be numbered: use at most 58 characters")
        elif self.has_member(name):
            raise UsageError(f"a member named '{name}' exists already; choose another name")

    def redeem(
        self,
        request: JoinRequest,
        joiner: PublicKey,
        wall_time: float,
        random_bytes: RandomBytes,
        revoked: Sequence[bytes] = (),
    ) -> tuple[JoinAnswer, Certificate | None]:
        """The answer to a request, and the certificate if it has just been made: the invitation
        has one use less then. With the answer go as many of the keys `revoked` as there is room
        for, the first of them. All of it happens in here, so two that ask at once ask one after
        the other.

        Raises AuthenticationFailed for a request that does not hold the token, Malformed for one
        that asks for what is no name: no answer then.
        """
        wanted = request.invitation
        found = [i for i in self.invitations if constant_time_equal(invitation_id(i.token), wanted)]
        invitation = found[0] if found else None
        if invitation is None:
            return self._refuse(JoinStatus.UNKNOWN, joiner, random_bytes), None
        # The request does not say which key: what opens for one of its forms opens for all, and the
        # server could have the invitation used up by a key that nobody has.
        if not joiner.is_canonical:
            raise AuthenticationFailed("joiner's key in another form")
        key = join_key(b"join request", self._static, joiner, invitation.token)
        wish = parse_wish(open_blob(key, request.sealed))
        name = invitation.redeemed.get(joiner.data)
        made = None
        if name is None:
            if invitation.is_used_up:
                return self._refuse(JoinStatus.USED, joiner, random_bytes), None
            if wall_time >= invitation.expires:
                return self._refuse(JoinStatus.EXPIRED, joiner, random_bytes), None
            name = self._choose_name(invitation, wish, wall_time)
            if name is None:
                return self._refuse(JoinStatus.NAME, joiner, random_bytes), None
            try:
                made = self._certify(invitation, name, joiner, wall_time)
            except OperatorError:
                return self._refuse(JoinStatus.UNKNOWN, joiner, random_bytes), None
            invitation.redeemed[joiner.data] = name
            self.issued.append(made)
        # The greatest serial: it may have become an inviter since.
        certificate = max(
            (c for c in self.issued if c.key == joiner.data and c.name == name),
            key=lambda c: c.serial,
        )
        admission = Admission(
            self._identity.key.data,
            self._identity.secret,
            certificate.pack(),
            self.issued[0].pack(),
        )
        room = (MAX_ADMISSION - len(admission.pack())) // REVOKED_LENGTH
        admission = admission._replace(revoked=tuple(k[:REVOKED_LENGTH] for k in revoked[:room]))
        answer_key = join_key(b"join answer", self._static, joiner, invitation.token)
        sealed = seal_blob(answer_key, admission.pack(), random_bytes(24))
        return JoinAnswer(JoinStatus.GRANTED, sealed), made

    def _choose_name(self, invitation: Invitation, wish: str, wall_time: float) -> str | None:
        """For the next machine of `invitation`, which asks for `wish` unless that is empty."""
        taken = {certificate.name for certificate in self.issued}
        if invitation.uses == 1:
            # Another inviter may have given it away since.
            name = invitation.name
            return name if wish in ("", name) and name not in taken else None
        taken |= {i.name for i in self.invitations if i.uses == 1 and i.is_open(wall_time)}
        if wish:
            return None if wish in taken else wish
        number = 1
        while f"{invitation.name}-{number}" in taken:
            number += 1
        return f"{invitation.name}-{number}"

    # Rotating

    def rotate(
        self, old: bytes, request: RotationRequest, wall_time: float
    ) -> tuple[RotationAnswer, bool]:
        """The answer to the member with the key `old`, and whether the ledger has changed. The
        certificate is as old as the one before, and gives the same.

        Raises AuthenticationFailed for a key that cannot be given: no answer then.
        """
        new = PublicKey(request.key)
        if not new.is_canonical:
            raise AuthenticationFailed("key in another form")
        proof = join_key(b"key rotation", self._static, new, old)
        if not constant_time_equal(proof, request.proof):
            raise AuthenticationFailed("rotation proof")
        given = self.successors.get(old)
        if given is not None and given != new.data:
            return RotationAnswer(RotationStatus.TAKEN), False
        if given is None:
            present = [c for c in self.issued if c.key == old]
            if not present or new.data in {c.key for c in (*self.issued, *self.struck)}:
                raise AuthenticationFailed("rotation to a key that is known")
            certificate = replace(
                max(present, key=lambda c: c.serial),
                key=new.data,
                serial=1 + max(c.serial for c in (*self.issued, *self.struck)),
            )
            self.issued.append(sign_certificate(certificate, self._signing_key))
            self.successors[old] = new.data
        successors = [c for c in self.issued if c.key == new.data]
        if not successors:
            return RotationAnswer(RotationStatus.TAKEN), False
        certificate = max(successors, key=lambda c: c.serial)
        revocation = sign_revocation(PublicKey(old), wall_time, self._signing_key, new.data)
        answer = RotationAnswer(RotationStatus.GRANTED, certificate.pack(), revocation)
        return answer, given is None

    # Revoking

    def sign_consequences(self, revocations: Revocations, wall_time: float) -> list[Revocation]:
        """Where a key is revoked without the successor that it was given here: the member was
        expelled, or another inviter has given another one. Of the successors one is left, the same
        for all; the others are void."""
        found = []
        for old, new in self.successors.items():
            statement = revocations.get(old)
            if statement is None or statement.successor == new:
                continue
            if new < statement.successor:
                ours = sign_revocation(PublicKey(old), wall_time, self._signing_key, new)
                found.append(ours)
            elif revocations.get(new) is None:
                found.append(sign_revocation(PublicKey(new), wall_time, self._signing_key))
        return found

    def sign_revocation(self, name: str, wall_time: float) -> Revocation:
        """Of the member of that name or key. Changes nothing: see `strike`. Raises UsageError:
        there is none, or several, or it is this node."""
        found = {c.key for c in self.issued if name in (c.name, str(PublicKey(c.key)))}
        # Who is about to rotate its key has two; what becomes of the first becomes of both.
        found -= {self.successors[key] for key in found if key in self.successors}
        if not found:
            known = ", ".join(sorted({c.name for c in self.issued[1:]})) or "nobody"
            raise UsageError(f"no member is called '{name}'; known here: {known}")
        if len(found) > 1:
            keys = " or ".join(f"`punchtun revoke -- {PublicKey(key)}`" for key in sorted(found))
            raise UsageError(f"several members are called '{name}'; give the key of one: {keys}")
        (key,) = found
        if key == self.issued[0].key:
            raise UsageError(
                f"'{name}' is this machine itself, which cannot revoke itself: let another that "
                "may invite do it, or, to end the network, remove punchtun from all of its machines"
            )
        return sign_revocation(PublicKey(key), wall_time, self._signing_key)

    def has_member(self, name: str) -> bool:
        return any(certificate.name == name for certificate in self.issued)

    def withdraw(self, name: str) -> bool:
        """What is unused of the invitation of that name; whether there was any."""
        withdrawn = [i for i in self.invitations if i.name == name and not i.is_used_up]
        for invitation in withdrawn:
            invitation.end()
        self._drop_empty()
        return bool(withdrawn)

    def strike(self, revoked: AbstractSet[bytes]) -> bool:
        """Those with revoked keys, and what they were invited with: their names and addresses may
        be given away again, and the same key is not certified once more. Whether there were any."""
        others = self.issued[1:]
        struck = [c for c in others if c.key in revoked]
        self.struck += struck
        self.issued[1:] = [c for c in others if c.key not in revoked]
        for invitation in self.invitations:
            invitation.strike(revoked)
        self._drop_empty()
        return bool(struck)

    def _drop_empty(self) -> None:
        self.invitations = [i for i in self.invitations if i.uses]

    def _certify(
        self, invitation: Invitation, name: str, joiner: PublicKey, wall_time: float
    ) -> Certificate:
        """Raises OperatorError if another inviter has given the address away since, and there is
        none instead."""
        if invitation.unused[0].ip in self._taken:
            kept = {i.ip for other in self.invitations for i in other.unused}
            chosen = choose_ipv4_address(self.prefix, self._taken | kept, self._start)
            used = len(invitation.redeemed)
            invitation.addresses = (
                *invitation.addresses[:used],
                chosen,
                *invitation.addresses[used + 1 :],
            )
        addresses: tuple[Interface, ...] = (
            invitation.unused[0],
            derive_ula(self._identity.key, joiner),
        )
        certificate = Certificate(
            key=joiner.data,
            name=name,
            addresses=addresses,
            serial=1 + max(c.serial for c in (*self.issued, *self.struck)),
            issued=issue_time(wall_time, self.issued),
        )
        return sign_certificate(certificate, self._signing_key)

    def _refuse(
        self, status: JoinStatus, joiner: PublicKey, random_bytes: RandomBytes
    ) -> JoinAnswer:
        key = join_key(b"join refusal", self._static, joiner, b"")
        return JoinAnswer(status, seal_blob(key, bytes([status]), random_bytes(24)))
