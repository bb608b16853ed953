"""Checks how many parts a protobuf message has before the library decodes it, in a step that nothing interrupts."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError

from ashore.core.errors import InvalidRequest

MOST_FIELDS: Final = 100_000
"""Fields of a message, those of the messages inside it included. An empty message of two bytes takes a hundred."""
MOST_PAIRS: Final = 4096
"""Pairs of the maps in a message. The library places whole numbers in a map by their lowest bits, so that keys that
share these take it quadratic time."""


def check_parts(raw: bytes, kind: Any) -> None:
    """Check that a message has no more than `MOST_FIELDS` and `MOST_PAIRS`.

    Args:
        raw: The message.
        kind: Its descriptor; protobuf carries no types.

    Raises:
        InvalidRequest: it has more.
        DecodeError: it is malformed.
    """
    num_fields = num_pairs = 0
    inside = [(0, len(raw), kind)]
    while inside:
        at, end, kind = inside.pop()
        fields = kind.fields_by_number
        while at < end:
            num_fields += 1
            if num_fields > MOST_FIELDS:
                raise InvalidRequest(
                    f"the message has more than {MOST_FIELDS:,} fields", hint="send fewer parts in one request"
                )
            tag, at = _varint(raw, at)
            match tag & 7:
                case 0:
                    _, at = _varint(raw, at)
                case 1:
                    at += 8
                case 2:
                    length, at = _varint(raw, at)
                    field = fields.get(tag >> 3)
                    if field is not None and field.message_type is not None:
                        num_pairs += field.message_type.GetOptions().map_entry
                        if num_pairs > MOST_PAIRS:
                            raise InvalidRequest(
                                f"the message has more than {MOST_PAIRS:,} entries in maps such as {field.name}",
                                hint="send fewer entries",
                            )
                        inside.append((at, at + length, field.message_type))
                    at += length
                case 5:
                    at += 4
                case _:
                    raise DecodeError("it has a group")
        if at != end:
            raise DecodeError("a field ends beyond its message")


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(raw) and shift < 70:
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise DecodeError("a number does not end")
