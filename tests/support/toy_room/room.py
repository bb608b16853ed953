"""All that a room brings: calls, a part of ashore.toml, an action, a table, a metric, and what it does in a worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import msgspec

from ashore.kit.call import Actor, Call, Rights
from ashore.kit.metrics import Metric, Metrics
from ashore.kit.recorder import Recorder
from ashore.kit.rights import check_on
from ashore.kit.rooms import Context, Opened, Room
from ashore.kit.section import AtLeast1, Section
from ashore.kit.state import Database, execute


class LibrarySection(Section, frozen=True, kw_only=True):
    """The library."""

    notes: AtLeast1 = 2
    """Notes that one book may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """Where notes are."""

    database: Database
    rights: Rights
    recorder: Recorder
    section: LibrarySection


class NoteIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A note."""

    book: Annotated[str, msgspec.Meta(extra={"positional": True})]
    """Book to write on."""
    text: Annotated[str, msgspec.Meta(extra={"positional": True})]
    """What to write."""


class BookIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which book."""

    book: Annotated[str, msgspec.Meta(extra={"positional": True})]


class Notes(msgspec.Struct, frozen=True, kw_only=True):
    """Notes on a book."""

    notes: list[str]
    most: int


def write_note(library: Library, actor: Actor, asked: NoteIn) -> Notes:
    """Write a note on a book."""
    check_on(library.rights, actor.principal, "book:write", f"book/{asked.book}")
    with library.database.write() as connection:
        execute(connection, "INSERT INTO library_note VALUES (:book, :text)", book=asked.book, text=asked.text)
    actor.record(library.recorder, "book:write", f"book/{asked.book}")
    return read_notes(library, actor, BookIn(book=asked.book))


def read_notes(library: Library, actor: Actor, asked: BookIn) -> Notes:
    """Show the notes on a book."""
    check_on(library.rights, actor.principal, "book:read", f"book/{asked.book}")
    with library.database.read() as connection:
        rows = execute(connection, "SELECT text FROM library_note WHERE book = :book", book=asked.book)
        return Notes(notes=[row.text for row in rows], most=library.section.notes)


async def keep_dusting(metrics: Metrics) -> None:
    while True:
        metrics.add("ashore_library_dusted")
        await asyncio.sleep(3600)


async def open_library(context: Context) -> Opened:
    assert context.database is not None
    library = Library(
        database=context.database,
        rights=context.rights,
        recorder=context.recorder,
        section=context.section("library", LibrarySection),
    )
    return Opened(desk=library, background={"dust": partial(keep_dusting, context.metrics)})


ROOM = Room(
    name="library",
    calls=(
        Call("book", "note", "POST", "/books/{book}/notes", "book:write", write_note),
        Call("book", "notes", "GET", "/books/{book}/notes", "book:read", read_notes),
    ),
    metrics=(Metric("ashore_library_dusted", "counter", "How often the library was dusted."),),
    section=LibrarySection,
    open=open_library,
)
