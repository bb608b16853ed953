"""Format of answers in a shared tier: signed, so that foreign entries are rejected."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

import msgspec

from ashore.data.cache.model import KeptAnswer
from ashore.kit.decode import UNDECODABLE

MAC_BYTES: Final = 16
_encode = msgspec.msgpack.Encoder().encode


class Record(msgspec.Struct, frozen=True, array_like=True):
    """An answer with its times."""

    stored_at_s: float
    expires_at_s: float
    answer: KeptAnswer
    asked: bytes = b""
    """Digest of the question that it answered, where other wordings share it."""


_decoder = msgspec.msgpack.Decoder(Record)


def seal(key: bytes, record: Record, secret: bytes) -> bytes:
    """Return the bytes of a record that belongs to `key`."""
    payload = _encode(record)
    return _mac(key, payload, secret) + payload


def unseal(key: bytes, sealed: bytes, secret: bytes) -> Record | None:
    """Return the record, or None if this system did not write it for this key."""
    payload = sealed[MAC_BYTES:]
    if not hmac.compare_digest(sealed[:MAC_BYTES], _mac(key, payload, secret)):
        return None
    try:
        return _decoder.decode(payload)
    except UNDECODABLE:  # written by another version
        return None


def encode(record: Record) -> bytes:
    """Return a record as bytes for this process alone."""
    return _encode(record)


def decode(payload: bytes) -> Record:
    """Decode the result of `encode`."""
    return _decoder.decode(payload)


def _mac(key: bytes, payload: bytes, secret: bytes) -> bytes:
    hasher = hashlib.blake2b(key, key=secret, digest_size=MAC_BYTES)
    hasher.update(payload)
    return hasher.digest()
