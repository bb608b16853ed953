"""A strict reader of the part of CBOR (RFC 8949) that WebAuthn uses: no tags, floats, streams or repeated keys."""

from __future__ import annotations

from typing import Any, Final

from ashore.core.errors import InvalidRequest

MOST_DEPTH: Final = 4
MOST_ITEMS: Final = 64
_SIMPLE: Final = {20: False, 21: True, 22: None}
_LONG: Final = {24: 1, 25: 2, 26: 4, 27: 8}


def read_cbor(data: bytes) -> Any:
    """Return the single value that the bytes encode.

    Raises:
        InvalidRequest: they are truncated, have trailing data, or use a feature that WebAuthn does not.
    """
    value, end = read_first(data)
    if end != len(data):
        raise _bad("it goes on behind its end")
    return value


def read_first(data: bytes, at: int = 0, depth: int = 0) -> tuple[Any, int]:
    """Return the value at an offset, and the offset after it.

    Raises:
        InvalidRequest: as `read_cbor`.
    """
    if depth > MOST_DEPTH:
        raise _bad("it is nested too deep")
    kind, size, at = _head(data, at)
    if kind == 0:
        return size, at
    if kind == 1:
        return -1 - size, at
    if kind in (2, 3):
        if size > len(data) - at:
            raise _bad("it is cut off")
        raw = data[at : at + size]
        return raw if kind == 2 else _text(raw), at + size
    if kind in (4, 5):
        return _many(data, at, depth, size, is_map=kind == 5)
    if kind == 7 and size in _SIMPLE:
        return _SIMPLE[size], at
    raise _bad("it has a type that is not expected")


def _many(data: bytes, at: int, depth: int, size: int, *, is_map: bool) -> tuple[Any, int]:
    if size > MOST_ITEMS:
        raise _bad("it has too many items")
    pairs: dict[Any, Any] = {}
    items = []
    for _ in range(size):
        item, at = read_first(data, at, depth + 1)
        if not is_map:
            items.append(item)
            continue
        if not isinstance(item, int | str) or item in pairs:
            raise _bad("it has a key twice, or one that is no name")
        pairs[item], at = read_first(data, at, depth + 1)
    return (pairs if is_map else items), at


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """Return the type of an item, its number or length, and the offset of its content."""
    if at >= len(data):
        raise _bad("it is cut off")
    kind, size = data[at] >> 5, data[at] & 31
    if size < 24:
        return kind, size, at + 1
    count = _LONG.get(size, 0)
    raw = data[at + 1 : at + 1 + count]
    if kind == 7 or not count or len(raw) != count:
        raise _bad("it has a length that is not expected")
    return kind, int.from_bytes(raw, "big"), at + 1 + count


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise _bad("a text is not UTF-8") from fault


def _bad(why: str) -> InvalidRequest:
    return InvalidRequest(f"what the authenticator sent is not readable: {why}", hint="try again")
