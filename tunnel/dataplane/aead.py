"""What the sealing and opening loops ask of a cipher: functions of C, called without a wrapper."""

from __future__ import annotations

from collections.abc import Callable
from mmap import mmap
from typing import Any, Protocol


class Aead(Protocol):
    """`encrypt` and `decrypt` are libsodium's, with its arguments in its order; `null` is their
    NULL. The nonce is the frame's header from `nonce_offset` on, and the first `associated_length`
    bytes of the header are associated data."""

    @property
    def encrypt(self) -> Callable[..., int]: ...
    @property
    def decrypt(self) -> Callable[..., int]: ...
    @property
    def null(self) -> Any: ...
    @property
    def tag_length(self) -> int: ...
    @property
    def nonce_offset(self) -> int: ...
    @property
    def associated_length(self) -> int: ...


Direction = tuple[Aead, Any]
"""A cipher, and a pointer to the key for one direction of a keypair."""
Area = bytearray | mmap
"""Memory that stays where it is. An mmap takes room only where it has been used."""
Pointer = Callable[[Area], Any]
"""What makes a pointer to a buffer's first byte, to which offsets can be added. It keeps the buffer
alive, and its length as it is; what is made of it by adding does not."""
