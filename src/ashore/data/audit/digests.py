"""Keyed digests of prompts and answers, so that readers of the log cannot test guesses.

A short prompt could be guessed from a plain hash. The owner of the home can compute the digest of a text and search for
it (`ashore audit search --text FILE`).
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final

from ashore.core.errors import InvalidSpec
from ashore.kit.sealing import SecretFolder

DIGEST_KEY: Final = "digest-key"
KEY_BYTES: Final = 32


class Digester:
    """HMAC-SHA256 under the key of one home.

    The keyed state is precomputed: every fresh answer needs two digests.
    """

    def __init__(self, key: bytes) -> None:
        self._begun = hmac.new(key, digestmod="sha256")

    def digest(self, text: bytes) -> str:
        """Return 64 hexadecimal digits."""
        digest = self._begun.copy()
        digest.update(text)
        return digest.hexdigest()


def digest_key(folder: SecretFolder) -> bytes:
    """Return the key of digests in `folder`; see `secret_key`."""
    return secret_key(folder, DIGEST_KEY)


def secret_key(folder: SecretFolder, name: str) -> bytes:
    """Return a key in `folder`, created if absent. Safe with concurrent processes.

    Raises:
        InvalidSpec: the file is not a key.
        SealingKeyMissing, CorruptBlob: it is sealed and cannot be opened.
    """
    if not folder.exists(name):
        folder.write_first(name, secrets.token_hex(KEY_BYTES).encode() + b"\n")
    path = folder.path / name
    try:
        key = bytes.fromhex(folder.read(name).decode("ascii", "replace").strip())
    except ValueError as fault:
        raise InvalidSpec(
            f"{path} does not contain a {name.replace('-', ' ')}", hint="restore it from a backup"
        ) from fault
    if len(key) != KEY_BYTES:
        raise InvalidSpec(f"{path} has {len(key)} bytes; expected {KEY_BYTES}", hint="restore it from a backup")
    return key
