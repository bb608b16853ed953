"""A room is one folder and one line; a verb is one struct, one function and one line."""

from __future__ import annotations

import re
from pathlib import Path

from scratch_package import SUPPORT, ScratchPackage

from ashore.kit.state.schema import migrations

LINE = '    Listed("control.library", noun="book", summary="Write notes on books.", section="library"),\n'
STRUCT = '''
class ReleaseNoteIn(ReleaseIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A note on a release."""

    text: Annotated[Why, Meta(extra={"positional": True})]
    """What to write down."""


def note_release(desk: ReleaseDesk, actor: Actor, asked: ReleaseNoteIn) -> ReleaseOut:
    """Write a note on a release into the audit log."""
    with desk.office._acts.write(actor, "release:note", f"release/{asked.release}") as act:
        act.require(WRITE, f"release/{asked.release}")
        act.detail["text"] = asked.text
    return show_release(desk, actor, asked)


'''
CALL = '    Call("release", "note", "POST", "/releases/{release}/notes", WRITE, note_release),\n'


def test_a_room_is_found_everywhere_by_one_line_outside_its_folder(tmp_path: Path) -> None:
    scratch = ScratchPackage(tmp_path)
    scratch.add(SUPPORT / "toy_room", "control/library")
    tables = scratch.package / "control/library" / "tables"
    (tables / "next.sql").rename(tables / f"{len(migrations()) + 1:04}.sql")
    scratch.put_before("kit/listed.py", '    Listed("control.backup"', LINE)
    assert [one for one in scratch.changed() if not one.startswith("control/library/")] == ["kit/listed.py"]
    found = scratch.run("toy_room_checks.py")
    assert re.search(r"  book +Write notes on books\.", found["overview"])
    assert "Write a note on a book." in found["help"] and "What to write." in found["help"]
    assert "## `[library]`" in found["reference"] and "Notes that one book may have." in found["reference"]
    assert set(found["openapi"]["/admin/v1/books/{book}/notes"]) == {"get", "post"}
    assert found["read"] == {"notes": [], "most": 7}, "the worker was told what ashore.toml says"
    assert '"most":7' in found["command"].replace(" ", "")
    assert found["first key writes"] == 403, "the first key reads, and the action says who writes"
    assert '"action":"book:write"' in found["log"] and '"outcome":"denied"' in found["log"]
    assert found["dusted"] == 1, "its loop runs in the worker, and its metric is on the page"
    assert found["written"] == {"notes": ["hello"], "most": 7} and found["table"] == [["b1", "hello"]]
    assert [one[:2] for one in found["recorded"]] == [["book:write", "book/b1"]]


def test_a_stranger_adds_a_verb_by_one_struct_and_one_function(tmp_path: Path) -> None:
    scratch = ScratchPackage(tmp_path)
    calls = "control/releases/calls.py"
    scratch.put_before(calls, "LIST_ALIASES: Final", STRUCT)
    text = (scratch.package / calls).read_text()
    (scratch.package / calls).write_text(text.replace("CALLS: Final = (\n", "CALLS: Final = (\n" + CALL))
    assert scratch.changed() == [calls]
    found = scratch.run("release_note_checks.py")
    assert found["summary"] == "Write a note on a release into the audit log"
    assert "Write a note on a release into the audit log." in found["help"] and "RELEASE" in found["help"]
    assert found["over http"] == found["command"] == "chat-1"
    assert found["refused"] == 403 and found["too long"] == "text"
    assert found["log"].count('"action":"release:note"') >= 2 and '"text":"looks better"' in found["log"]
