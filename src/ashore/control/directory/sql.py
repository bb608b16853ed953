"""SQL of the room. Each function runs inside a transaction of the caller."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ashore.control.directory.deciding import Person
from ashore.control.directory.reading import Snapshot
from ashore.kit.state import execute, insert, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a directory was followed so far."""

    synced_s: int = 0
    """When a sync last ended well; 0: never."""
    failed_s: int = 0
    """Since when syncs and looks fail; 0: the last one did not."""
    says: str = ""
    """What the last one said."""
    held: tuple[str, ...] = ()
    """Accounts that it could not disable, and why."""


def load_people(connection: Connection, directory: str) -> dict[str, Person]:
    """Return the people of a directory whom ashore knows, by GUID."""
    query = "SELECT guid, account, login, state FROM directory_person WHERE directory = :directory"
    rows = execute(connection, query, directory=directory)
    people = (Person(guid=row.guid, account=row.account, login=row.login, state=row.state) for row in rows)
    return {one.guid: one for one in people}


def find_person(connection: Connection, directory: str, guid: str) -> Person | None:
    """Return one of them."""
    query = "SELECT guid, account, login, state FROM directory_person WHERE directory = :directory AND guid = :guid"
    row = execute(connection, query, directory=directory, guid=guid).mappings().first()
    return None if row is None else Person(**row)


def login_of(connection: Connection, account: str) -> str:
    """Return the login of the person with an account, as last seen; empty: nobody has it."""
    query = "SELECT login FROM directory_person WHERE account = :account"
    return str(execute(connection, query, account=account).scalar() or "")


def taken_ids(connection: Connection, besides: str) -> set[str]:
    """Return the ids of accounts that belong to a person of a directory other than `besides`."""
    query = "SELECT account FROM directory_person WHERE directory <> :besides"
    return {str(row[0]) for row in execute(connection, query, besides=besides)}


def save_people(connection: Connection, directory: str, people: Iterable[Person]) -> None:
    """Save people; the same GUID again replaces one."""
    rows = (
        {"directory": directory, "guid": p.guid, "account": p.account, "login": p.login, "state": p.state}
        for p in people
    )
    upsert(connection, "directory_person", *rows, key="directory, guid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A group that a name of `[directory.map]` is bound to."""

    guid: str
    dn: str
    written: str
    """What the file said when it was bound. Another name there binds anew."""


def load_groups(connection: Connection, directory: str) -> tuple[dict[str, Bound], dict[str, str]]:
    """Return what names are bound to, and the mark of every group below, by GUID."""
    query = "SELECT guid, name, dn, written, mark FROM directory_group WHERE directory = :directory"
    rows = execute(connection, query, directory=directory).mappings().all()
    bound = {row["name"]: Bound(guid=row["guid"], dn=row["dn"], written=row["written"]) for row in rows if row["name"]}
    return bound, {row["guid"]: row["mark"] for row in rows}


def save_groups(connection: Connection, directory: str, snapshot: Snapshot, written: Mapping[str, str]) -> None:
    """Save what names are bound to, and the groups below, in place of what was there."""
    execute(connection, "DELETE FROM directory_group WHERE directory = :directory", directory=directory)
    names: dict[str, list[str]] = {}
    for name, guid in snapshot.bound.items():
        names.setdefault(guid, []).append(name)
    rows = (
        {
            "directory": directory, "guid": guid, "name": name, "dn": group.dn,
            "written": written.get(name, ""), "mark": group.mark,
        }
        for guid, group in snapshot.groups.items()
        for name in names.get(guid, [""])
    )  # fmt: skip
    insert(connection, "directory_group", *rows)


def load_standing(connection: Connection, directory: str) -> Standing:
    """Return how a directory was followed so far."""
    query = "SELECT synced_s, failed_s, says, held FROM directory_sync WHERE directory = :directory"
    row = execute(connection, query, directory=directory).mappings().first()
    return Standing() if row is None else Standing(**{**row, "held": tuple(str(row["held"]).splitlines())})


def save_standing(connection: Connection, directory: str, standing: Standing) -> None:
    """Save how the last sync ended."""
    row = {"directory": directory, **asdict(standing), "held": "\n".join(standing.held)}
    upsert(connection, "directory_sync", row, key="directory")


def failing(connection: Connection, names: Collection[str]) -> set[str]:
    """Return which of these directories fail, and forget that others did."""
    failed = set(execute(connection, "SELECT directory FROM directory_sync WHERE failed_s > 0").scalars())
    for name in failed.difference(names):
        execute(connection, "DELETE FROM directory_sync WHERE directory = :name", name=name)
    return failed.intersection(names)
