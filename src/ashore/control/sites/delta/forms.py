"""Ways to write how numbers differ from those of a base, before zstd: measured on real fine-tunes.

Codes of eight or four bits differ by small whole numbers at few places: gaps between the changes where fewer than
`GAPS_BELOW` differ, else one bit for each code; then the changes. Half and single precision: XOR, one plane for each
byte of a number, since signs and exponents rarely change. The first byte of a payload names the way.

Decoding reads what a stranger may have written: each length is checked, each index by how it is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Unit = Literal["i8", "i4", "w2", "w4"]
"""Codes of eight or four bits (two in a byte, the lower half first), or numbers of two or four bytes."""

GAPS_BELOW: Final = 0.25
"""Share of changed codes below which gaps are shorter than bits."""
_GO_ON: Final = 255
"""A gap byte that is followed by another one of the same gap."""
_GAPS, _BITS, _PLANES, _PLAIN = b"g", b"b", b"p", b"r"

RAW: Final[Unit] = "i8"
GRAIN: Final[Mapping[Unit, int]] = MappingProxyType({"i8": 1, "i4": 1, "w2": 2, "w4": 4})
"""Bytes that must not be parted."""


def encode(old: Bytes, new: Bytes, unit: Unit) -> bytes:
    """Return the payload that makes `new` out of `old`, of the same length, a multiple of the grain."""
    if unit in ("w2", "w4"):
        return _PLANES + bytes((old ^ new).reshape(-1, GRAIN[unit]).T.tobytes())
    change = nibbles(new) - nibbles(old) & np.uint8(15) if unit == "i4" else new - old
    coded = encode_codes(np.asarray(change, np.uint8))
    return coded if len(coded) < 0.95 * new.size else _PLAIN + new.tobytes()


def decode(payload: memoryview, old: Bytes, unit: Unit) -> Bytes:
    """Return the bytes that a payload makes out of `old`.

    Raises:
        ValueError: the payload does not fit its base.
    """
    way, wide = bytes(payload[:1]), unit in ("w2", "w4")
    if way == _PLAIN or (way == _PLANES and wide):
        body = np.frombuffer(payload, np.uint8, offset=1)
        if body.size != old.size:
            raise ValueError(f"{body.size} bytes, expected {old.size}")
        return body if way == _PLAIN else old ^ body.reshape(GRAIN[unit], -1).T.reshape(-1)
    if wide:
        raise ValueError(f"numbers of the kind {unit} in the way {way!r}")
    if unit == "i4":
        return packed(nibbles(old) + decode_codes(payload, 2 * old.size))
    return old + decode_codes(payload, old.size)


def encode_codes(change: Bytes) -> bytes:
    """Return the payload of differences, one a code."""
    changed = np.flatnonzero(change)
    values = change[changed].tobytes()
    if changed.size >= GAPS_BELOW * change.size:
        return _BITS + np.packbits(change != 0).tobytes() + values
    gap = np.diff(changed, prepend=-1) - 1
    more = gap // _GO_ON
    written = np.full(int((more + 1).sum()), _GO_ON, np.uint8)
    written[np.cumsum(more + 1) - 1] = (gap % _GO_ON).astype(np.uint8)
    return _GAPS + changed.size.to_bytes(4, "little") + written.tobytes() + values


def decode_codes(payload: memoryview, size: int) -> Bytes:
    """Return `size` differences. Raises `ValueError` if the payload holds another number of them."""
    way, body = bytes(payload[:1]), np.frombuffer(payload, np.uint8, offset=1)
    if way == _BITS and body.size >= (num_bytes := -(-size // 8)):
        place, value = np.flatnonzero(np.unpackbits(body[:num_bytes], count=size)), body[num_bytes:]
    elif way == _GAPS and body.size >= 4:
        number = int.from_bytes(body[:4].tobytes(), "little")
        if number > min(size, body.size - 4):
            raise ValueError(f"{number} changes of {size} codes in {body.size} bytes")
        gap, value = body[4 : body.size - number], body[body.size - number :]
        ends = np.flatnonzero(gap != _GO_ON)
        if gap.size and gap[-1] == _GO_ON:
            raise ValueError("a gap without an end")
        more = np.diff(ends, prepend=-1) - 1
        place = np.cumsum(more * _GO_ON + gap[ends].astype(np.int64) + 1) - 1
    else:
        raise ValueError(f"{body.size} bytes of the kind {way!r} for {size} codes")
    if place.size != value.size or (place.size and place[-1] >= size):
        raise ValueError(f"{value.size} changes at {place.size} places of {size} codes")
    changed = np.zeros(size, np.uint8)
    changed[place] = value
    return changed


def nibbles(packed: Bytes) -> Bytes:
    """Return the codes of four bits, one a byte."""
    wide = np.empty(2 * packed.size, np.uint8)
    wide[::2], wide[1::2] = packed & 15, packed >> 4
    return wide


def packed(wide: Bytes) -> Bytes:
    """Return codes of four bits, two a byte."""
    return np.asarray((wide[::2] & 15) | (wide[1::2] & 15) << 4, np.uint8)
