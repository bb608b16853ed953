"""Conversations in SQL: items in their order, which responses read and add to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ashore.core.errors import InvalidRequest
from ashore.data.jobs.model import ANY_MODEL
from ashore.data.jobs.quota import check_stored
from ashore.data.jobs.reserve import check_room
from ashore.kit.state import Database, execute, execute_many, insert

if TYPE_CHECKING:
    from sqlalchemy import Connection

MOST_ITEMS: Final = 10_000
"""Of one conversation."""
_ITEM: Final = "SELECT item_id, place, item FROM conversation_item WHERE conversation_id = :id AND item_id = :item_id"
_COLUMNS: Final = "conversation_id, tenant, account, models, metadata, created_ms, expires_ms, num_bytes, next_place"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One conversation, without its items."""

    conversation_id: str
    tenant: str
    account: str
    """Whose it is."""
    models: str
    """As `NewJob.models`: what a narrowed key must be able to ask, which grows with the models that answer in it."""
    metadata: str
    """A JSON object."""
    created_ms: int
    expires_ms: int
    """When it is dropped; each change puts it off."""
    num_bytes: int = 0
    """Of its items."""
    next_place: int = 0
    """Of the next item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptItem:
    """One item of a conversation."""

    item_id: str
    item: bytes
    """A JSON object, which begins with its id (`head_of`)."""
    place: int = 0
    """Where it stands; the store sets it."""


def head_of(item_id: str) -> bytes:
    """Return the beginning of an item with an id, so that items are shown as stored."""
    return b'{"id":' + msgspec.json.encode(item_id)


class SqlConversations:
    """Conversations in the state. Every method is one blocking transaction; event loops call it on a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, new: Conversation, items: Sequence[KeptItem], *, most_bytes: int | None = None) -> Conversation:
        """Store a new conversation with its first items. Raises as `append`."""
        with self._database.write() as connection:
            insert(connection, "conversation", {**asdict(new), "num_bytes": 0, "next_place": 0})
            return self._append(connection, new, items, source="", most_bytes=most_bytes)

    def get(self, conversation_id: str) -> Conversation | None:
        """Return a conversation; None if it does not exist or has expired."""
        if "\0" in conversation_id:  # Postgres rejects such a value even in a query
            return None
        with self._database.read() as connection:
            return _one(connection, conversation_id)

    def of(self, account: str, *, limit: int) -> list[Conversation]:
        """Return the conversations of an account that were changed last, the latest first."""
        if "\0" in account:
            return []
        last = "WHERE account = :account ORDER BY expires_ms DESC LIMIT :limit"
        with self._database.read() as connection:
            rows = execute(connection, f"SELECT {_COLUMNS} FROM conversation {last}", account=account, limit=limit)
            return [Conversation(**row) for row in rows.mappings()]

    def update(
        self, conversation_id: str, *, metadata: str, expires_ms: int, most_bytes: int | None = None
    ) -> Conversation | None:
        """Replace a conversation's metadata; None if it is gone.

        Raises:
            BudgetExceeded: the tenant would store too much. DiskFull: there is no room.
        """
        with self._database.write() as connection:
            found = _one(connection, conversation_id)
            if found is None:
                return None
            check_room(self._database, len(metadata), of=(connection, found.tenant))
            check_stored(connection, found.tenant, len(metadata) - len(found.metadata), most_bytes)
            execute(
                connection,
                "UPDATE conversation SET metadata = :metadata, expires_ms = :expires_ms WHERE conversation_id = :id",
                id=conversation_id,
                metadata=metadata,
                expires_ms=expires_ms,
            )
            return _one(connection, conversation_id)

    def append(
        self,
        conversation_id: str,
        items: Sequence[KeptItem],
        *,
        expires_ms: int,
        source: str = "",
        model: str = "",
        most_bytes: int | None = None,
    ) -> Conversation | None:
        """Append items; None if the conversation is gone.

        Args:
            conversation_id: Which one.
            items: In order; an item with an existing id gets a new one.
            expires_ms: When the conversation is dropped now.
            source: The response that produced them. The same source replaces its earlier items, so that a repeated
                response appears once.
            model: The one that answered.
            most_bytes: Storage limit of the tenant.

        Raises:
            InvalidRequest: the conversation would have too many items.
            BudgetExceeded: the tenant would store too much. DiskFull: there is no room.
        """
        with self._database.write() as connection:
            found = _one(connection, conversation_id)
            if found is None:
                return None
            if source:
                statement = "DELETE FROM conversation_item WHERE conversation_id = :id AND source = :source"
                execute(connection, statement, id=conversation_id, source=source)
            models = found.models
            if model and models != ANY_MODEL and model not in models.split():
                models = f"{models} {model}"
            execute(
                connection,
                "UPDATE conversation SET expires_ms = :expires_ms, models = :models WHERE conversation_id = :id",
                id=conversation_id,
                expires_ms=expires_ms,
                models=models,
            )
            return self._append(connection, found, items, source=source, most_bytes=most_bytes)

    def lengths(
        self, conversation_id: str, *, after: int | None = None, limit: int = MOST_ITEMS, oldest_first: bool = True
    ) -> list[int]:
        """Return the size in bytes of each item that `items` would return. Reads none of them."""
        statement, values = _from(conversation_id, after, limit, oldest_first=oldest_first)
        with self._database.read() as connection:
            return [int(row[0]) for row in execute(connection, f"SELECT LENGTH(item) {statement}", **values)]

    def items(
        self, conversation_id: str, *, after: int | None = None, limit: int = MOST_ITEMS, oldest_first: bool = True
    ) -> list[KeptItem]:
        """Return items in order, after the place `after` if given."""
        statement, values = _from(conversation_id, after, limit, oldest_first=oldest_first)
        with self._database.read() as connection:
            rows = execute(connection, f"SELECT item_id, place, item {statement}", **values).mappings()
            return [_item(row) for row in rows]

    def place(self, conversation_id: str, item_id: str) -> int | None:
        """Return the place of an item; None if there is none."""
        if "\0" in item_id:
            return None
        statement = "SELECT place FROM conversation_item WHERE conversation_id = :id AND item_id = :item_id"
        with self._database.read() as connection:
            found = execute(connection, statement, id=conversation_id, item_id=item_id).scalar()
            return None if found is None else int(found)

    def length(self, conversation_id: str, item_id: str) -> int:
        """Return the size of one item in bytes, 0 if there is none."""
        place = self.place(conversation_id, item_id)
        return 0 if place is None else sum(self.lengths(conversation_id, after=place - 1, limit=1))

    def item(self, conversation_id: str, item_id: str) -> KeptItem | None:
        """Return one item."""
        if "\0" in item_id:
            return None
        with self._database.read() as connection:
            row = execute(connection, _ITEM, id=conversation_id, item_id=item_id).mappings().first()
            return None if row is None else _item(row)

    def remove(self, conversation_id: str, item_id: str) -> bool:
        """Remove one item; False if there was none."""
        if "\0" in item_id:
            return False
        statement = "DELETE FROM conversation_item WHERE conversation_id = :id AND item_id = :item_id"
        with self._database.write() as connection:
            gone = execute(connection, statement, id=conversation_id, item_id=item_id).rowcount
            _count(connection, conversation_id)
            return bool(gone)

    def delete(self, conversation_id: str) -> bool:
        """Delete a conversation with its items; False if there was none."""
        with self._database.write() as connection:
            return bool(_drop(connection, [{"id": conversation_id}]))

    def prune(self, *, now_ms: int, limit: int) -> int:
        """Delete expired conversations; return how many."""
        statement = "SELECT conversation_id FROM conversation WHERE expires_ms <= :now LIMIT :limit"
        with self._database.read() as connection:
            gone = [{"id": row[0]} for row in execute(connection, statement, now=now_ms, limit=limit)]
        if gone:
            with self._database.write() as connection:
                _drop(connection, gone)
        return len(gone)

    def _append(
        self,
        connection: Connection,
        to: Conversation,
        items: Sequence[KeptItem],
        *,
        source: str,
        most_bytes: int | None,
    ) -> Conversation:
        added = sum(len(one.item) for one in items)
        check_room(self._database, added, of=(connection, to.tenant))
        check_stored(connection, to.tenant, added, most_bytes)
        statement = "SELECT item_id FROM conversation_item WHERE conversation_id = :id"
        known = {str(row[0]) for row in execute(connection, statement, id=to.conversation_id)}
        if len(known) + len(items) > MOST_ITEMS:
            raise InvalidRequest(
                f"the conversation has {len(known):,} items; at most {MOST_ITEMS:,} are kept",
                hint="start a new conversation, or delete items of this one",
                param="conversation",
            )
        rows: list[dict[str, object]] = []
        for at, one in enumerate(items):
            item_id, item = one.item_id, one.item
            while item_id in known:
                item_id = f"{item_id}_{to.next_place + at}"
            known.add(item_id)
            if item_id != one.item_id:
                item = head_of(item_id) + item.removeprefix(head_of(one.item_id))
            rows.append(
                {
                    "conversation_id": to.conversation_id,
                    "place": to.next_place + at,
                    "item_id": item_id,
                    "source": source,
                    "item": item,
                }
            )
        insert(connection, "conversation_item", *rows)
        execute(
            connection,
            "UPDATE conversation SET next_place = :next WHERE conversation_id = :id",
            id=to.conversation_id,
            next=to.next_place + len(rows),
        )
        _count(connection, to.conversation_id)
        kept = _one(connection, to.conversation_id)
        assert kept is not None  # this transaction holds it
        return kept


