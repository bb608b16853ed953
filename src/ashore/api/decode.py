"""From bytes and plain values to typed requests, and from msgspec's words to errors that name the field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, TypeVar, get_args

import msgspec

from ashore.core import did_you_mean
from ashore.errors import InvalidRequest, UnknownField

T = TypeVar("T", bound=msgspec.Struct)

MAX_NAME_CHARS: Final = 100
"""Of a field name that a client made up: an error says no more of it."""

_AT: Final = re.compile(r" - at `(?P<path>[^`]*)`$")
_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(?P<field>.*?)`")
_MISSING: Final = re.compile(r"^Object missing required field `(?P<field>.*?)`")
_TAG: Final = re.compile(r"^Invalid value '(?P<value>.*)'$", re.DOTALL)


class _Named(msgspec.Struct):
    model: str = ""


_decode_named = msgspec.json.Decoder(_Named).decode


def model_in(body: bytes) -> str:
    """Return the model that a body names, without looking at anything else in it; empty where it names none."""
    try:
        return _decode_named(body).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Return `body` as the decoder's type.

    Raises:
        UnknownField: it has a field that the type lacks; the nearest known names are offered.
        InvalidRequest: it is no JSON, or a value has the wrong type or is out of range; `param` is its path.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as fault:
        raise _translate(str(fault), decoder.type) from fault
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        what = "it is empty" if not body else str(fault).removeprefix("JSON is malformed: ")
        raise InvalidRequest(f"the body is not valid JSON: {what}", hint="send one JSON object in UTF-8") from fault


def convert(values: Mapping[str, Any], kind: type[T], *, texts: bool = False) -> T:
    """Return values that a protocol has read already as `kind`. With `texts` a number may be written as one.

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
        return InvalidRequest(
            f"{path} is {tag['value'][:MAX_NAME_CHARS]!r}, which ashore does not take",
            hint="models here read text: content parts must have the type 'text'" if ".content" in path else "",
            param=path,
        )
    subject = f"{path}: " if path else ""
    return InvalidRequest(f"{subject}{words[:1].lower()}{words[1:]}".replace("`", ""), param=path or None)


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
