"""SQL of the room. Each function runs inside a transaction of the caller."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from ashore.control.scim.bodies import NAME, Body, Kind
from ashore.kit.state import execute, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping


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
    """Return resources by the time they were made, and how many there are. `where`: columns and their values."""
    query = "FROM scim_resource WHERE kind = :kind AND tenant = :tenant AND gone = 0" + "".join(
        f" AND {column} = :{column}" for column in where if column in ("id", "name", "external")
    )
    values: dict[str, Any] = {"kind": kind, "tenant": tenant, **where}
    total = int(execute(connection, f"SELECT COUNT(*) {query}", **values).scalar_one())
    rows = execute(
        connection, f"SELECT * {query} ORDER BY created_s, id LIMIT :count OFFSET :start", count=count, start=start,
        **values,
    ).mappings()  # fmt: skip
    return tuple(_resource(row) for row in rows), total


def groups(connection: Connection, tenant: str, names: Collection[str] | None = None) -> tuple[Resource, ...]:
    """Return every group, or those of these names, in folded form. Others are not read: one may have 50,000 members."""
    if names is None:
        return select(connection, "Group", tenant, {}, count=100_000)[0]
    return tuple(one for name in sorted(names) for one in select(connection, "Group", tenant, {"name": name})[0])


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