def _one(connection: Connection, conversation_id: str) -> Conversation | None:
    statement = f"SELECT {_COLUMNS} FROM conversation WHERE conversation_id = :id"
    row = execute(connection, statement, id=conversation_id).mappings().first()
    return None if row is None else Conversation(**row)


def _from(conversation_id: str, after: int | None, limit: int, *, oldest_first: bool) -> tuple[str, dict[str, object]]:
    """Return the end of an SQL statement that reads items, and its values."""
    way, beyond = ("ASC", ">") if oldest_first else ("DESC", "<")
    behind = "" if after is None else f"AND place {beyond} :after "
    values: dict[str, object] = {"id": conversation_id, "limit": limit} | ({} if after is None else {"after": after})
    return f"FROM conversation_item WHERE conversation_id = :id {behind}ORDER BY place {way} LIMIT :limit", values


def _item(row: Mapping[Any, Any]) -> KeptItem:
    return KeptItem(item_id=row["item_id"], place=row["place"], item=bytes(row["item"]))


def _count(connection: Connection, conversation_id: str) -> None:
    """Update the size of a conversation."""
    statement = (
        "UPDATE conversation SET num_bytes = (SELECT COALESCE(SUM(LENGTH(item)), 0) FROM conversation_item "
        "WHERE conversation_id = :id) WHERE conversation_id = :id"
    )
    execute(connection, statement, id=conversation_id)


def _drop(connection: Connection, gone: Sequence[dict[str, object]]) -> int:
    execute_many(connection, "DELETE FROM conversation_item WHERE conversation_id = :id", list(gone))
    return sum(
        execute(connection, "DELETE FROM conversation WHERE conversation_id = :id", **one).rowcount for one in gone
    )
