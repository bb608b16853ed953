"""What administrators ask about directories: which there are, how each is followed, and whether one can be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, Literal

import msgspec

from ashore.control.directory import sql
from ashore.control.directory.ber import any_of, equal
from ashore.control.directory.deciding import why_out
from ashore.control.directory.reading import bound, find_person, is_there, plain
from ashore.control.directory.section import DirectoriesSection, DirectorySection
from ashore.control.directory.wire import Ldap, tls_context
from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, NotFound
from ashore.core.nearest import did_you_mean
from ashore.kit.call import Actor, Call, Nothing, Rights
from ashore.kit.egress import Allowed
from ashore.kit.state import Database

MOST_GROUPS: Final = 5_000
AT_ONCE: Final = 100
READ: Final = "directory:read"
State = Literal["new", "good", "failed", "held"]


async def groups_of(connection: Ldap, section: DirectorySection, dn: str) -> set[str]:
    """Return the plain names of the groups that hold an entry at any depth, each with those that hold it."""
    found: set[str] = set()
    todo = [dn]
    while todo and len(found) < MOST_GROUPS:
        some, todo = todo[:AT_ONCE], todo[AT_ONCE:]
        what = any_of(*(equal(name, one) for one in some for name in ("member", "uniqueMember")))
        async for entry in connection.search(section.groups, what, ("cn",)):
            if plain(entry.dn) not in found:
                found.add(plain(entry.dn))
                todo.append(entry.dn)
    return found


@dataclass(slots=True, kw_only=True)
class DirectoryDesk:
    """Answers the calls."""

    database: Database
    clock: Clock
    rights: Rights
    section: DirectoriesSection = field(default_factory=DirectoriesSection)
    """As ashore.toml says now."""
    allow: Sequence[Allowed] = ()


class OneDirectory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which directory."""

    directory: Annotated[str, msgspec.Meta(max_length=32, extra={"positional": True})]
    """Name of the directory in ashore.toml."""


