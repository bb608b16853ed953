"""What is read of a directory: the people in the mapped groups, and the groups below these.

Nested groups are followed here: the server's own rule for it takes seconds for one group, and `memberOf` names the
direct ones alone. A person and a group are known by a GUID that never changes, not by a name that may be given to
somebody else.
"""

from __future__ import annotations

import re
import ssl
import unicodedata
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from ashore.control.directory.ber import all_of, any_of, equal, present
from ashore.control.directory.section import DirectorySection
from ashore.control.directory.wire import BASE, Entry, Ldap, tls_context
from ashore.core.errors import AshoreError, RemoteRefused, SourceUnreachable
from ashore.kit.egress import Allowed

AT_ONCE: Final = 500
"""Known ones that one question is about, and entries of a page."""
MOST_GUID_BYTES: Final = 64
NEVER: Final = 9_223_372_036_854_775_807
"""Value of accountExpires in Active Directory that means no end, as 0 does."""
EPOCH_1601_S: Final = 11_644_473_600
"""Seconds from 1601, from which Active Directory counts, to 1970."""
DISABLED: Final = 2
"""Bit of userAccountControl in Active Directory."""
LOCKED_FOR_EVER: Final = "000001010000Z"
"""Of pwdAccountLockedTime: an administrator locked it. Other values come from wrong passwords, and end."""
MARKS: Final = ("uSNChanged", "entryCSN", "modifyTimestamp")
"""Attributes that change with every change of an entry; the first that a directory has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A person as the directory has them."""

    guid: str
    dn: str
    login: str
    """As an account's id has it: in small letters, in one form of Unicode."""
    title: str
    disabled: bool
    groups: frozenset[str] = frozenset()
    """Names here of the mapped groups that they are in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenGroup:
    """A group as the directory has it."""

    guid: str
    dn: str
    mark: str
    """Another one after every change of its members."""


@dataclass(slots=True, kw_only=True)
class Snapshot:
    """One whole read."""

    people: dict[str, Seen] = field(default_factory=dict)
    """By GUID: those in a mapped group, and those asked for by GUID."""
    groups: dict[str, SeenGroup] = field(default_factory=dict)
    """By GUID: the mapped ones, and all below them."""
    bound: dict[str, str] = field(default_factory=dict)
    """GUID of each mapped group, by its name here."""
    references: int = 0
    """Places elsewhere that answers named; they are not followed."""


@asynccontextmanager
async def opened(section: DirectorySection, allow: Sequence[Allowed]) -> AsyncIterator[Ldap]:
    """Give a connection to the first server that answers, bound as the account that reads.

    Raises:
        SourceUnreachable, RemoteRefused: none does; that of the last one.
        PermissionDenied: `[egress]` does not allow one.
    """
    context, connection = tls_context(section.ca_file), None
    for url in section.urls:
        try:
            connection = await bound(url, section, allow, context)
            break
        except (SourceUnreachable, RemoteRefused):
            if url == section.urls[-1]:
                raise
    assert connection is not None
    try:
        yield connection
    finally:
        await connection.close()


async def bound(url: str, section: DirectorySection, allow: Sequence[Allowed], context: ssl.SSLContext) -> Ldap:
    """Return a connection to one server, bound as the account that reads.

    Raises:
        SourceUnreachable, PermissionDenied: it cannot be reached, or may not be.
        RemoteRefused: it does not take the password.
    """
    connection = await Ldap.open(url, allow, context)
    try:
        if why := await connection.bind(section.bind_dn, section.bind_password):
            raise RemoteRefused(
                f"{url} does not take the password of {section.bind_dn}: {why}", hint="correct bind_password"
            )
    except AshoreError:
        await connection.close()
        raise
    return connection


async def read_whole(
    connection: Ldap, section: DirectorySection, bound: Mapping[str, str], known: Iterable[str], now_s: float
) -> Snapshot:
    """Return the people in the mapped groups.

    Args:
        connection: A bound one.
        section: The directory.
        bound: GUIDs that mapped groups were bound to before, by name.
        known: GUIDs of people who have an account. Of them, one who was not among the people is asked for by GUID, so
            that nobody counts as gone by one answer alone.
        now_s: Now.

    Raises:
        SourceUnreachable, RemoteRefused: the directory did not answer everything, or a mapped group is not there.
    """
    found = Snapshot()
    names = await _memberships(connection, section, bound, found)
    async for entry in connection.search(section.people, _person(section), _attributes(section), size=AT_ONCE):
        if groups := names.pop(plain(entry.dn), None):  # popped, so that a name is held once
            person = seen(section, entry, now_s, groups)
            found.people[person.guid] = person
    async for entry in named(connection, section, [one for one in known if one not in found.people]):
        person = seen(section, entry, now_s, names.get(plain(entry.dn), frozenset()))
        found.people[person.guid] = person
    found.references = connection.references
    return found


async def _memberships(
    connection: Ldap, section: DirectorySection, bound: Mapping[str, str], found: Snapshot
) -> dict[str, frozenset[str]]:
    """Read the groups into `found`; return the mapped groups of everybody in them at any depth, by plain name."""
    by_dn: dict[str, SeenGroup] = {}
    members: dict[str, list[str]] = {}
    classes = any_of(*(equal("objectClass", one) for one in section.names.groups))
    asked = (section.names.guid, "member", "uniqueMember", *MARKS)
    async for entry in connection.search(section.groups, classes, asked, size=AT_ONCE):
        group = SeenGroup(guid=guid_of(section, entry), dn=entry.dn, mark=_mark(entry))
        by_dn[plain(entry.dn)] = group
        values = (*entry.values.get("member", ()), *entry.values.get("uniquemember", ()))
        members[plain(entry.dn)] = [plain(one.decode("utf-8", "replace")) for one in values]
    by_guid = {group.guid: dn for dn, group in by_dn.items()}
    names: dict[str, frozenset[str]] = {}
    for name, written in section.map.items():
        dn = by_guid.get(bound[name], "") if name in bound else plain(written)
        if dn not in by_dn:
            raise RemoteRefused(
                f"the group {name} is mapped to {written}, which {section.name} does not have below {section.groups}"
                + (f"; it was the one with the GUID {bound[name]}" if name in bound else ""),
                hint="correct [directory.map], or remove the group from it: then its members leave it here",
            )
        found.bound[name] = by_dn[dn].guid
        more: dict[frozenset[str], frozenset[str]] = {}  # one set for all who are in the same groups
        for one in _below(dn, members):
            if one in by_dn:
                found.groups[by_dn[one].guid] = by_dn[one]
            else:
                before = names.get(one, frozenset())
                names[one] = more.setdefault(before, before | {name})
    return names


async def named(
    connection: Ldap, section: DirectorySection, guids: Sequence[str], *, groups: bool = False
) -> AsyncIterator[Entry]:
    """Yield those of these people, or groups, that the directory has."""
    base, names = (section.groups, (section.names.guid, *MARKS)) if groups else (section.people, _attributes(section))
    for at in range(0, len(guids), AT_ONCE):
        some = [equal(section.names.guid, _raw_guid(section, guid)) for guid in guids[at : at + AT_ONCE]]
        what = any_of(*some) if groups else all_of(_person(section), any_of(*some))
        async for entry in connection.search(base, what, names, size=AT_ONCE):
            yield entry


async def read_known(
    connection: Ldap, section: DirectorySection, people: Collection[str], now_s: float
) -> AsyncIterator[Seen]:
    """Yield people as they are now, without titles, those who are there. Asked for by GUID, each costs the directory as
    much as two in pages of everybody: so pages are read first, as far as these may be the cheaper way."""
    missing, budget = {*people}, 2 * len(people) if len(people) > AT_ONCE else 0
    names = _attributes(section, title=False)
    if budget:
        async for entry in connection.search(section.people, _person(section), names, size=AT_ONCE):
            if entry.one(section.names.guid) and (guid := guid_of(section, entry)) in missing:
                missing.remove(guid)
                yield seen(section, entry, now_s)
            budget -= 1
            if not budget or not missing:
                break
    async for entry in named(connection, section, [*missing]):
        yield seen(section, entry, now_s)


async def read_marks(connection: Ldap, section: DirectorySection, groups: Sequence[str]) -> dict[str, str]:
    """Return the marks of groups as they are now, by GUID."""
    return {
        guid_of(section, entry): _mark(entry) async for entry in named(connection, section, groups, groups=True)
    }  # fmt: skip


async def find_person(connection: Ldap, section: DirectorySection, login: str, now_s: float) -> Seen | None:
    """Return the one person whose login this is; None: there is none, or more than one."""
    what = all_of(_person(section), equal(section.login_attribute, login))
    page = await connection.page(section.people, what, _attributes(section))
    people = [seen(section, one, now_s) for one in page.entries]
    return people[0] if len(people) == 1 and people[0].login == one_form(login) else None


async def is_there(connection: Ldap, base: str) -> bool:
    """Return whether an entry can be read."""
    return bool((await connection.page(base, present("objectClass"), ["objectClass"], scope=BASE)).entries)


def seen(section: DirectorySection, entry: Entry, now_s: float, groups: frozenset[str] = frozenset()) -> Seen:
    """Return a person of an entry."""
    title = entry.text("displayName") or entry.text("cn")
    return Seen(
        guid=guid_of(section, entry),
        dn=entry.dn,
        login=one_form(entry.text(section.login_attribute)),
        title=(title if title.isprintable() else "".join(filter(str.isprintable, title)))[:200],
        disabled=is_disabled(section, entry, now_s),
        groups=groups,
    )


def guid_of(section: DirectorySection, entry: Entry) -> str:
    """Return what an entry is known by.

    Raises:
        RemoteRefused: the account that reads may not see it.
    """
    raw = entry.one(section.names.guid)
    if section.kind == "ad" and len(raw) == 16:
        return str(UUID(bytes_le=raw))
    if section.kind == "ad" or not 0 < len(raw) <= MOST_GUID_BYTES:
        raise RemoteRefused(
            f"{entry.dn[:200]} shows no {section.names.guid}", hint="let the account in bind_dn read it"
        )
    return raw.decode("ascii", "replace").lower()


def is_disabled(section: DirectorySection, entry: Entry, now_s: float) -> bool:
    """Return whether the directory lets a person in nowhere."""
    name, _, value = section.disabled.partition("=")
    if name and value.casefold() in (
        one.decode("utf-8", "replace").casefold() for one in entry.values.get(name.lower(), ())
    ):
        return True
    flags, expires = (_number(entry.text(one)) for one in ("userAccountControl", "accountExpires"))
    return (
        bool(flags & DISABLED)
        or (0 < expires < NEVER and expires // 10**7 - EPOCH_1601_S <= now_s)
        or entry.text("nsAccountLock").lower() == "true"
        or entry.text("pwdAccountLockedTime") == LOCKED_FOR_EVER
    )


def _number(text: str) -> int:
    """Return the number that a text is, which a hostile directory may write at any length; 0: it is none."""
    return int(text) if text and re.fullmatch("-?[0-9]{1,20}", text) else 0


def one_form(login: str) -> str:
    """Return a login in the form in which it is compared and kept."""
    return unicodedata.normalize("NFC", login.strip()).casefold()


def plain(dn: str) -> str:
    """Return a distinguished name in one form: servers write their own with other capitals and spaces."""
    return re.sub(r"(?<!\\)\s*([,=+])\s*", r"\1", dn.strip()).casefold()


def _below(dn: str, members: Mapping[str, list[str]]) -> set[str]:
    """Return everything in a group at any depth, and the group itself. A group may hold one that holds it."""
    found: set[str] = set()
    todo = [dn]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += members.get(one, ())
    return found


def _person(section: DirectorySection) -> bytes:
    return all_of(*(equal(name, value) for name, value in section.names.person))


def _attributes(section: DirectorySection, *, title: bool = True) -> tuple[str, ...]:
    own = (section.names.guid, section.login_attribute, section.disabled.partition("=")[0])
    known = ("userAccountControl", "accountExpires", "nsAccountLock", "pwdAccountLockedTime")
    return tuple(one for one in (*own, *known, *(("displayName", "cn") if title else ())) if one)


def _raw_guid(section: DirectorySection, guid: str) -> bytes | str:
    return UUID(guid).bytes_le if section.kind == "ad" else guid


def _mark(entry: Entry) -> str:
    return next((text for name in MARKS if (text := entry.text(name))), "")
