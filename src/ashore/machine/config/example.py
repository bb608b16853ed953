"""An ashore.toml with every key in a comment, from the declarations: a starting point for operators."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import fields

import msgspec

from ashore.kit.call import docs_under, field_docs
from ashore.kit.section import Key, choices_of, keys_of
from ashore.kit.settings import READERS, Settings
from ashore.machine.config.document import Spec


def example() -> str:
    """Return an ashore.toml with every key and its default in a comment."""
    lines = [
        "# ashore.toml: remove the # before what you change. `ashore up --dry-run --config ashore.toml` checks it."
    ]
    for key in sections():
        if (kind := key.inner) is not None:
            lines += ["", f"# {summary(kind)}", *_example(kind, key.name, repeated=key.tables is not None)]
    lines += ["", "# How the processes run.", "# [settings]"]
    docs = docs_under(Settings)
    for field in fields(Settings):
        if field.name in READERS and field.name not in ("home", "state_url", "sealing_key", "sealing_state"):
            lines += [f"# {field.name} = {as_toml(field.default)}  # {docs[field.name]}"]
    return "\n".join(lines) + "\n"


def sections() -> list[Key]:
    """Return the sections in reading order: the models first."""
    return sorted((key for key in keys_of(Spec) if key.inner is not None), key=lambda key: key.name != "model")


def _example(kind: type[msgspec.Struct], path: str, *, repeated: bool) -> Iterator[str]:
    yield f"# [[{path}]]" if repeated else f"# [{path}]"
    inner: list[str] = []
    docs = field_docs(kind)
    for key in keys_of(kind):
        struct = key.inner
        if struct is not None:
            name = f"{path}.{key.name}" + ("" if key.table or key.tables else ".NAME")
            inner += _example(struct, name, repeated=key.tables is not None)
        elif key.by_name is not None:
            inner += [f"# [{path}.{key.name}]  # {docs.get(key.field, '')}"]
        else:
            default = choices_of(key.kind)[0] if key.default is None else key.default
            value = key.example.partition(", a ")[0] if key.required else as_toml(default)
            yield f"# {key.name} = {value}  # {docs.get(key.field, '')}"
    yield from inner


def as_toml(value: object) -> str:
    """Return a default as written in the file."""
    if isinstance(value, tuple):
        return json.dumps(list(value))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


def summary(kind: type[msgspec.Struct]) -> str:
    """Return the first paragraph of a section's docstring, on one line."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
