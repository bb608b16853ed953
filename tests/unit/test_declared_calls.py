"""A call that a room declares is found over HTTP, in the OpenAPI document and on the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
import pytest
from admin_app import AdminApp

from ashore.api.http.admin.calls import routes_of
from ashore.api.http.openapi import describe
from ashore.cli import calls as face
from ashore.core import Actor, Call, Download
from ashore.core.decode import decode
from ashore.errors import AshoreError, InvalidRequest, NotFound, UnknownField


@dataclass
class Shelf:
    """What the toy room keeps."""

    notes: dict[str, str] = field(default_factory=dict)


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


CALLS = (
    Call("book", "note", "POST", "/books/{book}/notes", "budget:write", write_note, on_server=True),
    Call("book", "list", "GET", "/books", "budget:read", list_books, on_server=True),
    Call("book", "export", "GET", "/books/export", "budget:read", export_books, on_server=True),
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
    def ask_server(target: object, method: str, path: str, *, body: bytes | None = None) -> bytes:
        where, _, query = path.partition("?")
        status, answer = app.send(method, where, body or b"", query)
        if status != 200:
            raise AshoreError(json.loads(answer)["error"]["message"])
        return answer

    monkeypatch.setattr("ashore.cli.target.ask_server", ask_server)
    monkeypatch.setattr("ashore.cli.target.find_target", lambda url, *, key=None: url)
    return face.noun_of("book", "Books.", CALLS)


def run(command: face.App, *words: str) -> None:
    command(list(words), exit_on_error=False, result_action="return_value")


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


class _Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """Takes no field."""


@pytest.mark.parametrize("name", ["[" * 5000 + "\n", "a\nb", "`" * 5000, "\n" * 5000])
def test_a_field_name_that_a_client_made_up_makes_no_error_long(name: str) -> None:
    with pytest.raises((UnknownField, InvalidRequest)) as caught:
        decode(json.dumps({name: 1}).encode(), msgspec.json.Decoder(_Nothing))
    assert len(caught.value.message) < 500