class CheckIn(OneDirectory, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which directory, and for whom."""

    login: Annotated[str, msgspec.Meta(max_length=128, extra={"flag": "as"})] = ""
    """Look this person up, too: the name that they type."""


class DirectoryOut(msgspec.Struct, frozen=True, kw_only=True):
    """One directory."""

    name: str
    kind: str
    state: State
    """new: it was not synced yet. failed: the last sync changed nothing. held: it could not disable everybody."""
    people: int
    """People whom ashore knows, those who are disabled included."""
    synced_at: int | None
    """When the last good sync ended."""
    says: str
    """What the last sync said."""


class MappedGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A group here, and the group of the directory that it is bound to."""

    group: str
    written: str
    """What ashore.toml says."""
    dn: str
    """Where it is now."""
    guid: str
    """What it is known by. Empty: it was not found yet."""


class DirectoryDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One directory, and how it is followed."""

    directory: DirectoryOut
    urls: list[str]
    tenant: str
    log_in: bool
    held: list[str]
    """Accounts that could not be disabled, and why."""
    groups: list[MappedGroup]


class CheckStep(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was tried."""

    what: str
    ok: bool
    says: str


def list_directories(desk: DirectoryDesk, actor: Actor, asked: Nothing) -> list[DirectoryOut]:
    """List the directories of ashore.toml, and how their last syncs ended."""
    seen = [
        one for one in desk.section.all
        if desk.rights.decide(actor.principal, READ, f"directory/{one.name}").allowed
    ]  # fmt: skip
    return [_out(desk, one) for one in seen]


def show_directory(desk: DirectoryDesk, actor: Actor, asked: OneDirectory) -> DirectoryDetail:
    """Show one directory: its mapped groups, and what its last sync said."""
    section = _named(desk, actor, asked.directory)
    with desk.database.read() as connection:
        found, _ = sql.load_groups(connection, section.name)
        standing = sql.load_standing(connection, section.name)
    groups = []
    for name, written in section.map.items():
        one = found.get(name)
        there = one if one is not None and one.written == written else None
        groups.append(
            MappedGroup(
                group=name, written=written, dn="" if there is None else there.dn,
                guid="" if there is None else there.guid,
            )
        )  # fmt: skip
    return DirectoryDetail(
        directory=_out(desk, section), urls=[*section.urls], tenant=section.tenant, log_in=section.log_in,
        held=[*standing.held], groups=groups,
    )  # fmt: skip


async def check_directory(desk: DirectoryDesk, actor: Actor, asked: CheckIn) -> list[CheckStep]:
    """Try every server of a directory, and what a sync reads first; with --as, also what it says of a person. Changes
    nothing."""
    section = await asyncio.to_thread(_named, desk, actor, asked.directory)
    return [step async for step in _tried(desk, section, asked.login)]


async def _tried(desk: DirectoryDesk, section: DirectorySection, login: str) -> AsyncIterator[CheckStep]:
    context, connection = tls_context(section.ca_file), None
    for url in section.urls:
        try:
            opened = await bound(url, section, desk.allow, context)
        except AshoreError as fault:
            yield CheckStep(what=url, ok=False, says=fault.in_one_line)
            continue
        yield CheckStep(what=url, ok=True, says=f"TLS, bound as {section.bind_dn}")
        if connection is None:
            connection = opened
        else:
            await opened.close()
    if connection is None:
        return
    try:
        bases = (("people", section.people), ("groups", section.groups), *section.map.items())
        for what, base in bases:
            try:
                there = await is_there(connection, base)
            except AshoreError as fault:
                yield CheckStep(what=what, ok=False, says=f"{base}: {fault.message}")
                continue
            yield CheckStep(what=what, ok=there, says=base if there else f"{base}: it is not there")
        if login:
            yield await _person(desk, connection, section, login)
    except AshoreError as fault:
        yield CheckStep(what=section.name, ok=False, says=fault.in_one_line)
    finally:
        await connection.close()


async def _person(desk: DirectoryDesk, connection: Ldap, section: DirectorySection, login: str) -> CheckStep:
    found = await find_person(connection, section, login, desk.clock.now_s())
    if found is None:
        return CheckStep(what=login, ok=False, says=f"nobody below {section.people} has this login, or several do")
    above = await groups_of(connection, section, found.dn)
    groups = sorted(name for name, dn in section.map.items() if plain(dn) in above)
    why = why_out(replace(found, groups=frozenset(groups)))
    return CheckStep(what=login, ok=not why, says=f"{found.dn}: {why or ', '.join(groups)}")


def _named(desk: DirectoryDesk, actor: Actor, name: str) -> DirectorySection:
    """Return a directory that the actor may see."""
    desk.rights.require(actor.principal, READ, f"directory/{name}")
    found = desk.section.named(name)
    if found is None:
        names = [one.name for one in desk.section.all]
        raise NotFound(
            f"there is no directory {name[:40]!r}",
            hint=did_you_mean(name[:40], names) if names else "ashore.toml has no [[directory]]",
        )
    return found


def _out(desk: DirectoryDesk, section: DirectorySection) -> DirectoryOut:
    with desk.database.read() as connection:
        standing = sql.load_standing(connection, section.name)
        people = len(sql.load_people(connection, section.name))
    state: State = "failed" if standing.failed_s else "held" if standing.held else "good"
    return DirectoryOut(
        name=section.name, kind=section.kind, state=state if standing.says else "new", people=people,
        synced_at=standing.synced_s or None, says=standing.says,
    )  # fmt: skip


CALLS: Final = (
    Call("directory", "list", "GET", "/directories", READ, list_directories),
    Call("directory", "show", "GET", "/directories/{directory}", READ, show_directory),
    Call("directory", "check", "GET", "/directories/{directory}/check", READ, check_directory, slow=True),
)
