"""The two ciphers for frames: C's functions for the loops, and PyNaCl's public ones to judge them.

`Guard` is a cipher for the loops, too: one that looks at each address before C does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunnel.dataplane.aead import Direction
from tunnel.errors import AuthenticationFailed
from tunnel.noise.frame_cipher import AEGIS_128L, CHACHA20_POLY1305, FrameCipher
from tunnel.noise.sodium import DirectAead
from tunnel.wire.transport import HEADER_LENGTH, pack_header

RECEIVER, COUNTER = 0x01020304, 0x0102030405060708


@dataclass(frozen=True)
class Cipher:
    """With a key of its own."""

    frames: FrameCipher
    first: int = 100
    """The first byte of the key; the others count up from it."""

    @property
    def name(self) -> str:
        return self.frames.name

    @property
    def direct(self) -> DirectAead:
        assert self.frames.direct is not None, self.frames.why_not_direct
        return self.frames.direct

    @property
    def key(self) -> bytes:
        return bytes(range(self.first, self.first + self.frames.key_length))

    def seal(self, place: int, counter: int, payload: bytes, receiver: int = RECEIVER) -> bytes:
        """The whole frame."""
        header = pack_header(receiver, counter, place)
        return header + self.frames.seal(self.key, header, payload)

    def open(self, frame: bytes) -> bytes | None:
        """Its payload; None if it is not authentic."""
        try:
            return self.frames.open(self.key, frame[:HEADER_LENGTH], frame[HEADER_LENGTH:])
        except AuthenticationFailed:
            return None


AEGIS, CHACHA = CIPHERS = Cipher(AEGIS_128L), Cipher(CHACHA20_POLY1305)


class Guard:
    """Raises AssertionError for an address outside the buffers of which it was asked a pointer."""

    def __init__(self, cipher: Cipher) -> None:
        direct = cipher.direct
        self._direct = direct
        self._buffers: list[tuple[int, bytearray]] = []
        self.direction: Direction = self, direct.key(cipher.key)
        self.null = direct.null
        self.tag_length = direct.tag_length
        self.nonce_offset = direct.nonce_offset
        self.associated_length = direct.associated_length

    def pointer(self, buffer: bytearray) -> Any:
        pointer = self._direct.pointer(buffer)
        self._buffers.append((self._address(pointer), buffer))
        return pointer

    @property
    def buffers(self) -> list[bytearray]:
        """In the order in which pointers to them were asked for."""
        return [buffer for _, buffer in self._buffers]

    def encrypt(self, *arguments: Any) -> int:
        to, _, text, length, header, associated, _, nonce, _ = arguments
        self._check(to, length + self.tag_length)
        self._check(text, length)
        self._check_header(header, associated, nonce)
        assert self._distance(to, text) >= length + self.tag_length
        return self._direct.encrypt(*arguments)

    def decrypt(self, *arguments: Any) -> int:
        to, _, _, sealed, length, header, associated, nonce, _ = arguments
        self._check(to, length - self.tag_length)
        self._check(sealed, length)
        self._check_header(header, associated, nonce)
        assert self._distance(to, sealed) >= length
        return self._direct.decrypt(*arguments)

    def _check_header(self, header: Any, associated: int, nonce: Any) -> None:
        self._check(header, 16)
        assert associated == self.associated_length
        assert self._address(nonce) - self._address(header) == self.nonce_offset

    def _check(self, pointer: Any, length: int) -> None:
        begin = self._address(pointer)
        if length < 0:
            raise OverflowError("as cffi has it")
        assert any(
            start <= begin and begin + length <= start + len(buffer)
            for start, buffer in self._buffers
        ), f"{length} bytes at {pointer}"

    def _distance(self, one: Any, other: Any) -> int:
        return abs(self._address(one) - self._address(other))

    def _address(self, pointer: Any) -> int:
        return int(self._direct.ffi.cast("uintptr_t", pointer))
