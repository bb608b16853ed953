"""Decodes bytes and plain values to typed requests, and turns msgspec's messages into errors that name the field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from ashore.core.errors import InvalidRequest, UnknownField
from ashore.core.nearest import did_you_mean

T = TypeVar("T", bound=msgspec.Struct)

MAX_NAME_CHARS: Final = 100
"""Limit for quoting a client's field name in an error."""

UNDECODABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What a decoder of msgspec raises for what it cannot read: bytes that are not UTF-8 and what is nested too deeply come
as Python's own errors, beside msgspec's."""

MAX_WORDS_CHARS: Final = 300
"""Limit for quoting msgspec: it may repeat the client's input."""

MOST_EXPONENTS: Final = 2_000
"""Numbers with an exponent, such as `1e300`, in a JSON document. The decoder takes up to 10 µs for one, in a step that
nothing interrupts."""
MOST_CONTAINERS: Final = 100_000
"""Objects and lists of a JSON document. One takes 200 ns to read, in a step that nothing interrupts."""
MOST_TEXTS: Final = 300_000
"""Texts and names of a JSON document. A name takes 250 ns to read, in a step that nothing interrupts."""
_FEWER: Final = "send fewer parts in one request"
_DIGITS_AS_0: Final = bytes.maketrans(b"123456789E", b"000000000e")

