"""Samba as a domain controller of Active Directory: what a sync reads of it, what a look sees, and who may log in."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from fake_directory import Trust
from msgspec.structs import replace
from samba_server import ADMIN, BASE, DISABLED, ENABLED, GROUPS, PASSWORD, PEOPLE, Samba, entry, group, person

from ashore.control.directory import DirectoriesSection, DirectoryLogIn, DirectorySection, Report, Syncing
from ashore.control.directory import sql as directory_sql
from ashore.control.directory.ber import present
from ashore.control.directory.calls import DirectoryDesk, _tried
from ashore.control.directory.wire import Ldap, tls_context
from ashore.core.clock import ManualClock
from ashore.core.errors import RemoteRefused, SourceUnreachable, Unauthenticated
from ashore.data.authority import Account
from ashore.data.authority import sql as access_sql
from ashore.kit.egress import LOOPBACK, parse_allow
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database, open_database

pytestmark = pytest.mark.full
ALLOW = parse_allow(LOOPBACK)
PERSONS, FLAT, DEPTH = 2100, 1800, 10
"""More than a page, more values than a domain controller gives at once (1,500), and nested deep."""
COMMA = r"Müller\, Jörg"
"""As it stands in a DN: the usual form of names in Active Directory."""
ODD = r"\#1 Ops\+Dev\; \"A\" \<b\> c\=d\\e"
SHOWN = ODD.replace(r"\;", r"\3B").replace(r"\=", r"\3D")
"""As Samba writes it."""
TEAM = f"OU=Team A\\, B & C,{GROUPS}"
PAST = str((1_600_000_000 + 11_644_473_600) * 10**7)


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return Trust(tmp_path_factory.mktemp("trust"))


@pytest.fixture(scope="module")
def samba(tmp_path_factory: pytest.TempPathFactory, trust: Trust) -> Iterator[Samba]:
    made = Samba(tmp_path_factory.mktemp("samba"), trust)
    units = (entry(dn, objectClass="organizationalUnit") for dn in (PEOPLE, GROUPS, TEAM))
    many = (person(f"Person {n}", f"p{n}", flags=DISABLED if n == 77 else ENABLED) for n in range(PERSONS))
    special = (
        person("ashore", "ashore", password=PASSWORD),
        person(COMMA, "j.mueller", password="Wört-Paß1", displayName="Jörg Müller"),
        person("王小明", "xiaoming", displayName="王小明"), person("Ärger", "ärger"), person(ODD, "odd.one"),
        person("Left Long Ago", "expired", accountExpires=PAST), person("Primary", "primary"),
    )  # fmt: skip
    deep = (
        group(f"deep{n}", f"CN=deep{n - 1},{GROUPS}") if n else group("deep0", *(dn(n) for n in range(70, 80)))
        for n in range(DEPTH)
    )
    ops = (COMMA, "王小明", ODD, "Ärger", "Left Long Ago")
    made.load(
        *units, *many, *special, *deep, group("flat", *(dn(n) for n in range(FLAT))),
        group(r"Ops\, 运维", *(f"CN={cn},{PEOPLE}" for cn in ops), below=TEAM),
    )  # fmt: skip
    made.change(f"CN=deep0,{GROUPS}", "add: member", f"member: CN=deep{DEPTH - 1},{GROUPS}")
    yield made.start()
    made.stop()


@pytest.fixture(scope="module")
def section(samba: Samba, trust: Trust) -> DirectorySection:
    mapped = {
        "deep": f"cn=deep{DEPTH - 1}, ou=groups, {BASE.lower()}", "flat": f"CN=flat,{GROUPS}",
        "ops": f"CN=Ops\\, 运维,{TEAM}",
    }  # fmt: skip
    return samba.section(trust, map=mapped, most_gone=1.0)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = open_database(tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
    yield made
    made.close()


def dn(number: int) -> str:
    return f"CN=Person {number},{PEOPLE}"


def syncing(database: Database) -> Syncing:
    return Syncing(database, MemoryRecorder(), ManualClock(), ALLOW)


def sync(database: Database, section: DirectorySection) -> Report:
    return syncing(database).sync(section, actor="system")


def look(database: Database, section: DirectorySection) -> str:
    return asyncio.run(syncing(database).look(section))


def accounts(database: Database) -> dict[str, Account]:
    with database.read() as connection:
        return access_sql.accounts_of_issuer(connection, "corp")


def desk_of(database: Database, section: DirectorySection) -> DirectoryDesk:
    return DirectoryDesk(
        database=database, clock=ManualClock(), rights=cast(Any, None), section=DirectoriesSection(all=(section,)),
        allow=ALLOW,
    )  # fmt: skip


def test_people_of_nested_and_large_groups_join_under_any_name(section: DirectorySection, database: Database) -> None:
    report = sync(database, section)
    found = accounts(database)
    assert report.groups == DEPTH + 2
    (left_out,) = report.left_out
    assert left_out.startswith(f"CN=Ärger,{PEOPLE}: 'corp:ärger' is not a valid name")
    assert len(found) == FLAT - 1 + 3, "1,800 of the flat group less the disabled one, and three with odd names"
    assert found["corp:p75"].given_groups == {"deep", "flat"} and found["corp:p1"].given_groups == {"flat"}
    assert "corp:p77" not in found and "corp:expired" not in found and "corp:p2000" not in found
    odd = {name: found[f"corp:{name}"] for name in ("j.mueller", "xiaoming", "odd.one")}
    assert all(one.given_groups == {"ops"} for one in odd.values())
    assert [one.title for one in odd.values()] == ["Jörg Müller", "王小明", '#1 Ops+Dev; "A" <b> c=d\\e']
    assert look(database, section) == ""


def test_disabled_renamed_moved_and_gone_by_object_guid(
    samba: Samba, section: DirectorySection, database: Database
) -> None:
    sync(database, section)
    samba.change(dn(1), "replace: userAccountControl", f"userAccountControl: {DISABLED}")
    assert look(database, section) == "corp:p1 changed"
    assert sync(database, section).disabled == 1 and accounts(database)["corp:p1"].shut_s
    samba.change(dn(1), "replace: userAccountControl", f"userAccountControl: {ENABLED}")
    assert look(database, section) == "corp:p1 changed" and sync(database, section).enabled == 1
    samba.change(dn(2), "replace: sAMAccountName", "sAMAccountName: renamed")
    samba.move(dn(2), f"CN=Neu\\, Übel,{PEOPLE}")
    samba.load(person("New Person 2", "p2"))
    samba.change(f"CN=flat,{GROUPS}", "add: member", f"member: CN=New Person 2,{PEOPLE}")
    assert look(database, section)
    report = sync(database, section)
    assert (report.added, report.disabled) == (1, 0)
    found = accounts(database)
    assert not found["corp:p2"].shut_s and found["corp:p2"].given_groups == {"flat"}, "known by objectGUID"
    assert found["corp:p2+2"].given_groups == {"flat"}, "a namesake is somebody else"
    samba.remove(dn(3))
    samba.change(f"CN=deep0,{GROUPS}", "delete: member", f"member: {dn(75)}")
    assert look(database, section)
    assert sync(database, section).disabled == 1
    assert accounts(database)["corp:p3"].shut_s and accounts(database)["corp:p75"].given_groups == {"flat"}
    assert look(database, section) == ""


def test_a_mapped_group_is_bound_by_its_guid(samba: Samba, section: DirectorySection, database: Database) -> None:
    samba.load(group("bound", dn(10)))
    mine = replace(section, map={"bound": f"CN=bound,{GROUPS}"})
    sync(database, mine)
    samba.move(f"CN=bound,{GROUPS}", f"CN=elsewhere,{TEAM}")
    assert sync(database, mine).added == 0, "it is the same group under another name"
    samba.remove(f"CN=elsewhere,{TEAM}")
    samba.load(group("bound", dn(11)))
    with pytest.raises(RemoteRefused, match="the one with the GUID"):
        sync(database, mine)
    assert not accounts(database)["corp:p10"].shut_s and "corp:p11" not in accounts(database)
    samba.remove(f"CN=bound,{GROUPS}")


@pytest.mark.parametrize("url", ["ldaps://localhost", "ldap://localhost"])
def test_a_password_is_checked_by_tls_and_by_start_tls(section: DirectorySection, database: Database, url: str) -> None:
    mine = replace(section, urls=(url,))
    sync(database, mine)
    log_in = DirectoryLogIn(desk_of(database, mine))

    def prove(login: str, password: str) -> str:
        return asyncio.run(log_in.prove(mine, login, password))

    assert prove("j.mueller", "Wört-Paß1") == "corp:j.mueller"
    assert prove("J.Mueller", "Wört-Paß1") == "corp:j.mueller"
    assert prove("j.mueller", "wrong") == prove("j.mueller", "") == prove("nobody", "x") == prove("*", "x") == ""
    with pytest.raises(Unauthenticated, match="no account here yet"):
        prove("ashore", PASSWORD)


def test_a_check_says_each_step_and_a_user_principal_name_binds(section: DirectorySection, database: Database) -> None:
    mine = replace(section, bind_dn=ADMIN, bind_password=PASSWORD)

    async def steps(login: str) -> list[tuple[str, bool, str]]:
        return [(one.what, one.ok, one.says) async for one in _tried(desk_of(database, mine), mine, login)]

    found = asyncio.run(steps("j.mueller"))
    assert all(ok for _, ok, _ in found), found
    assert found[-1][2] == f"CN={COMMA},{PEOPLE}: ops"
    assert asyncio.run(steps("expired"))[-1][1:] == (False, f"CN=Left Long Ago,{PEOPLE}: the directory disabled them")


def test_another_authority_a_wrong_password_and_no_tls_change_nobody(
    section: DirectorySection, database: Database, tmp_path: Path
) -> None:
    sync(database, section)
    before = accounts(database)
    other = Trust(tmp_path / "other")
    for mine, fault, why in (
        (replace(section, ca_file=str(other.authority)), SourceUnreachable, "is not trusted"),
        (replace(section, bind_password="wrong"), RemoteRefused, "does not take the password"),
        (replace(section, groups=f"OU=Nowhere,{BASE}"), RemoteRefused, "result 32"),
    ):
        with pytest.raises(fault, match=why):
            sync(database, mine)
    assert accounts(database) == before


def test_a_guid_is_written_as_active_directory_shows_it(section: DirectorySection, database: Database) -> None:
    """objectGUID is mixed-endian on the wire; the text form finds the entry again as <GUID=…>, as its tools do."""
    sync(database, replace(section, map={"ops": section.map["ops"]}))
    with database.read() as connection:
        people = directory_sql.load_people(connection, "corp")
    (guid,) = (guid for guid, one in people.items() if one.account == "corp:odd.one")

    async def read() -> list[str]:
        connection = await Ldap.open(section.urls[0], ALLOW, tls_context(section.ca_file))
        await connection.bind(ADMIN, PASSWORD)
        page = await connection.page(f"<GUID={guid}>", present("objectClass"), ["cn"], scope=0)
        await connection.close()
        return [one.dn for one in page.entries]

    assert str(uuid.UUID(guid)) == guid
    assert asyncio.run(read()) == [f"CN={SHOWN},{PEOPLE}"]
