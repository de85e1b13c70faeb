"""What is sealed with a passphrase that a person types: a network's backup."""

from __future__ import annotations

from nacl.exceptions import RuntimeError as SodiumError
from nacl.pwhash import argon2id

from tunnel.errors import AuthenticationFailed, OperatorError
from tunnel.noise.keys import RandomBytes
from tunnel.noise.primitives import KEY_LENGTH
from tunnel.noise.sealing import NONCE_LENGTH, derive_key, open_blob, seal_blob
from tunnel.wire.backup import SALT_LENGTH, SealedBackup

PASSES = 4
MEMORY = 64 * 1024
"""In KiB. RFC 9106 §4 names this much memory, and 3 passes, for where there is little: a Raspberry
Pi with 512 MiB still has it. A PC takes 0.07 s."""


def seal_with_passphrase(
    content: bytes,
    passphrase: bytes,
    random_bytes: RandomBytes,
    *,
    passes: int = PASSES,
    memory: int = MEMORY,
) -> SealedBackup:
    """Takes as long, and as much memory, as opening it will.

    Raises OperatorError if the memory is not there.
    """
    empty = SealedBackup(passes, memory, random_bytes(SALT_LENGTH), b"")
    sealed = seal_blob(
        _stretch(empty, passphrase), content, random_bytes(NONCE_LENGTH), empty.header()
    )
    return SealedBackup(passes, memory, empty.salt, sealed)


def open_with_passphrase(backup: SealedBackup, passphrase: bytes) -> bytes:
    """The content. Raises AuthenticationFailed("passphrase"): another passphrase, or bytes that
    somebody changed; nobody can tell which. OperatorError if the memory is not there."""
    try:
        return open_blob(_stretch(backup, passphrase), backup.sealed, backup.header())
    except AuthenticationFailed:
        raise AuthenticationFailed("passphrase") from None


def _stretch(backup: SealedBackup, passphrase: bytes) -> bytes:
    """Argon2id (RFC 9106), version 1.3 with one lane, as libsodium always does it."""
    try:
        stretched = argon2id.kdf(
            KEY_LENGTH,
            passphrase,
            backup.salt,
            opslimit=backup.passes,
            memlimit=backup.memory * 1024,
        )
    except SodiumError as error:
        raise OperatorError(
            f"a passphrase takes {backup.memory // 1024} MiB of memory, which are not free here: "
            "stop something, or do it on another machine"
        ) from error
    return derive_key(b"network backup", stretched)
