"""Changes of the doctor: written down before they are made, read back, and undone; also after a crash in between."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from ashore.control.doctor.changes import GONE, OwnHands, Remedies, boot_id
from ashore.control.doctor.journal import Entry, Journal
from ashore.control.doctor.model import Change, Evidence, Finding
from ashore.core.errors import Conflict, EnvironmentFault, InvalidRequest


class World:
    """Things with a setting, in memory. Can break at a step."""

    def __init__(self, **values: str) -> None:
        self.values = values
        self.steps: list[str] = []
        self.breaks_at = ""

    def read(self, change: Change) -> str:
        return self.values.get(change.target, GONE)

    def put(self, change: Change) -> None:
        self.steps.append(f"{change.target}={change.value}")
        if self.breaks_at == change.target:
            raise PermissionError(1, "Operation not permitted")
        self.values[change.target] = change.value


def finding(rule: str, target: str, value: str, *, safe: bool = True) -> Finding:
    return Finding(
        severity="warning", what="w", cause="c", evidence=(Evidence(name="a", seen="1"),), sure="certain", remedy="r",
        rule=rule, change=Change(kind="kernel", target=target, value=value, safe=safe),
    )  # fmt: skip


def remedies(folder: Path, world: World, boot: str = "b1") -> Remedies:
    return Remedies(Journal(folder), world, now_s=lambda: 5.0, boot=lambda: boot)


def test_changes_are_made_and_undone_in_the_reverse_order(tmp_path: Path) -> None:
    world = World(a="1", b="2")
    made = remedies(tmp_path, world).apply([finding("D1", "a", "9"), finding("D2", "b", "8")])
    assert [(one.id, one.stage, one.before) for one in made] == [(1, "made", "1"), (2, "made", "2")]
    assert world.values == {"a": "9", "b": "8"}
    undone = remedies(tmp_path, world).undo()
    assert [(one.id, one.stage) for one in undone] == [(2, "undone"), (1, "undone")]
    assert world.values == {"a": "1", "b": "2"}
    assert remedies(tmp_path, world).undo() == ()


def test_each_change_is_told_before_it_is_made_and_before_it_is_undone(tmp_path: Path) -> None:
    world, told = World(a="1"), []
    hands = Remedies(Journal(tmp_path), world, say=lambda one: told.append((one.stage, world.values["a"])))
    hands.apply([finding("D1", "a", "9")])
    hands.undo()
    assert told == [("begun", "1"), ("made", "9"), ("begun", "9"), ("undone", "1")]


def test_only_safe_changes_are_made_unless_their_rule_is_named(tmp_path: Path) -> None:
    found = [finding("D1", "a", "9"), finding("D2", "b", "8", safe=False)]
    one = remedies(tmp_path, World())
    assert [each.rule for each in one.planned(found, named=())] == ["D1"]
    assert [each.rule for each in one.planned(found, named=["D2"])] == ["D1", "D2"]


def test_one_that_fails_keeps_no_other_back_and_is_not_undone(tmp_path: Path) -> None:
    world = World(a="1", b="2")
    world.breaks_at = "a"
    made = remedies(tmp_path, world).apply([finding("D1", "a", "9"), finding("D2", "b", "8"), finding("D3", "x", "7")])
    assert [(one.stage, one.note) for one in made] == [
        ("failed", "Operation not permitted"),
        ("made", ""),
        ("failed", "x is not there any more"),
    ]
    world.breaks_at = ""
    assert [one.target for one in remedies(tmp_path, world).undo()] == ["b"]
    assert world.values == {"a": "1", "b": "2"}


def test_a_change_that_a_crash_cut_off_is_undone_like_one_that_was_made(tmp_path: Path) -> None:
    """Killed after the change and before the journal says so: what is written down is enough."""

    class Killed(BaseException):
        pass

    class Dies(World):
        def put(self, change: Change) -> None:
            super().put(change)
            raise Killed

    world = Dies(a="1")
    with pytest.raises(Killed):
        remedies(tmp_path, world).apply([finding("D1", "a", "9")])
    assert world.values == {"a": "9"}
    healed = World(**world.values)
    assert [one.stage for one in remedies(tmp_path, healed).undo()] == ["undone"]
    assert healed.values == {"a": "1"}


def test_after_a_restart_of_the_machine_nothing_of_it_is_put_back(tmp_path: Path) -> None:
    world = World(a="1")
    remedies(tmp_path, world).apply([finding("D1", "a", "9")])
    after = World(a="5")
    (entry,) = remedies(tmp_path, after, boot="b2").undo()
    assert entry.stage == "gone" and after.values == {"a": "5"} and after.steps == []


def test_what_cannot_be_put_back_stays_open(tmp_path: Path) -> None:
    world = World(a="1")
    remedies(tmp_path, world).apply([finding("D1", "a", "9")])
    world.breaks_at = "a"
    (entry,) = remedies(tmp_path, world).undo()
    assert (entry.stage, entry.note) == ("made", "Operation not permitted")
    world.breaks_at = ""
    assert [one.stage for one in remedies(tmp_path, world).undo()] == ["undone"]


def test_one_change_is_undone_by_its_number(tmp_path: Path) -> None:
    world = World(a="1", b="2")
    one = remedies(tmp_path, world)
    one.apply([finding("D1", "a", "9"), finding("D2", "b", "8")])
    assert [each.id for each in one.undo(1)] == [1]
    assert world.values == {"a": "1", "b": "8"}
    with pytest.raises(Conflict):
        one.undo(1)
    with pytest.raises(InvalidRequest):
        one.undo(7)


def test_a_last_line_that_was_cut_off_is_left_out_and_any_other_is_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    row = Entry(id=1, stage="made", rule="D1", kind="mode", target="a", before="1", after="2", at_s=1.0)
    journal.write(row)
    path = tmp_path / "doctor" / "changes.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"id":2,"sta')
    assert journal.entries() == (row,)
    path.write_bytes(b'{"id":2,"sta\n' + whole)
    with pytest.raises(EnvironmentFault, match="line 1"):
        journal.entries()


def test_the_mode_of_a_file_is_set_and_put_back(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("x")
    secret.chmod(0o644)
    change = Change(kind="mode", target=str(secret), value="0600")
    one = Remedies(Journal(tmp_path), OwnHands())
    found = Finding(
        severity="critical", what="w", cause="c", evidence=(), sure="certain", remedy="r", rule="D920", change=change
    )
    assert [each.stage for each in one.apply([found])] == ["made"]
    assert secret.stat().st_mode & 0o777 == 0o600
    assert [each.stage for each in one.undo()] == ["undone"]
    assert secret.stat().st_mode & 0o777 == 0o644


def test_a_journal_that_another_user_wrote_is_neither_done_nor_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root would otherwise write what the owner of the home likes, where they like."""
    journal, victim = Journal(tmp_path), tmp_path / "shadow"
    victim.write_text("root")
    row = Entry(id=1, stage="made", rule="D1", kind="kernel", target=str(victim), before="mine", after="", at_s=1.0)
    journal.write(msgspec.structs.replace(row, boot=boot_id()))
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    for act in (Remedies(journal, OwnHands()).undo, lambda: journal.write(row)):
        with pytest.raises(EnvironmentFault, match="another user"):
            act()
    monkeypatch.undo()
    path = tmp_path / "doctor" / "changes.jsonl"
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    with pytest.raises(EnvironmentFault, match="is a link"):
        journal.entries()
    assert victim.read_text() == "root"


