"""A YAML writer for configuration that people read: block style, comments, and no reading back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, Union

Tree: TypeAlias = Union[Mapping[str, "Tree"], Sequence["Tree"], str, int, float, bool, "Why", "Verbatim"]

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Text written unquoted and unchanged: a template expression."""

    text: str


@dataclass(frozen=True, slots=True)
class Why:
    """A value with its reason, written as a comment above it."""

    reason: str
    value: Tree


def write_yaml(document: Mapping[str, Tree], *, head: str = "") -> str:
    """Return `document` as YAML. `head` becomes comment lines at the top."""
    lines = [f"# {line}".rstrip() for line in head.splitlines()]
    return "\n".join([*lines, *_mapping(document, "")]) + "\n"


def plain(tree: Tree) -> object:
    """Return the tree without its reasons: the value that a YAML reader would find."""
    match tree:
        case Why():
            return plain(tree.value)
        case Mapping():
            return {key: plain(value) for key, value in tree.items()}
        case str() | int() | float():
            return tree
        case Verbatim():
            return tree.text
        case _:
            return [plain(item) for item in tree]


def _mapping(tree: Mapping[str, Tree], indent: str) -> Iterator[str]:
    for key, value in tree.items():
        while isinstance(value, Why):
            yield from (f"{indent}# {line}" for line in value.reason.splitlines())
            value = value.value
        yield from _entry(f"{indent}{_scalar(key)}:", value, indent + "  ")


def _sequence(tree: Sequence[Tree], indent: str) -> Iterator[str]:
    for item in tree:
        while isinstance(item, Why):
            yield from (f"{indent}# {line}" for line in item.reason.splitlines())
            item = item.value
        if isinstance(item, Mapping) and item:
            inner = list(_mapping(item, indent + "  "))
            first = next(i for i, line in enumerate(inner) if not line.lstrip().startswith("#"))
            yield from (f"{indent}{line.lstrip()}" for line in inner[:first])
            yield f"{indent}- {inner[first].lstrip()}"
            yield from inner[first + 1 :]
        else:
            yield from _entry(f"{indent}-", item, indent + "  ")


def _entry(lead: str, value: Tree, indent: str) -> Iterator[str]:
    match value:
        case str() if "\n" in value:
            yield f"{lead} |"
            yield from (f"{indent}{line}" for line in value.rstrip("\n").splitlines())
        case str() | int() | float() | Verbatim():
            yield f"{lead} {_scalar(value)}"
        case Mapping():
            yield lead if value else f"{lead} {{}}"
            yield from _mapping(value, indent)
        case Why():
            raise TypeError("a reason stands above a key or an item")
        case _:
            items = list(value)
            if all(isinstance(item, str | int | float | Verbatim) and "\n" not in str(item) for item in items):
                yield f"{lead} [{', '.join(_scalar(item) for item in items)}]"  # type: ignore[arg-type]
            else:
                yield lead
                yield from _sequence(items, indent)


def _scalar(value: str | int | float | Verbatim) -> str:
    if isinstance(value, Verbatim):
        return value.text
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
