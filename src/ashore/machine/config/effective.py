"""Effective configuration, and the source of each value: the default, ashore.toml, or the environment. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import msgspec

from ashore.kit.section import keys_of
from ashore.kit.settings import READERS, read_settings
from ashore.machine.config.differences import is_secret, shown
from ashore.machine.config.document import Listening, Spec

Source = Literal["default", "file", "environment", "option", "earlier file"]
ELSEWHERE = {
    "state_url": ("[state]", "url"),
    "sealing_key": ("[sealing]", "key"),
    "sealing_state": ("[sealing]", "state"),
}
"""Settings that the file has outside `[settings]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A configuration key, its effective value and its source."""

    table: str
    """`[cache]`, `[[model]] 1`, `[settings]`."""
    key: str
    value: str
    """In words; secrets are not shown."""
    source: Source


def effective(spec: Spec, document: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[Held, ...]:
    """Return every key with the value that `ashore up` would use.

    Args:
        spec: The file as read.
        document: The parsed file as written; empty: there is no file.
        environ: Environment of the process.

    Raises:
        InvalidSpec: a setting is malformed.
    """
    found = [held for held in _walk(spec, document, "") if held.table not in ("[settings]", "[state]", "[sealing]")]
    settings = read_settings(environ, spec.settings)
    for name in READERS:
        table, key = ELSEWHERE.get(name, ("[settings]", name))
        written = document.get(table.strip("[]"), {})
        source: Source = "file" if key in written else "default"
        if f"ASHORE_{name.upper()}" in environ:
            source = "environment"
        value = settings.home.root if name == "home" else getattr(settings, name)
        found.append(_held(table, key, str(value) if name == "home" else value, source))
    return tuple(found)


def in_force(
    listening: Listening, spec: Spec, document: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[Held, ...]:
    """Return every key with the value that a running server uses.

    Args:
        listening: The server's configuration except its models.
        spec: What `ashore up` would use now: the current file, with the options of its start.
        document: The current file, parsed; empty: there is none.
        environ: Environment of the process.

    Raises:
        InvalidSpec: a setting is malformed.
    """
    now = effective(spec, document, environ)
    running = {(one.table, one.key): one.value for one in _walk(listening, document, "")}
    found = []
    for one in now:
        value = running.get((one.table, one.key), one.value)
        source = one.source
        if value != one.value:
            source = "earlier file"
        elif one.source == "default" and value != _defaults().get((one.table, one.key), value):
            source = "option"
        found.append(replace(one, value=value, source=source))
    return tuple(found)


@cache
def _defaults() -> Mapping[tuple[str, str], str]:
    return {(one.table, one.key): one.value for one in _walk(Spec(), {}, "")}


def _walk(struct: msgspec.Struct, written: Mapping[str, Any], path: str) -> Iterator[Held]:
    inner: list[Held] = []
    for key in keys_of(type(struct)):
        value, raw = getattr(struct, key.field), written.get(key.name)
        name = f"{path}.{key.name}" if path else key.name
        if key.table is not None:
            inner += _walk(value, raw or {}, name)
        elif key.tables is not None:
            for number, one in enumerate(value if key.wrapped is None else getattr(value, key.wrapped.TABLES), start=1):
                said = raw[number - 1] if raw and number <= len(raw) else {}
                inner += _walk(one, said, f"[{name}] {number}")
        elif key.inner is not None:
            for label, one in value.items():
                inner += _walk(one, (raw or {}).get(label, {}), f"{name}.{label}")
        elif path:
            yield _held(_title(path), key.name, value, "default" if raw is None else "file")
    yield from inner


def _title(path: str) -> str:
    name, space, number = path.rpartition(" ")
    return f"[{name}] {number}" if space else f"[{path}]"


def _held(table: str, key: str, value: object, source: Source) -> Held:
    words = "not the default" if is_secret(key) and value else shown(value)
    return Held(table=table, key=key, value=words, source=source)
