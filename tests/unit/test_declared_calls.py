"""A call that a room declares is found over HTTP, in the OpenAPI document and on the command line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlencode

import msgspec
import pytest
from admin_app import AdminApp
from cyclopts import Parameter

from ashore.cli import calls as face
from ashore.cli.recorded import os_user
from ashore.cli.target import ServerTarget
from ashore.control.faces.admin import routes_of
from ashore.core.errors import AshoreError, InvalidRequest, NotFound, NotReady, SourceUnreachable, UnknownField
from ashore.core.ids import TenantId
from ashore.data.authority import OFFICERS, Principal
from ashore.data.http.openapi import describe
from ashore.kit.call import Actor, Call, Download
from ashore.kit.decode import decode
from ashore.kit.rooms import rooms
from ashore.kit.settings import read_settings

Twice = Annotated[bool, Parameter(negative=(), help="Do it twice.")]


@dataclass
class Shelf:
    """What the toy room keeps."""

    notes: dict[str, str] = field(default_factory=dict)
    packed: io.BytesIO = field(default_factory=io.BytesIO)
    pages: list[int] = field(default_factory=list)
    """How many books each page of a list had."""
    settled: list[int] = field(default_factory=list)
    """Notes that there were each time a change was waited for."""

    async def settle(self) -> None:
        self.settled.append(len(self.notes))


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
    limit: Annotated[int, msgspec.Meta(ge=1, le=2, extra={"page": True})] = 1


class BookList(msgspec.Struct, frozen=True, kw_only=True):
    """Books."""

    items: list[NoteOut]
    next: str = ""


class LoanIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A loan."""

    book: str
    """`first` for the first one."""
    parts: Annotated[
        dict[str, Annotated[float, msgspec.Meta(le=100)]],
        msgspec.Meta(extra={"positional": True, "flag": "parts", "bare": "100"}),
    ]
    """CHAPTER=PERCENT."""
    for_s: Annotated[int, msgspec.Meta(le=86_400, extra={"span": True, "flag": "for"})] = 3600
    """How long."""
    days: Annotated[list[int], msgspec.Meta(extra={"commas": True})] = []
    marks: Annotated[dict[str, str | int | bool], msgspec.Meta(extra={"flag": "mark"})] = {}
    version: Annotated[int | None, msgspec.Meta(extra={"filled": True})] = None


