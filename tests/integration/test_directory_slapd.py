"""A real slapd: what a sync reads of it, what a look sees, and who may log in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_directory import BASE, READER, READER_PASSWORD, FakeDirectory, Trust
from msgspec.structs import replace
from slapd_server import ROOT, ROOT_PASSWORD, Slapd, group, person

from ashore.control.directory import DirectorySection, Report, Syncing, wire
from ashore.control.directory.ber import integer, octets, present, tlv
from ashore.control.directory.reading import find_person, opened
from ashore.control.directory.wire import Ldap, tls_context
from ashore.core.clock import ManualClock
from ashore.core.errors import RemoteRefused, SourceUnreachable
from ashore.data.authority import Account
from ashore.data.authority import sql as access_sql
from ashore.kit.egress import LOOPBACK, parse_allow
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database, open_database

ALLOW = parse_allow(LOOPBACK)
PEOPLE, DEPTH = 1200, 10
"""More people than slapd gives without pages, and nested as deep as houses do."""


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return Trust(tmp_path_factory.mktemp("trust"))


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory, trust: Trust) -> Iterator[Slapd]:
    made = Slapd(tmp_path_factory.mktemp("slapd"), trust)
    logins = [f"u{number}" for number in range(PEOPLE)]
    wraps = [group(f"wrap{n}", f"cn=wrap{n - 1},ou=groups,{BASE}") for n in range(1, DEPTH)]
    made.load(
        *(person(one, uid=one, userPassword=f"pw-{one}") for one in logins),
        group("wrap0", *logins[:1100], f"cn=wrap{DEPTH - 1},ou=groups,{BASE}"), *wraps,
        group("few", "u1", "u1150"),
    )  # fmt: skip
    yield made.start()
    made.stop()


@pytest.fixture(scope="module")
def section(slapd: Slapd, trust: Trust) -> DirectorySection:
    mapped = {"deep": f"CN=wrap{DEPTH - 1}, ou=groups, {BASE}", "few": f"cn=few,ou=groups,{BASE}"}
    return FakeDirectory().section(trust, slapd.port, map=mapped, disabled="employeeType=left")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = open_database(tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
    yield made
    made.close()


def sync(database: Database, section: DirectorySection) -> Report:
    return Syncing(database, MemoryRecorder(), ManualClock(), ALLOW).sync(section, actor="system")


def look(database: Database, section: DirectorySection) -> str:
    return asyncio.run(Syncing(database, MemoryRecorder(), ManualClock(), ALLOW).look(section))


def accounts(database: Database) -> dict[str, Account]:
    with database.read() as connection:
        return access_sql.accounts_of_issuer(connection, "corp")


def change(section: DirectorySection, *operations: bytes) -> None:
    """Change the directory as its administrator."""

    async def go() -> None:
        connection = await Ldap.open(section.urls[0], ALLOW, tls_context(section.ca_file))
        assert not await connection.bind(ROOT, ROOT_PASSWORD)
        for one in operations:
            connection._check(*await connection._ask(one))
        await connection.close()

    asyncio.run(go())


def replaced(dn: str, name: str, *values: str) -> bytes:
    """Return the request that gives an attribute these values (RFC 4511, 4.6)."""
    attribute = tlv(0x30, octets(name), tlv(0x31, *map(octets, values)))
    return tlv(0x66, octets(dn), tlv(0x30, tlv(0x30, integer(2, 0x0A), attribute)))


def dn_of(login: str) -> str:
    return f"uid={login},ou=people,{BASE}"


def test_people_join_are_disabled_renamed_and_removed(section: DirectorySection, database: Database) -> None:
    report = sync(database, section)
    assert (report.people, report.added, report.groups) == (1101, 1101, DEPTH + 1)
    assert accounts(database)["corp:u1"].given_groups == {"deep", "few"}
    assert accounts(database)["corp:u1150"].given_groups == {"few"} and "corp:u1199" not in accounts(database)
    assert look(database, section) == ""
    rename = tlv(0x6C, octets(dn_of("u3")), octets("uid=renamed"), b"\x01\x01\xff")
    change(section, replaced(dn_of("u2"), "employeeType", "left"), rename, octets(dn_of("u4"), 0x4A))
    assert look(database, section).endswith("changed")
    report = sync(database, section)
    found = accounts(database)
    assert (report.disabled, report.added) == (3, 0), "slapd does not follow a renamed or removed member by itself"
    assert [bool(found[f"corp:u{number}"].shut_s) for number in (1, 2, 3, 4)] == [False, True, True, True]
    few = f"cn=few,ou=groups,{BASE}"
    change(section, replaced(few, "member", dn_of("u1"), f"uid=renamed,ou=people,{BASE}"))
    assert look(database, section) == "a group changed"
    report = sync(database, section)
    found = accounts(database)
    assert (report.enabled, report.disabled, report.added) == (1, 1, 0)
    assert found["corp:u3"].given_groups == {"few"} and not found["corp:u3"].shut_s, "known by entryUUID"
    assert found["corp:u1150"].shut_s


@pytest.mark.parametrize("scheme", ["ldaps", "ldap"])
def test_a_password_is_checked_by_tls_and_by_start_tls(slapd: Slapd, section: DirectorySection, scheme: str) -> None:
    port = slapd.port if scheme == "ldaps" else slapd.plain_port
    mine = replace(section, urls=(f"{scheme}://localhost:{port}",))

    async def go() -> tuple[str, str, str]:
        async with opened(mine, ALLOW) as connection:
            found = await find_person(connection, mine, "U10", 0)
            assert found is not None and await find_person(connection, mine, "*", 0) is None
            other = await Ldap.open(mine.urls[0], ALLOW, tls_context(mine.ca_file))
            said = (
                await other.bind(found.dn, "pw-u10"),
                await other.bind(found.dn, "pw-u11"),
                await other.bind(READER, ""),
            )
            await other.close()
            return said

    right, wrong, empty = asyncio.run(go())
    assert right == "" and "result 49" in wrong and empty


def test_without_pages_half_of_the_people_are_an_error(section: DirectorySection) -> None:
    async def go() -> None:
        connection = await Ldap.open(section.urls[0], ALLOW, tls_context(section.ca_file))
        try:
            await connection.bind(READER, READER_PASSWORD)
            await connection.page(section.people, present("objectClass"), ["uid"])
        finally:
            await connection.close()

    with pytest.raises(RemoteRefused, match="result 4"):
        asyncio.run(go())


def test_a_directory_that_hangs_changes_nobody(
    slapd: Slapd, section: DirectorySection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(section, map={"few": section.map["few"]})
    sync(database, few)
    before = accounts(database)
    monkeypatch.setattr(wire, "CONNECT_S", 0.5)
    slapd.pause(True)
    try:
        with pytest.raises(SourceUnreachable, match="in time"):
            sync(database, few)
        with pytest.raises(SourceUnreachable, match="in time"):
            look(database, few)
    finally:
        slapd.pause(False)
    assert accounts(database) == before
    monkeypatch.undo()
    assert look(database, few) == ""
