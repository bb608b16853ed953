"""Canonical, stable bytes of a record: JSON in UTF-8 without spaces, keys sorted, one line.

Client input can neither start nor end a line, nor reverse text on a screen: JSON escapes control characters, and this
module also escapes Unicode line separators, direction marks and invisible characters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from ashore.data.audit.model import Record

MAX_TEXT_CHARS: Final = 2_000
"""Of one text in a record; more is cut, and the cut shows as `…`."""
MAX_DETAILS: Final = 64
MAX_LINE_BYTES: Final = 16 << 20
"""Longest line that a reader takes: content logging keeps whole prompts."""

HIDDEN: Final = (
    "\\x7f-\\x9f\\xad\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff"
    "\\uffa0\\ufff9-\\ufffb"
)
"""Unicode's control and format characters that have no business in a name: C1, bidirectional marks, zero widths."""
_hidden: Final = re.compile(f"[{HIDDEN}]|[\U000e0000-\U000e007f]")
_unprintable: Final = re.compile(f"[\\x00-\\x1f{HIDDEN}\\ud800-\\udfff]|[\U000e0000-\U000e007f]")

_encode: Final = msgspec.json.Encoder(order="deterministic").encode  # fields are in order; sorts their contents
_decode: Final = msgspec.json.Decoder(Record).decode


def encode(record: Record) -> bytes:
    """Return the canonical bytes of a record. Equal records have equal bytes, in every version of ashore."""
    try:
        line = _encode(record)
    except UnicodeEncodeError:
        line = _encode(_without_surrogates(record))
    return line if line.isascii() else _escape_hidden(line)


def encode_text(text: str) -> bytes:
    """Return one text as encoded in a record."""
    try:
        value = _encode(text)
    except UnicodeEncodeError:
        value = _encode(text.encode("utf-8", "backslashreplace").decode())
    return value if value.isascii() else _escape_hidden(value)


def decode(line: bytes) -> Record:
    """Return the record in a line.

    Raises:
        msgspec.DecodeError: it is not a record.
    """
    try:
        return _decode(line)
    except UnicodeDecodeError as fault:
        raise msgspec.DecodeError(f"it is not UTF-8: {fault.reason}") from fault


def needle(name: str, value: str) -> bytes:
    """Return the bytes contained in every record line whose field `name` is `value`."""
    return b'"%s":%s' % (name.encode(), encode_text(value))


def short(text: str) -> str:
    """Return a text cut to the length that a record may hold."""
    return text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - 1] + "…"


def short_detail(detail: Mapping[str, str | int]) -> dict[str, str | int]:
    """Return facts cut to the length that a record may hold."""
    return {
        short(name): short(value) if isinstance(value, str) else value
        for name, value in list(detail.items())[:MAX_DETAILS]
    }


def printable(text: str) -> str:
    """Return a text for one line of a screen: control and invisible characters are escaped."""
    return _unprintable.sub(lambda found: _escape(found[0]), text)


def _escape_hidden(line: bytes) -> bytes:
    text = line.decode()
    return _hidden.sub(lambda found: _escape(found[0]), text).encode() if _hidden.search(text) else line


def _escape(character: str) -> str:
    """As in JSON; beyond the first plane as a surrogate pair."""
    if ord(character) > 0xFFFF:
        high, low = divmod(ord(character) - 0x10000, 0x400)
        return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
    return f"\\u{ord(character):04x}"


def _without_surrogates(record: Record) -> Record:
    """Replace lone surrogates, which cannot be encoded, so that the record is not lost."""

    def mended(value: object) -> object:
        if isinstance(value, str):
            return value.encode("utf-8", "backslashreplace").decode()
        if isinstance(value, dict):
            return {mended(name): mended(one) for name, one in value.items()}
        return value

    changes = {name: mended(getattr(record, name)) for name in record.__struct_fields__ if name != "content"}
    return msgspec.structs.replace(record, **changes)
