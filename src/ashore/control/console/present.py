"""Renders any struct that a call returns as panels and tables, by rules alone.

A value, no value, and what the declaration says of no value (`absences`) look different. A list of records is a table
of at most eight columns; what else a record has is on the page of the record. Its JSON has all.
"""

from __future__ import annotations

import csv
import datetime
import inspect
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ashore.control.console.kit import NONE, Block, Cell, Facts, Row, Table, code, figure, state, when
from ashore.core.bytesize import human_bytes
from ashore.core.timespan import human_seconds
from ashore.kit.call import absences, struct_fields

MOST_CELLS: Final = 4_000
"""Cells of one table that a page shows without being asked for more."""
MOST_COLUMNS: Final = 8
STATES: Final = ("state", "outcome", "severity", "status", "verdict", "health", "last", "worst")
"""Names of fields that say how something is."""
FIRST: Final = ("name", "id", "title", "alias", "account", "reference", "alias_or_model")
"""Names of fields that say what a record is."""
CODES: Final = frozenset(
    {"id", "request_id", "key_id", "digest", "chain", "resource", "rule", "key", "model", "content"}
)
MINOR: Final = frozenset({"tenant", "origin", "source", "chain", "digest", "request_id", "key", "key_id", "created_by"})
"""Columns that a narrow window does not show."""
TIMES: Final = frozenset({"since", "until", "created", "started", "finished", "expires", "deadline", "at"})
SINCE_1970: Final = 1_000_000_000
"""More seconds than this are a time; as a span they would be 31 years."""
_WRITTEN_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "audit search": ("at", "actor", "action", "resource", "outcome", "reason", "model", "request_id"),
    "audit request": ("at", "actor", "action", "resource", "outcome", "reason", "model", "release", "key"),
    "audit mine": ("at", "action", "outcome", "reason", "model", "release", "origin", "request_id"),
    "access key list": ("id", "title", "owner", "models", "actions", "expires_at", "last_used_at", "revoked_at"),
    "events list": ("resource", "kind", "about", "happened_at"),
    "release list": ("name", "state", "alias", "model", "engine", "weights_percent", "since", "why"),
}
"""Fields of a list that are shown, in order, by noun and word, where the rules would choose worse."""
FOLDED: Final[Mapping[str, tuple[str, ...]]] = {
    "directory show": ("dn", "guid", "written"),
    "directory check": ("says",),
}
"""Fields that stand folded below the name, by noun and word; of what went wrong they stay in sight."""
_NAME_IN_DN: Final = re.compile(r"\w+=((?:[^,\\]|\\.)+)")

LEAST_POINTS: Final = 8
"""Fewest numbers in a field that are drawn as a line."""
CHART_WIDTH: Final = 240
CHART_HEIGHT: Final = 40


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
    key: str = ""
    """A new key, which no later page can show again."""
    link: str = ""
    """The link of an invitation, and `code`, what it carries: both are shown once."""
    code: str = ""

    @property
    def num_cells(self) -> int:
        """Number of cells to show."""
        return sum(
            len(one.rows) * len(one.columns) if isinstance(one, Table) else len(one.items) for one in self.blocks
        )


def blocks_of(
    answer: Any, call: str = "", *, first: int = 0, most: int = 0, match: str = "", sort: str = "", name: str = "",
    row: str = "",
) -> tuple[Block, ...]:  # fmt: skip
    """Return an answer as the blocks that its page shows.

    Args:
        answer: Answer of a call, or the fields of a record.
        call: Its noun and word.
        first: Place of the first row of a table `items`.
        most: Rows on a page; 0: all.
        match: Show only rows that contain this text.
        sort: Column that orders the rows, with `-` before it for the largest first.
        name: The field that the answer is in.
        row: Show only the item that begins with this value, as a record.
    """
    if not isinstance(answer, msgspec.Struct | Mapping):
        return (Facts(name=name, items=(("value", cell("value", answer)),)),)
    facts: list[tuple[str, Cell]] = []
    below: list[Block] = []
    meanings = absences(type(answer)) if isinstance(answer, msgspec.Struct) else {}
    for one, value in _values(answer).items():
        if one == "next":
            continue
        if isinstance(value, dict) and value and all(isinstance(text, str) for text in value.values()):
            pairs = [{"name": key, "value": text} for key, text in value.items()]
            below.append(table_of(one, pairs))
        elif isinstance(value, list | tuple) and (one == "items" or (value and _is_record(value[0]))):
            kind = _item_type(answer, one) if isinstance(answer, msgspec.Struct) else None
            named = COLUMNS.get(call, ()) if one == "items" else ()
            table = table_of(
                one, value, first=first, most=most, match=match, sort=sort, kind=kind, columns=named,
                folded=FOLDED.get(call, ()),
            )  # fmt: skip
            if row and one == "items":
                found = [item for item in map(_values, value) if str(item.get(table.columns[0], "")) == row]
                below += blocks_of(found[0], name="") if found else ()
            else:
                below.append(table)
        elif isinstance(value, msgspec.Struct) or (isinstance(value, dict) and any(map(_is_record, value.values()))):
            below += blocks_of(value, name=one)
        elif (shown := cell(one, value, meanings.get(one, ""))).kind != "none":
            facts.append((one, shown))
    return (*((Facts(name=name, items=tuple(facts)),) if facts else ()), *below)


