"""The ciphers that seal frames, and how two nodes agree on one.

::

    0      1       2     4             8             16
    +------+-------+-----+-------------+-------------+---------------------------+
    | 4    | place | 0 0 | receiver(4) | counter (8) | sealed payload, tag       |
    +------+-------+-----+-------------+-------------+---------------------------+
    '<------------------- nonce -------------------->'  AEGIS-128L, tag 32
    '<----- AD ---->'<----------- nonce ------------>'  ChaCha20-Poly1305, tag 16
                                       '<- nonce --->'  WireGuard: after 4 zero bytes; no AD

With both ciphers of ours the tag covers the whole header, and the nonce needs no bytes of its own.
The functions here are PyNaCl's public ones; `FrameCipher.direct` has the same without a wrapper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from nacl import bindings
from nacl.exceptions import CryptoError

from tunnel.errors import AuthenticationFailed
from tunnel.noise.sealing import derive_key
from tunnel.noise.sodium import DirectAead, find_direct
from tunnel.wire.confidential import refuse_pickling
from tunnel.wire.handshake import CHOICE_AEGIS, CHOICE_CHACHA, OFFER_AEGIS

Cryptor = Callable[[bytes, bytes, bytes, bytes], bytes]


@dataclass(frozen=True, slots=True, eq=False)
class FrameCipher:
    """One way to seal frames, without keys or state."""

    name: str
    """For people."""
    choice: int
    """What a response calls it."""
    key_length: int
    tag_length: int
    nonce_prefix: bytes
    nonce_offset: int
    """The nonce is `nonce_prefix` and the header from here on."""
    associated_length: int
    """The first so many bytes of the header are associated data."""
    encrypt: Cryptor
    decrypt: Cryptor
    direct: DirectAead | None = None
    """The same for loops over many frames; None: not to be had here."""
    why_not_direct: str = ""
    """For people, when `direct` is None."""

    def seal(self, key: bytes, header: bytes, payload: bytes) -> bytes:
        """Ciphertext and tag, `tag_length` bytes longer than `payload`.

        `header` has 16 bytes and is part of what is sealed. Never twice with one key and counter:
        that is for the caller to see to.
        """
        nonce = self.nonce_prefix + header[self.nonce_offset :]
        return self.encrypt(payload, header[: self.associated_length], nonce, key)

    def open(self, key: bytes, header: bytes, sealed: bytes) -> bytes:
        """The payload of what :meth:`seal` made. Raises AuthenticationFailed("tag")."""
        # PyNaCl would subtract the tag, and raise something of cffi's about a negative length.
        if len(sealed) < self.tag_length:
            raise AuthenticationFailed("tag")
        # What no tag covers has one value: anybody on the way could write another.
        if self is WIREGUARD_FRAMES and any(header[1:4]):
            raise AuthenticationFailed("tag")
        nonce = self.nonce_prefix + header[self.nonce_offset :]
        try:
            return self.decrypt(sealed, header[: self.associated_length], nonce, key)
        except CryptoError:
            raise AuthenticationFailed("tag") from None


class FrameKeys(NamedTuple):
    """What a handshake ends in."""

    cipher: FrameCipher
    sending: bytes
    receiving: bytes

    def __repr__(self) -> str:
        return f"FrameKeys({self.cipher.name})"

    def __reduce__(self) -> NoReturn:  # A NamedTuple has no other bases.
        refuse_pickling(self)


def _make(name: str, choice: int, primitive: str, nonce_offset: int, ad_length: int) -> FrameCipher:
    encrypt: Cryptor = getattr(bindings, f"{primitive}_encrypt")
    key_length: int = getattr(bindings, f"{primitive}_KEYBYTES")
    tag_length: int = getattr(bindings, f"{primitive}_ABYTES")
    direct, reason = find_direct(
        primitive,
        encrypt,
        key_length=key_length,
        tag_length=tag_length,
        nonce_offset=nonce_offset,
        associated_length=ad_length,
    )
    return FrameCipher(
        name=name,
        choice=choice,
        key_length=key_length,
        tag_length=tag_length,
        nonce_prefix=b"",
        nonce_offset=nonce_offset,
        associated_length=ad_length,
        encrypt=encrypt,
        decrypt=getattr(bindings, f"{primitive}_decrypt"),
        direct=direct,
        why_not_direct=reason,
    )


AEGIS_128L = _make("AEGIS-128L", CHOICE_AEGIS, "crypto_aead_aegis128l", 0, 0)
"""RFC 10032 (libsodium's: tag of 256 bits). Several times faster than the other where the CPU has
AES instructions (`tunnel.noise.sodium.has_aes`), and much slower where it has not."""

CHACHA20_POLY1305 = _make(
    "ChaCha20-Poly1305", CHOICE_CHACHA, "crypto_aead_chacha20poly1305_ietf", 4, 4
)
"""RFC 8439. Every node has it."""

WIREGUARD_FRAMES = FrameCipher(
    name="ChaCha20-Poly1305",
    choice=CHOICE_CHACHA,
    key_length=32,
    tag_length=16,
    nonce_prefix=bytes(4),
    nonce_offset=8,
    associated_length=0,
    encrypt=bindings.crypto_aead_chacha20poly1305_ietf_encrypt,
    decrypt=bindings.crypto_aead_chacha20poly1305_ietf_decrypt,
    why_not_direct="WireGuard's nonce does not stand in its frames as it is used",
)
"""White paper §5.4.6: for peers that are WireGuard itself."""


def choose_cipher(theirs: int, ours: int) -> FrameCipher:
    """The responder's choice, by what the initiation offers and what it would have offered itself.

    Bits that mean nothing here are those of later versions.
    """
    return AEGIS_128L if theirs & ours & OFFER_AEGIS else CHACHA20_POLY1305


def find_chosen(choice: int, offer: int) -> FrameCipher:
    """The cipher of a response to `offer`. Raises AuthenticationFailed for what was not offered."""
    if choice == CHOICE_CHACHA:
        return CHACHA20_POLY1305
    if choice == CHOICE_AEGIS and offer & OFFER_AEGIS:
        return AEGIS_128L
    raise AuthenticationFailed("response chooses what was not offered")


def derive_frame_key(cipher: FrameCipher, offer: int, noise_key: bytes) -> bytes:
    """The key for one direction, from Noise's.

    Offer and choice go into it: changed on the way, they leave the two ends with keys that open
    nothing, rather than with another cipher.
    """
    agreed = bytes((offer, cipher.choice))
    return derive_key(b"frames", agreed, noise_key)[: cipher.key_length]
