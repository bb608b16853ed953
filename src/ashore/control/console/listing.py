"""Lists of views: looked through, counted by what is shown, ordered and cut into pages, as derived lists are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlencode

from ashore.control.console.calling import command_of
from ashore.control.console.forms import PER_PAGE
from ashore.control.console.kit import NONE, Act, Cell, Table, text
from ashore.control.console.model import Answer
from ashore.control.console.present import order_of
from ashore.control.console.reader import Reader

WHOLE: Final = 100
"""A list of at most so many items is read whole: a reader may order it. Of a longer one a page is read at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of the parts of a list, of which one is shown: the valid keys."""

    name: str
    """Key of its words, `part.NAME`."""
    count: int | None
    """None: nobody counted them."""
    on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A short list below the one that a page shows."""

    name: str
    """Key of its words, `PAGE.NAME`, and `PAGE.NAME-none` for an empty one."""
    table: Table
    acts: tuple[Act, ...] = ()


def several(names: Iterable[str], absent: str = "") -> Cell:
    """Return names as a list; `absent`: what it means that there are none."""
    items = tuple(text(one) for one in names if one)
    return Cell(kind="list", items=items) if items else Cell(kind="absent", text=absent) if absent else NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What a page shows of a list that may be long."""

    items: tuple[Any, ...] = ()
    next: str = ""
    """The query of the next piece; empty: this is the last one."""
    is_whole: bool = True


Parts = Mapping[str, tuple[str, Mapping[str, Any]]]
"""By name of a part: the call that lists it, and what it is asked for."""


def wanted_of(reader: Reader) -> dict[str, str]:
    """Return what a reader asks of a list that may be long: from where, and what is looked for in it."""
    query = dict(reader.asked.query)
    return {"after": query.get("_after", "")[:200], "search": query.get("_match", "")[:200]}


async def piece_of(reader: Reader, key: str, **values: Any) -> Piece | None:
    """Return what the reader looks for (`_match`) in a paged list: all of it, or a page of a longer one, from `_after`;
    None where they may not see it.

    Raises:
        AshoreError: as the call.
    """
    wanted = wanted_of(reader)
    answer = await reader.ask(key, limit=WHOLE, **wanted, **values)
    if answer is None:
        return None
    if not wanted["after"] and answer.next is None:
        return Piece(items=tuple(answer.items))
    more = ""
    if len(answer.items) > PER_PAGE:
        last = answer.items[PER_PAGE - 1]
        more = urlencode({**dict(reader.asked.query), "_after": getattr(last, "account", "") or last.id})
    return Piece(items=tuple(answer.items[:PER_PAGE]), next=more, is_whole=False)


def part_of(parts: Iterable[str], reader: Reader) -> str:
    """Return the part that the reader asks for, else the first."""
    names, wanted = tuple(parts), dict(reader.asked.query).get("_show", "")
    return wanted if wanted in names else names[0]


def choices_of(parts: Iterable[str], show: str, piece: Piece) -> tuple[Choice, ...]:
    """Return the parts of a list, of which one is shown; only a whole one is counted."""
    count = len(piece.items) if piece.is_whole else None
    return tuple(Choice(name=one, count=count if one == show else None, on=one == show) for one in parts)


def command_to_list(reader: Reader, key: str, values: Mapping[str, Any]) -> str:
    """Return the command that lists the same, with what the reader looks for."""
    pairs = [(name, "1" if value is True else str(value)) for name, value in values.items()]
    search = [("search", match)] if (match := wanted_of(reader)["search"]) else []
    return command_of(reader.acts.atlas.by_key[key].call, [*pairs, *search])


def chosen(
    items: Sequence[Any], tests: Mapping[str, Callable[[Any], bool]], wanted: str
) -> tuple[list[Any], tuple[Choice, ...]]:
    """Return the items of the part that is shown, and the parts that have any; the first is shown if none is asked for.

    Args:
        items: All of them.
        tests: By name of the part, whether an item belongs to it.
        wanted: What the reader asks for.
    """
    show = wanted if wanted in tests else next(iter(tests))
    parts = {name: [one for one in items if test(one)] for name, test in tests.items()}
    choices = tuple(
        Choice(name=name, count=len(some), on=name == show) for name, some in parts.items() if some or name == show
    )
    return parts[show], choices if len(choices) > 1 else ()


def narrowed(table: Table, query: Mapping[str, str]) -> Table:
    """Return the rows that a reader looks for (`_match`), in their order (`_sort`), from `_first`; without columns that
    are empty in all of them. What a row is ordered by is in its `values`, else the text of its cell.
    """
    needle, sort, first = query.get("_match", "")[:200].casefold(), query.get("_sort", "")[:60], query.get("_first", "")
    rows = [one for one in table.rows if needle in " ".join(_texts(one.cells)).casefold()]
    column = sort.removeprefix("-")
    if column in table.columns:
        at = table.columns.index(column)
        rows.sort(key=lambda one: order_of(one.values.get(column, one.cells[at].text)), reverse=sort.startswith("-"))
    begin = int(first) if first.isdecimal() and len(first) < 10 else 0
    shown = rows[begin : begin + PER_PAGE]
    kept = [at for at in range(len(table.columns)) if not at or any(one.cells[at].kind != "none" for one in shown)]
    return replace(
        table,
        columns=tuple(table.columns[at] for at in kept),
        rows=tuple(replace(one, cells=tuple(one.cells[at] for at in kept)) for one in shown),
        total=len(rows),
        first=begin,
        sort=sort,
        sorts=True,
    )


def with_acts(table: Table, on: Callable[[Any], tuple[Act, ...]]) -> Table:
    """Return a table with the acts on each row's `item`: for what is shown alone, since each asks for rights."""
    return replace(table, rows=tuple(replace(one, acts=on(one.values["item"])) for one in table.rows))