def table_of(
    name: str, items: Sequence[Any], *, first: int = 0, most: int = 0, match: str = "", sort: str = "",
    kind: Any = None, columns: tuple[str, ...] = (), folded: tuple[str, ...] = (),
) -> Table:  # fmt: skip
    """Return items as a table. `folded`: fields that stand below the name; a place in a directory shows its name."""
    values = [_values(one) for one in items]
    if match:
        needle = match.casefold()
        values = [one for one in values if needle in " ".join(_plain(v) for v in one.values()).casefold()]
    column = sort.removeprefix("-")
    if column and any(column in one for one in values):
        values.sort(key=lambda one: order_of(one.get(column)), reverse=sort.startswith("-"))
    shown = values[first : first + most] if most else values
    meanings = absences(kind) if kind is not None else {}
    chosen = columns_of(kind, values, meanings, columns)

    def cell_of(one: str, row: Mapping[str, Any]) -> Cell:
        if one not in folded or row.get("ok") is False:
            return cell(one, row.get(one), meanings.get(one, ""))
        named = _NAME_IN_DN.match(str(row[one])) if one == "dn" else None
        return Cell(kind="text", text=named[1]) if named else NONE

    def below(row: Mapping[str, Any]) -> tuple[tuple[str, Cell], ...]:
        return tuple((one, cell(one, row[one])) for one in folded if row.get("ok") is not False and row.get(one))

    made = Table(
        name=name,
        columns=chosen,
        minor=frozenset(chosen[1:]) & MINOR,
        rows=tuple(
            Row(cells=tuple(cell_of(one, row) for one in chosen), values=row, folded=below(row)) for row in shown
        ),
        total=len(values),
        first=first,
        absences=meanings,
        sort=sort,
        sorts=name == "items",
    )
    return made.trimmed() if folded else made


def columns_of(
    kind: Any, values: Sequence[Mapping[str, Any]], meanings: Mapping[str, str], named: tuple[str, ...]
) -> tuple[str, ...]:
    """Return which fields of records are columns: what it is, how it is, figures and times before the rest; none that
    is empty in every row.
    """
    known = dict.fromkeys(kind.__struct_fields__) if kind is not None else {}
    for one in values:
        known |= dict.fromkeys(one) if kind is None else {}
    every = [one for one in named if one in known] or list(known)
    used = [one for one in every if one in meanings or any(not _is_empty(row.get(one)) for row in values)] or every
    if named:
        return tuple(used)
    head = next((one for one in FIRST if one in used), used[0])
    rest = [one for one in used if one != head and not (head == "name" and one == "id")]
    states = [one for one in rest if one in STATES]
    plain = [one for one in rest if one not in states and not any(_is_deep(row.get(one)) for row in values)]
    room = MOST_COLUMNS - 1 - len(states)
    kept = set((*plain, *(one for one in rest if one not in states and one not in plain))[:room])
    return (head, *states, *(one for one in rest if one in kept and one not in states))


def order_of(value: Any) -> tuple[bool, Any]:
    """Return where a value stands: numbers before texts, nothing last."""
    if isinstance(value, bool | int | float):
        return (False, (0, value, ""))
    return (_is_empty(value), (1, 0, _plain(value).casefold()))


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | tuple | dict | frozenset) and not value)


