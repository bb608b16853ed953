"""BER as LDAP uses it (RFC 4511, 5.1): definite lengths and tags of one byte; and filters, made of values.

A filter is never read from text with something of a user in it, so there is nothing to escape.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from ashore.core.errors import SourceUnreachable

SEQUENCE: Final = 0x30
CONTROLS: Final = 0xA0
MOST_PARTS: Final = 1_000_000
"""Elements in one element. Empty ones of two bytes would take 5 GiB of memory for a message of 64 MiB."""
Part = tuple[int, int, int]
"""Tag, start and end of an element in its message."""


def tlv(tag: int, *parts: bytes) -> bytes:
    """Return an element."""
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes((tag, len(body))) + body
    size = (len(body).bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + len(body).to_bytes(size, "big") + body


def integer(value: int, tag: int = 0x02) -> bytes:
    """Return a number that is not negative."""
    return tlv(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def octets(value: bytes | str, tag: int = 0x04) -> bytes:
    """Return a string."""
    return tlv(tag, value.encode() if isinstance(value, str) else value)


def boolean(value: bool) -> bytes:
    """Return a truth value."""
    return tlv(0x01, b"\xff" if value else b"\0")


def parts(data: bytes, at: int, end: int) -> Iterator[Part]:
    """Yield the elements between two places.

    Raises:
        SourceUnreachable: it is malformed.
    """
    for count in itertools.count():
        if at >= end:
            return
        if count == MOST_PARTS:
            raise broken(f"an element holds more than {MOST_PARTS:,}")
        if end - at < 2:
            raise broken("it is cut off")
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            if not 1 <= size <= 4 or at + size > end:
                raise broken("it has a length that LDAP forbids")
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > end:
            raise broken("an element is longer than what holds it")
        yield tag, at, at + length
        at += length


def inside(data: bytes, part: Part, least: int = 0) -> list[Part]:
    """Return the elements in an element.

    Raises:
        SourceUnreachable: they are fewer than `least`, or malformed.
    """
    found = list(parts(data, part[1], part[2]))
    if len(found) < least:
        raise broken("something is missing in it")
    return found


def number_in(data: bytes, part: Part) -> int:
    """Return a number."""
    return int.from_bytes(data[part[1] : part[2]], "big")


def text_in(data: bytes, part: Part) -> str:
    """Return a string as text."""
    return data[part[1] : part[2]].decode("utf-8", "replace")


def broken(what: str) -> SourceUnreachable:
    """Return the error about an answer that is not LDAP."""
    return SourceUnreachable(
        f"the directory sent a malformed answer: {what}", hint="check that the address is that of an LDAP server"
    )


# --- filters (RFC 4511, 4.5.1.7)


def all_of(*filters: bytes) -> bytes:
    return tlv(0xA0, *filters)


def any_of(*filters: bytes) -> bytes:
    return tlv(0xA1, *filters)


def equal(name: str, value: str | bytes) -> bytes:
    return tlv(0xA3, octets(name), octets(value))


def present(name: str) -> bytes:
    return octets(name, 0x87)
