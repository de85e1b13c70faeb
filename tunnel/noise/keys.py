"""Keys as values: immutable, hashable, of the right length by construction.

Public keys have a text form, unpadded base64url (43 characters, one text per key). Secret keys have
none, compare in constant time, and never show themselves in a ``repr`` or a pickle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from nacl import bindings
from nacl.encoding import URLSafeBase64Encoder
from nacl.exceptions import BadSignatureError
from nacl.exceptions import RuntimeError as SodiumError

from tunnel.errors import AuthenticationFailed
from tunnel.noise.primitives import KEY_LENGTH, constant_time_equal
from tunnel.wire.confidential import Confidential

SIGNATURE_LENGTH = 64

RandomBytes = Callable[[int], bytes]
"""Like os.urandom: that many cryptographically random bytes."""

_P = TypeVar("_P", bound="_Public")


@dataclass(frozen=True, slots=True, order=True)
class _Public:
    data: bytes

    def __post_init__(self) -> None:
        _check_length(self, self.data)

    @classmethod
    def parse(cls: type[_P], text: str) -> _P:
        """The key that `str` gave this text for. Raises ValueError on any other text."""
        try:
            key = cls(URLSafeBase64Encoder.decode(text.encode("ascii") + b"="))
        except ValueError as error:
            raise ValueError(f"not a key of 43 base64url characters: {text!r}") from error
        # The decoder skips what is not base64 and ignores the last two bits: a key has one text.
        if str(key) != text:
            raise ValueError(f"not a key of 43 base64url characters: {text!r}")
        return key

    def __str__(self) -> str:
        return URLSafeBase64Encoder.encode(self.data).rstrip(b"=").decode("ascii")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"


class _Secret(Confidential):
    __slots__ = ()
    data: bytes

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return constant_time_equal(self.data, other.data)

    def __hash__(self) -> int:
        return hash((type(self), self.data))


_FIELD_PRIME = 2**255 - 19


@dataclass(frozen=True, slots=True, order=True, repr=False)
class PublicKey(_Public):
    """X25519 public key: who a node is. Ordered by its bytes."""

    @property
    def is_canonical(self) -> bool:
        """Whether these bytes are the ones that its owner has. X25519 ignores the top bit and
        reduces the rest (RFC 7748 §5), so others can stand for the same key."""
        return int.from_bytes(self.data, "little") < _FIELD_PRIME


@dataclass(frozen=True, slots=True, order=True, repr=False)
class VerifyKey(_Public):
    """Ed25519 public key (RFC 8032)."""

    def verify(self, message: bytes, signature: bytes) -> None:
        """Return if `signature` (64 bytes) is this key's for `message`.

        Raises AuthenticationFailed("signature").
        """
        if len(signature) != SIGNATURE_LENGTH:
            raise AuthenticationFailed("signature")
        try:
            bindings.crypto_sign_open(signature + message, self.data)
        except BadSignatureError:
            raise AuthenticationFailed("signature") from None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PrivateKey(_Secret):
    """X25519 private key (RFC 7748)."""

    data: bytes
    public_key: PublicKey = field(init=False)
    """Computed once, with the key."""

    def __post_init__(self) -> None:
        _check_length(self, self.data)
        public = PublicKey(bindings.crypto_scalarmult_base(self.data))
        object.__setattr__(self, "public_key", public)

    @classmethod
    def generate(cls, random_bytes: RandomBytes) -> PrivateKey:
        return cls(random_bytes(KEY_LENGTH))

    def exchange(self, public_key: PublicKey) -> bytes:
        """The 32 shared bytes.

        Raises AuthenticationFailed("low-order key") for a public key with which every private key
        would give zero: a secret that everybody knows (RFC 7748 §6.1).
        """
        try:
            return bindings.crypto_scalarmult(self.data, public_key.data)
        except SodiumError:
            raise AuthenticationFailed("low-order key") from None

    def __repr__(self) -> str:
        return f"PrivateKey(of {self.public_key})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PresharedKey(_Secret):
    """The 32 bytes that IKpsk2 mixes in; all zero stands for none (white paper §5.2)."""

    data: bytes

    def __post_init__(self) -> None:
        _check_length(self, self.data)

    def __repr__(self) -> str:
        return "PresharedKey(…)"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SigningKey(_Secret):
    """Ed25519 private key, as its seed of 32 bytes (RFC 8032 §5.1.5)."""

    data: bytes
    verify_key: VerifyKey = field(init=False)
    """Computed once, with the key."""
    _expanded: bytes = field(init=False)

    def __post_init__(self) -> None:
        _check_length(self, self.data)
        public, expanded = bindings.crypto_sign_seed_keypair(self.data)
        object.__setattr__(self, "verify_key", VerifyKey(public))
        object.__setattr__(self, "_expanded", expanded)

    @classmethod
    def generate(cls, random_bytes: RandomBytes) -> SigningKey:
        return cls(random_bytes(KEY_LENGTH))

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes; the same every time."""
        return bindings.crypto_sign(message, self._expanded)[:SIGNATURE_LENGTH]

    def __repr__(self) -> str:
        return f"SigningKey(of {self.verify_key})"


def _check_length(key: object, data: bytes) -> None:
    # bytes only: a bytearray could change under its owner, and would make the key unhashable.
    if not isinstance(data, bytes) or len(data) != KEY_LENGTH:
        raise ValueError(f"{type(key).__name__} takes {KEY_LENGTH} bytes")
