"""Digests of prompts and answers: keyed, so that nobody who reads the record can try texts against it.

A short prompt could be guessed from a plain hash. Whoever holds the home can make the digest of a text in question and
look for it (`ashore audit search --text FILE`).
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from ashore.errors import InvalidSpec

KEY_BYTES: Final = 32


class Digester:
    """HMAC-SHA256 under the key of one home."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def digest(self, text: bytes) -> str:
        """Return 64 hexadecimal digits."""
        return hmac.digest(self._key, text, "sha256").hex()


def digest_key(path: Path) -> bytes:
    """Return the key in `path` (0600), made now if it is absent. May be called by several processes at once.

    Raises:
        InvalidSpec: the file holds no key.
    """
    if not path.exists():
        scratch = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(scratch, path)  # fails where another process was first: there is one key
        except FileExistsError:
            pass
        finally:
            scratch.unlink()
    try:
        key = bytes.fromhex(path.read_text().strip())
    except ValueError as fault:
        raise InvalidSpec(f"{path} holds no key of digests", hint="restore it from a backup") from fault
    if len(key) != KEY_BYTES:
        raise InvalidSpec(f"{path} holds {len(key)} bytes; expected {KEY_BYTES}", hint="restore it from a backup")
    return key
