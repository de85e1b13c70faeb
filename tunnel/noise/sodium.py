"""libsodium's AEAD functions with nothing around them, for loops over many frames.

PyNaCl's public functions take bytes, return bytes and check each argument. These take pointers
into buffers that exist already and cost one cffi call a frame. They belong to ``nacl._sodium``,
which PyNaCl does not promise to keep as it is: so types and results are compared with those of the
public functions when a cipher is looked up, and where anything differs there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap
from typing import Any, NamedTuple

# Importing this runs sodium_init, without which the generic AES code stays chosen, silently.
from nacl import bindings
from nacl.exceptions import UnavailableError

try:
    from nacl import _sodium
except ImportError:  # a PyNaCl that is built otherwise
    _sodium = None

Encrypt = Callable[[bytes, bytes, bytes, bytes], bytes]
"""A public function of PyNaCl: text, associated data, nonce, key."""

_BYTES, _LENGTH = "unsigned char *", "unsigned long long"
_ENCRYPT_TYPE = (
    f"int(*)({_BYTES}, {_LENGTH} *, {_BYTES}, {_LENGTH}, {_BYTES}, {_LENGTH}, "
    f"{_BYTES}, {_BYTES}, {_BYTES})"
)
_DECRYPT_TYPE = (
    f"int(*)({_BYTES}, {_LENGTH} *, {_BYTES}, {_BYTES}, {_LENGTH}, {_BYTES}, {_LENGTH}, "
    f"{_BYTES}, {_BYTES})"
)
_SAMPLES = (0, 1, 1400)
"""Lengths of text on which both kinds of functions have to agree."""


@dataclass(frozen=True, slots=True, eq=False)
class DirectAead:
    """One cipher's functions, and where it finds nonce and associated data in a frame's header.

    ``encrypt(to, null, text, length, header, associated_length, null, nonce, key)`` writes
    `length` and then `tag_length` bytes; it always returns 0.
    ``decrypt(to, null, null, sealed, length, header, associated_length, nonce, key)`` takes the
    length with the tag, and writes as much less; it returns 0, or -1 for a forgery.

    `nonce` is ``header + nonce_offset``, and `header` stands for the associated data, of which
    there may be 0 bytes. `to` may be the same address as `text` or `sealed`, but not overlap it
    otherwise. No length is checked: what is out of bounds is written all the same.
    """

    encrypt: Callable[..., int]
    decrypt: Callable[..., int]
    null: Any
    tag_length: int
    nonce_offset: int
    associated_length: int
    ffi: Any

    def key(self, key: bytes) -> Any:
        """`key` as these functions take it. It keeps the bytes alive."""
        return self.ffi.from_buffer("unsigned char[]", key)

    def pointer(self, buffer: bytearray | mmap | memoryview) -> Any:
        """The address of `buffer`, which must be writable: pointers are made of it by adding.

        Only this object keeps the buffer alive, and in place; what is added to it does not. A
        bytearray cannot change its length meanwhile (BufferError).
        """
        return self.ffi.from_buffer("unsigned char[]", buffer, require_writable=True)


class DirectKey(NamedTuple):
    """A cipher, and a key as its functions take it."""

    aead: DirectAead
    key: Any


def make_pointer(buffer: bytearray | mmap) -> Any:
    """As `DirectAead.pointer`, for all ciphers; None where none has direct functions."""
    if _sodium is None:
        return None
    return _sodium.ffi.from_buffer("unsigned char[]", buffer, require_writable=True)


def find_direct(
    primitive: str,
    encrypt: Encrypt,
    *,
    key_length: int,
    tag_length: int,
    nonce_offset: int,
    associated_length: int,
    library: Any = _sodium,
) -> tuple[DirectAead | None, str]:
    """The functions of libsodium's `primitive`, or None and the reason in words.

    `encrypt` is PyNaCl's public function of the same cipher, and the judge.
    """
    if library is None:
        return None, "PyNaCl has no module _sodium"
    try:
        found = DirectAead(
            getattr(library.lib, f"{primitive}_encrypt"),
            getattr(library.lib, f"{primitive}_decrypt"),
            library.ffi.NULL,
            tag_length,
            nonce_offset,
            associated_length,
            library.ffi,
        )
        # Before the first call: one of another type might write anywhere.
        types = [str(library.ffi.typeof(each).cname) for each in (found.encrypt, found.decrypt)]
        if types != [_ENCRYPT_TYPE, _DECRYPT_TYPE]:
            return None, f"{primitive} takes other arguments: {', '.join(types)}"
        is_same = all(_agrees(found, encrypt, key_length, length) for length in _SAMPLES)
    # A private module may fail in any way, and the public functions do as well, only slower.
    except Exception as error:
        return None, f"{primitive}: {type(error).__name__}: {error}"
    return (found, "") if is_same else (None, f"{primitive} gives other results")


def has_aes() -> bool:
    """Whether the CPU has the instructions with which libsodium's AEGIS is fast.

    libsodium 1.0.20 asks for the same of AES-256-GCM, and for PCLMULQDQ too: AES-NI and AVX on
    x86, the crypto extension on ARM (which the Raspberry Pi 4 lacks and the 5 has).
    """
    try:
        bindings.crypto_aead_aes256gcm_encrypt(b"", None, bytes(12), bytes(32))
    except UnavailableError:
        return False
    return True


def _agrees(direct: DirectAead, encrypt: Encrypt, key_length: int, length: int) -> bool:
    """Seal in place, compare, open in place, and refuse what was changed."""
    header, text, key = bytes(range(1, 17)), bytes(length), bytes(range(key_length))
    associated = header[: direct.associated_length]
    expected = encrypt(text, associated, header[direct.nonce_offset :], key)
    buffer = bytearray(header + text + bytes(direct.tag_length))
    start, own_key, null = direct.pointer(buffer), direct.key(key), direct.null
    body, sealed = start + len(header), len(expected)
    covered = (start, direct.associated_length)
    nonce_key = (start + direct.nonce_offset, own_key)
    direct.encrypt(body, null, body, length, *covered, null, *nonce_key)
    is_same = buffer == header + expected
    is_opened = direct.decrypt(body, null, null, body, sealed, *covered, *nonce_key) == 0
    is_same &= is_opened and buffer[len(header) :][:length] == text
    buffer[len(header) :] = expected[:-1] + bytes([expected[-1] ^ 1])
    return is_same and direct.decrypt(body, null, null, body, sealed, *covered, *nonce_key) != 0
