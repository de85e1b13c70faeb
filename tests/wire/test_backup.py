from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from tests.wire.messages import CERTIFICATE, KINDS
from tunnel.errors import Malformed
from tunnel.wire.backup import MAX_MEMORY, MAX_PASSES, parse_backup, parse_sealed_backup
from tunnel.wire.revocation import REVOCATION_LENGTH

SEALED, CONTENT = (
    next(kind for kind in KINDS if kind.name == name).packed for name in ("sealed backup", "backup")
)


@pytest.mark.parametrize(
    ("passes", "memory"),
    [(0, 65536), (MAX_PASSES + 1, 8), (2**32 - 1, 8), (1, 7), (1, MAX_MEMORY + 1), (1, 2**32 - 1)],
)
def test_what_a_file_may_cost_its_reader_is_bounded(passes: int, memory: int) -> None:
    with pytest.raises(Malformed, match=f"{passes} passes over {memory} KiB"):
        parse_sealed_backup(SEALED[:4] + struct.pack("<II", passes, memory) + SEALED[12:])


def test_the_bounds_themselves_are_allowed() -> None:
    packed = SEALED[:4] + struct.pack("<II", MAX_PASSES, MAX_MEMORY) + SEALED[12:]
    assert parse_sealed_backup(packed).pack() == packed


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_another_version_or_algorithm(position: int) -> None:
    changed = bytearray(SEALED)
    changed[position] += 1
    with pytest.raises(Malformed, match="newer punchtun"):
        parse_sealed_backup(bytes(changed))


def test_a_count_that_promises_more_than_there_is() -> None:
    at = CONTENT.index(bytes.fromhex("02000000") + struct.pack("<H", len(CERTIFICATE.pack())))
    for count in (0, 1, 3, 2**32 - 1):
        with pytest.raises(Malformed):
            parse_backup(CONTENT[:at] + struct.pack("<I", count) + CONTENT[at + 4 :])


def test_revocations_that_are_fewer_than_counted() -> None:
    at = len(CONTENT) - REVOCATION_LENGTH - 4
    for count in (0, 2, 2**32 - 1):
        with pytest.raises(Malformed):
            parse_backup(CONTENT[:at] + struct.pack("<I", count) + CONTENT[at + 4 :])


def test_the_server_url_has_one_form() -> None:
    with pytest.raises(Malformed):
        parse_backup(CONTENT.replace(b"punchtun://", b"PUNCHTUN://"))


def test_secrets_do_not_show() -> None:
    backup = replace(parse_backup(CONTENT), signing_key=b"k" * 32, network_secret=b"n" * 32)
    for secret in (backup.signing_key, backup.network_secret):
        assert repr(secret) not in repr(backup)
