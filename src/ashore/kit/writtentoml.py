"""A TOML writer for documents that `tomllib` has read: plain keys first, then tables, in the order of the document."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def write_toml(document: Mapping[str, Any], *, head: str = "", inline: frozenset[str] = frozenset()) -> str:
    """Return `document` as TOML; `tomllib` reads it back as it was.

    Args:
        document: What `tomllib.loads` returned.
        head: Becomes comment lines at the top.
        inline: Keys that mark a table as a value: one with such a key is written on the line of its name.
    """
    lines = [f"# {line}".rstrip() for line in head.splitlines()]
    lines += _table(document, (), inline)
    return "\n".join(lines).strip("\n") + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...], inline: frozenset[str]) -> Iterator[str]:
    inner = {key: value for key, value in table.items() if _is_table(value, inline) or _is_tables(value, inline)}
    for key, value in table.items():
        if key not in inner:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in inner.items():
        name = ".".join(map(_key, (*path, key)))
        for one in value if isinstance(value, list) else [value]:
            yield ""
            yield f"[[{name}]]" if isinstance(value, list) else f"[{name}]"
            yield from _table(one, (*path, key), inline)


def _is_table(value: object, inline: frozenset[str]) -> bool:
    return isinstance(value, Mapping) and not inline & set(value)


def _is_tables(value: object, inline: frozenset[str]) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_table(one, inline) for one in value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case int():
            return str(value)
        case float():
            return repr(value)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case Mapping():
            return "{ " + ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(map(_value, value)) + "]"
    raise TypeError(f"TOML has no form for {type(value).__name__}")
