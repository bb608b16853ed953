"""Forms and tables out of declarations: a call of a room that nobody has heard of has its page."""

from __future__ import annotations

from typing import Annotated, Any, get_args

import msgspec
import pytest
from test_declared_calls import CALLS as BOOKS
from test_declared_calls import LoanIn, NoteIn

from ashore.control.access.calls.keys import KeyOut
from ashore.control.console.command import command_for
from ashore.control.console.forms import Field, fields_of, filled, read_form, written
from ashore.control.console.kit import NONE
from ashore.control.console.pages import Atlas, lead_of, on_row, row_calls
from ashore.control.console.present import COLUMNS, Facts, Row, Table, blocks_of, cell
from ashore.control.console.rows import Beside, OnRows, row_links
from ashore.control.console.words import words_in
from ashore.control.directory.calls import CheckStep, MappedGroup
from ashore.core.errors import InvalidRequest
from ashore.kit.call import Call, absences
from ashore.kit.rooms import Room, rooms


class Part(msgspec.Struct):
    """A part."""

    name: str
    size_bytes: int


class Whole(msgspec.Struct):
    """What has parts."""

    title: str
    made_at: int
    used_at: Annotated[int | None, msgspec.Meta(extra={"absent": "never"})]
    is_open: bool
    items: list[Part]


BY_WORD = {call.word: call for call in BOOKS}
CALLS = [call for room in rooms() for call in room.calls]


def by_name(call: Call) -> dict[str, Field]:
    return {one.name: one for one in fields_of(call)}


def test_a_struct_becomes_a_form() -> None:
    fields = by_name(BY_WORD["note"])
    assert {name: one.kind for name, one in fields.items()} == {
        "book": "text", "text": "area", "pages": "number", "colour": "choice", "tags": "lines", "loud": "flag",
    }  # fmt: skip
    assert fields["book"].required and fields["book"].help == "Book to write on."
    assert (fields["pages"].least, fields["pages"].most, fields["pages"].value) == (1, 9, "1")
    assert fields["colour"].choices == ("red", "blue")
    loan = by_name(BY_WORD["lend"])
    assert loan["parts"].kind == "pairs" and loan["for_s"].kind == "span" and loan["for_s"].value == "1h"
    assert "version" not in loan, "the console fills nothing in that people do not see"


def test_what_a_form_says_is_what_a_call_takes() -> None:
    note = read_form(
        BY_WORD["note"],
        [("book", " b1 "), ("text", "a\r\nb"), ("pages", "3"), ("tags", "x\n\n y "),
            ("_loud", "1"), ("loud", "yes"), ("csrf", "t")],
    )  # fmt: skip
    assert note == NoteIn(book="b1", text="a\nb", pages=3, tags=["x", "y"], loud=True)
    loan = read_form(BY_WORD["lend"], [("book", "b"), ("parts", "one=2.5\ntwo=1"), ("for_s", "90s"), ("days", "1\n2")])
    assert loan == LoanIn(book="b", parts={"one": 2.5, "two": 1.0}, for_s=90, days=[1, 2])


@pytest.mark.parametrize(
    ("word", "pairs", "param"),
    [
        ("note", [("book", "b"), ("text", "x"), ("pages", "10")], "pages"),
        ("note", [("book", "b"), ("text", "x"), ("pages", "many")], "pages"),
        ("note", [("book", "b"), ("text", "x"), ("colour", "green")], "colour"),
        ("note", [("text", "x")], "book"),
        ("lend", [("book", "b"), ("parts", "no equals sign")], "parts"),
        ("lend", [("book", "b"), ("parts", "a=1"), ("for_s", "90x")], "for_s"),
    ],
)
def test_a_mistake_stands_at_its_field(word: str, pairs: list[tuple[str, str]], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_form(BY_WORD[word], pairs)
    assert refused.value.param == param


def test_a_field_that_a_call_does_not_take_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="does not take"):
        read_form(BY_WORD["note"], [("book", "b"), ("text", "x"), ("is_admin", "1")])


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.noun} {call.word}")
def test_every_call_has_a_form_that_says_again_what_it_was_filled_with(call: Call) -> None:
    fields = fields_of(call)
    pairs = [(one.name, one.value or "x") for one in fields if one.required and one.kind == "text"]
    shown = {one.name: one.value for one in filled(fields, pairs)}
    assert all(shown[name] == value for name, value in pairs)
    assert command_for(call, None).startswith("ashore ")


def test_an_answer_becomes_facts_and_tables() -> None:
    parts = [Part(f"p{at}", at << 20) for at in range(120)]
    facts, table = blocks_of(Whole("w", 1_795_900_000, None, True, parts), first=50, most=50)
    assert isinstance(facts, Facts) and isinstance(table, Table)
    assert [(name, one.kind) for name, one in facts.items] == [
        ("title", "text"), ("made_at", "time"), ("used_at", "absent"), ("is_open", "yes"),
    ]  # fmt: skip
    assert (len(table.rows), table.total, table.first) == (50, 120, 50)
    assert table.rows[0].cells[1].text == "50 MiB" and table.rows[0].cells[1].machine == f"{50 << 20:,} B"
    (_, few) = blocks_of(Whole("w", 1, None, False, parts), match="p11")
    assert isinstance(few, Table) and [row.cells[0].text for row in few.rows][:2] == ["p11", "p110"]


