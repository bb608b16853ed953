"""Every value of an ashore.toml with its declaration. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ashore.kit.section import Key, is_from_file, keys_of
from ashore.machine.config import Spec

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One value."""

    path: Path
    """Keys and places in lists: `("model", 0, "engine", "key")`."""
    value: Any
    """Text, number or flag; a value that stands in a file of its own is the table `{ from_file = PATH }`."""
    holds: str
    """As `Key.holds` has it."""
    name: str
    """Name that an object or a file may have: `model-chat-engine-options-api-key`."""

    @property
    def key(self) -> str:
        """The last key of its path."""
        return next(str(part) for part in reversed(self.path) if isinstance(part, str))

    @property
    def shown(self) -> str:
        """Its place, for people: `[[model]] 1 [engine] key`."""
        words: list[str] = []
        *tables, last = self.path
        for part, after in zip(tables, self.path[1:], strict=True):
            many = isinstance(after, int)
            words.append(str(part + 1) if isinstance(part, int) else f"[[{part}]]" if many else f"[{part}]")
        return " ".join([*words, str(last + 1) if isinstance(last, int) else str(last)])


def leaves_of(document: Mapping[str, Any]) -> Iterator[Leaf]:
    """Yield every value of ashore.toml, in order."""
    yield from _table(document, Spec, (), ())


def changed(document: Mapping[str, Any], change: Callable[[Leaf], Any]) -> dict[str, Any]:
    """Return a copy of ashore.toml in which each value is what `change` returns for it."""
    copy: dict[str, Any] = _copied(document)
    for leaf in list(leaves_of(document)):
        new = change(leaf)
        if new is not leaf.value:
            where: Any = copy
            for part in leaf.path[:-1]:
                where = where[part]
            where[leaf.path[-1]] = new
    return copy


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(one) for key, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value


def _table(
    table: Mapping[str, Any], kind: type[msgspec.Struct] | None, path: Path, names: tuple[str, ...]
) -> Iterator[Leaf]:
    known = {key.name: key for key in keys_of(kind)} if kind is not None else {}
    for name, value in table.items():
        yield from _value(value, known.get(name), (*path, name), (*names, name))


def _value(value: Any, key: Key | None, path: Path, names: tuple[str, ...]) -> Iterator[Leaf]:
    if isinstance(value, Mapping) and not is_from_file(value):
        if key is not None and key.by_name is not None:
            for name, one in value.items():
                inside = key.inner
                if inside is not None and isinstance(one, Mapping):
                    yield from _table(one, inside, (*path, name), (*names, name))
                else:
                    yield from _value(one, _leaf_of(key), (*path, name), (*names, name))
        else:
            yield from _table(value, key.inner if key is not None else None, path, names)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            called = str(one.get("alias") or one.get("name") or number + 1) if isinstance(one, Mapping) else number + 1
            called_so = (*names, str(called))
            if isinstance(one, Mapping) and not is_from_file(one):
                yield from _table(one, key.inner if key is not None else None, (*path, number), called_so)
            else:
                yield from _value(one, key, (*path, number), called_so)
    else:
        yield Leaf(
            path=path, value=value, holds=key.holds if key is not None else "", name=object_name("-".join(names))
        )


def _leaf_of(key: Key) -> Key:
    """Return the declaration of values in a table whose keys the operator chooses."""
    return Key(
        name=key.name, field=key.field, kind=str, default="", kept=key.kept, example="", holds=key.holds
    )  # fmt: skip


def object_name(text: str) -> str:
    """Return a text as a name of Kubernetes: lower-case letters, digits and single dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