class LoanOut(LoanIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A loan that was made."""

    by: str


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
    page = names[: asked.limit]
    shelf.pages.append(len(page))
    items = [NoteOut(book=name, text=shelf.notes[name], by="", pages=1, tags=[]) for name in page]
    return BookList(items=items, next=page[-1] if len(names) > len(page) else "")


def export_books(shelf: Shelf, actor: Actor, asked: BooksIn) -> BookList | Download:
    """Export books."""
    return Download(content=b"x,y", content_type="text/csv", file_name="books.csv")


async def lend_book(shelf: Shelf, actor: Actor, asked: LoanIn) -> LoanOut:
    """Lend a book."""
    if asked.book not in shelf.notes:
        raise NotFound(f"there is no book {asked.book!r}")
    return LoanOut(**msgspec.structs.asdict(asked), by=actor.principal.id)


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
    Call("book", "lend", "POST", "/books/{book}/loans", "budget:write", lend_book, on_server=True, at_home=True),
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


def test_a_change_is_answered_once_it_is_in_force_and_a_look_waits_for_nothing() -> None:
    shelf = Shelf()
    app = AdminApp("system-administrator", routes=routes_of("books", CALLS), settle=shelf.settle)
    app.desks["books"] = shelf
    app.ask("GET", "/admin/v1/books")
    app.ask("POST", "/admin/v1/books/none/notes", {"text": "refused"})
    assert shelf.settled == []
    app.ask("POST", "/admin/v1/books/a/notes", {"text": "hi"})
    assert shelf.settled == [1], "after the note was written"


def test_one_function_serves_two_nouns_with_a_help_of_each(app: AdminApp) -> None:
    def shelve(shelf: Shelf, actor: Actor, asked: NoteIn, *, where: str) -> NoteOut:
        return NoteOut(book=asked.book, text=where, by="", pages=1, tags=[])

    calls = tuple(
        Call(
            noun,
            "put",
            "PUT",
            f"/{noun}s/{{book}}",
            "budget:write",
            partial(shelve, where=noun),
            help=f"Fill a {noun}.",
        )
        for noun in ("attic", "cellar")
    )
    both = AdminApp("system-administrator", routes=routes_of("books", calls))
    both.desks["books"] = Shelf()
    assert both.ask("PUT", "/admin/v1/cellars/a", {"text": "x"})["text"] == "cellar"
    document = json.loads(describe(routes_of("books", calls)))
    assert document["paths"]["/admin/v1/attics/{book}"]["put"]["summary"] == "Fill a attic"
    assert [name for name in document["components"]["schemas"] if "NoteIn" in name] == ["NoteIn"], "one type for both"


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
    assert [one["name"] for one in paths["/admin/v1/books"]["get"]["parameters"]] == ["after", "only_long", "limit"]


@pytest.fixture
def command(app: AdminApp, monkeypatch: pytest.MonkeyPatch) -> face.App:
    def ask_server(target: object, method: str, path: str, *, body: bytes | None = None) -> bytes:
        where, _, query = path.partition("?")
        status, answer = app.send(method, where, body or b"", query)
        if status != 200:
            raise AshoreError(json.loads(answer)["error"]["message"])
        return answer

    monkeypatch.setattr("ashore.cli.target.ask_server", ask_server)
    monkeypatch.setattr("ashore.cli.target.find_target", lambda url, *, key=None: ServerTarget(url=url or ""))
    return face.noun_of("book", "Books.", CALLS, conducts={"lend": lend}, at_home=lambda: nullcontext(home_shelf()))


def home_shelf() -> Shelf:
    return Shelf({"at-home": "x"})


def lend(errand: face.Errand, asked: LoanIn, *, twice: Twice = False) -> None:
    """Fill in the version, and which book is the first."""
    book = errand.ask(BooksIn(), CALLS[1]).items[0].book if asked.book == "first" else asked.book
    for _ in range(2 if twice else 1):
        errand.tell(errand.ask(msgspec.structs.replace(asked, book=book, version=7)))


def run(command: face.App, *words: str) -> None:
    command(list(words), exit_on_error=False, result_action="return_value")


def test_the_command_line_is_derived(app: AdminApp, command: face.App, capsys: pytest.CaptureFixture[str]) -> None:
    run(command, "note", "a", "hello", "--pages", "2", "--tags", "x", "--tags", "y", "--json")
    said = json.loads(capsys.readouterr().out)
    assert (said["book"], said["text"], said["pages"], said["tags"]) == ("a", "hello", 2, ["x", "y"])
    run(command, "note", "b", "more")
    assert "text   more" in capsys.readouterr().out
    run(command, "list")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["book", "a", "b"]
    run(command, "note", "c", "most")
    capsys.readouterr()
    run(command, "list")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["book", "a", "b", "c"], "every page"
    shelf = app.desks["books"]
    assert isinstance(shelf, Shelf) and shelf.pages == [2, 2, 1], "as long as a page may be"
    with pytest.raises(AshoreError, match="--pages: "):
        run(command, "note", "a", "x", "--pages", "10")
    with pytest.raises(AshoreError, match="this would burn every book"):
        run(command, "burn")
    run(command, "burn", "--yes")


class Scribble(msgspec.Struct, frozen=True, kw_only=True):
    """What `scribble` takes."""

    book: str
    lines: Annotated[list[str], msgspec.Meta(extra={"positional": True})] = []
    tag: Annotated[list[str], msgspec.Meta(extra={"several": True})] = []
    """Words to find it by."""
    source: Annotated[str, msgspec.Meta(extra={"file": True})] = ""
    dry_run: bool = False


def scribble(asked: Scribble) -> NoteIn:
    """Write lines on a book."""
    text = "dry" if asked.dry_run else " ".join(asked.lines)
    return NoteIn(book=asked.book, text=text + asked.source, tags=asked.tag)


def test_a_call_in_words_of_the_command_line(command: face.App, capsys: pytest.CaptureFixture[str]) -> None:
    noun = face.noun_of("book", "Books.", (face.reworded(CALLS[0], "scribble", scribble, sure="scribble on {book}"),))

    def scribbled(*words: str) -> dict[str, object]:
        run(noun, "scribble", "a", *words, "--json")
        return dict(json.loads(capsys.readouterr().out))

    assert scribbled("x", "y", "--yes")["text"] == "x y"
    assert scribbled("--yes", "--source", "z.txt", "x")["text"] == "xz.txt"
    assert scribbled("x", "--yes", "--tag", "one", "two")["tags"] == ["one", "two"]
    assert scribbled("x", "--dry-run")["text"] == "dry", "its own dry run, which nobody is asked about"
    with pytest.raises(AshoreError, match="this would scribble on a"):
        run(noun, "scribble", "a", "x")
    run(noun, "scribble", "--help")
    assert "Write lines on a book." in capsys.readouterr().out


def test_a_dry_run_looks_first_and_sends_nothing(
    app: AdminApp, command: face.App, capsys: pytest.CaptureFixture[str]
) -> None:
    def look(server: face.Server, asked: BooksIn) -> str:
        if asked.only_long:
            raise NotFound("there are no long books")
        return ", all 3 of them"

    burn = face.noun_of("book", "Books.", (face.reworded(CALLS[-2], look=look),))
    run(burn, "burn", "--dry-run")
    assert capsys.readouterr().out == "dry run: would burn every book, all 3 of them\n"
    with pytest.raises(NotFound):
        run(burn, "burn", "--dry-run", "--only-long")
    shelf = app.desks["books"]
    assert isinstance(shelf, Shelf) and shelf.pages == [] and shelf.settled == []


def test_options_are_written_as_people_write_them(command: face.App, capsys: pytest.CaptureFixture[str]) -> None:
    run(command, "count", "two", "words", "--wait", "5s", "--json")
    assert json.loads(capsys.readouterr().out) == {"words": "two words", "wait_s": 5}
    run(command, "count", "--csv")
    assert capsys.readouterr().out == "1,2\n"


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


def test_values_are_written_as_people_write_them(command: face.App, capsys: pytest.CaptureFixture[str]) -> None:
    run(command, "note", "a", "hello")
    capsys.readouterr()
    words = (
        "lend",
        "first",
        "all",
        "--for",
        "15m",
        "--days",
        "1,2",
        "--days",
        "3",
        "--mark",
        "n=8",
        "--mark",
        "ok=true",
    )
    run(command, *words, "--mark", "s=8x", "--twice", "--json")
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first == second and (first["book"], first["version"]) == ("a", 7), "its conduct fills both in"
    assert (first["parts"], first["for_s"], first["days"]) == ({"all": 100.0}, 900, [1, 2, 3])
    assert first["marks"] == {"n": 8, "ok": True, "s": "8x"}
    run(command, "lend", "a", "x=20", "y=80", "--json")
    lent = json.loads(capsys.readouterr().out)
    assert lent["parts"] == {"x": 20.0, "y": 80.0} and lent["for_s"] == 3600
    run(command, "lend", "--help")
    said = capsys.readouterr().out
    assert "[default: 1h]" in said and "--twice" in said and "--version" not in said


@pytest.mark.parametrize(
    "words, told",
    [
        (("--for", "90x"), "'90x' is not a duration"), (("--for", "2d"), "--for: "), (("--days", "1,x"), "--days: "),
        (("--mark", "n"), "'n' is not NAME=VALUE"), (("x=many",), "PARTS: "), (("x=101",), "PARTS: "),
    ],
)  # fmt: skip
def test_a_value_that_is_wrong_is_refused_by_name(command: face.App, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(AshoreError) as refused:
        run(command, "lend", "a", *words, *(() if "=" in words[0] else ("y",)))
    assert told in refused.value.message


@pytest.mark.parametrize("fault", [SourceUnreachable("gone"), NotReady("no model is being served")])
def test_the_owner_of_the_home_works_on_its_state_where_no_server_runs(
    fault: AshoreError,
    command: face.App,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def nobody(*args: object, **options: object) -> bytes:
        raise fault

    monkeypatch.setattr("ashore.cli.target.ask_server", nobody)
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path))
    with pytest.raises(type(fault)):
        run(command, "lend", "first", "x")  # the home has no state
    read_settings().home.state_db.touch()
    run(command, "lend", "first", "x", "--json")
    said = capsys.readouterr()
    lent = json.loads(said.out)
    assert (lent["book"], lent["by"]) == ("at-home", os_user()), "its conduct reads the same state"
    assert said.err.count("no server is running") == 1
    for words in (("lend", "first", "x", "--url", "http://far"), ("lend", "first", "x", "--key", "k"), ("list",)):
        with pytest.raises(type(fault)):  # another server or other rights are meant, or the call is none for the home
            run(command, *words)
    read_settings().home.topology.parent.mkdir(parents=True, exist_ok=True)
    read_settings().home.topology.touch()
    if isinstance(fault, NotReady):
        with pytest.raises(NotReady):  # a server that runs said so
            run(command, "lend", "first", "x")


class _Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """Takes no field."""


@pytest.mark.parametrize("name", ["[" * 5000 + "\n", "a\nb", "`" * 5000, "\n" * 5000])
def test_a_field_name_that_a_client_made_up_makes_no_error_long(name: str) -> None:
    with pytest.raises((UnknownField, InvalidRequest)) as caught:
        decode(json.dumps({name: 1}).encode(), msgspec.json.Decoder(_Nothing))
    assert len(caught.value.message) < 500


def _spoilt(takes: type[msgspec.Struct]) -> Iterator[tuple[str, str | int]]:
    """Yield the bounded scalar fields of a struct, each with a value that its bounds forbid."""
    schema = msgspec.json.schema(takes)
    for name, one in schema["$defs"][schema["$ref"].rpartition("/")[2]]["properties"].items():
        for form in one.get("anyOf", [one]):
            if form.get("type") == "string" and "maxLength" in form:
                yield name, "x" * (form["maxLength"] + 1)
            elif form.get("type") == "string" and "pattern" in form:
                yield name, "<script> " * 600
            elif form.get("type") in ("integer", "number") and "minimum" in form:
                yield name, int(form["minimum"]) - 1
            elif form.get("type") in ("integer", "number") and "maximum" in form:
                yield name, int(form["maximum"]) + 1
            else:
                continue
            break


SPOILT = [
    pytest.param(room, call, name, value, id=f"{call.noun} {call.word} {name}")
    for room, call in ((room.name, call) for room in rooms() for call in room.calls)
    for name, value in _spoilt(call.takes)
]


@pytest.fixture(scope="module")
def officers() -> tuple[AdminApp, ...]:
    """An application for each role with powers of an office, in which everybody holds it: nobody holds two."""
    principal = Principal(id="all", tenant=TenantId("default"))
    return tuple(AdminApp(role, principal=principal) for role in (*OFFICERS, "model-owner"))


@pytest.mark.parametrize(("room", "call", "name", "value"), SPOILT)
def test_every_call_refuses_over_http_what_its_struct_refuses(
    room: str, call: Call, name: str, value: str | int, officers: tuple[AdminApp, ...]
) -> None:
    path = call.path
    for field_name in call.in_path:
        path = path.replace(f"{{{field_name}}}", str(value) if field_name == name else "x")
    body, query = b"", ""
    if name not in call.in_path and call.has_body:
        body = json.dumps({name: value}).encode()
    elif name not in call.in_path:
        query = urlencode({name: value})
    status, answer = 403, b""
    for app in officers:
        app.desks[room] = object()  # nothing may come so far
        if status == 403:
            status, answer = app.send(call.method, f"/admin/v1{path}", body, query)
    error = json.loads(answer)["error"]
    assert status == 400, error
    assert error["param"] == name or (name not in call.in_path and "missing" in error["message"])
