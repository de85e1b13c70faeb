from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.messages import CERTIFICATE, certificates
from tunnel.errors import Malformed
from tunnel.wire.certificate import (
    SIGNATURE_LENGTH,
    Certificate,
    is_valid_name,
    parse_certificate,
)

PACKED = CERTIFICATE.pack()
HEAD = 58
"""Bytes before the count of addresses."""


def changed(position: int, value: int) -> bytes:
    return PACKED[:position] + bytes([value]) + PACKED[position + 1 :]


@pytest.mark.parametrize(
    ("name", "is_valid"),
    [
        ("a", True),
        ("7", True),
        ("pi", True),
        ("a-b", True),
        ("a--b", True),
        ("a" * 63, True),
        ("", False),
        ("a" * 64, False),
        ("-a", False),
        ("a-", False),
        ("-", False),
        ("Pi", False),
        ("a.b", False),
        ("a_b", False),
        ("a b", False),
        ("a\n", False),
        ("ü", False),
        ("٣", False),
        ("a\0", False),
    ],
)
def test_names(name: str, is_valid: bool) -> None:
    assert is_valid_name(name) is is_valid
    packed = replace(CERTIFICATE, name=name).pack()
    if is_valid:
        assert parse_certificate(packed).name == name
    else:
        with pytest.raises(Malformed):
            parse_certificate(packed)


@settings(max_examples=60, deadline=None)
@given(certificate=certificates, data=st.data())
def test_one_certificate_has_one_form(certificate: Certificate, data: st.DataObject) -> None:
    """What is signed is made anew from what was read: bytes that reading ignores would be bytes
    that the signature does not cover."""
    packed = bytearray(certificate.pack())
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        parsed = parse_certificate(bytes(packed))
    except Malformed:
        return
    assert parsed.pack() == bytes(packed)
    assert parsed != certificate


@pytest.mark.parametrize("flags", [2, 3, 0x80, 0xFF])
def test_unknown_flags_are_refused(flags: int) -> None:
    """A restriction that we don't know must not be read as none."""
    with pytest.raises(Malformed):
        parse_certificate(changed(1, flags))


def test_flags() -> None:
    assert parse_certificate(changed(1, 0)).may_invite is False
    assert parse_certificate(PACKED).may_invite is True


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version(version: int) -> None:
    with pytest.raises(Malformed):
        parse_certificate(changed(0, version))


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (HEAD, 0),  # no addresses, and what follows is no route
        (HEAD, 255),
        (HEAD + 1, 33),  # IPv4 prefix
        (HEAD + 2, 5),  # family
        (HEAD + 2, 0),
        (HEAD + 7, 129),  # IPv6 prefix
        (HEAD + 26, 23),  # 192.168.8.0/23 is a network, /21 is
        (HEAD + 26, 12),  # host bits set in a route
    ],
)
def test_addresses_and_routes_that_are_none(position: int, value: int) -> None:
    try:
        parsed = parse_certificate(changed(position, value))
    except Malformed:
        return
    # /23 is a valid prefix of 192.168.8.0.
    assert (position, value) == (HEAD + 26, 23)
    assert str(parsed.routes[0]) == "192.168.8.0/23"


@pytest.mark.parametrize("length", [0, SIGNATURE_LENGTH - 1, SIGNATURE_LENGTH + 1])
def test_signature_of_another_length(length: int) -> None:
    with pytest.raises(Malformed):
        parse_certificate(replace(CERTIFICATE, signature=bytes(length)).pack())


def test_signed_part_ends_before_the_signature() -> None:
    assert CERTIFICATE.signed_part() == PACKED[:-SIGNATURE_LENGTH]
    assert b"signature" not in CERTIFICATE.signed_part()
