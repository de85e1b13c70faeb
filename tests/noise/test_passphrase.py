from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.ends import seeded
from tests.noise import vectors
from tunnel.errors import AuthenticationFailed, OperatorError
from tunnel.noise import passphrase as module
from tunnel.noise.passphrase import (
    MEMORY,
    PASSES,
    open_with_passphrase,
    seal_with_passphrase,
)
from tunnel.noise.sealing import derive_key, open_blob
from tunnel.wire.backup import MAX_MEMORY, MAX_PASSES, SealedBackup, parse_sealed_backup

quick = {"passes": 1, "memory": 8}
SEALED = seal_with_passphrase(b"content", b"words", seeded(1), **quick)
GOLDEN = (
    "010100000100000008000000f5b165224a58b791df6af1d8303e61cd"
    "c4bb86c3d1c427103c344c4189eb2f1e7bd5d47e446fcec2f1b228c47fa449fe30017d7d7dad0ebdd662bba1f997dc"
)


@pytest.mark.parametrize("vector", vectors.primitives("argon2id"))
def test_another_implementation_of_argon2id_agrees(vector: dict[str, bytes]) -> None:
    passes, memory = (int.from_bytes(vector[name], "big") for name in ("passes", "memory"))
    sealed = seal_with_passphrase(
        b"content",
        vector["password"],
        lambda size: vector["salt"] if size == 16 else bytes(size),
        passes=passes,
        memory=memory,
    )
    key = derive_key(b"network backup", vector["output"])
    assert open_blob(key, sealed.sealed, sealed.header()) == b"content"


def test_golden() -> None:
    assert SEALED.pack().hex() == GOLDEN
    assert open_with_passphrase(parse_sealed_backup(bytes.fromhex(GOLDEN)), b"words") == b"content"


def test_what_is_written_can_be_read() -> None:
    """Our own cost is within the bounds that a reader sets."""
    assert 1 <= PASSES <= MAX_PASSES
    assert MEMORY <= MAX_MEMORY
    written = seal_with_passphrase(b"", b"w", seeded(2))
    assert (written.passes, written.memory) == (PASSES, MEMORY)
    assert open_with_passphrase(parse_sealed_backup(written.pack()), b"w") == b""


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=100), st.binary(min_size=1, max_size=40))
def test_what_is_sealed_opens(content: bytes, words: bytes) -> None:
    sealed = seal_with_passphrase(content, words, seeded(3), **quick)
    assert open_with_passphrase(sealed, words) == content
    with pytest.raises(AuthenticationFailed, match=r"^passphrase$"):
        open_with_passphrase(sealed, words + b".")


def test_every_byte_counts() -> None:
    """The header too: nobody makes a cheaper one of it."""
    packed = SEALED.pack()
    for position in range(len(packed)):
        if position in (0, 1, 2, 3, *range(5, 8), *range(9, 12)):
            continue  # What the parser refuses, or what would cost too much to try here.
        changed = bytearray(packed)
        changed[position] ^= 2
        backup = SealedBackup(changed[4], changed[8], bytes(changed[12:28]), bytes(changed[28:]))
        with pytest.raises(AuthenticationFailed, match=r"^passphrase$"):
            open_with_passphrase(backup, b"words")


def test_too_short_to_be_anything() -> None:
    with pytest.raises(AuthenticationFailed):
        open_with_passphrase(SealedBackup(1, 8, bytes(16), b"x"), b"words")


def test_memory_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise module.SodiumError

    monkeypatch.setattr(module.argon2id, "kdf", fail)
    with pytest.raises(OperatorError, match="not free here"):
        open_with_passphrase(SEALED, b"words")
