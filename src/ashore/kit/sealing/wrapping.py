"""Wrapping a data key under a key of 32 bytes: shared by the keepers that hold their keys themselves."""

from __future__ import annotations

import base64
import binascii
import secrets

from ashore.core.errors import CorruptBlob

_NONCE_BYTES = 12


def wrap_under(kek: bytes, data_key: bytes, *, key_id: str, bound_to: str) -> str:
    """Return the data key encrypted under `kek` (AES-256-GCM with a random nonce), as text."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(_NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(kek).encrypt(nonce, data_key, _bound(key_id, bound_to))).decode()


def unwrap_under(kek: bytes, wrapped: str, *, key_id: str, bound_to: str) -> bytes:
    """Return the plaintext of `wrap_under`. Raises `CorruptBlob` if it was altered or belongs to something else."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        data = base64.b64decode(wrapped, validate=True)
        return AESGCM(kek).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _bound(key_id, bound_to))
    except (InvalidTag, binascii.Error, ValueError) as error:
        raise CorruptBlob(
            f"the wrapped data key {bound_to} was altered: the key {key_id} does not open it",
            hint="restore its envelope from a backup of the store, or import the model again",
        ) from error


def _bound(key_id: str, bound_to: str) -> bytes:
    return f"ashore data key 1|{key_id}|{bound_to}".encode()
