"""Differences between two versions of a section of ashore.toml, key by key: `result_ttl_s: 3600 -> 1800`. Pure."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ashore.core.addresses import split_url

MOST_CHARS: Final = 60
"""Of a value; longer ones are cut."""
_SECRET: Final = re.compile(r"(^|_)(key|secret|password|token|hook)$")
_IN_QUERY: Final = re.compile(r"([?&][^?=&#]*(?:key|secret|password|passwd|token|signature)=)[^&#]*", re.IGNORECASE)


def differences(before: object, after: object, name: str = "") -> tuple[str, ...]:
    """Return a line for each key that differs, with the old and the new value; secrets are not shown.

    Args:
        before: A section: a dataclass, a msgspec struct or a mapping; compared recursively.
        after: The same section now.
        name: Of the key that holds it; empty for the section itself.
    """
    if before == after:
        return ()
    old, new = _parts(before), _parts(after)
    if old is None or new is None:
        return (f"{name}: changed" if is_secret(name) else f"{name}: {shown(before)} -> {shown(after)}",)
    return tuple(
        line
        for key in dict.fromkeys((*old, *new))
        for line in differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    )


def _parts(value: object) -> Mapping[str, Any] | None:
    """Return the parts of a section by key; None for a plain value."""
    if isinstance(value, Mapping):
        return {str(key): one for key, one in value.items()}
    if isinstance(value, msgspec.Struct):
        return {key: getattr(value, key) for key in value.__struct_fields__}
    if isinstance(value, tuple) and value and all(isinstance(one, msgspec.Struct) for one in value):
        named = {_named(one): one for one in value}
        return named if len(named) == len(value) else None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def is_secret(name: str) -> bool:
    """Return whether values of a key of this name are secret."""
    return _SECRET.search(name) is not None


def shown(value: object) -> str:
    """Return a value as text, without the password of an address; long values are cut."""
    if value is None or value == "":
        return "not set"
    if isinstance(value, str) and "://" in value and (bare := _without_password(value)) != value:
        return bare
    if isinstance(value, tuple | frozenset | list):
        return f"[{', '.join(map(_named, value))}]"[:MOST_CHARS]
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool | int | float) else str(value)
    return text if len(text) <= MOST_CHARS else text[: MOST_CHARS - 1] + "…"


def _named(value: object) -> str:
    """Return an element of a list; one with parts, by its name only."""
    parts = _parts(value)
    if parts is None:
        return _without_password(str(value))
    return str(parts.get("name") or parts.get("alias") or next(iter(parts.values()), "…"))


def _without_password(text: str) -> str:
    """Return an address without credentials before its host or in its query; any other text unchanged."""
    if "://" not in text:
        return text
    password = split_url(text).password
    bare = text.replace(f":{password}@", ":…@") if password else text
    return _IN_QUERY.sub(r"\1…", bare)
