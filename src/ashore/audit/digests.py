"""Digests of prompts and answers: keyed, so that nobody who reads the record can try texts against it.

A short prompt could be guessed from a plain hash. Whoever holds the home can make the digest of a text in question and
look for it (`ashore audit search --text FILE`).
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from ashore.errors import InvalidSpec
from ashore.sealing import SecretFolder

DIGEST_KEY: Final = "digest-key"
KEY_BYTES: Final = 32
BLOCK_BYTES: Final = 64
"""Of SHA-256."""


class Digester:
    """HMAC-SHA256 (RFC 2104) under the key of one home.

    What the key makes of the two hashes is worked out once: two digests are made for every fresh answer, and the
    library would begin anew for each.
    """

    def __init__(self, key: bytes) -> None:
        """Take a key of at most one block; ours have half of one."""
        assert len(key) <= BLOCK_BYTES
        block = key.ljust(BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(self, text: bytes) -> str:
        """Return 64 hexadecimal digits."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text)
        outer.update(inner.digest())
        return outer.hexdigest()


def digest_key(folder: SecretFolder) -> bytes:
    """Return the key in `folder`, made now if it is absent. May be called by several processes at once.

    Raises:
        InvalidSpec: the file holds no key.
        SealingKeyMissing, CorruptBlob: it is sealed and cannot be opened.
    """
    if not folder.exists(DIGEST_KEY):
        folder.write_first(DIGEST_KEY, secrets.token_hex(KEY_BYTES).encode() + b"\n")
    path = folder.path / DIGEST_KEY
    try:
        key = bytes.fromhex(folder.read(DIGEST_KEY).decode("ascii", "replace").strip())
    except ValueError as fault:
        raise InvalidSpec(f"{path} holds no key of digests", hint="restore it from a backup") from fault
    if len(key) != KEY_BYTES:
        raise InvalidSpec(f"{path} holds {len(key)} bytes; expected {KEY_BYTES}", hint="restore it from a backup")
    return key
