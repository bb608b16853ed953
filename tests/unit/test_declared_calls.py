"""A call that a room declares is found over HTTP, in the OpenAPI document and on the command line."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
import pytest
from admin_app import AdminApp
from admin_app import run_command as run

from ashore.api.http.admin.calls import routes_of
from ashore.api.http.openapi import describe
from ashore.cli import calls as face
from ashore.core import Actor, Call, Download
from ashore.errors import AshoreError, NotFound


@dataclass
class Shelf:
    """What the toy room keeps."""

    notes: dict[str, str] = field(default_factory=dict)
    packed: io.BytesIO = field(default_factory=io.BytesIO)


class NoteIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A note."""

    book: str
    """Book to write on."""
    text: Annotated[str, msgspec.Meta(min_length=1, extra={"positional": True})]
    """What to write."""
    pages: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1
    """Pages to use."""
    colour: Literal["red", "blue"] | None = None
    tags: list[str] = []
    """Words to find it by."""
    loud: bool = False


class NoteOut(msgspec.Struct, frozen=True, kw_only=True):
    """A note that was written."""

    book: str
    text: str
    by: str
    pages: int
    tags: list[str]


class BooksIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which books."""

    after: str = ""
    only_long: bool = False


class BookList(msgspec.Struct, frozen=True, kw_only=True):
    """Books."""

    items: list[NoteOut]
    next: str = ""


def write_note(shelf: Shelf, actor: Actor, asked: NoteIn) -> NoteOut:
    """Write a note on a book.

    It stays there for ever.
    """
    if asked.book == "none":
        raise NotFound("there is no book 'none'")
    shelf.notes[asked.book] = asked.text
    return NoteOut(book=asked.book, text=asked.text, by=actor.principal.id, pages=asked.pages, tags=asked.tags)


async def list_books(shelf: Shelf, actor: Actor, asked: BooksIn) -> BookList:
    """List books."""
    names = sorted(name for name in shelf.notes if name > asked.after)
    items = [NoteOut(book=name, text=shelf.notes[name], by="", pages=1, tags=[]) for name in names[:1]]
    return BookList(items=items, next=names[0] if len(names) > 1 else "")


def export_books(shelf: Shelf, actor: Actor, asked: BooksIn) -> BookList | Download:
    """Export books."""
    return Download(content=b"x,y", content_type="text/csv", file_name="books.csv")


class CountIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to count."""

    words: Annotated[str, msgspec.Meta(extra={"words": True})] = ""
    """Words that a note has."""
    wait_s: Annotated[int, msgspec.Meta(extra={"flag": "wait", "reads": lambda text: int(text.removesuffix("s"))})] = 0
    """How long to wait: 5s."""
    format: Annotated[Literal["json", "csv"], msgspec.Meta(extra={"switch": "csv"})] = "json"
    """Print CSV."""


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted."""

    words: str
    wait_s: int


def count_books(shelf: Shelf, actor: Actor, asked: CountIn) -> Counted | Download:
    """Count books."""
    if asked.format == "csv":
        return Download(content=b"1,2\n", content_type="text/csv", file_name="count.csv")
    return Counted(words=asked.words, wait_s=asked.wait_s)


def pack_books(shelf: Shelf, actor: Actor, asked: BooksIn) -> Download:
    """Pack books."""
    shelf.packed = io.BytesIO(b"x" * (3 << 20))
    return Download(content=shelf.packed, content_type="application/x-tar", file_name="books.tar")


CALLS = (
    Call("book", "note", "POST", "/books/{book}/notes", "budget:write", write_note, on_server=True),
    Call("book", "list", "GET", "/books", "budget:read", list_books, on_server=True),
    Call("book", "export", "GET", "/books/export", "budget:read", export_books, on_server=True),
    Call("book", "count", "POST", "/books/count", "budget:read", count_books, on_server=True, by_query=True),
    Call("book", "pack", "GET", "/books/pack", "budget:read", pack_books, content_type="application/x-tar"),
    Call("book", "burn", "DELETE", "/books", "budget:write", list_books, on_server=True, sure="burn every book"),
)


@pytest.fixture
def app() -> AdminApp:
    made = AdminApp("system-administrator", routes=routes_of("books", CALLS))
    made.desks["books"] = Shelf()
    return made


def test_a_call_is_a_route_with_its_body_and_path(app: AdminApp) -> None:
    made = app.ask("POST", "/admin/v1/books/a%2Fb/notes".replace("%2F", "-"), {"text": "hi", "tags": ["x"]})
    assert made == {"book": "a-b", "text": "hi", "by": "anybody", "pages": 1, "tags": ["x"]} | {"by": made["by"]}
    refused = app.ask("POST", "/admin/v1/books/a/notes", {"text": "hi", "pages": 10})
    assert refused["status"] == 400 and refused["param"] == "pages"
    refused = app.ask("POST", "/admin/v1/books/a/notes", {"text": "hi", "book": "b"})
    assert refused["status"] == 400 and "unknown field 'book'" in refused["message"]
    assert app.ask("POST", "/admin/v1/books/none/notes", {"text": "x"})["status"] == 404
    assert app.send("GET", "/admin/v1/books/export") == (200, b"x,y")
    assert app.ask("GET", "/admin/v1/books", query="only_long=perhaps")["status"] == 400


def test_fields_may_travel_as_a_query_and_a_file_in_pieces(app: AdminApp) -> None:
    assert app.ask("POST", "/admin/v1/books/count", query="wait_s=5&words=a+b") == {"words": "a b", "wait_s": 5}
    assert app.ask("POST", "/admin/v1/books/count", query="weight=5")["status"] == 400
    status, sent = app.send("GET", "/admin/v1/books/pack")
    assert (status, len(sent), app.headers[b"content-type"]) == (200, 3 << 20, b"application/x-tar")
    shelf = app.desks["books"]
    assert isinstance(shelf, Shelf) and shelf.packed.closed


def test_who_may_not_is_refused_and_a_server_without_the_room_says_so() -> None:
    app = AdminApp("developer", routes=routes_of("books", CALLS))
    app.desks["books"] = Shelf()
    assert app.ask("POST", "/admin/v1/books/a/notes", {"text": "hi"})["status"] == 403
    empty = AdminApp("system-administrator", routes=routes_of("books", CALLS))
    assert empty.ask("GET", "/admin/v1/books")["status"] == 503


def test_the_openapi_document_has_path_query_and_body() -> None:
    paths = json.loads(describe(routes_of("books", CALLS)))["paths"]
    note = paths["/admin/v1/books/{book}/notes"]["post"]
    assert note["operationId"] == "book_note" and note["summary"] == "Write a note on a book"
    assert [one["name"] for one in note["parameters"]] == ["book"]
    assert [one["name"] for one in paths["/admin/v1/books"]["get"]["parameters"]] == ["after", "only_long"]


@pytest.fixture
def command(app: AdminApp, monkeypatch: pytest.MonkeyPatch) -> face.App:
    app.answer_commands(monkeypatch)
    return face.noun_of("book", "Books.", CALLS)


def test_the_command_line_is_derived(command: face.App, capsys: pytest.CaptureFixture[str]) -> None:
    run(command, "note", "a", "hello", "--pages", "2", "--tags", "x", "--tags", "y", "--json")
    said = json.loads(capsys.readouterr().out)
    assert (said["book"], said["text"], said["pages"], said["tags"]) == ("a", "hello", 2, ["x", "y"])
    run(command, "note", "b", "more")
    assert "text   more" in capsys.readouterr().out
    run(command, "list")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["book", "a", "b"], "every page"
    with pytest.raises(AshoreError, match="pages"):
        run(command, "note", "a", "x", "--pages", "10")
    with pytest.raises(AshoreError, match="this would burn every book"):
        run(command, "burn")
    run(command, "burn", "--yes")


def test_options_are_written_as_people_write_them(command: face.App, capsys: pytest.CaptureFixture[str]) -> None:
    run(command, "count", "two", "words", "--wait", "5s", "--json")
    assert json.loads(capsys.readouterr().out) == {"words": "two words", "wait_s": 5}
    run(command, "count", "--csv")
    assert capsys.readouterr().out == "1,2\n"

    @face.taking(CountIn)
    def here(asked: CountIn, as_json: bool) -> None:
        """Count at home."""
        print(asked.words, asked.wait_s, as_json)

    app = face.App(name="home")
    app.command(here, name="count")
    run(app, "count", "a", "b", "--wait", "7s", "--json")
    assert capsys.readouterr().out == "a b 7 True\n"


def test_the_help_is_the_docstrings(command: face.App, capsys: pytest.CaptureFixture[str]) -> None:
    run(command, "note", "--help")
    said = capsys.readouterr().out
    for part in (
        "Write a note on a book.",
        "It stays there for ever.",
        "Book to write on.",
        "Pages to use. [default: 1]",
        "red, blue",
        "--json",
        "--url",
    ):
        assert part in said, part
