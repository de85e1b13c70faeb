"""A network's backup: all that another machine needs to decide on membership in its place.

::

    +---+---+-----+------------+------------+-----------+-------------------------------+
    | 1 | 1 | 0 0 | passes (4) | memory (4) | salt (16) | blob of the content           |
    +---+---+-----+------------+------------+-----------+-------------------------------+

    content       | signing key (32) | network secret (32) | made (8) | length (2) | server URL
                  | count (4) | length (2) | certificate | length (2) | certificate | ...
                  | count (4) | revocations (108 each) | ...

The second 1 says Argon2id, which makes the blob's key of a passphrase; `memory` is in KiB. All
before the blob is its associated data. `made` is in Unix seconds; the certificates and revocations
are all that the maker knew of. It is kept as text, see ``armour.py``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from tunnel.errors import Malformed
from tunnel.wire.certificate import Certificate, parse_certificate
from tunnel.wire.invitation import ServerUrl, parse_server_url
from tunnel.wire.revocation import REVOCATION_LENGTH, Revocation, parse_revocation

SALT_LENGTH = 16
MAX_PASSES = 16
MIN_MEMORY = 8
"""Of Argon2id, in KiB."""
MAX_MEMORY = 256 * 1024
"""In KiB. What a file asks for is spent before anybody knows whose file it is: a Raspberry Pi with
512 MiB has to survive it."""

_HEADER = struct.Struct(f"<BBHII{SALT_LENGTH}s")
_CONTENT = struct.Struct("<32s32sQH")
_COUNT = struct.Struct("<I")
_LENGTH = struct.Struct("<H")


@dataclass(frozen=True, slots=True)
class SealedBackup:
    passes: int
    memory: int
    """In KiB."""
    salt: bytes
    sealed: bytes

    def header(self) -> bytes:
        """What is associated with the blob."""
        return _HEADER.pack(1, 1, 0, self.passes, self.memory, self.salt)

    def pack(self) -> bytes:
        return self.header() + self.sealed


def parse_sealed_backup(data: bytes) -> SealedBackup:
    """Raises Malformed; its text is a sentence about the file. Passes and memory are in bounds."""
    if len(data) <= _HEADER.size:
        raise Malformed("it is cut short")
    version, algorithm, reserved, passes, memory, salt = _HEADER.unpack_from(data)
    if (version, algorithm, reserved) != (1, 1, 0):
        raise Malformed("it was made by a newer punchtun")
    if not 1 <= passes <= MAX_PASSES or not MIN_MEMORY <= memory <= MAX_MEMORY:
        raise Malformed(f"it asks for {passes} passes over {memory} KiB, which no punchtun does")
    return SealedBackup(passes, memory, salt, data[_HEADER.size :])


@dataclass(frozen=True, slots=True)
class NetworkBackup:
    signing_key: bytes = field(repr=False)
    """The seed of the network's Ed25519 key."""
    network_secret: bytes = field(repr=False)
    made: int
    """Unix seconds."""
    server: ServerUrl
    certificates: tuple[Certificate, ...]
    revocations: tuple[Revocation, ...] = ()
    """Whose signatures, like those of the certificates, the reader has yet to verify."""

    def pack(self) -> bytes:
        server = self.server.text.encode("ascii")
        head = _CONTENT.pack(self.signing_key, self.network_secret, self.made, len(server))
        parts = [head, server, _COUNT.pack(len(self.certificates))]
        for certificate in self.certificates:
            packed = certificate.pack()
            parts += [_LENGTH.pack(len(packed)), packed]
        parts.append(_COUNT.pack(len(self.revocations)))
        parts += [revocation.pack() for revocation in self.revocations]
        return b"".join(parts)


def parse_backup(data: bytes) -> NetworkBackup:
    try:
        signing_key, secret, made, length = _CONTENT.unpack_from(data)
        at = _CONTENT.size + length
        server = data[_CONTENT.size : at].decode("ascii")
        (count,) = _COUNT.unpack_from(data, at)
        at += _COUNT.size
        certificates = []
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size + length
            certificates.append(parse_certificate(data[at - length : at]))
        (count,) = _COUNT.unpack_from(data, at)
        at += _COUNT.size
        revocations = []
        for _ in range(count):
            at += REVOCATION_LENGTH
            revocations.append(parse_revocation(data[at - REVOCATION_LENGTH : at]))
        url = parse_server_url(server)
    except (struct.error, UnicodeDecodeError) as error:
        raise Malformed("backup") from error
    if at != len(data) or url.text != server:
        raise Malformed("backup")
    return NetworkBackup(signing_key, secret, made, url, tuple(certificates), tuple(revocations))