def _is_deep(value: Any) -> bool:
    return isinstance(value, msgspec.Struct) or (
        isinstance(value, list | tuple | dict) and any(_is_record(one) for one in _inside(value))
    )


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _item_type(answer: msgspec.Struct, name: str) -> Any:
    kind = next(one.type for one in struct_fields(type(answer)) if one.name == name)
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
    """Return one value as people read it, never as a dictionary. The suffix of the field's name gives its unit;
    `absent` is the text for no value.
    """
    if _is_empty(value):
        return Cell(kind="absent", text=absent) if absent else NONE
    if isinstance(value, bool):
        return Cell(kind="yes" if value else "no")
    if isinstance(value, int | float):
        return _number(name, value)
    if isinstance(value, list | tuple) and len(value) >= LEAST_POINTS and _are_numbers(value):
        return spark(value)
    if name == "lines" and isinstance(value, list | tuple):
        return Cell(kind="lines", text="\n".join(map(str, value)))
    if isinstance(value, msgspec.Struct | Mapping):
        if isinstance(said := _values(value).get("description"), str):
            return Cell(kind="text", text=said)
        parts = [(key, one) for key, one in _values(value).items() if not _is_empty(one)]
        if len(parts) > 3 or any(isinstance(one, Mapping | list | tuple | msgspec.Struct) for _, one in parts):
            return Cell(kind="number", text=f"{len(parts):,}")
        unit = name if name.endswith("_percent") else ""
        pairs = tuple(Cell(kind="text", text=f"{key} {cell(unit or key, one).text}") for key, one in parts)
        return Cell(kind="list", items=pairs)
    if isinstance(value, list | tuple | set | frozenset):
        if any(map(_is_record, value)):
            return Cell(kind="number", text=f"{len(value):,}")
        return Cell(kind="list", items=tuple(cell(name, one) for one in value))
    text = value if isinstance(value, str) else str(msgspec.to_builtins(value))
    if _WRITTEN_TIME.fullmatch(text):
        return when(datetime.datetime.fromisoformat(text).timestamp())
    if name in STATES:
        return state(text)
    if name in CODES or name.endswith("_id"):
        return code(text)
    return Cell(kind="text", text=text)


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(one is None or (isinstance(one, int | float) and not isinstance(one, bool)) for one in values)


def spark(values: Sequence[float | None]) -> Cell:
    """Return figures over time as the path of a small line, broken where nothing was measured."""
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
    peak = Cell(kind="number", text=figure(float(most)))
    return Cell(kind="chart", text=figure(float(known[-1])), machine="".join(parts), items=(peak,))


def _number(name: str, value: float) -> Cell:
    if value == 0 and name.endswith(("_at", "_at_s", "_at_ms", "_at_us")):
        return NONE  # no time
    for unit, scale in (("_at_us", 1e-6), ("_at_ms", 1e-3), ("_at_s", 1), ("_at", 1), ("time_us", 1e-6)):
        if name.endswith(unit) and value > 0:
            return when(value * scale)
    if name in TIMES and value > SINCE_1970:
        return when(value if value < 1e11 else value / 1000)
    if name.endswith(("_bytes", "bytes")) and isinstance(value, int):
        return Cell(kind="number", text=human_bytes(value), machine=f"{value:,} B")
    if name.endswith("_percent"):
        return Cell(kind="number", text=f"{value:g} %")
    if name.endswith("_s") and value > SINCE_1970:
        return when(value)
    if name.endswith("_s"):
        return Cell(kind="number", text=human_seconds(value), machine=f"{value} s")
    return Cell(kind="number", text=f"{value:,}" if isinstance(value, int) else f"{value:,.6g}")


def csv_of(answer: Any) -> bytes:
    """Return the items of an answer as CSV, with every field; a nested one as JSON. A text that a spreadsheet would run
    as a formula begins with an apostrophe."""
    values = [_values(one) for one in getattr(answer, "items", ())]
    columns = list(dict.fromkeys(name for one in values for name in one))
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(columns)
    for one in values:
        writer.writerow([_safe(one.get(name)) for name in columns])
    return file.getvalue().encode("utf-8-sig")


def _safe(value: Any) -> str:
    if value is None or isinstance(value, int | float):
        return "" if value is None else str(value)
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
