"""How a secret may look in what a program says."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator


def spellings(secret: bytes) -> Iterator[str]:
    """As it is (a byte a character), as a literal, in hex, and in base64 at each of its offsets."""
    yield secret.decode("latin-1")
    yield repr(secret)[2:-1]
    yield secret.hex()
    yield secret.hex().upper()
    for offset in range(3):
        for alphabet in (None, b"-_"):
            text = base64.b64encode(bytes(offset) + secret, alphabet).decode()
            # The first and the last characters depend on what stands beside it.
            yield text[4:-4]


class Search:
    """For all of some secrets, each of 16 bytes or more."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self.secrets = set(secrets)
        self._spellings = {text for secret in self.secrets for text in spellings(secret)}

    def finds_any(self, text: str | bytes) -> bool:
        text = text.decode("latin-1") if isinstance(text, bytes) else text
        return any(spelling in text for spelling in self._spellings)
