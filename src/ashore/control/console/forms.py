"""Builds a form from a call's input type, and the input from a submitted form."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

import msgspec

from ashore.control.console.model import Pairs
from ashore.core.errors import InvalidRequest
from ashore.core.timespan import seconds_in, written_span
from ashore.kit.call import Call, field_docs, struct_fields
from ashore.kit.decode import UNDECODABLE, convert
from ashore.kit.fieldmarks import FILLED, PAGE, SPAN, bare_of, extra_of, scalar

Kind = Literal[
    "text", "area", "number", "flag", "choice", "span", "lines", "pairs", "rows", "picks", "document", "made"
]
"""How a field is filled in: a line, a text, a number, a box, one of several, a span of time, one item a line,
NAME=VALUE a line, a table of texts, some of several, JSON, or a box for a part that fills itself."""

YES: Final = "yes"
NO: Final = "no"
LONG: Final = frozenset({"text", "comment_text", "prompt"})
"""Names of fields that hold a text of several lines."""
SECRETS: Final = frozenset({"password", "new_password", "secret", "again", "code", "proof"})
PER_PAGE: Final = 50
MOST_ROWS: Final = 1_000
"""Items of a list that is filled in as a table; a longer one is JSON."""
BLANK_ROWS: Final = 2
"""Rows of such a table that are left to fill in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a form."""

    name: str
    kind: Kind
    help: str
    required: bool
    value: str = ""
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    max_length: int | None = None
    fixed: bool = False
    """Whether it is known and stands there to be read."""
    error: str = ""
    suggestions: tuple[str, ...] = ()
    columns: tuple[Field, ...] = ()
    """Of a table."""
    rows: tuple[tuple[Field, ...], ...] = ()
    """Its cells, each a field of its own, `grant.0.role`, and some blank rows."""

    @property
    def picked(self) -> tuple[str, ...]:
        """The chosen values of a multiple choice."""
        return tuple(line for line in self.value.splitlines() if line)

    def chosen_from(self, names: tuple[str, ...]) -> Field:
        """Return the field as a choice among these values and its current one."""
        kind: Kind = "picks" if self.kind == "lines" else "choice"
        return replace(self, kind=kind, choices=tuple(dict.fromkeys((*names, *self.picked))), suggestions=())


def fields_of(call: Call, *, lists: bool = False) -> tuple[Field, ...]:
    """Return the fields that a person fills in for a call.

    Args:
        call: The call.
        lists: Whether the form filters a list, which says itself how long a page is and where it begins.
    """
    docs = field_docs(call.takes)
    found = []
    for one in struct_fields(call.takes):
        extra = extra_of(one.type)
        paged = PAGE in extra or (one.name in ("after", "limit") and (lists or hasattr(call.gives, "next")))
        if paged or (FILLED in extra and made_of(one.type) is None):
            continue
        found.append(_field(one, docs.get(one.name, "")))
    return tuple(found)


def _field(one: Any, help_text: str) -> Field:
    kind, bare, extra = kind_of(one), bare_of(one.type), extra_of(one.type)
    default = "" if one.default in (msgspec.NODEFAULT, None) else written(kind, one.default)
    if kind == "span" and isinstance(one.default, int):
        default = written_span(one.default) if SPAN in extra else str(one.default)
    choices = tuple(str(value) for value in get_args(bare)) if kind == "choice" else ()
    limits = _limits(one.type)
    return Field(
        name=one.name,
        kind=kind,
        help=help_text,
        required=one.required and kind != "flag",
        value=default,
        choices=choices,
        least=limits.get("ge", limits.get("gt")),
        most=limits.get("le", limits.get("lt")),
        max_length=limits.get("max_length") if kind in ("text", "area") else None,
        columns=_columns(one.type) if kind == "rows" else (),
    )


def _columns(kind: Any) -> tuple[Field, ...]:
    (item,) = get_args(bare_of(kind))
    docs = field_docs(item)
    return tuple(_field(one, docs.get(one.name, "")) for one in struct_fields(item))


def kind_of(one: Any) -> Kind:
    """Return how a field of a struct is filled in."""
    name, kind = one.name, one.type
    extra, bare = extra_of(kind), bare_of(kind)
    origin = get_origin(bare)
    if SPAN in extra:
        return "span"
    if FILLED in extra or (made_of(kind) is not None and not one.required):
        return "made"
    if bare is bool:
        return "choice" if _is_optional(kind) else "flag"
    if origin is Literal:
        return "choice"
    if bare in (int, float):
        return "number"
    if origin in (list, tuple, frozenset):
        if _is_plain(get_args(bare)[0]):
            return "lines"
        return "rows" if _is_row(get_args(bare)[0]) and _limits(kind).get("max_length", 0) <= MOST_ROWS else "document"
    if origin is dict:
        return "pairs" if _is_plain(get_args(bare)[1]) else "document"
    if bare is str:
        return "area" if name in LONG else "text"
    return "document"


def made_of(kind: Any) -> type[msgspec.Struct] | None:
    """Return the struct that an optional field may hold, if every field of the struct has a default."""
    bare = bare_of(kind)
    is_struct = inspect.isclass(bare) and issubclass(bare, msgspec.Struct)
    if not is_struct or not _is_optional(kind) or any(one.required for one in struct_fields(bare)):
        return None
    return bare  # type: ignore[no-any-return]


def _is_optional(kind: Any) -> bool:
    while get_origin(kind) not in (Union, UnionType) and get_args(kind) and hasattr(kind, "__metadata__"):
        kind = get_args(kind)[0]
    return get_origin(kind) in (Union, UnionType) and NoneType in get_args(kind)


def _is_plain(kind: Any) -> bool:
    bare = bare_of(kind)
    if get_origin(bare) in (Union, UnionType):
        return all(_is_plain(one) for one in get_args(bare))
    return bare in (str, int, float, bool) or get_origin(bare) is Literal


def _is_row(kind: Any) -> bool:
    """Return whether a list item has only required text fields."""
    if not (inspect.isclass(kind) and issubclass(kind, msgspec.Struct)):
        return False
    return all(one.required and bare_of(one.type) is str for one in struct_fields(kind))


def _limits(kind: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while hasattr(kind, "__metadata__"):
        for meta in kind.__metadata__:
            for name in ("ge", "gt", "le", "lt", "max_length"):
                if getattr(meta, name, None) is not None:
                    found[name] = getattr(meta, name)
        kind = get_args(kind)[0]
        if get_origin(kind) in (Union, UnionType):
            kind = next(one for one in get_args(kind) if one is not NoneType)
    return found


def written(kind: Kind, value: Any) -> str:
    """Return a value as the text of its input box."""
    if kind == "made":
        return "" if value is None else YES
    if isinstance(value, bool):
        return YES if value else NO
    if kind == "lines":
        return "\n".join(map(str, value))
    if kind == "pairs":
        return "\n".join(f"{name}={one}" for name, one in value.items())
    if kind == "document":
        return msgspec.json.format(msgspec.json.encode(value)).decode()
    if kind == "span" and isinstance(value, int):
        return written_span(value)
    return str(value)


def filled(fields: Iterable[Field], pairs: Pairs, *, fixed: Iterable[str] = ()) -> tuple[Field, ...]:
    """Return fields filled from a query or form."""
    given = _by_name(pairs)
    known = set(fixed)
    return tuple(
        replace(one, rows=_cells(one, _rows_in(one.name, given)))
        if one.kind == "rows"
        else replace(one, value="\n".join(given[one.name]), fixed=one.name in known)
        if one.name in given
        else replace(one, value=NO)
        if one.kind == "flag" and f"_{one.name}" in given
        else one
        for one in fields
    )


def _rows_in(name: str, given: Mapping[str, list[str]]) -> list[dict[str, str]]:
    """Return the table rows of a form: `grant.0.role` is a cell of the first row."""
    rows: dict[int, dict[str, str]] = {}
    for key, values in given.items():
        head, _, rest = key.partition(".")
        at, _, column = rest.partition(".")
        if head == name and at.isdecimal() and len(at) < 5 and column and values[-1].strip():
            rows.setdefault(int(at), {})[column] = values[-1].strip()
    return [rows[at] for at in sorted(rows)]


def _cells(table: Field, rows: list[dict[str, str]]) -> tuple[tuple[Field, ...], ...]:
    return tuple(
        tuple(
            replace(one, name=f"{table.name}.{at}.{one.name}", value=row.get(one.name, ""), required=False)
            for one in table.columns
        )
        for at, row in enumerate([*rows, *({} for _ in range(BLANK_ROWS))])
    )


def read_form(call: Call, pairs: Pairs, *, page: int = 0) -> msgspec.Struct:
    """Return the input of a call, read from a form or query.

    Args:
        call: The call.
        pairs: The form. Names that begin with `_`, `csrf` and `next` are the console's own.
        page: Page size of a paged call; 0: the call's default.

    Raises:
        InvalidRequest: a field is malformed or missing; `param` is its name.
    """
    given = _by_name(pairs)
    values: dict[str, Any] = {}
    for one in struct_fields(call.takes):
        kind, text = kind_of(one), "\n".join(given.get(one.name, ()))
        if PAGE in extra_of(one.type):
            if page:
                values[one.name] = page
            continue
        if kind == "flag":
            if one.name in given or f"_{one.name}" in given:
                values[one.name] = text == YES
        elif kind == "made":
            made = made_of(one.type)
            if text == YES and made is not None:
                values[one.name] = {}
        elif kind == "rows":
            if rows := _rows_in(one.name, given):
                values[one.name] = rows
        elif text.strip() or (one.required and kind in ("lines", "pairs")):
            values[one.name] = _value(one, kind, text)
    known = set(call.takes.__struct_fields__)
    for name in given:
        if head_of(name) not in known and not name.startswith("_") and name not in ("csrf", "next"):
            raise InvalidRequest(f"the form has a field {name[:100]!r} that `{call.noun} {call.word}` does not take")
    return convert(values, call.takes)


def head_of(name: str) -> str:
    """Return the field that a form name belongs to: `grant` for `grant.0.role`."""
    return name.partition(".")[0]


def _value(one: Any, kind: Kind, text: str) -> Any:
    bare = bare_of(one.type)
    if kind in ("text", "area"):
        return text.replace("\r\n", "\n") if kind == "area" else text.strip()
    if kind == "span":
        try:
            return seconds_in(text)
        except InvalidRequest as fault:
            raise InvalidRequest(f"{one.name}: {fault.message}", hint=fault.hint, param=one.name) from fault
    if kind == "choice" and bare is bool:
        return text == YES
    if kind in ("number", "choice"):
        return scalar(text.strip(), int | float if bare is float else bare if kind == "number" else _kinds(bare))
    if kind == "lines":
        of = get_args(bare)[0]
        return [scalar(line.strip(), of) for line in text.splitlines() if line.strip()]
    if kind == "pairs":
        return dict(_pair(one.name, line, get_args(bare)[1]) for line in text.splitlines() if line.strip())
    try:
        return msgspec.json.decode(text)
    except UNDECODABLE as fault:
        raise InvalidRequest(f"{one.name}: this is not JSON: {fault}", param=one.name) from fault


def _kinds(bare: Any) -> Any:
    """Return the types of a choice's values."""
    kinds = {type(value) for value in get_args(bare)}
    return next(iter(kinds)) if len(kinds) == 1 else str


def _pair(name: str, line: str, of: Any) -> tuple[str, Any]:
    left, equals, right = line.strip().partition("=")
    if not equals or not left.strip():
        raise InvalidRequest(f"{name}: {line.strip()[:100]!r} is not NAME=VALUE", param=name)
    return left.strip(), scalar(right.strip(), of)


def _by_name(pairs: Pairs) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def unsaid(call: Call, asked: msgspec.Struct) -> Mapping[str, Any]:
    """Return the input fields that differ from their defaults, as plain values."""
    found = {}
    for one in struct_fields(call.takes):
        value = getattr(asked, one.name)
        default = one.default_factory() if one.default_factory is not msgspec.NODEFAULT else one.default
        if one.required or value != default:
            found[one.name] = msgspec.to_builtins(value)
    return found