def test_the_mode_of_what_a_link_names_is_not_touched(tmp_path: Path) -> None:
    victim, link = tmp_path / "sudo", tmp_path / "key"
    victim.touch(mode=0o755)
    link.symlink_to(victim)
    change = Change(kind="mode", target=str(link), value="0600")
    for act in (OwnHands().read, OwnHands().put):
        with pytest.raises(OSError, match="is a link"):
            act(change)
    assert victim.stat().st_mode & 0o7777 == 0o755


def test_what_somebody_changed_since_is_not_undone(tmp_path: Path) -> None:
    world = World(a="1", b="2")
    remedies(tmp_path, world).apply([finding("D1", "a", "9"), finding("D2", "b", "8")])
    world.values["a"] = "5"
    assert [(one.stage, one.target) for one in remedies(tmp_path, world).undo()] == [("undone", "b"), ("gone", "a")]
    assert world.values == {"a": "5", "b": "2"}


def test_two_who_make_the_same_change_at_once_make_it_once_and_it_can_be_undone(tmp_path: Path) -> None:
    both = threading.Barrier(2, timeout=60)
    world = World(a="1")

    def one(number: int) -> list[str]:
        both.wait()
        return [each.stage for each in remedies(tmp_path, world).apply([finding("D1", "a", "9")])]

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(one, range(2))) == [["failed"], ["made"]]
    remedies(tmp_path, world).undo()
    assert world.values == {"a": "1"}