def _texts(cells: Iterable[Cell]) -> Iterator[str]:
    for one in cells:
        yield f"{one.text} {one.note}"
        yield from _texts(one.items)


async def list_page(
    reader: Reader, page: str, here: str, table: Callable[[], Table], on: Callable[[Any], tuple[Act, ...]], *,
    piece: Piece | None = None,
    lead: str = "", acts: Sequence[Act] = (), choices: Sequence[Choice] = (), command: str = "",
    nouns: Sequence[str] = (), is_live: bool = False, icon: str = "info", hint: str = "",
    below: Sequence[Part] = (),
) -> Answer:  # fmt: skip
    """Return a page that shows one list.

    Args:
        reader: Who reads it.
        page: Entry of the navigation.
        here: Its address below `/console/`.
        table: Makes the whole list, each row with its `item`; run on the thread for long texts.
        on: Returns the acts on an item.
        piece: What it shows of a long list; None: all of it, in which `_match` is looked for here.
        lead: One line of facts.
        acts: Of the page, the primary one first.
        choices: Parts of the list, of which one is shown.
        command: The command that does the same.
        nouns: Subjects whose derived tabs have what the list leaves out.
        is_live: Whether it is brought up to date when something happens.
        icon: Above the words of an empty list.
        hint: What will stand in an empty list.
        below: Short lists that stand below it.
    """
    query = dict(reader.asked.query)
    match = query.get("_match", "")[:200]
    if piece is not None:  # the call has looked for it
        query["_match"] = ""
    shown: Table = await reader.aside(lambda: narrowed(table(), query))
    if piece is not None and not piece.is_whole:
        shown = replace(shown, sorts=False, next=piece.next)
    return reader.page(
        "list.html", page, title=reader.words(f"page.{page}"), lead=lead, acts=acts, tabs=reader.tabs(page), here=here,
        table=with_acts(shown, on), match=match,
        choices=choices, command=command, nouns=reader.derived(page, *nouns), is_live=is_live, icon=icon,
        hint=hint or (reader.words.empty(nouns[0]) if nouns else ""),
        below=below,
    )  # fmt: skip
