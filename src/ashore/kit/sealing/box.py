"""Small secrets under a data key: the sheet of a sealed model, secrets of the state, the key that signs the audit."""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import TYPE_CHECKING, Final

from ashore.core.errors import CorruptBlob
from ashore.kit.sealing.chunks import derive
from ashore.kit.sealing.datakeys import DataKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PREFIX: Final = "sealed:1:"
_SALT_BYTES: Final = 32
_NONCE: Final = bytes(12)
"""One for all: every box has a key of its own, from a fresh salt."""


class SecretBox:
    """Seals and opens small secrets, each bound to its name. Thread-safe."""

    def __init__(self, key: DataKey) -> None:
        self._key = key

    def seal(self, name: str, secret: bytes) -> str:
        """Return the sealed secret as text that may be stored anywhere: `sealed:1:KEY-ID:…`."""
        salt = secrets.token_bytes(_SALT_BYTES)
        boxed = self._cipher(salt).encrypt(_NONCE, secret, name.encode())
        return f"{PREFIX}{self._key.key_id}:{base64.b64encode(salt + boxed).decode()}"

    def open(self, name: str, boxed: str) -> bytes:
        """Return the secret.

        Raises:
            CorruptBlob: it was altered, sealed under another name, or with another key.
        """
        from cryptography.exceptions import InvalidTag

        key_id, _, text = boxed.removeprefix(PREFIX).partition(":")
        try:
            data = base64.b64decode(text, validate=True)
            if is_boxed(boxed) and key_id == self._key.key_id:
                return self._cipher(data[:_SALT_BYTES]).decrypt(_NONCE, data[_SALT_BYTES:], name.encode())
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise CorruptBlob(f"the secret {name} was altered, or sealed under another name", hint=_HINT) from error
        raise CorruptBlob(
            f"the secret {name} is sealed with the data key {key_id[:32]!r}; expected {self._key.key_id}", hint=_HINT
        )

    def _cipher(self, salt: bytes) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(derive(self._key.secret, salt=salt, info=b"ashore sealed secret 1"))


def is_boxed(text: str) -> bool:
    """Return whether a text is a sealed secret."""
    return text.startswith(PREFIX)


_HINT: Final = "restore it from a backup"
