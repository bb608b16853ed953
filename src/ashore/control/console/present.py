"""Renders any struct that a call returns as facts and tables.

A value, no value, and a value that the reader may not see look different. The field's declaration says what no value
means (`absences`). The third is `Denied`: the answer does not contain it.
"""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import msgspec

from ashore.core.bytesize import human_bytes
from ashore.core.timespan import human_seconds
from ashore.kit.call import absences, field_docs

CellKind = Literal[
    "text", "none", "absent", "time", "number", "yes", "no", "code", "list", "lines", "chart", "document"
]
MOST_CELLS: Final = 4_000
"""Cells of one table that a page shows without being asked for more."""
CLOSED: Final = frozenset(
    {"state", "outcome", "kind", "status", "goal", "source", "window", "shared", "load", "pin", "tier"}
)
"""Names of fields whose values are words of a closed set."""
CODES: Final = frozenset(
    {"id", "request_id", "key_id", "digest", "chain", "resource", "rule", "key", "model", "content"}
)
SINCE_1970: Final = 1_000_000_000
"""More seconds than this are a time; as a span they would be 31 years."""
WIDE: Final = frozenset({"masked", "text", "why", "error_message", "prompt", "answer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One value."""

    kind: CellKind
    text: str = ""
    machine: str = ""
    """The value for a machine, where the text is for people: of a time."""
    items: tuple[Cell, ...] = ()


RECORD: Final = (
    "at", "actor", "action", "resource", "outcome", "reason", "model", "release", "key", "tenant", "origin",
    "request_id",
)  # fmt: skip
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "audit search": RECORD,
    "audit request": RECORD,
    "audit mine": ("at", "request_id", "action", "outcome", "reason", "model", "release", "key", "origin"),
    "doctor findings": ("severity", "rule", "what", "cause", "sure", "evidence", "remedy", "commands"),
    "job list": ("id", "kind", "state", "progress", "owner", "created", "finished", "children", "error_message"),
    "events list": ("happened_at", "kind", "resource", "about"),
    "release list": ("name", "alias", "model", "engine", "state", "weights_percent", "since", "why"),
}
"""Fields of a list that are shown, in order, by noun and word, where that is not all of them. Its JSON has all."""

LEAST_POINTS: Final = 8
"""Fewest numbers in a field that are drawn as a chart."""
CHART_WIDTH: Final = 240
CHART_HEIGHT: Final = 40

NONE: Final = Cell(kind="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table."""

    cells: tuple[Cell, ...]
    values: Mapping[str, Any]
    """The fields of its item, for the acts on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Items of one kind."""

    name: str
    """The field that has them."""
    columns: tuple[str, ...]
    helps: Mapping[str, str] = field(default_factory=dict)
    absences: Mapping[str, str] = field(default_factory=dict)
    """By column, what it means that a row has no value there."""
    rows: tuple[Row, ...] = ()
    total: int = 0
    """Of what came, before it was cut to this page."""
    first: int = 0
    """Place of the first row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Fields of one thing."""

    name: str
    items: tuple[tuple[str, Cell, str], ...]
    """Name of the field, value, what the declaration says of it."""


Block = Table | Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An answer on its page."""

    blocks: tuple[Block, ...]
    raw: str
    """The same as JSON."""
    next: str = ""
    """The query of the next page, where the call gives pages."""
    is_bad: bool = False
    """Whether what was looked at is not as it should be: a log that was altered."""
    new_key: bool = False
    """Whether it has a key, which no later page can show again."""

    @property
    def num_cells(self) -> int:
        """Number of cells to show."""
        return sum(
            len(one.rows) * len(one.columns) if isinstance(one, Table) else len(one.items) for one in self.blocks
        )


def blocks_of(
    answer: Any, call: str = "", *, first: int = 0, most: int = 0, match: str = "", name: str = ""
) -> tuple[Block, ...]:
    """Return an answer as the blocks that its page shows.

    Args:
        answer: Answer of a call.
        call: Its noun and word.
        first: Place of the first row of a table `items`.
        most: Rows on a page; 0: all.
        match: Show only rows that contain this text.
        name: The field that the answer is in.
    """
    if not isinstance(answer, msgspec.Struct):
        return (Facts(name=name, items=(("value", cell("value", answer), ""),)),)
    facts: list[tuple[str, Cell, str]] = []
    below: list[Block] = []
    docs, meanings = field_docs(type(answer)), absences(type(answer))
    for one in answer.__struct_fields__:
        value = getattr(answer, one)
        if one == "next":
            continue
        if isinstance(value, dict) and value and all(isinstance(text, str) for text in value.values()):
            pairs = [{"name": key, "value": text} for key, text in value.items()]
            below.append(table_of(one, pairs))
        elif isinstance(value, list | tuple) and (one == "items" or (value and _is_record(value[0]))):
            table = table_of(one, value, first=first, most=most, match=match, kind=_item_type(answer, one))
            below.append(narrowed(table, COLUMNS.get(call, ())) if one == "items" else table)
        elif isinstance(value, msgspec.Struct):
            below += blocks_of(value, name=one)
        else:
            facts.append((one, cell(one, value, meanings.get(one, "")), docs.get(one, "")))
    return (*((Facts(name=name, items=tuple(facts)),) if facts else ()), *below)


def table_of(
    name: str, items: Sequence[Any], *, first: int = 0, most: int = 0, match: str = "", kind: Any = None
) -> Table:
    """Return items as a table."""
    values = [_values(one) for one in items]
    if match:
        needle = match.casefold()
        values = [one for one in values if needle in " ".join(_plain(v) for v in one.values()).casefold()]
    shown = values[first : first + most] if most else values
    columns = _columns(kind, values)
    meanings = absences(kind) if kind is not None else {}
    return Table(
        name=name,
        columns=columns,
        helps=field_docs(kind) if kind is not None else {},
        absences=meanings,
        rows=tuple(Row(cells=_cells(columns, one, meanings), values=one) for one in shown),
        total=len(values),
        first=first,
    )


def _cells(columns: Iterable[str], values: Mapping[str, Any], meanings: Mapping[str, str]) -> tuple[Cell, ...]:
    return tuple(cell(one, values.get(one), meanings.get(one, "")) for one in columns)


def narrowed(table: Table, columns: tuple[str, ...]) -> Table:
    """Return a table with only the named columns; all if none are named."""
    if not columns:
        return table
    rows = tuple(replace(row, cells=_cells(columns, row.values, table.absences)) for row in table.rows)
    return replace(table, columns=columns, rows=rows)


def _columns(kind: Any, values: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    if kind is not None:
        return tuple(kind.__struct_fields__)
    found: dict[str, None] = {}
    for one in values:
        found |= dict.fromkeys(one)
    return tuple(found)


def _item_type(answer: msgspec.Struct, name: str) -> Any:
    kind = next(one.type for one in msgspec.structs.fields(answer) if one.name == name)
    args = getattr(kind, "__args__", ())
    first = args[0] if args else None
    return first if inspect.isclass(first) and issubclass(first, msgspec.Struct) else None


def _is_record(value: Any) -> bool:
    return isinstance(value, msgspec.Struct | dict)


def _values(one: Any) -> Mapping[str, Any]:
    if isinstance(one, msgspec.Struct):
        return {name: getattr(one, name) for name in one.__struct_fields__}
    return one if isinstance(one, Mapping) else {"value": one}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else str(msgspec.to_builtins(value))


def cell(name: str, value: Any, absent: str = "") -> Cell:
    """Return one value as text. The suffix of the field's name gives its unit; `absent` is the text for no value."""
    if value is None or value == "" or value == [] or value == {} or value == ():
        return Cell(kind="absent", text=absent) if absent else NONE
    if isinstance(value, bool):
        return Cell(kind="yes" if value else "no")
    if isinstance(value, int | float):
        return _number(name, value)
    if isinstance(value, msgspec.Struct):
        value = {field: getattr(value, field) for field in value.__struct_fields__}
    if isinstance(value, Mapping):
        parts = [(key, one) for key, one in value.items() if one not in (None, "", [], {})]
        if any(isinstance(one, Mapping | list | msgspec.Struct) for _, one in parts):
            return Cell(kind="document", text=msgspec.json.format(msgspec.json.encode(value)).decode())
        unit = name if name.endswith("_percent") else ""
        return Cell(
            kind="list",
            items=tuple(Cell(kind="text", text=f"{key} {cell(unit or key, one).text}") for key, one in parts),
        )
    if isinstance(value, list | tuple) and len(value) >= LEAST_POINTS and _are_numbers(value):
        return chart(value)
    if name == "lines" and isinstance(value, list | tuple):
        return Cell(kind="lines", text="\n".join(map(str, value)))
    if isinstance(value, list | tuple | set | frozenset):
        return Cell(kind="list", items=tuple(cell(name, one) for one in value))
    text = value if isinstance(value, str) else str(msgspec.to_builtins(value))
    if name in CODES or name.endswith("_id"):
        return Cell(kind="code", text=text)
    return Cell(kind="text", text=text)


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(one is None or (isinstance(one, int | float) and not isinstance(one, bool)) for one in values)


def chart(values: Sequence[float | None]) -> Cell:
    """Return figures over time as the path of a line, 240 wide and 40 high, broken where nothing was measured."""
    known = [one for one in values if one is not None]
    if not known:
        return NONE
    least, most = min(0.0, *known), max(known)
    wide, high = CHART_WIDTH / max(1, len(values) - 1), CHART_HEIGHT / ((most - least) or 1)
    parts, draws = [], False
    for at, one in enumerate(values):
        if one is not None:
            parts.append(f"{'L' if draws else 'M'}{at * wide:.1f} {CHART_HEIGHT - (one - least) * high:.1f}")
        draws = one is not None
    last = _number("", known[-1]).text
    figures = " ".join("–" if one is None else f"{one:g}" for one in values)
    return Cell(
        kind="chart", text=last, machine="".join(parts), items=(_number("", most), Cell(kind="text", text=figures))
    )


def _number(name: str, value: float) -> Cell:
    for unit, scale in (("_at_us", 1e-6), ("_at_ms", 1e-3), ("_at_s", 1), ("_at", 1), ("time_us", 1e-6)):
        if name.endswith(unit) and value > 0:
            return _time(value * scale)
    if name in ("since", "until", "created", "started", "finished", "expires", "deadline") and value > SINCE_1970:
        return _time(value if value < 1e11 else value / 1000)
    if name.endswith(("_bytes", "bytes")) and isinstance(value, int):
        return Cell(kind="number", text=human_bytes(value), machine=str(value))
    if name.endswith("_percent"):
        return Cell(kind="number", text=f"{value:g} %")
    if name.endswith("_s") and value > SINCE_1970:
        return _time(value)
    if name.endswith("_s"):
        return Cell(kind="number", text=human_seconds(value), machine=str(value))
    return Cell(kind="number", text=f"{value:,}" if isinstance(value, int) else f"{value:,.6g}")


def _time(seconds: float) -> Cell:
    try:
        at = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return Cell(kind="number", text=f"{seconds:,.0f}")
    return Cell(kind="time", text=at.strftime("%Y-%m-%d %H:%M:%SZ"), machine=at.isoformat())
