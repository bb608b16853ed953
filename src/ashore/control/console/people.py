"""People and keys: who may use the server and what they may do, their keys, groups and roles, one person, and the
invitation of a new one."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from ashore.control.console.calling import PLAIN, command_of, link_of, suggesting
from ashore.control.console.forms import fields_of, filled, read_form
from ashore.control.console.kit import NONE, Act, Cell, Row, Table, code, number, state, text, when
from ashore.control.console.listing import (
    WHOLE,
    Parts,
    Piece,
    choices_of,
    command_to_list,
    list_page,
    narrowed,
    part_of,
    piece_of,
    several,
    wanted_of,
    with_acts,
)
from ashore.control.console.model import Answer
from ashore.control.console.pages import BY_NAME
from ashore.control.console.reader import Reader
from ashore.control.console.rows import OF_OTHERS
from ashore.control.console.tabs import tab_page
from ashore.control.console.using import spent
from ashore.core.errors import AshoreError, NotFound, PermissionDenied

ACCESS_WRITE: Final = OF_OTHERS["access key revoke"]
ACCOUNTS: Final[Parts] = {
    "users": ("access user list", {}),
    "invited": ("account list", {"state": "invited"}),
    "locked": ("account list", {"state": "locked"}),
    "disabled": ("access user list", {"disabled": True}),
    "programs": ("access service list", {}),
}
INVITED: Final = ("id", "title", "roles", "groups", "tenant")
"""What an invitation asks for, in this order."""
FIRST_ROLE: Final = "developer"
"""Role that an invitation offers first: it may ask models and make keys of its own, and no more."""


# --- keys


async def keys_page(reader: Reader) -> Answer:
    """Return the keys that the reader may see, the valid ones first: whose they are, what they open, their last use."""
    parts = {name: ("access key list", {"state": name}) for name in ("valid", "unused", "ended")}
    part = part_of(parts, reader)
    piece = await _keys(reader, state=part)
    if piece is None:
        return await accounts_page(reader)
    budgets = await spent(reader, "key")
    return await list_page(
        reader, "people", "people", lambda: key_table(piece.items, budgets), lambda one: _on_key(reader, one),
        piece=piece, lead=reader.words("people.keys"),
        acts=(*reader.may("access key create", "people.key"), *_invites(reader)),
        choices=choices_of(parts, part, piece), command=command_to_list(reader, *parts[part]),
        nouns=("access key",), icon="key", hint=reader.words("people.no-keys"),
    )  # fmt: skip


async def _keys(reader: Reader, **values: str) -> Piece | None:
    """Return every key, else the reader's own; None where there can be none."""
    found = await piece_of(reader, "access key list", **values)
    return found or await piece_of(reader, "access key list", owner=reader.session.principal.id, **values)


def key_table(items: Iterable[Any], budgets: Mapping[str, Cell]) -> Table:
    """Return keys as a table. `budgets`: how much of its own budget each has used."""
    rows = tuple(
        Row(
            cells=(
                text(
                    one.title or one.owner, link=f"call/access-key/show?{urlencode({'key': one.id})}",
                    note=one.owner if one.title else "",
                ),
                state("revoked") if one.revoked_at else NONE,
                several(one.models, "all"),
                budgets.get(one.id, NONE),
                when(one.last_used_at),
                when(one.expires_at) if one.expires_at else Cell(kind="absent", text="never"),
                code(one.id),
            ),
            values={"item": one, "last_used_at": one.last_used_at, "expires_at": one.expires_at or float("inf")},
        )
        for one in items
    )  # fmt: skip
    columns = ("name", "state", "models", "budget", "last_used_at", "expires_at", "key")
    return Table(columns=columns, rows=rows, total=len(rows))


