"""SQL of the room. Each function runs inside a transaction of the caller."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ashore.control.scim.bodies import NAME, Body, Kind, members
from ashore.kit.state import execute, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping

PAGE_CHARS: Final = 4 << 20
"""Of the bodies that one page has: a thousand groups of 50,000 members are 4 GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A user or group, as the identity provider pushed it."""

    id: str
    kind: Kind
    tenant: str
    account: str = ""
    """Of a user; it is given at the first push and never changes."""
    body: Body = field(default_factory=dict)
    created_s: int = 0
    changed_s: int = 0
    version: int = 1


def save(connection: Connection, one: Resource, *, gone: bool = False) -> None:
    """Save a resource. `gone`: it was deleted there, and its account stays taken."""
    row = {
        "id": one.id,
        "kind": one.kind,
        "tenant": one.tenant,
        "name": folded(one.body.get(NAME[one.kind])),
        "external": str(one.body.get("externalId", "")),
        "account": one.account,
        "body": msgspec.json.encode(one.body).decode(),
        "gone": int(gone),
        "created_s": one.created_s,
        "changed_s": one.changed_s,
        "version": one.version,
    }
    upsert(connection, "scim_resource", row, key="id", keep=("kind", "tenant", "account", "created_s"))


def find(connection: Connection, kind: Kind, tenant: str, number: str) -> Resource | None:
    """Return one resource."""
    found = select(connection, kind, tenant, {"id": number})[0]
    return found[0] if found else None


def select(
    connection: Connection, kind: Kind, tenant: str, where: Mapping[str, str], *, start: int = 0, count: int = 1000
) -> tuple[tuple[Resource, ...], int]:
    """Return resources by the time they were made, and how many there are. It returns fewer than `count` where they
    have more than `PAGE_CHARS`, but one at least.

    Args:
        connection: Of a transaction.
        kind: Of what.
        tenant: Whose.
        where: Columns and their values; `member` is the id of a user whom a group holds.
        start: How many to skip.
        count: Most of them.
    """
    query, values = _where(kind, tenant, where)
    total = int(execute(connection, f"SELECT COUNT(*) {query}", **values).scalar_one())
    query += " ORDER BY created_s, id LIMIT :count OFFSET :start"
    count = max(0, min(count, total - start))
    if count > 1:
        sizes = execute(connection, f"SELECT LENGTH(body) {query}", count=count, start=start, **values).scalars()
        count = max(1, sum(size <= PAGE_CHARS for size in accumulate(map(int, sizes))))
    rows = execute(connection, f"SELECT * {query}", count=count, start=start, **values).mappings()
    return tuple(_resource(row) for row in rows), total


def _where(kind: Kind, tenant: str, where: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    query = "FROM scim_resource WHERE kind = :kind AND tenant = :tenant AND gone = 0" + "".join(
        f" AND {column} = :{column}" for column in where if column in ("id", "name", "external")
    )
    values: dict[str, Any] = {"kind": kind, "tenant": tenant, **where}
    if "member" in where:  # the state looks for it, so that nothing reads 50,000 members to find one
        query += " AND REPLACE(body, :member, '') <> body"
        values["member"] = f'"value":{msgspec.json.encode(where["member"]).decode()}'
    return query, values


def holding(
    connection: Connection, tenant: str, users: Collection[str], names: Collection[str] | None = None
) -> dict[str, list[Resource]]:
    """Return the groups that hold each of these users, each without its members. One group at a time is in memory.

    Args:
        connection: Of a transaction.
        tenant: Whose.
        users: Ids.
        names: Only groups of these names, in folded form; None: all.
    """
    found: dict[str, list[Resource]] = {}
    one = {"member": next(iter(users))} if len(users) == 1 else {}
    for name in [{}] if names is None else [{"name": name} for name in sorted(names)]:
        query, values = _where("Group", tenant, {**one, **name})
        for number in execute(connection, f"SELECT id {query} ORDER BY created_s, id", **values).scalars().all():
            if (group := find(connection, "Group", tenant, str(number))) is None:
                continue
            short = replace(group, body={NAME["Group"]: group.body[NAME["Group"]]})
            for user in dict.fromkeys(members(group.body)):
                if user in users:
                    found.setdefault(user, []).append(short)
    return found


def forget(connection: Connection, number: str) -> None:
    """Delete a group."""
    execute(connection, "DELETE FROM scim_resource WHERE id = :id AND kind = 'Group'", id=number)


def used(connection: Connection, kind: Kind, tenant: str) -> tuple[int, int]:
    """Return how many resources of a kind were ever pushed and are kept, and the characters of the groups' bodies."""
    chars = "COALESCE(SUM(LENGTH(body)), 0)" if kind == "Group" else "0"
    row = execute(
        connection, f"SELECT COUNT(*) AS num, {chars} AS chars FROM scim_resource WHERE kind = :kind AND "
        "tenant = :tenant", kind=kind, tenant=tenant,
    ).one()  # fmt: skip
    return int(row.num), int(row.chars)


def is_taken(connection: Connection, account: str) -> bool:
    """Return whether an account belongs to a user who was ever pushed."""
    found = execute(connection, "SELECT 1 FROM scim_resource WHERE account = :account LIMIT 1", account=account)
    return found.first() is not None


def folded(name: object) -> str:
    """Return a name as it is compared."""
    return str(name or "").strip().casefold()


def _resource(row: RowMapping) -> Resource:
    names = ("id", "kind", "tenant", "account", "created_s", "changed_s", "version")
    return Resource(**{name: row[name] for name in names}, body=msgspec.json.decode(row["body"]))
