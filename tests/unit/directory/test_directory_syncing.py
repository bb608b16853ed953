"""A sync on a state: who gets an account, who is disabled, and what never happens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fake_directory import BASE, FakeDirectory, Trust
from msgspec.structs import replace

from ashore.control.access import AccountWish, Keyring, KeyWish, People, PolicyBook
from ashore.control.directory import DirectorySection, Report, Syncing, sql
from ashore.core.clock import ManualClock
from ashore.core.errors import AshoreError, Conflict, NotFound, RemoteRefused, SourceUnreachable
from ashore.data.authority import SYSTEM, Account, Acts, Binding
from ashore.data.authority import sql as access_sql
from ashore.kit.egress import LOOPBACK, parse_allow
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database

ALLOW = parse_allow(LOOPBACK)
DEPARTMENT = f"cn=department,ou=groups,{BASE}"


@dataclass
class Rig:
    fake: FakeDirectory
    database: Database
    section: DirectorySection
    recorder: MemoryRecorder
    clock: ManualClock

    @property
    def syncing(self) -> Syncing:
        return Syncing(self.database, self.recorder, self.clock, ALLOW)

    def sync(self, **more: Any) -> Report:
        return self.syncing.sync(self.section, actor="system", **more)

    def accounts(self) -> dict[str, Account]:
        with self.database.read() as connection:
            return access_sql.accounts_of_issuer(connection, "corp")

    def people(self) -> People:
        return People(Acts(self.database, self.recorder, self.clock))

    def standing(self) -> sql.Standing:
        with self.database.read() as connection:
            return sql.load_standing(connection, "corp")

    def look(self) -> str:
        return asyncio.run(self.syncing.look(self.section))


@pytest.fixture
def rig(fake: FakeDirectory, trust: Trust, database: Database) -> Iterator[Rig]:
    with fake.serving(trust) as port:
        section = fake.section(trust, port, map={"ml": DEPARTMENT})
        yield Rig(fake, database, section, MemoryRecorder(), ManualClock())


def test_people_in_a_mapped_group_at_any_depth_get_an_account_and_nobody_else(rig: Rig) -> None:
    report = rig.sync()
    assert (report.people, report.added, report.groups) == (2, 2, 2)
    found = rig.accounts()
    assert set(found) == {"corp:alice", "corp:bob"} and found["corp:alice"].title == "Alice"
    assert all(one.given_groups == {"ml"} and not one.groups and not one.is_out for one in found.values())
    assert [act.action for act in rig.recorder.acts] == ["directory:add", "directory:add", "directory:sync"]
    again = rig.sync()
    assert not (again.added or again.changed or again.disabled or again.enabled), "it may be called at any time"


def test_a_look_sees_what_changed_of_those_it_knows_and_nothing_else(rig: Rig) -> None:
    rig.sync()
    assert rig.look() == ""
    rig.fake.person("dave")
    rig.fake.person("carol", employeeType="left")
    assert rig.look() == "", "they are no concern of ashore"
    rig.fake.person("alice", nsAccountLock="TRUE")
    assert rig.look() == "corp:alice changed"
    rig.sync()
    assert rig.look() == ""
    rig.fake.group("team", f"uid=alice,ou=people,{BASE}")
    assert rig.look() == "a group changed"


def test_who_is_disabled_gone_or_in_no_group_is_disabled_and_comes_back(rig: Rig) -> None:
    rig.section = _with(rig.section, most_gone=1.0)
    rig.sync()
    rig.fake.person("alice", nsAccountLock="TRUE")
    rig.fake.remove(f"uid=bob,ou=people,{BASE}")
    assert rig.sync().disabled == 2
    assert all(one.shut_s and not one.given_groups and not one.disabled for one in rig.accounts().values())
    why = {act.resource.rpartition("/")[2]: act.detail["why"] for act in rig.recorder.acts if "why" in act.detail}
    assert why == {"corp:alice": "the directory disabled them", "corp:bob": "the directory has them no more"}
    rig.fake.person("alice")
    assert rig.sync().enabled == 1 and not rig.accounts()["corp:alice"].is_out
    rig.fake.group("team")
    assert rig.sync().disabled == 1
    assert rig.recorder.acts[-2].detail["why"] == "they are in no mapped group"
    assert set(rig.accounts()) == {"corp:alice", "corp:bob"}, "nobody is ever deleted"


def test_an_officer_who_disabled_somebody_is_not_overruled(rig: Rig) -> None:
    rig.sync()
    rig.people().change_account(SYSTEM, "user", "corp:alice", disabled=True)
    rig.fake.person("alice", nsAccountLock="TRUE")
    rig.sync()
    rig.fake.person("alice")
    rig.sync()
    account = rig.accounts()["corp:alice"]
    assert account.disabled and not account.shut_s and account.is_out
    rig.people().remove_account(SYSTEM, "user", "corp:bob")
    assert rig.sync().added == 0 and "corp:bob" not in rig.accounts()


def test_groups_that_an_officer_gave_stay(rig: Rig) -> None:
    rig.sync()
    rig.people().create_group(SYSTEM, "board")
    rig.people().change_members(SYSTEM, "board", add=["corp:alice"])
    rig.fake.group("team", f"uid=bob,ou=people,{BASE}")
    rig.sync()
    rig.fake.group("team", f"uid=alice,ou=people,{BASE}")
    rig.sync()
    assert rig.accounts()["corp:alice"].groups == {"board"} and rig.accounts()["corp:alice"].given_groups == {"ml"}


def test_a_new_person_with_an_old_login_inherits_nothing(rig: Rig) -> None:
    rig.sync()
    rig.fake.remove(f"uid=alice,ou=people,{BASE}")
    rig.fake.person("alice", guid="11111111-2222-3333-4444-555555555555")
    report = rig.sync()
    found = rig.accounts()
    assert (report.added, report.disabled) == (1, 1)
    assert found["corp:alice"].shut_s and not found["corp:alice+2"].is_out
    added = next(act for act in rig.recorder.acts if act.resource.endswith("alice+2"))
    assert added.detail["why"] == "another person has the login alice"


def test_a_person_with_a_new_name_keeps_the_account(rig: Rig) -> None:
    rig.sync()
    old = rig.fake.entries.pop(f"uid=alice,ou=people,{BASE}")
    guid = old["entryuuid"][0].decode()
    rig.fake.group("team", rig.fake.person("alina", guid=guid), f"uid=bob,ou=people,{BASE}")
    report = rig.sync()
    assert (report.added, report.changed, report.disabled) == (0, 1, 0)
    assert rig.accounts()["corp:alice"].title == "Alina" and "corp:alina" not in rig.accounts()


def test_a_group_made_again_under_the_same_name_is_another_group(rig: Rig) -> None:
    """Whoever may create a group in the directory must not be let in by its name."""
    rig.sync()
    rig.fake.group("department", f"uid=carol,ou=people,{BASE}", guid="11111111-2222-3333-4444-555555555555")
    with pytest.raises(RemoteRefused, match=r"the group ml is mapped to .* with the GUID"):
        rig.sync()
    assert set(rig.accounts()) == {"corp:alice", "corp:bob"}
    rig.section = _with(rig.section, map={"ml": DEPARTMENT.upper()}, most_gone=1.0)
    assert rig.sync().added == 1, "an operator who writes it anew means it"


def test_a_cycle_of_groups_ends_and_a_group_that_moved_is_still_the_same(rig: Rig) -> None:
    team = f"cn=team,ou=groups,{BASE}"
    rig.fake.group("team", DEPARTMENT, f"uid=alice,ou=people,{BASE}", f"uid=bob,ou=people,{BASE}")
    assert rig.sync().people == 2
    department = rig.fake.entries.pop(DEPARTMENT)
    rig.fake.entries[f"cn=department,ou=moved,ou=groups,{BASE}"] = department
    rig.fake.group("team", f"uid=alice,ou=people,{BASE}", f"uid=bob,ou=people,{BASE}")
    assert team in rig.fake.entries and rig.sync().disabled == 0


@pytest.mark.parametrize("mode", ["cut", "limit", "refer", "wrong-id", "endless", "empty", "huge", "plain"])
def test_half_an_answer_changes_nobody(rig: Rig, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashore.control.directory.reading.AT_ONCE", 1)
    monkeypatch.setattr("ashore.control.directory.wire.MOST_ENTRIES", 100)
    rig.sync()
    before = rig.accounts()
    rig.fake.mode = mode
    with pytest.raises((SourceUnreachable, RemoteRefused)):
        rig.sync()
    assert rig.accounts() == before
    standing, act = rig.standing(), rig.recorder.acts[-1]
    assert standing.failed_s and standing.synced_s and (act.action, act.outcome) == ("directory:sync", "failed")
    rig.fake.mode = ""
    rig.sync()
    assert not rig.standing().failed_s


def test_too_many_at_once_change_nothing_unless_somebody_says_so(rig: Rig) -> None:
    rig.fake.group("team", *(rig.fake.person(f"u{number}") for number in range(200)))
    assert rig.sync().added == 200
    rig.fake.group("team", *(f"uid=u{number},ou=people,{BASE}" for number in range(189)))
    with pytest.raises(Conflict, match=r"11 of 200 people, so nothing was changed; most_gone is 5%"):
        rig.sync()
    assert not any(one.shut_s for one in rig.accounts().values())
    plan = rig.sync(dry_run=True, even_so=True)
    assert plan.disabled == 11 and "disable corp:u189: they are in no mapped group" in plan.changes
    assert not any(one.shut_s for one in rig.accounts().values()), "a dry run changes nothing"
    rig.fake.group("team", *(f"uid=u{number},ou=people,{BASE}" for number in range(190)))
    assert rig.sync().disabled == 10
    rig.fake.group("team")
    with pytest.raises(Conflict, match="190 of 190"):
        rig.sync()
    assert rig.sync(even_so=True).disabled == 190


def test_the_last_two_people_are_not_lost_by_a_wrong_base(rig: Rig) -> None:
    rig.sync()
    rig.section = _with(rig.section, people=f"ou=wrong,{BASE}")
    with pytest.raises(AshoreError):
        rig.sync()
    assert not any(one.shut_s for one in rig.accounts().values())


def test_a_directory_takes_neither_the_last_officer_nor_gives_an_office(rig: Rig) -> None:
    people, book = rig.people(), PolicyBook(Acts(rig.database, rig.recorder, rig.clock))
    rig.section = _with(rig.section, most_gone=1.0)
    rig.sync()
    for name, role in (("sys", "system-administrator"), ("aud", "auditor")):
        people.create_account(SYSTEM, AccountWish(id=name, roles=(role,), key=KeyWish()))
    book.grant(SYSTEM, add=[Binding("user/corp:alice", "security-officer"), Binding("group/ml", "auditor")])
    Keyring(Acts(rig.database, rig.recorder, rig.clock)).create(SYSTEM, "corp:alice", KeyWish())
    rig.fake.person("alice", nsAccountLock="TRUE")
    report = rig.sync()
    assert report.held and "corp:alice" in report.held[0] and not rig.accounts()["corp:alice"].shut_s
    assert rig.standing().held == report.held
    people.create_account(SYSTEM, AccountWish(id="sec", roles=("security-officer",), key=KeyWish()))
    assert not rig.sync().held and rig.accounts()["corp:alice"].shut_s


def test_a_login_that_can_be_no_account_is_left_out_and_said(rig: Rig) -> None:
    rig.fake.group("team", rig.fake.person("li na"), f"uid=bob,ou=people,{BASE}")
    report = rig.sync()
    assert set(rig.accounts()) == {"corp:bob"} and "uid=li na" in report.left_out[0]


def test_a_service_account_of_the_same_id_is_not_taken(rig: Rig) -> None:
    rig.people().create_account(SYSTEM, AccountWish(id="corp:alice", kind="service"))
    rig.sync()
    found = rig.accounts()
    assert found["corp:alice"].kind == "service" and not found["corp:alice"].given_groups
    assert found["corp:alice+2"].given_groups == {"ml"}


def test_a_tenant_that_does_not_exist_is_said(rig: Rig) -> None:
    rig.section = _with(rig.section, tenant="bank-a")
    with pytest.raises(NotFound, match="bank-a"):
        rig.sync()


def _with(section: DirectorySection, **changed: Any) -> DirectorySection:
    return replace(section, **changed)
