"""One part of ashore.toml, declared once: types with bounds, each default, and the help under each field.

A room declares its part in `ROOM/section.py`. Parsing, reload, the settings passed to the supervisor's children, and
the reference page are derived from the struct.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar, Union, cast, get_args, get_origin

import msgspec

from ashore.core.errors import InvalidRequest, InvalidSpec
from ashore.core.nearest import did_you_mean, nearest_names
from ashore.core.timespan import parse_seconds

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

Kept = Annotated[T, msgspec.Meta(extra={"kept": True})]
"""A key that a running server keeps: a reload that finds it changed is refused."""
Seconds = Annotated[float, msgspec.Meta(gt=0, le=366 * 86_400.0)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
AtLeast0 = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
AtLeast1 = Annotated[int, msgspec.Meta(ge=1, le=2**40)]

AFile = Annotated[str, msgspec.Meta(extra={"holds": "file"})]
"""A key that names a file of this machine."""
APlace = Annotated[str, msgspec.Meta(extra={"holds": "place"})]
"""A key that names a folder of this machine, or an address."""
FROM_FILE: Final = "from_file"
"""`key = { from_file = "/run/secrets/…" }`: the value is the text of that file, so that ashore.toml holds no secret."""

_UNITS: Final = {"_s": 1, "_days": 86_400}
"""What a duration is counted in, by how its key ends."""
_MOST_SHOWN: Final = 60
_PLAIN: Final[Mapping[Any, str]] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "text", Any: "any value", object: "any value",
}  # fmt: skip


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of ashore.toml."""

    WHOLE_KEPT: ClassVar[bool] = False
    """Whether a running server keeps every key of it, as if each were `Kept`."""
    TABLES: ClassVar[str] = ""
    """Its one field, where ashore.toml writes the section as `[[name]]` for each of a list of tables."""

    @classmethod
    def prepared(cls, values: Mapping[str, object], where: str) -> Mapping[str, object]:
        """Return a table before its keys are read: refuse what needs words of its own, or fill in what other keys say.

        Raises:
            InvalidSpec: with the place, `where`.
        """
        return values

    def checked(self, where: str) -> Self:
        """Return the section once it is sure that its keys fit each other, which no type says.

        Raises:
            InvalidSpec: they do not; the message has the place, `where`.
        """
        return self

    def beside(self, folder: Path) -> Self:
        """Return the section with files as paths that hold anywhere: relative ones are in `folder`."""
        return self

    def fits(self, others: Mapping[str, Any], where: str) -> None:
        """Return when the section fits the other ones, which are given by name.

        Raises:
            InvalidSpec: it does not; the message has the place, `where`.
        """

    @property
    def calls(self) -> Mapping[str, str]:
        """Addresses that the section has ashore call, by key: those of other hosts must be in `[egress] allow`."""
        return {}

    @property
    def runs(self) -> bool:
        """Whether the room needs its process (`listed.py`) beside the others."""
        return False

    def kept(self) -> dict[str, object]:
        """Return what a running server does not change, by key."""
        return {key.field: getattr(self, key.field) for key in keys_of(type(self)) if key.kept}

    def reloaded(self, said: Self) -> Self:
        """Return what a running server uses after a reload of `said`: all of it but the keys that it keeps."""
        kept = {key.field: getattr(self, key.field) for key in keys_of(type(self)) if key.kept}
        return msgspec.structs.replace(said, **kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of a section, as it was declared."""

    name: str
    """In ashore.toml."""
    field: str
    """In the struct."""
    kind: Any
    """Its type, bounds included."""
    default: object
    """`msgspec.NODEFAULT`: it must be given."""
    kept: bool
    example: str
    """A value as an operator would write it; empty: none was declared."""
    holds: str = ""
    """`file`: the path of one; `place`: a folder or an address; `key source`: where keys of sealed models are; `key
    place`: `env:NAME` or `file:PATH`; empty: none of them."""

    @property
    def required(self) -> bool:
        return self.default is msgspec.NODEFAULT

    @property
    def table(self) -> type[msgspec.Struct] | None:
        """The struct, where the key holds a table of its own: `[name]`."""
        return None if self.tables else _struct_in(self.kind)

    @property
    def tables(self) -> type[msgspec.Struct] | None:
        """The struct, where the key holds a list of tables: `[[name]]`."""
        bare = _bare(self.kind)
        if self.wrapped is not None:
            return next(one.tables for one in keys_of(self.wrapped) if one.field == self.wrapped.TABLES)
        return _struct_in(get_args(bare)[0]) if get_origin(bare) is tuple else None

    @property
    def wrapped(self) -> type[Section] | None:
        """The section that has nothing but a list of tables, where the key holds one."""
        struct = _struct_in(self.kind)
        return struct if struct is not None and issubclass(struct, Section) and struct.TABLES else None

    @property
    def inner(self) -> type[msgspec.Struct] | None:
        """The struct of the tables that the key holds in any of these ways."""
        return self.table or self.tables or _struct_in(self.by_name)

    @property
    def by_name(self) -> Any:
        """The type of the values, where the key holds a table whose keys the operator makes up; else None."""
        bare = _bare(self.kind)
        return get_args(bare)[1] if get_origin(bare) in (dict, Mapping) and get_args(bare) else None


@cache
def keys_of(kind: type[msgspec.Struct]) -> tuple[Key, ...]:
    """Return the keys of a section in the order in which they were declared."""
    whole = bool(getattr(kind, "WHOLE_KEPT", False))
    keys = []
    for field in msgspec.structs.fields(kind):
        metas = _metas(field.type)
        extra = {name: value for meta in metas for name, value in (meta.extra or {}).items()}
        examples = [one for meta in metas for one in meta.examples or ()]
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        keys.append(
            Key(
                name=extra.get("toml", field.name),
                field=field.name,
                kind=field.type,
                default=default,
                kept=whole or bool(extra.get("kept", False)),
                example=str(examples[0]) if examples else "",
                holds=str(extra.get("holds", "") or _held_by(field.type)),
            )
        )
    return tuple(keys)


def toml(name: str) -> msgspec.Meta:
    """Return the mark of a field that ashore.toml calls by another name: `[[route]]` of the field `routes`."""
    return msgspec.Meta(extra={"toml": name})


@cache
def tables_of(kind: type[msgspec.Struct]) -> Mapping[str, tuple[Key, ...]]:
    """Return the keys of every table in a document, by how its header is written: `[cache]`, `[[model]]`,
    `[model.engine]`; of the document itself by an empty header."""
    found: dict[str, tuple[Key, ...]] = {}

    def walk(one: type[msgspec.Struct], header: str) -> None:
        found[header] = keys_of(one)
        for key in found[header]:
            if key.inner is not None:
                path = f"{header.strip('[]')}.{key.name}".lstrip(".")
                walk(key.inner, f"[[{path}]]" if key.tables is not None else f"[{path}]")

    walk(kind, "")
    return found


def read_section(
    kind: type[S], values: Mapping[str, object], where: str, document: type[msgspec.Struct] | None = None
) -> S:
    """Return a table of ashore.toml as its section.

    Args:
        kind: The section.
        values: As they were read.
        where: Stands in messages: `ashore.toml [cache]`.
        document: What the table is a part of: a hint names the table that has an unknown key. None: the section itself.

    Raises:
        InvalidSpec: a key is unknown or missing, a value has the wrong type or is out of bounds, or keys do not fit
            each other. The message names the place, the hint the nearest known name or what to write.
    """
    document = document or kind
    if issubclass(kind, Section):
        values = kind.prepared(values, where)
    keys = keys_of(kind)
    known = {key.name: key for key in keys}
    for name, value in values.items():
        if name not in known:
            hint = _key_meant(name, value, keys, document) or did_you_mean(name, known)
            raise InvalidSpec(f"{where} has an unknown key {name[:100]!r}", hint=hint)
    for key in keys:
        if key.required and key.name not in values:
            raise InvalidSpec(f"{where} has no {key.name}", hint=f"write {key.name} = {key.example or '…'}")
    section = kind(**{known[name].field: _value(known[name], value, where, document) for name, value in values.items()})
    return cast(S, section.checked(where)) if isinstance(section, Section) else section


def _key_meant(name: str, value: object, keys: Sequence[Key], document: type[msgspec.Struct]) -> str:
    """Return which key was meant, by its value or by the tables that have a key of this name; empty: neither says."""
    if not nearest_names(name, (key.name for key in keys)) and (meant := _choice_meant(value, keys)):
        return f"did you mean {meant}?"
    found = []
    for header, others in tables_of(document).items():
        for key in others:
            if key.name == name and header:
                path = f"{header.strip('[]')}.{name}"
                found.append(f"{header}: write [{path}]" if key.inner is not None else header)
    return f"{name} belongs under {' or '.join(found)}" if found else ""


def _choice_meant(value: object, keys: Sequence[Key]) -> str:
    """Return the key that takes one of a few words, of which `value` is one or looks like one: `kind = "vllm"`."""
    for key in keys:
        if isinstance(value, str) and (near := nearest_names(value, choices_of(key.kind), limit=1)):
            return f'{key.name} = "{near[0]}"'
    return ""


def _value(key: Key, value: object, where: str, document: type[msgspec.Struct]) -> object:
    if (table := key.table) is not None:
        return read_section(table, _table(key, value, where, document), f"{where} [{key.name}]", document)
    if (one := key.tables) is not None:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise InvalidSpec(
                f"{where} {key.name} is not a list of tables", hint=f"write [[{key.name}]] with two brackets"
            )
        made = tuple(
            read_section(one, item, f"{where} [[{key.name}]] number {number}", document)
            for number, item in enumerate(value, start=1)
        )
        return made if (whole := key.wrapped) is None else whole(**{whole.TABLES: made}).checked(where)
    if key.by_name is not None:
        inside = f"{where} [{key.name}]"
        struct = _struct_in(key.by_name)
        return {
            name: _leaf(name, key.by_name, item, inside)
            if struct is None
            else read_section(struct, _table(key, item, inside, document, name), f"{inside} [{name}]", document)
            for name, item in _table(key, value, where, document).items()
        }
    return _leaf(key.name, key.kind, value, where)


def _table(key: Key, value: object, where: str, document: type[msgspec.Struct], name: str = "") -> Mapping[str, object]:
    """Return a value that has to be a table: that of `key`, or with a `name` one inside it."""
    if not isinstance(value, dict):
        headers = [header.strip("[]") for header, keys in tables_of(document).items() if key in keys]
        path = f"{headers[0] if headers else ''}.{key.name}{'.' if name else ''}{name}".lstrip(".")
        choice = _choice_meant(value, keys_of(key.table)) if key.table is not None else ""
        hint = f"write {key.name} = {{ {choice} }}" if choice else f"write [{path}] on a line of its own"
        raise InvalidSpec(f"{where} {name or key.name} = {_shown(value)}; expected a table", hint=hint)
    return value


def _held_by(kind: Any) -> str:
    """Return what the elements of a list, or the values of a table, hold."""
    inner = get_args(_bare(kind))
    found = [str((meta.extra or {}).get("holds", "")) for one in inner for meta in _metas(one)]
    return next(filter(None, found), "")


def is_from_file(value: object) -> bool:
    """Return whether a value stands in a file of its own: `{ from_file = PATH }`."""
    return isinstance(value, dict) and set(value) == {FROM_FILE}


def _from_file(value: object, where: str) -> object:
    """Return a value, or each of a list, from the file that holds it; any other as it is."""
    if isinstance(value, list):
        return [_from_file(one, where) for one in value]
    if not isinstance(value, dict) or not is_from_file(value):
        return value
    path = Path(str(value[FROM_FILE]))
    if not path.is_absolute():
        raise InvalidSpec(f"{where} {FROM_FILE} = {_shown(str(path))} is not absolute", hint="write it from / on")
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as fault:
        reason = (fault.strerror if isinstance(fault, OSError) else None) or "not text in UTF-8"
        raise InvalidSpec(f"{where} {FROM_FILE} = {path}: {reason}", hint="put the value into that file") from fault
    if not text:
        raise InvalidSpec(f"{where} {FROM_FILE} = {path} is empty", hint="put the value into that file")
    return text


def _leaf(name: str, kind: Any, value: object, where: str) -> object:
    value = _from_file(value, f"{where} {name}")
    given: object = value
    unit = _unit_of(name) if _number_in(kind) else 0
    if unit and isinstance(value, str):
        try:
            span = parse_seconds(value) / unit
            given = int(span) if span.is_integer() else span
        except InvalidRequest as fault:
            raise InvalidSpec(f"{where} {name}: {fault.message}", hint=fault.hint) from fault
    try:
        if isinstance(given, float) and not math.isfinite(given):
            raise msgspec.ValidationError("not a finite number")
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as fault:
        choices = choices_of(kind)
        hint = did_you_mean(value, choices) if isinstance(value, str) and choices else "correct that line"
        ranged = isinstance(given, int | float) and not isinstance(given, bool) and _number_in(kind)
        words = (range_of(kind) if ranged else "") or describe(kind)
        if unit:
            words += f" {'seconds' if unit == 1 else 'days'}" if ranged else ", or a duration: 90s, 15m, 2h, 30d"
        raise InvalidSpec(f"{where} {name} = {_shown(value)}; expected {words}", hint=hint) from fault


def _unit_of(name: str) -> int:
    """Return the seconds in the unit that a key's name ends with; 0: it is not a duration."""
    return 0 if name.endswith("_per_s") else next((size for end, size in _UNITS.items() if name.endswith(end)), 0)


def describe(kind: Any) -> str:
    """Return what a key takes, in words: `a whole number, 1 to 65535`."""
    if choices := choices_of(kind):
        return " or ".join(one or "empty" for one in choices)
    if said := next((meta.description for meta in _metas(kind) if meta.description), ""):
        return said
    bare, bounds = _bare(kind), range_of(kind)
    if get_origin(bare) in (Union, UnionType):
        words = " or ".join(dict.fromkeys(describe(one) for one in get_args(bare) if one is not type(None)))
    elif get_origin(bare) is tuple:
        words = f"a list of {describe(get_args(bare)[0])}"
    elif get_origin(bare) in (dict, Mapping):
        words = "a table"
    else:
        words = _PLAIN.get(bare, "a table")
    return f"{words}, {bounds}" if bounds else words


def range_of(kind: Any) -> str:
    """Return the bounds of a number: `1 to 65535`, `above 0, at most 3600`; empty where it has none."""
    found: dict[str, float] = {}
    for meta in _metas(kind):
        for name in ("ge", "gt", "le", "lt"):
            if (bound := getattr(meta, name)) is not None:
                found[name] = bound
    if "ge" in found and "le" in found:
        return f"{_number(found['ge'])} to {_number(found['le'])}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return ", ".join(f"{words[name]} {_number(found[name])}" for name in words if name in found)


def choices_of(kind: Any) -> tuple[str, ...]:
    """Return the words that a key takes; empty where it takes others."""
    bare = _bare(kind)
    if get_origin(bare) is Literal:
        return tuple(str(value) for value in get_args(bare))
    if get_origin(bare) in (Union, UnionType):
        parts = [one for one in get_args(bare) if one is not type(None)]
        found = [choices_of(one) for one in parts]
        return tuple(word for words in found for word in words) if all(found) else ()
    return ()


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) and not value.is_integer() else str(int(value))


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "…"


def _metas(kind: Any) -> tuple[msgspec.Meta, ...]:
    if get_origin(kind) is not Annotated:
        return ()
    inner, *marks = get_args(kind)
    return (*_metas(inner), *(mark for mark in marks if isinstance(mark, msgspec.Meta)))


def _bare(kind: Any) -> Any:
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return kind


def _number_in(kind: Any) -> bool:
    return _bare(kind) in (int, float)


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    bare = _bare(kind)
    return bare if isinstance(bare, type) and issubclass(bare, msgspec.Struct) else None
