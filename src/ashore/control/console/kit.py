"""The parts of a page: cells, tables, panels, acts, charts. Views and derived pages are made of the same. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal
from urllib.parse import urlencode

from ashore.control.console.pages import Placed
from ashore.core.bytesize import human_bytes
from ashore.core.timespan import human_seconds
from ashore.kit.call import Call

Tone = Literal["", "ok", "warn", "bad", "info", "off"]
"""What a colour means: ready, soon wrong, wrong now, under way, off."""
CellKind = Literal[
    "text", "none", "absent", "time", "number", "yes", "no", "code", "list", "lines", "chart", "state", "bar"
]
TONED: Final[tuple[tuple[Tone, tuple[str, ...]], ...]] = (
    ("ok", ("ready", "loaded", "live", "done", "answered", "succeeded", "pass", "valid", "current", "as recorded", "ok",
            "passed", "no worse", "active", "good", "works", "approved", "alive")),
    ("warn", ("warning", "behind", "worse", "expired", "silent", "locked", "unfit", "frozen", "changed")),
    ("bad", ("failed", "fail", "dead", "denied", "critical", "error", "aborted", "not as recorded", "not in the log",
             "down", "fails", "unusable")),
    ("info", ("running", "loading", "queued", "canary", "shadow", "warming", "draining", "standby", "invited", "new",
              "advice")),
    ("off", ("asleep", "cold", "retired", "cancelled", "revoked", "paused", "stopped", "created", "on disk", "disabled",
             "over", "silenced", "gone", "unused")),
)  # fmt: skip
TONES: Final[Mapping[str, Tone]] = {word: tone for tone, words in TONED for word in words}
"""States, and what their colour says."""
LAST_S: Final = 253_402_300_799
"""End of the year 9999."""
DANGER: Final = frozenset({"remove", "revoke", "purge", "forget", "disable", "reset", "retire", "leave", "end-all"})
"""Words of calls that destroy or end something, beside those that must be confirmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One value."""

    kind: CellKind
    text: str = ""
    machine: str = ""
    """The exact value, shown on hover: of a time, of an id, of a size."""
    items: tuple[Cell, ...] = ()
    tone: Tone = ""
    link: str = ""
    """Below `/console/`; of a name: the page of the thing."""
    note: str = ""
    """A second, grey line."""
    at_s: float = 0
    """Of a time: seconds since 1970."""


NONE: Final = Cell(kind="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Something that one may do, as a button or an entry of a menu."""

    address: str
    """Below `/console/`."""
    call: Call | None = None
    """Gives the words of the act."""
    word: str = ""
    """Key of its words, in place of those of the call."""
    named: bool = False
    """Whether the words say what the act is about: *Create* alone would be more of what is listed."""

    @property
    def danger(self) -> bool:
        """Whether it destroys or ends something; stands last, in red."""
        return self.call is not None and (bool(self.call.sure) or self.call.word in DANGER)

    @property
    def shows(self) -> bool:
        """Whether it only opens the thing."""
        return self.call is not None and self.call.word == "show"


