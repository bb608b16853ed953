"""The guard lists in the state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from ashore.data.guard.lists import GuardList
from ashore.kit.state import bump, execute

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping

GUARD_EPOCH: Final = "guard"
_json = msgspec.json.Decoder(dict[str, Any])


def load_lists(connection: Connection) -> tuple[GuardList, ...]:
    """Return every list, by name."""
    rows = execute(connection, "SELECT * FROM guard_list ORDER BY name").mappings()
    return tuple(_list_of(row) for row in rows)


def find_list(connection: Connection, name: str) -> GuardList | None:
    """Return one list; None: there is none of this name."""
    row = execute(connection, "SELECT * FROM guard_list WHERE name = :name", name=name).mappings().first()
    return None if row is None else _list_of(row)


def count_lists(connection: Connection) -> int:
    """Return how many lists there are."""
    return int(execute(connection, "SELECT count(*) FROM guard_list").scalar_one())


def save_list(connection: Connection, one: GuardList) -> None:
    """Make a list, or replace the one of its name. Takes effect in every process within a second. Needs a writing
    transaction."""
    rules = {"do": one.do, "where": one.where, "aliases": one.aliases, "refusal": one.refusal}
    execute(
        connection,
        "INSERT INTO guard_list (name, category, words, rules, changed_by, changed_s) "
        "VALUES (:name, :category, :words, :rules, :who, :now_s) ON CONFLICT (name) DO UPDATE SET "
        "category = excluded.category, words = excluded.words, rules = excluded.rules, "
        "changed_by = excluded.changed_by, changed_s = excluded.changed_s",
        name=one.name,
        category=one.category,
        words="\n".join(one.words),
        rules=msgspec.json.encode(rules).decode(),
        who=one.changed_by,
        now_s=one.changed_s,
    )
    bump(connection, GUARD_EPOCH)


def remove_list(connection: Connection, name: str) -> bool:
    """Remove a list; return whether there was one. Needs a writing transaction."""
    removed = execute(connection, "DELETE FROM guard_list WHERE name = :name RETURNING name", name=name).first()
    if removed is not None:
        bump(connection, GUARD_EPOCH)
    return removed is not None


def _list_of(row: RowMapping) -> GuardList:
    rules = _json.decode(str(row["rules"]))
    return GuardList(
        name=str(row["name"]),
        category=str(row["category"]),
        words=tuple(str(row["words"]).split("\n")),
        do=rules["do"],
        where=rules["where"],
        aliases=tuple(rules["aliases"]),
        refusal=rules["refusal"],
        changed_s=int(row["changed_s"]),
        changed_by=str(row["changed_by"]),
    )
