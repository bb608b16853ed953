"""The reader of LDAP against an honest directory, and against what an attacker on the wire can do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fake_directory import BASE, READER, READER_PASSWORD, FakeDirectory, Trust
from hypothesis import given
from hypothesis import strategies as st

from ashore.control.directory import ber, wire
from ashore.control.directory.ber import equal, inside, integer, octets, parts, present, tlv
from ashore.control.directory.reading import find_person, opened, seen
from ashore.control.directory.wire import Entry, Ldap, tls_context
from ashore.core.errors import AshoreError, PermissionDenied, RemoteRefused, SourceUnreachable
from ashore.kit.egress import LOOPBACK, parse_allow

ALLOW = parse_allow(LOOPBACK)


def with_it(fake: FakeDirectory, trust: Trust, do: Callable[[Ldap], Any], *, tls: bool = True) -> Any:
    """Return what a coroutine does on a connection."""

    async def go() -> Any:
        connection = await Ldap.open(f"{'ldaps' if tls else 'ldap'}://localhost:{port}", ALLOW, tls_context(ca))
        try:
            return await do(connection)
        finally:
            await connection.close()

    ca = str(trust.authority)
    with fake.serving(trust, tls=tls) as port:
        return asyncio.run(go())


async def everything(connection: Ldap) -> list[str]:
    found = connection.search(BASE, present("objectClass"), ["uid", "member"], size=2)
    return [entry.dn async for entry in found]


@pytest.mark.parametrize("tls", [True, False])
def test_it_binds_and_reads_pages_and_ranges_by_tls_and_by_start_tls(
    fake: FakeDirectory, trust: Trust, tls: bool
) -> None:
    fake.most_values = 2
    members = [fake.person(f"u{number}") for number in range(5)]
    fake.group("big", *members)

    async def do(connection: Ldap) -> tuple[str, list[str], list[bytes]]:
        why = await connection.bind(READER, READER_PASSWORD)
        some = [one async for one in connection.search(BASE, equal("cn", "big"), ["member"])]
        return why, await everything(connection), some[0].values["member"]

    why, dns, values = with_it(fake, trust, do, tls=tls)
    assert why == "" and len(dns) == len(set(dns)) == len(fake.entries)
    assert values == [one.encode() for one in members]


@pytest.mark.parametrize(("name", "password"), [(READER, ""), ("", "x"), (READER, "a\0b")])
def test_no_password_without_a_name_or_characters_reaches_the_wire(
    fake: FakeDirectory, trust: Trust, name: str, password: str
) -> None:
    fake.mode = "anon"
    assert with_it(fake, trust, lambda connection: connection.bind(name, password))
    assert fake.binds == []


@pytest.mark.parametrize("password", ["wrong", "READER", "reader "])
def test_a_wrong_password_is_one(fake: FakeDirectory, trust: Trust, password: str) -> None:
    assert "data 52e" in with_it(fake, trust, lambda connection: connection.bind(READER, password))


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("cut", "connection ended|cannot be read"),
        ("limit", "result 4"),
        ("wrong-id", "another request"),
        ("endless", "no end"),
        ("empty", "no end"),
        ("huge", "at most"),
        ("flood", "a page has more"),
        ("plain", "does not begin"),
        ("refer", "result 10"),
    ],
)
def test_half_an_answer_is_no_answer(
    fake: FakeDirectory, trust: Trust, mode: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MOST_ENTRIES", 1000)
    monkeypatch.setattr(wire, "MOST_PAGE_BYTES", 100_000)
    fake.mode = mode
    with pytest.raises((SourceUnreachable, RemoteRefused), match=says) as caught:
        with_it(fake, trust, everything)
    assert "attacker" not in caught.value.in_one_line


@pytest.mark.parametrize("mode", ["strip", "inject"])
def test_start_tls_is_all_or_nothing(fake: FakeDirectory, trust: Trust, mode: str) -> None:
    fake.mode = mode
    with pytest.raises(SourceUnreachable):
        with_it(fake, trust, lambda connection: connection.bind(READER, READER_PASSWORD), tls=False)
    assert fake.binds == [], "the password was not sent"


def test_little_is_read_before_tls(fake: FakeDirectory, trust: Trust) -> None:
    fake.mode = "big-yes"
    with pytest.raises(SourceUnreachable, match="at most 65,536"):
        with_it(fake, trust, lambda connection: connection.bind(READER, READER_PASSWORD), tls=False)


def test_a_person_whom_the_directory_locked_has_a_wrong_password(fake: FakeDirectory, trust: Trust) -> None:
    """Else the answer says that there is such a person, and the attempt does not count."""
    fake.mode = "locked"
    assert with_it(fake, trust, lambda connection: connection.bind(READER, "wrong"))


def test_an_element_holds_a_bounded_number_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ber, "MOST_PARTS", 1000)
    data = tlv(0x30) * 1001
    with pytest.raises(SourceUnreachable, match="holds more than"):
        list(parts(data, 0, len(data)))


@pytest.mark.parametrize(
    "values",
    [
        {"userAccountControl": "9" * 5000},
        {"userAccountControl": "--2"},
        {"accountExpires": "9" * 5000},
        {"entryUUID": "a" * 100_000},
    ],
)
def test_a_value_of_any_length_is_read_or_refused(fake: FakeDirectory, trust: Trust, values: dict[str, str]) -> None:
    entry = Entry("uid=eve", {name.lower(): [value.encode()] for name, value in ({"entryUUID": "e"} | values).items()})
    section = fake.section(trust, 636)
    if "entryUUID" in values:
        with pytest.raises(RemoteRefused):
            seen(section, entry, 0)
    else:
        assert not seen(section, entry, 0).disabled


def test_a_directory_that_hangs_is_given_up(fake: FakeDirectory, trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "CONNECT_S", 0.3)
    fake.mode = "silent"
    with pytest.raises(SourceUnreachable, match="in time"):
        with_it(fake, trust, lambda connection: connection.bind(READER, READER_PASSWORD))


def test_a_certificate_of_another_authority_is_not_trusted(
    fake: FakeDirectory, trust: Trust, tmp_path_factory: pytest.TempPathFactory
) -> None:
    foreign = Trust(tmp_path_factory.mktemp("foreign"))

    async def go(url: str) -> None:
        await Ldap.open(url, ALLOW, tls_context(str(foreign.authority)))

    for tls, scheme in ((True, "ldaps"), (False, "ldap")):
        with fake.serving(trust, tls=tls) as port, pytest.raises(SourceUnreachable, match="not trusted"):
            asyncio.run(go(f"{scheme}://localhost:{port}"))
    assert fake.binds == []


def test_only_hosts_of_egress_are_called(fake: FakeDirectory, trust: Trust) -> None:
    async def go() -> None:
        await Ldap.open("ldaps://localhost:636", parse_allow(["dc1.corp.example"]), tls_context(""))

    with pytest.raises(PermissionDenied, match="egress"):
        asyncio.run(go())


def test_the_next_server_is_asked_where_the_first_is_down(fake: FakeDirectory, trust: Trust) -> None:
    async def go(section: Any) -> str:
        async with opened(section, ALLOW) as connection:
            return connection.url

    with fake.serving(trust) as port, fake.serving(trust, tls=False) as other:
        urls = (f"ldaps://localhost:{other}", f"ldaps://localhost:{port}")
        assert asyncio.run(go(fake.section(trust, port, urls=urls))) == urls[1]
        wrong = fake.section(trust, port, bind_password="no")
        with pytest.raises(RemoteRefused, match="does not take the password"):
            asyncio.run(go(wrong))


@pytest.mark.parametrize("login", ["*", "*)(uid=*", "alice)(cn=*", "a*", "", "bob\0", "\uff41lice"])
def test_what_a_person_types_is_a_value_and_no_filter(fake: FakeDirectory, trust: Trust, login: str) -> None:
    section = fake.section(trust, 636)
    assert with_it(fake, trust, lambda connection: find_person(connection, section, login, 0)) is None
    assert with_it(fake, trust, lambda connection: find_person(connection, section, "Alice", 0)).login == "alice"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        for part in parts(data, 0, len(data)):
            inside(data, part)
    except AshoreError:
        return


@given(st.integers(0, 2**40), st.binary(max_size=300))
def test_what_is_written_is_read_back(number: int, value: bytes) -> None:
    data = tlv(0x30, integer(number), octets(value))
    ((_, *whole),) = parts(data, 0, len(data))
    first, second = parts(data, *whole)
    assert int.from_bytes(data[first[1] : first[2]], "big") == number and data[second[1] : second[2]] == value