_AT: Final = re.compile(r" - at `(?P<path>[^`]*)`$")
_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(?P<field>.*?)`", re.DOTALL)
_MISSING: Final = re.compile(r"^Object missing required field `(?P<field>.*?)`")
_TAG: Final = re.compile(r"^Invalid value '(?P<value>.*)'$", re.DOTALL)
_CHOICE: Final = re.compile(r"^Invalid enum value (?P<value>.*)$", re.DOTALL)
_NAMED: Final = re.compile(r"`([^`]*)`")
_JSON: Final = {
    "float": "a number", "int": "a whole number", "str": "a string", "bool": "true or false", "object": "an object",
    "array": "a list",
}  # fmt: skip
_PATTERNS: Final = {
    r"[a-z0-9][a-z0-9-]{0,62}": " of small letters, digits and -, at most 63",
    r"\\d\\d:\\d\\d-\\d\\d:\\d\\d": " such as 22:00-06:00",
}
"""What a text is, in words, by a part of its pattern as msgspec writes it."""
_STEP: Final = re.compile(r"\[[^\]]*\]|[^.\[\]]+")


def check_parts(document: bytes) -> None:
    """Check that a JSON document has no more than `MOST_EXPONENTS`, `MOST_CONTAINERS` and `MOST_TEXTS`, before the
    decoder reads it. What is inside texts does not count.

    Raises:
        InvalidRequest: it has more.
    """
    outside = document
    if document.count(b'"') > 2 * MOST_TEXTS or _brackets(document) > MOST_CONTAINERS or _exponents(document):
        outside = without_texts(document)
    if _exponents(outside):
        raise InvalidRequest(
            f"the JSON has more than {MOST_EXPONENTS:,} numbers with an exponent, such as 1e300",
            hint="write them without an exponent, or send fewer",
        )
    if _brackets(outside) > MOST_CONTAINERS:
        raise InvalidRequest(f"the JSON has more than {MOST_CONTAINERS:,} objects and lists", hint=_FEWER)


def without_texts(document: bytes) -> bytes:
    """Return a JSON document with each text and name replaced by an empty one. Searches for bytes alone: an expression
    would hold the interpreter for half a second on what a body may have.

    Raises:
        InvalidRequest: there are more than `MOST_TEXTS`.
    """
    bare = document.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > 2 * MOST_TEXTS:
        raise InvalidRequest(f"the JSON has more than {MOST_TEXTS:,} texts and names", hint=_FEWER)
    return b'""'.join(bare.split(b'"')[::2])


def _brackets(document: bytes) -> int:
    return document.count(b"[") + document.count(b"{")


def _exponents(document: bytes) -> bool:
    """Return whether a digit is followed by an `e` too often."""
    return document.translate(_DIGITS_AS_0).count(b"0e") > MOST_EXPONENTS


def decode_any(text: str) -> Any:
    """Return the value of a JSON text that a request carries.

    Raises:
        InvalidRequest: as `check_parts`. One of `UNDECODABLE`: it is not JSON.
    """
    encoded = text.encode()
    check_parts(encoded)
    return msgspec.json.decode(encoded)


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Return `body` as the decoder's type.

    Raises:
        UnknownField: it has a field that the type lacks; the hint suggests the nearest names.
        InvalidRequest: it is not JSON, or a value has the wrong type or is out of range; `param` is its path.
    """
    check_parts(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as fault:
        raise _translate(str(fault), decoder.type) from fault
    except UNDECODABLE as fault:
        what = "it is empty" if not body else str(fault).removeprefix("JSON is malformed: ")
        raise InvalidRequest(f"the body is not valid JSON: {what}", hint="send one JSON object in UTF-8") from fault


def convert(values: Mapping[str, Any], kind: type[T], *, texts: bool = False) -> T:
    """Convert decoded values to `kind`. With `texts` a number may be written as a string.

    Raises:
        UnknownField, InvalidRequest: as `decode` does.
    """
    try:
        return msgspec.convert(values, kind, strict=not texts)
    except msgspec.ValidationError as fault:
        raise _translate(str(fault), kind) from fault


def _translate(message: str, kind: Any) -> InvalidRequest | UnknownField:
    at = _AT.search(message)
    path = at["path"].removeprefix("$").removeprefix(".") if at else ""
    words = message[: at.start()] if at else message
    if unknown := _UNKNOWN.match(words):
        name = unknown["field"][:MAX_NAME_CHARS]
        param = f"{path}.{name}" if path else name
        known = _fields(kind) if not path else _all_fields(kind)
        return UnknownField(f"unknown field {param!r}", hint=did_you_mean(name, known), param=param)
    if missing := _MISSING.match(words):
        param = f"{path}.{missing['field']}" if path else missing["field"]
        return InvalidRequest(f"the field {param!r} is missing", param=param)
    if path.endswith(".type") and (tag := _TAG.match(words)):
        takes = _choices(kind, path)
        return InvalidRequest(
            f"{path} is {tag['value'][:MAX_NAME_CHARS]!r}, which ashore does not accept",
            hint="models here read text: content parts must have the type 'text'"
            if ".content" in path
            else f"expected {', '.join(takes)}" * bool(takes),
            param=path,
        )
    if (choice := _CHOICE.match(words)) and (takes := _choices(kind, path)):
        return InvalidRequest(
            f"{path} is {choice['value'][:MAX_NAME_CHARS]}; expected {' or '.join(takes)}", param=path or None
        )
    subject, words = f"{path}: " if path else "", _plain(words[:MAX_WORDS_CHARS])
    return InvalidRequest(f"{subject}{words[:1].lower()}{words[1:]}", param=path or None)


def _plain(words: str) -> str:
    """Return msgspec's message in JSON terms: "expected a number of at most 2.0"."""
    said = _NAMED.sub(lambda found: " or ".join(_JSON.get(one, one) for one in found[1].split(" | ")), words)
    for sign, word in ((" <= ", " of at most "), (" >= ", " of at least "), (" > ", " above "), (" < ", " below ")):
        said = said.replace(sign, word)
    for pattern, word in _PATTERNS.items():
        if pattern in said:
            said = said.partition(" matching regex")[0] + word
    return said.replace("length of", "length")


@lru_cache(maxsize=64)
def _choices(kind: Any, path: str) -> tuple[str, ...]:
    """Return the allowed values at `path` in `kind`, sorted; none if unknown. Clients invent paths, so the cache is
    small."""
    here = _parts(kind)
    above: tuple[Any, ...] = ()
    for step in _STEP.findall(path):
        if step.startswith("["):
            inner: list[tuple[Any, ...]] = [
                get_args(one)[-1:] for one in here if get_origin(one) in (list, tuple, dict)
            ]
        else:
            fields = [field for one in here if _is_struct(one) for field in msgspec.structs.fields(one)]
            inner = [(field.type,) for field in fields if field.encode_name == step]
        here, above = tuple(part for types in inner for one in types for part in _parts(one)), here
    tags = [one.__struct_config__.tag for one in above if _is_struct(one) and path.endswith(".type")]
    literal = [value for one in here if get_origin(one) is Literal for value in get_args(one)]
    return tuple(sorted({str(value) for value in (*tags, *literal) if value is not None}))


def _parts(kind: Any) -> tuple[Any, ...]:
    """Return the alternatives of a type: members of a union, and annotated types."""
    if get_origin(kind) is Annotated:
        return _parts(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return tuple(part for one in get_args(kind) for part in _parts(one))
    return (kind,)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


@cache
def _fields(kind: Any) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(kind))


@cache
def _all_fields(kind: Any) -> frozenset[str]:
    """Every field name of every structure inside `kind`."""
    found: set[str] = set()
    seen: set[Any] = set()
    waiting = [kind]
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            if one not in seen:
                seen.add(one)
                for field in msgspec.structs.fields(one):
                    found.add(field.encode_name)
                    waiting.append(field.type)
        else:
            waiting.extend(get_args(one))
    return frozenset(found)