@pytest.mark.parametrize(
    ("name", "value", "kind", "text"),
    [
        ("expires_at", None, "none", ""),
        ("revoked_at", 0, "none", ""),
        ("expires_at", 10**17, "number", f"{10**17:,}"),
        ("num_bytes", 0, "number", "0 B"),
        ("allowed_percent", 2.5, "number", "2.5 %"),
        ("load_s", 90, "number", "1.5 min"),
        ("at_s", 1_795_932_041, "time", None),
        ("began_s", 1_795_931_990.661, "time", None),
        ("at", "2026-11-29T06:00:41.2Z", "time", None),
        ("outcome", "denied", "state", "denied"),
        ("title", "", "none", ""),
        ("parts", {"a": 1, "b": ""}, "list", ""),
        ("policy", {"a": {"b": 1}}, "number", "1"),
        ("key_id", "ash_1", "code", "ash_1"),
    ],
)
def test_a_value_is_shown_by_its_type_and_unit(name: str, value: object, kind: str, text: str | None) -> None:
    shown = cell(name, value)
    assert shown.kind == kind and (text is None or shown.text == text)


def test_places_in_a_directory_stand_folded_below_names_and_what_went_wrong_in_sight() -> None:
    dn = r"CN=Roth\, Anna,OU=people,DC=corp"
    groups = [
        MappedGroup(group="ml", written=dn, dn=dn, guid="0f"),
        MappedGroup(group="new", written=dn, dn="", guid=""),
    ]
    (table,) = blocks_of({"groups": groups}, "directory show")
    assert isinstance(table, Table) and table.columns == ("group", "dn")
    assert [one.text for one in table.rows[0].cells] == ["ml", r"Roth\, Anna"] and table.rows[1].cells[1] == NONE
    assert [name for name, _ in table.rows[0].folded] == ["dn", "guid", "written"]
    steps = [CheckStep(what="people", ok=True, says=dn), CheckStep(what="groups", ok=False, says="it is not there")]
    (table,) = blocks_of({"items": steps}, "directory check")
    assert isinstance(table, Table) and table.columns == ("what", "ok", "says")
    assert [row.cells[2].text for row in table.rows] == ["", "it is not there"]
    assert [len(row.folded) for row in table.rows] == [1, 0]


def test_a_row_leads_to_calls_of_other_nouns_and_not_to_those_for_what_is_ones_own() -> None:
    by_key = Atlas(rooms()).by_key
    lead, verify, revoke = by_key["model list"], by_key["model verify"], by_key["access key revoke"]
    near = Beside(placed=verify, column="name", field="ref")
    models = OnRows(placed=lead, acts=(), own_only=frozenset(), me="ann", beside=(near,))
    (link,) = row_links(models, Table(name="items", columns=()), Row(cells=(), values={"name": "tiny"}))
    assert link.address == "call/model/verify?ref=tiny" and not link.named
    assert row_links(models, Table(name="unknown", columns=()), Row(cells=(), values={"name": "tiny"})) == []
    keys = OnRows(placed=by_key["access key list"], acts=(revoke,), own_only=frozenset({revoke.key}), me="ann")
    table = Table(name="items", columns=())
    assert row_links(keys, table, Row(cells=(), values={"id": "ash_1", "owner": "bob"})) == []
    (own,) = row_links(keys, table, Row(cells=(), values={"id": "ash_2", "owner": "ann"}))
    assert own.address == "call/access-key/revoke?key=ash_2"


def test_a_room_that_nobody_named_has_its_place_and_its_list_leads_to_its_acts() -> None:
    atlas = Atlas([Room(name="library", calls=BOOKS)])
    assert {one.page for one in atlas.placed} == {"server"} and atlas.by_address["call/book/note"].call is BY_WORD[
        "note"
    ]
    lead = lead_of(atlas.on("server", "book"))
    assert lead is not None and lead.call.word == "list"
    assert [one.call.word for one in row_calls(atlas.placed, lead)] == ["note", "lend"]
    assert on_row(BY_WORD["note"], lead.call, {"book": "b1", "text": "x"}) == {"book": "b1"}
    assert on_row(BY_WORD["note"], lead.call, {"id": "b1"}) == {"book": "b1"}
    assert on_row(BY_WORD["list"], lead.call, {"book": "b1"}) is None
    assert command_for(BY_WORD["lend"], LoanIn(book="b", parts={"one": 2.5})) == "ashore book lend b one=2.5"


def test_a_default_is_written_as_people_write_it() -> None:
    assert written("span", 5_400) == "90m" and written("flag", True) == "yes"
    assert written("pairs", {"a": 1}) == "a=1" and written("document", {"a": [1]}) == '{\n  "a": [\n    1\n  ]\n}'


def test_the_share_of_a_release_is_what_answers_now() -> None:
    shown = cell("weights_percent", {"smollm2": 100.0})
    assert [one.text for one in shown.items] == ["smollm2 100 %"]
    assert "weights_percent" in COLUMNS["release list"] and "share_percent" not in COLUMNS["release list"]


def structs_of(kind: Any) -> set[type[msgspec.Struct]]:
    """Return a struct and those in its fields."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {kind}.union(*(structs_of(one.type) for one in msgspec.structs.fields(kind)))
    return set().union(*map(structs_of, get_args(kind)))


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.noun} {call.word}")
def test_what_the_absence_of_a_value_means_has_its_word(call: Call) -> None:
    english = words_in("en")
    for struct in structs_of(call.gives):
        assert {f"absent.{word}" for word in absences(struct).values()} <= english.texts.keys()


def test_a_key_without_limits_may_use_everything() -> None:
    meanings = absences(KeyOut)
    assert [cell(name, [], meanings[name]).text for name in ("models", "actions", "networks")] == ["all"] * 3
    assert (meanings["expires_at"], meanings["revoked_at"]) == ("never", "no")
