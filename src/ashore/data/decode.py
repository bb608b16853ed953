"""Reads from a body only the model that it names."""

from __future__ import annotations

import msgspec

from ashore.kit.decode import UNDECODABLE, convert, decode

__all__ = ["convert", "decode", "model_in"]


class _Named(msgspec.Struct):
    model: str = ""


_decode_named = msgspec.json.Decoder(_Named).decode


def model_in(body: bytes) -> str:
    """Return the model that a body names, ignoring everything else; empty if it names none."""
    try:
        return _decode_named(body).model
    except UNDECODABLE:
        return ""