def _on_key(reader: Reader, one: Any) -> tuple[Act, ...]:
    any_owner = reader.acts.authority.holds(reader.session.whole, ACCESS_WRITE)
    if one.revoked_at is not None or not (any_owner or one.owner == reader.session.principal.id):
        return ()
    return reader.may("access key rotate", key=one.id) + reader.may("access key revoke", key=one.id)


# --- people


async def accounts_page(reader: Reader) -> Answer:
    """Return people or programs with their roles, groups and log-in."""
    part = part_of(ACCOUNTS, reader)
    key, values = ACCOUNTS[part]
    piece = await piece_of(reader, key, **values)
    if piece is None:
        return await tab_page(reader, BY_NAME["people"])
    items: tuple[Any, ...] = piece.items
    log_ins: tuple[Any, ...] = ()
    if key == "account list":
        log_ins = items
        items = tuple(_Named(id=one.account, tenant=one.tenant, disabled=one.state == "disabled") for one in items)
    elif part != "programs":  # each log-in is a user's, so the log-ins of these are among as many of the same kind
        same = "disabled" if part == "disabled" else ""
        found = await reader.ask("account list", limit=max(1, len(items)), state=same, **wanted_of(reader))
        log_ins = getattr(found, "items", ())
    doors = {one.account: one for one in log_ins}

    def table() -> Table:
        rows = tuple(
            Row(
                cells=(
                    text(one.title or one.id, link=_person(one.id), note=one.id if one.title else ""),
                    text("service") if one.kind == "service" else state(_standing(one, doors)),
                    several(one.roles),
                    several(one.groups),
                    when(getattr(doors.get(one.id), "last_log_in_at", None)),
                    text(one.tenant) if tenants > 1 else NONE,
                ),
                values={"item": one, "last_log_in_at": getattr(doors.get(one.id), "last_log_in_at", None)},
            )
            for one in items
        )
        columns = ("name", "state", "roles", "groups", "last_log_in_at", "tenant")
        return Table(columns=columns, rows=rows, total=len(rows), minor=frozenset(("tenant", "groups")))

    tenants = len({one.tenant for one in items})
    return await list_page(
        reader, "people", "people/accounts", table, lambda one: _on_account(reader, one, doors.get(one.id)),
        piece=piece,
        acts=(*_invites(reader), *reader.may("access service create"), *reader.may("access user create")),
        choices=choices_of(ACCOUNTS, part, piece), command=command_to_list(reader, key, values),
        nouns=("access user", "access service", "account"), icon="people",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """A user of whom only the log-in was asked for."""

    id: str
    tenant: str
    disabled: bool
    kind: str = "user"
    title: str = ""
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


async def _roles(reader: Reader) -> Mapping[str, list[str]]:
    """Return the roles of each subject, `user/alice`, as far as the reader may see them."""
    found = await reader.ask("access role holders")
    roles: dict[str, list[str]] = defaultdict(list)
    for one in getattr(found, "items", ()):
        roles[one.subject].append(one.role)
    return roles


def _standing(one: Any, doors: Mapping[str, Any]) -> str:
    """Return how an account stands, in one word; empty: it has no log-in."""
    door = doors.get(one.id)
    if one.disabled:
        return "disabled"
    if door is None:
        return ""
    return "locked" if door.locked_until else str(door.state)


def _person(account: str) -> str:
    return f"people/person?{urlencode({'account': account})}"


def _invites(reader: Reader) -> tuple[Act, ...]:
    if reader.session.principal.kind == "first-key":  # it makes administrators, each with a key
        return reader.may("access user create")
    able = reader.may("access user create") and reader.may("account create")
    return (Act(address="people/invite", word="people.invite"),) if able else ()


def _on_account(reader: Reader, one: Any, door: Any) -> tuple[Act, ...]:
    """Return what the reader may do with an account, what destroys last."""
    acts = reader.may("access role bind", "people.roles", **{"grant.0.subject": f"{one.kind}/{one.id}"})
    if reader.acts.authority.holds(reader.session.whole, ACCESS_WRITE):
        acts += reader.may("access key create", "people.key", owner=one.id)
        if one.kind == "user":
            if door is None:
                acts += reader.may("account create", "people.door", account=one.id)
            else:
                acts += reader.may("account unlock", account=one.id) if door.locked_until else ()
                acts += reader.may("account reset", "people.reset", account=one.id)
                acts += reader.may("session end-all", account=one.id)
    return (
        *acts,
        *reader.may(f"access {one.kind} change", account=one.id),
        *reader.may(f"access {one.kind} remove", account=one.id),
    )


async def person_page(reader: Reader) -> Answer:
    """Return one person or program: roles, log-in, keys, what they used, and what they may do.

    Raises:
        NotFound: there is no such account.
        PermissionDenied: the reader may not see it.
    """
    name = dict(reader.asked.query).get("account", "")[:200]
    found = await _account(reader, name)
    one = found.account
    door, keys, used, budgets = await asyncio.gather(
        _door(reader, one), reader.ask("access key list", owner=one.id, limit=WHOLE),
        reader.ask("access usage", by="model", user=one.id), spent(reader, "user"),
    )  # fmt: skip
    facts = (
        ("id", text(one.id)), ("roles", several(found.roles)), ("groups", several(one.groups)),
        ("tenant", text(one.tenant)), ("budget", budgets.get(one.id, NONE)), ("created_at", when(one.created_at)),
    )  # fmt: skip
    log_in = () if door is None else (
        ("state", state(_standing(one, {one.id: door}))),
        ("second_factor", Cell(kind="yes" if door.has_factor else "no")),
        ("last_log_in_at", when(door.last_log_in_at)), ("sessions", number(door.sessions)),
        ("invited_by", text(door.invited_by)),
    )  # fmt: skip
    rows = tuple(
        Row(cells=(text(line.model), number(line.requests), number(line.prompt_tokens + line.completion_tokens, "n")))
        for line in getattr(used, "items", ())
    )
    return reader.page(
        "person.html",
        "people",
        name=one.title or one.id,
        chip=state("disabled" if one.disabled else ""),
        facts=[(key, cell) for key, cell in facts if cell.kind != "none"],
        log_in=[(key, cell) for key, cell in log_in if cell.kind != "none"],
        keys=with_acts(narrowed(key_table(getattr(keys, "items", ()), {}), {}), lambda one: _on_key(reader, one)),
        used=Table(name="used", columns=("model", "requests", "tokens_month"), rows=rows, total=len(rows)),
        acts=(*reader.may("access can", subject=f"{one.kind}/{one.id}"), *_on_account(reader, one, door)),
        command=f"ashore access {one.kind} show {one.id}",
    )


async def _account(reader: Reader, name: str) -> Any:
    person, program = (reader.acts.atlas.by_key[f"access {kind} show"] for kind in ("user", "service"))
    try:
        return await reader.perform(person, person.call.takes(account=name))
    except NotFound:
        return await reader.perform(program, program.call.takes(account=name))


async def _door(reader: Reader, one: Any) -> Any:
    try:
        return await reader.ask("account show", account=one.id) if one.kind == "user" else None
    except NotFound:
        return None


async def invite_page(reader: Reader) -> Answer:
    """Return the form that creates a person with a log-in, and once it was sent, the link to hand over.

    Raises:
        PermissionDenied: the reader may do either of the two.
    """
    create, open_door = (reader.acts.atlas.by_key[key] for key in ("access user create", "account create"))
    if not _invites(reader):
        await reader.perform(create, None)  # refuses, with the authority's message
    pairs = reader.asked.form or reader.asked.query or [("roles", FIRST_ROLE)]
    log_in = command_of(open_door.call, [("account", account)] if (account := dict(pairs).get("id", "")) else [])
    command = f"{command_of(create.call, [one for one in pairs if one[0] in INVITED])} && {log_in}"
    if reader.asked.part == "command":
        return Answer(headers=PLAIN, body=command.encode())
    made: Any = None
    invited: Any = None
    fault: AshoreError | None = None
    if reader.asked.method == "POST":
        try:
            made = await reader.perform(create, read_form(create.call, pairs))
            invited = await reader.perform(open_door, open_door.call.takes(account=made.account.id))
        except PermissionDenied:
            raise
        except AshoreError as problem:
            fault = problem
    fields = {one.name: one for one in await suggesting(reader, create.call, filled(fields_of(create.call), pairs))}
    return reader.page(
        "invite.html",
        "people",
        status=200 if fault is None else fault.http_status,
        fields=[fields[name] for name in INVITED],
        link="" if invited is None else link_of(reader, invited),
        invited=invited,
        again=reader.may("account create", account=made.account.id) if made is not None and fault else (),
        fault=fault,
        command=command,
    )


# --- groups and roles


async def groups_page(reader: Reader) -> Answer:
    """Return the groups, who is in them, and the roles that they give."""
    found = await reader.ask("access group list")
    roles = await _roles(reader)

    def table() -> Table:
        rows = tuple(
            Row(
                cells=(
                    text(one.name, link=f"call/access-group/show?{urlencode({'group': one.name})}", note=one.title),
                    several(one.members), several(roles.get(f"group/{one.name}", ())), when(one.created_at),
                ),
                values={"item": one, "members": len(one.members), "created_at": one.created_at},
            )
            for one in getattr(found, "items", ())
        )  # fmt: skip
        return Table(columns=("name", "members", "roles", "created_at"), rows=rows, total=len(rows))

    def on(one: Any) -> tuple[Act, ...]:
        return (
            *reader.may("access group members", group=one.name),
            *reader.may("access role bind", "people.roles", **{"grant.0.subject": f"group/{one.name}"}),
            *reader.may("access group remove", group=one.name),
        )

    return await list_page(
        reader, "people", "people/groups", table, on, lead=reader.words("people.groups"),
        acts=reader.may("access group create"), command="ashore access group list",
        nouns=("access group",), icon="people", hint=reader.words("people.groups"),
    )  # fmt: skip


def _on_role(reader: Reader, one: Any) -> tuple[Act, ...]:
    """Return what the reader may do with a role; the form of its rules begins with those that it has."""
    acts = reader.may("access role bind", "people.grant", **{"grant.0.role": one.name})
    if one.built_in:
        return acts
    fields = {"role": one.name, "title": one.title, "rules": "\n".join(one.rules)}
    acts += reader.may("access role put", "people.rules", **{name: value for name, value in fields.items() if value})
    return acts + reader.may("access role remove", role=one.name)


async def roles_page(reader: Reader) -> Answer:
    """Return the roles, how much each allows, and who has it."""
    found = await reader.ask("access role list")
    held: dict[str, list[str]] = defaultdict(list)
    for subject, names in (await _roles(reader)).items():
        for name in names:
            held[name].append(subject.partition("/")[2])

    def table() -> Table:
        rows = tuple(
            Row(
                cells=(
                    text(one.name, link=f"call/access-role/show?{urlencode({'role': one.name})}", note=one.title),
                    several(sorted(held.get(one.name, ()))), number(len(one.rules)),
                    Cell(kind="yes" if one.built_in else "no"),
                ),
                values={"item": one, "holders": len(held.get(one.name, ())), "rules": len(one.rules)},
            )
            for one in getattr(found, "items", ())
        )  # fmt: skip
        return Table(columns=("name", "holders", "rules", "built_in"), rows=rows, total=len(rows))

    return await list_page(
        reader, "people", "people/roles", table, lambda one: _on_role(reader, one),
        lead=reader.words("people.roles-lead"),
        acts=(*reader.may("access role bind"), *reader.may("access role put"), *reader.may("access can")),
        command="ashore access role list", nouns=("access role",), icon="shield",
    )  # fmt: skip
