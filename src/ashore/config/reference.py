"""The reference of ashore.toml, from the declarations.

`python -m ashore.config.reference > docs/reference/ashore-toml.md` writes the page, and a test compares
them. Also an ashore.toml with every key in a comment, which is what an operator begins with.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from dataclasses import fields
from typing import Final, get_type_hints

import msgspec

from ashore.config.document import Listening, Spec
from ashore.core import Key, Section, choices_of, describe, docs_under, field_docs, human_bytes, human_seconds, keys_of
from ashore.errors import AshoreError, Bug, CapacityError, DeniedError, EnvironmentFault, UserError
from ashore.settings import READERS, Settings

_INTRO: Final = """# ashore.toml

Written by `python -m ashore.config.reference` from the declarations in the code; do not edit.

`ashore up --config ashore.toml` reads the file, `ashore reload` reads it again. An unknown key is an error that names
the nearest known one. Numbers are plain: a size in bytes, a key that ends in `_s` in seconds. Keys that end in `_s` or
`_days` also take a duration in quotes: `"90s"`, `"15m"`, `"2h"`, `"30d"`. Relative paths begin at the file.

*Reload*: "yes", a running server takes the change with `ashore reload`; "no", a reload that finds it changed is
refused: stop the server and start it again.
"""
_SETTINGS: Final = """
## Settings

How a process runs: commands as well as the server. Each is a key of `[settings]` and an environment variable, which
wins over the file. `ASHORE_HOME` is a variable only. They are read at the start; a reload does not take them.

| key | variable | takes | default | meaning |
|---|---|---|---|---|
"""
_EXITS: Final = """
## Exit codes

What every command ends with. `code` of the error says more, see [http.md](http.md).

| exit code | meaning |
|---|---|
| 0 | done |
"""
_WHO: Final = (
    (UserError, "the command or the file cannot be used as it stands; the message says what to change"),
    (CapacityError, "no room or no time now; try again, or add machines"),
    (EnvironmentFault, "something on this machine is missing, taken or broken; the operator mends it"),
    (DeniedError, "not allowed; an administrator grants the right"),
    (Bug, "an error of ashore; report it"),
)


def reference() -> str:
    """Return `docs/reference/ashore-toml.md`."""
    return "".join((_INTRO, *(_section(key) for key in _sections()), _settings(), _exits()))


def example() -> str:
    """Return an ashore.toml with every key and its default in a comment, which changes nothing as it stands."""
    lines = [
        "# ashore.toml: remove the # before what you change. `ashore up --dry-run --config ashore.toml` checks it."
    ]
    for key in _sections():
        if (kind := key.inner) is not None:
            lines += ["", f"# {_summary(kind)}", *_example(kind, key.name, repeated=key.tables is not None)]
    lines += ["", "# How the processes run.", "# [settings]"]
    docs = docs_under(Settings)
    for field in fields(Settings):
        if field.name in READERS and field.name not in ("home", "state_url", "sealing_key", "sealing_state"):
            lines += [f"# {field.name} = {_toml(field.default)}  # {docs[field.name]}"]
    return "\n".join(lines) + "\n"


def _sections() -> list[Key]:
    """Return the sections in the order in which an operator meets them: the models first."""
    return sorted((key for key in keys_of(Spec) if key.inner is not None), key=lambda key: key.name != "model")


def _section(key: Key) -> str:
    kind = key.inner
    assert kind is not None
    reload = "the same" if key.field in Listening.__struct_fields__ or key.tables else "no"
    return "".join(_tables(kind, f"[[{key.name}]]" if key.tables else f"[{key.name}]", key.name, reload, "##"))


def _tables(
    kind: type[msgspec.Struct], title: str, path: str, reload: str, mark: str, above: type[msgspec.Struct] | None = None
) -> Iterator[str]:
    """Yield the table of a section, then those of the tables in it. `above` is the section that it stands in."""
    docs = field_docs(kind)
    rows: list[str] = []
    inner: list[str] = []
    for key in keys_of(kind):
        kept = "no" if key.kept or reload == "no" else "yes"
        struct = key.inner
        if struct is None:
            inherits = above is not None and key.field in _shared(kind, above)
            default = f"as `[{path.rpartition('.')[0]}]` says" if inherits else _default(key)
            rows.append(f"| `{key.name}` | {_takes(key)} | {default} | {docs.get(key.field, '')} | {kept} |\n")
            continue
        name = f"{path}.{key.name}" + (".NAME" if key.table is None and key.tables is None else "")
        inner += _tables(struct, f"[[{name}]]" if key.tables else f"[{name}]", name, kept, "###", kind)
    yield f"\n{mark} `{title}`\n\n{_summary(kind)}\n\n"
    if rows:
        yield "| key | takes | default | meaning | reload |\n|---|---|---|---|---|\n" + "".join(rows)
    yield from inner


def _settings() -> str:
    docs, kinds, rows = docs_under(Settings), get_type_hints(Settings), [_SETTINGS]
    for field in fields(Settings):
        if field.name not in READERS:
            continue
        name = {"home": "", "state_url": "`[state] url`", "sealing_key": "`[sealing] key`"}.get(
            field.name, f"`{field.name}`"
        )
        name = "`[sealing] state`" if field.name == "sealing_state" else name
        takes = "a directory" if field.name == "home" else describe(kinds[field.name])
        takes = "seconds above 0, at most 86400, or a duration" if field.name.endswith("_s") else takes
        default = "`~/.ashore`" if field.name == "home" else _quoted(field.default)
        rows.append(f"| {name} | `ASHORE_{field.name.upper()}` | {takes} | {default} | {docs[field.name]} |\n")
    return "".join(rows)


def _exits() -> str:
    kinds: tuple[tuple[type[AshoreError], str], ...] = _WHO
    return _EXITS + "".join(
        f"| {kind.exit_code} | {words} |\n" for kind, words in sorted(kinds, key=lambda one: one[0].exit_code)
    )


def _takes(key: Key) -> str:
    if key.by_name is not None:
        return f"a table: {describe(key.by_name)} by name"
    words = describe(key.kind).replace(f" to {2**40}", " or more")
    unit = "" if key.name.endswith("_per_s") else key.name.rpartition("_")[2]
    return words + {"s": " s", "days": " days", "ms": " ms"}.get(unit, "")


def _default(key: Key) -> str:
    if key.required:
        return "must be given"
    value = key.default
    if key.name.endswith("_bytes") and isinstance(value, int) and value:
        return f"{_quoted(value)} ({human_bytes(value)})"
    if key.name.endswith("_s") and not key.name.endswith("_per_s") and isinstance(value, float) and value >= 600:
        return f"{_quoted(value)} ({human_seconds(value)})"
    return _quoted(value)


def _quoted(value: object) -> str:
    return "" if value is None else f"`{_toml(value)}`"


def _toml(value: object) -> str:
    """Return a default as it would stand in the file."""
    if isinstance(value, tuple):
        return json.dumps(list(value))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


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
            value = key.example.partition(", a ")[0] if key.required else _toml(default)
            yield f"# {key.name} = {value}  # {docs.get(key.field, '')}"
    yield from inner


def _summary(kind: type[msgspec.Struct]) -> str:
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())


def _shared(kind: type[msgspec.Struct], other: type[msgspec.Struct]) -> frozenset[str]:
    """Return the fields that two sections have from one declaration."""
    bases = [base for base in kind.__mro__ if base in other.__mro__ and issubclass(base, Section)]
    return frozenset(name for base in bases for name in base.__struct_fields__)


if __name__ == "__main__":
    sys.stdout.write(reference())
