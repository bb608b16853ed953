"""People and keys: who may use the server and what they may do, their keys, groups and roles, one person, and the
invitation of a new one."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

from ashore.control.console.calling import PLAIN, command_of, link_of, suggesting
from ashore.control.console.forms import fields_of, filled, read_form
from ashore.control.console.kit import NONE, Act, Cell, Row, Table, code, number, state, text, when
from ashore.control.console.listing import chosen, every, list_page, narrowed, several, with_acts
from ashore.control.console.model import Answer
from ashore.control.console.pages import BY_NAME
from ashore.control.console.reader import Reader
from ashore.control.console.rows import OF_OTHERS
from ashore.control.console.tabs import tab_page
from ashore.control.console.using import spent
from ashore.core.clock import SystemClock
from ashore.core.errors import AshoreError, NotFound, PermissionDenied

ACCESS_WRITE: Final = OF_OTHERS["access key revoke"]
UNUSED_S: Final = 30 * 86_400
INVITED: Final = ("id", "title", "roles", "groups", "tenant")
"""What an invitation asks for, in this order."""
FIRST_ROLE: Final = "developer"
"""Role that an invitation offers first: it may ask models and make keys of its own, and no more."""


# --- keys


async def keys_page(reader: Reader) -> Answer:
    """Return the keys that the reader may see, the valid ones first: whose they are, what they open, their last use."""
    items = await _keys(reader)
    if items is None:
        return await accounts_page(reader)
    now_s, budgets = SystemClock().now_s(), await spent(reader, "key")

    def is_valid(one: Any) -> bool:
        return one.revoked_at is None and (one.expires_at is None or one.expires_at > now_s)

    tests = {
        "valid": is_valid,
        "unused": lambda one: is_valid(one) and max(one.created_at, one.last_used_at or 0) < now_s - UNUSED_S,
        "ended": lambda one: not is_valid(one),
    }
    shown, choices = chosen(items, tests, dict(reader.asked.query).get("_show", ""))
    return await list_page(
        reader, "people", "people", lambda: key_table(shown, budgets), lambda one: _on_key(reader, one),
        lead=reader.words("people.keys", count=sum(map(is_valid, items))),
        acts=(*reader.may("access key create", "people.key"), *_invites(reader)),
        choices=choices, command="ashore access key list", nouns=("access key",), icon="key",
        hint=reader.words("people.no-keys"),
    )  # fmt: skip


async def _keys(reader: Reader, owner: str = "") -> list[Any] | None:
    """Return the keys of an account, else every one, else the reader's own; None where there can be none."""
    found = await every(reader, "access key list", owner=owner)
    if found is None and not owner:
        return await every(reader, "access key list", owner=reader.session.principal.id)
    return found


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
    """Return people and programs with their roles, groups, log-in and tokens of this month."""
    users = await every(reader, "access user list")
    if users is None:
        return await tab_page(reader, BY_NAME["people"])
    services, log_ins, roles, used = await asyncio.gather(
        every(reader, "access service list"), every(reader, "account list"), _roles(reader),
        reader.ask("access usage", by="user"),
    )  # fmt: skip
    doors = {one.account: one for one in log_ins or ()}
    tokens = {one.user: one.prompt_tokens + one.completion_tokens for one in getattr(used, "items", ())}
    items = [*users, *(services or ())]
    tenants = len({one.tenant for one in items})
    tests = {
        "all": lambda one: True,
        "invited": lambda one: _standing(one, doors) == "invited",
        "locked": lambda one: _standing(one, doors) == "locked",
        "disabled": lambda one: _standing(one, doors) == "disabled",
        "programs": lambda one: one.kind == "service",
    }
    shown, choices = chosen(items, tests, dict(reader.asked.query).get("_show", ""))

    def table() -> Table:
        rows = tuple(
            Row(
                cells=(
                    text(one.title or one.id, link=_person(one.id), note=one.id if one.title else ""),
                    text("service") if one.kind == "service" else state(_standing(one, doors)),
                    several(roles.get(f"{one.kind}/{one.id}", ())),
                    several(one.groups),
                    when(getattr(doors.get(one.id), "last_log_in_at", None)),
                    number(tokens.get(one.id), "n"),
                    text(one.tenant) if tenants > 1 else NONE,
                ),
                values={
                    "item": one,
                    "last_log_in_at": getattr(doors.get(one.id), "last_log_in_at", None),
                    "tokens_month": tokens.get(one.id, 0),
                },
            )
            for one in shown
        )
        columns = ("name", "state", "roles", "groups", "last_log_in_at", "tokens_month", "tenant")
        return Table(columns=columns, rows=rows, total=len(rows), minor=frozenset(("tenant", "groups")))

    return await list_page(
        reader, "people", "people/accounts", table, lambda one: _on_account(reader, one, doors.get(one.id)),
        lead=reader.words("people.accounts", count=len(users), programs=len(services or ())),
        acts=(*_invites(reader), *reader.may("access service create"), *reader.may("access user create")),
        choices=choices, command="ashore access user list",
        nouns=("access user", "access service", "account"), icon="people",
    )  # fmt: skip


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
        _door(reader, one), _keys(reader, one.id), reader.ask("access usage", by="user,model"), spent(reader, "user"),
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
        if line.user == one.id
    )
    return reader.page(
        "person.html",
        "people",
        name=one.title or one.id,
        chip=state("disabled" if one.disabled else ""),
        facts=[(key, cell) for key, cell in facts if cell.kind != "none"],
        log_in=[(key, cell) for key, cell in log_in if cell.kind != "none"],
        keys=with_acts(narrowed(key_table(keys or (), {}), {}), lambda one: _on_key(reader, one)),
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
