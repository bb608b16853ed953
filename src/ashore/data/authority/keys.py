"""API keys: `ash_`, eight characters that name the key, `_`, and 43 characters of randomness (256 bits).

Only a digest is stored. A key has enough entropy that a plain SHA-256 cannot be reversed by guessing, so no slow
password hash is needed on the hot path.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

MAX_TOKEN_CHARS: Final = 4096
"""Longer tokens are refused unread."""

PREFIX_CHARS: Final = 12
"""`ash_` and the eight characters: shown to everybody, and the name of the key."""

_FORM: Final = re.compile(r"ash_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")
_NAMED: Final = re.compile(r"ash_[0-9a-f]{8}(?=_)")


@dataclass(frozen=True, slots=True)
class KeyDigest:
    """The stored part of a key."""

    sha256: bytes = field(repr=False)

    def matches(self, token: str) -> bool:
        """Return whether `token` is the key, in constant time."""
        return hmac.compare_digest(self.sha256, digest_of(token).sha256)


def new_key() -> str:
    """Return a new key from the system's random generator."""
    return f"ash_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


def looks_like_key(text: str) -> bool:
    """Return whether `text` has the form of an ashore key; does not check its validity."""
    return _FORM.fullmatch(text) is not None


def key_id_in(text: str) -> str:
    """Return the key id of a text that starts with a key, for people who paste a whole key; any other text
    unchanged."""
    found = _NAMED.match(text)
    return found[0] if found else text


def digest_of(token: str) -> KeyDigest:
    """Return the stored digest of `token`. Any text has one."""
    return KeyDigest(hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest())