def act(placed: Placed, query: Mapping[str, str] | None = None, *, word: str = "", named: bool = False) -> Act:
    """Return the act that opens the page of a call, with some of its fields filled in."""
    address = f"{placed.address}?{urlencode(query)}" if query else placed.address
    return Act(address=address, call=placed.call, word=word, named=named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table."""

    cells: tuple[Cell, ...]
    values: Mapping[str, Any] = field(default_factory=dict)
    """The fields of its item, for the acts on it."""
    acts: tuple[Act, ...] = ()
    folded: tuple[tuple[str, Cell], ...] = ()
    """Long names that only machines go by, by field; shown below the first cell when asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Items of one kind. On a phone each row is a card, whose title is the first cell."""

    name: str = "items"
    """The field that has them."""
    columns: tuple[str, ...]
    """Keys of their words, `fields` in the catalogue of calls or `column.NAME`."""
    rows: tuple[Row, ...] = ()
    total: int = 0
    """Of what came, before it was cut to this page."""
    first: int = 0
    """Place of the first row."""
    minor: frozenset[str] = frozenset()
    """Columns that a narrow window does not show."""
    absences: Mapping[str, str] = field(default_factory=dict)
    """By column, what it means that a row has no value there."""
    sort: str = ""
    """The column that orders it, with `-` before it for the largest first."""
    sorts: bool = False
    """Whether a reader may order it."""
    next: str = ""
    """The query of the next page of a list that is too long to order."""

    def trimmed(self, columns: Sequence[str] = ()) -> Table:
        """Return it without the columns that are empty in every row. `columns`: only these of its columns."""
        wanted = [at for at, name in enumerate(self.columns) if not columns or name in columns]
        kept = [at for at in wanted if any(row.cells[at].kind != "none" for row in self.rows)]
        rows = tuple(replace(row, cells=tuple(row.cells[at] for at in kept)) for row in self.rows)
        return replace(self, columns=tuple(self.columns[at] for at in kept), rows=rows) if rows else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Fields of one thing."""

    name: str
    items: tuple[tuple[str, Cell], ...]
    """Name of the field, value."""


Block = Table | Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a chart."""

    name: str
    """Key of its words, `line.NAME`."""
    look: Literal["", "s2", "sb"] = ""
    """The second series, or errors."""
    path: str = ""
    """Of the SVG, 600 wide and 200 high; broken where nothing was measured."""
    last: str = ""
    figures: str = ""
    """The values with their unit, for the script: joined by `|`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Figures over time with an axis."""

    name: str
    """Key of its words, `chart.NAME`."""
    lines: tuple[Line, ...]
    axis: tuple[str, ...]
    """Labels of the gridlines, the largest first."""


def text(value: str, *, link: str = "", note: str = "") -> Cell:
    """Return a text, in the first column the name of a thing with the page that it opens."""
    return Cell(kind="text", text=value, link=link, note=note) if value else NONE


def state(word: str) -> Cell:
    """Return a state: its word, with the shape and colour of what it means."""
    return Cell(kind="state", text=word, tone=TONES.get(word, "")) if word else NONE


def when(seconds: float | None) -> Cell:
    """Return a time: shown as how long ago it was or how soon it is, exactly on hover."""
    if seconds and seconds > LAST_S:
        return Cell(kind="number", text=f"{seconds:,.0f}")
    return Cell(kind="time", at_s=seconds) if seconds else NONE


def number(value: float | None, unit: str = "") -> Cell:
    """Return a figure, right-aligned in a table. `unit`: `B` for bytes, `s` for seconds, `n` for a count that may be
    large, else it stands behind."""
    if value is None:
        return NONE
    shown = figure(value, unit)
    return Cell(kind="number", text=shown, machine=f"{value:,}" if unit in ("B", "n") else "")


def figure(value: float, unit: str = "") -> str:
    """Return a figure with its unit, as people read it: `41.8`, `2.1 GiB`, `640 ms`, `61 %`; a count (`n`) `36.8 M`."""
    if unit == "B":
        return human_bytes(int(value))
    if unit == "s":
        return f"{value * 1000:.{0 if value > 0.01 else 1}f} ms" if value < 1 else human_seconds(value)
    if unit == "share":
        return f"{value * 100:.3g} %"
    if unit == "n" and value >= 10_000:
        return f"{value / 1e6:.3g} M" if value >= 999_500 else f"{value / 1e3:.3g} k"
    unit = "" if unit == "n" else unit
    exact = f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{exact} {unit}" if unit else exact


def code(value: str) -> Cell:
    """Return an id or a command: a long one shortened, with a button that copies all of it."""
    return Cell(kind="code", text=value) if value else NONE


def bar(used: float, most: float, unit: str = "") -> Cell:
    """Return how much of a limit is used: amber from 80 %, red at the limit."""
    share = used / most if most else 0.0
    tone: Tone = "bad" if share >= 1 else "warn" if share >= 0.8 else ""
    shown = f"{share * 100:.0f} %" if unit == "share" else f"{figure(used, unit)} / {figure(most, unit)}"
    return Cell(kind="bar", text=shown, machine=f"{min(1.0, share) * 100:.0f}%", tone=tone)


def chart(name: str, values: Mapping[str, Sequence[float | None]], unit: str = "") -> Chart:
    """Return figures over time as a chart.

    Args:
        name: Key of its words, `chart.NAME`.
        values: By the name of the line; a line called `errors` is red.
        unit: As for `figure`.
    """
    known = [one for line in values.values() for one in line if one is not None]
    top = _round_up(max(known, default=0.0)) if unit != "share" else 1.0
    lines = []
    for at, (line, figures) in enumerate(values.items()):
        shown = ["–" if one is None else figure(float(one), unit) for one in figures]
        last = shown[-1] if shown else "–"
        look: Literal["", "s2", "sb"] = "sb" if line == "errors" else "s2" if at else ""
        lines.append(Line(name=line, look=look, path=_path(figures, top), last=last, figures="|".join(shown)))
    axis = tuple(figure(top * part, unit) if part else "0" for part in (1, 0.5, 0))
    return Chart(name=name, lines=tuple(lines), axis=axis)


def _path(figures: Sequence[float | None], top: float) -> str:
    step, draws, parts = 600 / max(1, len(figures) - 1), False, []
    for at, one in enumerate(figures):
        if one is not None:
            parts.append(f"{'L' if draws else 'M'}{at * step:.0f} {200 - 200 * one / top:.0f}{'' if draws else 'h3'}")
        draws = one is not None
    return "".join(parts)


def _round_up(value: float) -> float:
    """Return the next number that begins with 1, 2 or 5."""
    if value <= 0:
        return 1.0
    size = 1.0
    while size > value:
        size /= 10
    while size * 10 < value:
        size *= 10
    return next(size * step for step in (1, 2, 5, 10) if size * step >= value)
