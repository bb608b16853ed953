"""Conversations in SQL: items in their order, which responses read and add to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ashore.errors import InvalidRequest
from ashore.jobs.model import ANY_MODEL
from ashore.jobs.quota import stored_bytes, tenant_lock, too_many_bytes
from ashore.jobs.reserve import check_room
from ashore.state import Database, execute, execute_many

if TYPE_CHECKING:
    from sqlalchemy import Connection

MOST_ITEMS: Final = 10_000
"""Of one conversation."""
_ITEMS: Final = "SELECT item_id, place, item FROM conversation_item"
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
    """A JSON object."""
    place: int = 0
    """Where it stands; the store sets it."""


class SqlConversations:
    """Conversations in the state. Every method is one transaction, and blocks; an event loop calls it on a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, new: Conversation, items: Sequence[KeptItem], *, most_bytes: int | None = None) -> Conversation:
        """Keep a new conversation with its first items. Raises as `append` does."""
        with self._database.write() as connection:
            execute(
                connection,
                f"INSERT INTO conversation ({_COLUMNS}) VALUES (:id, :tenant, :account, :models, :metadata, "
                ":created_ms, :expires_ms, 0, 0)",
                id=new.conversation_id,
                tenant=new.tenant,
                account=new.account,
                models=new.models,
                metadata=new.metadata,
                created_ms=new.created_ms,
                expires_ms=new.expires_ms,
            )
            return self._append(connection, new, items, source="", most_bytes=most_bytes)

    def get(self, conversation_id: str) -> Conversation | None:
        """Return a conversation; None where there is none, or no longer."""
        if "\0" in conversation_id:  # which Postgres cannot even be asked for
            return None
        with self._database.read() as connection:
            return _one(connection, conversation_id)

    def update(self, conversation_id: str, *, metadata: str, expires_ms: int) -> Conversation | None:
        """Replace what is said of a conversation; None where it is gone."""
        with self._database.write() as connection:
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
        """Add items behind the others; None where the conversation is gone.

        Args:
            conversation_id: Which one.
            items: In their order; one whose id is there already gets another id.
            expires_ms: When the conversation is dropped now.
            source: The response that they come from. The same again replaces what it added before, so that a response
                that had to be made twice is there once.
            model: The one that answered.
            most_bytes: What the tenant may store in all.

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

    def items(
        self,
        conversation_id: str,
        *,
        after: int | None = None,
        limit: int = MOST_ITEMS,
        oldest_first: bool = True,
    ) -> list[KeptItem]:
        """Return items by their order, behind the place `after` where given."""
        way, beyond = ("ASC", ">") if oldest_first else ("DESC", "<")
        where = "conversation_id = :id" + (f" AND place {beyond} :after" if after is not None else "")
        statement = f"{_ITEMS} WHERE {where} ORDER BY place {way} LIMIT :limit"
        values: dict[str, object] = {"id": conversation_id, "limit": limit}
        if after is not None:
            values["after"] = after
        with self._database.read() as connection:
            return [_item(row) for row in execute(connection, statement, **values).mappings()]

    def item(self, conversation_id: str, item_id: str) -> KeptItem | None:
        """Return one item."""
        if "\0" in item_id:
            return None
        statement = f"{_ITEMS} WHERE conversation_id = :id AND item_id = :item_id"
        with self._database.read() as connection:
            row = execute(connection, statement, id=conversation_id, item_id=item_id).mappings().first()
            return None if row is None else _item(row)

    def remove(self, conversation_id: str, item_id: str) -> bool:
        """Drop one item; False where there was none."""
        if "\0" in item_id:
            return False
        statement = "DELETE FROM conversation_item WHERE conversation_id = :id AND item_id = :item_id"
        with self._database.write() as connection:
            gone = execute(connection, statement, id=conversation_id, item_id=item_id).rowcount
            _count(connection, conversation_id)
            return bool(gone)

    def delete(self, conversation_id: str) -> bool:
        """Drop a conversation with its items; False where there was none."""
        with self._database.write() as connection:
            return bool(_drop(connection, [{"id": conversation_id}]))

    def prune(self, *, now_ms: int, limit: int) -> int:
        """Drop conversations that have expired; return how many went."""
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
        check_room(self._database, added)
        if most_bytes is not None:
            tenant_lock(connection, to.tenant)
            if (held := stored_bytes(connection, to.tenant)) + added > most_bytes:
                raise too_many_bytes(to.tenant, held, added, most_bytes)
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
            item_id = one.item_id
            while item_id in known:
                item_id = f"{item_id}_{to.next_place + at}"
            known.add(item_id)
            rows.append(
                {
                    "id": to.conversation_id,
                    "place": to.next_place + at,
                    "item_id": item_id,
                    "source": source,
                    "item": one.item,
                }
            )
        if rows:
            execute_many(
                connection,
                "INSERT INTO conversation_item (conversation_id, place, item_id, source, item) "
                "VALUES (:id, :place, :item_id, :source, :item)",
                rows,
            )
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


def _item(row: Mapping[Any, Any]) -> KeptItem:
    return KeptItem(item_id=row["item_id"], place=row["place"], item=bytes(row["item"]))


def _count(connection: Connection, conversation_id: str) -> None:
    """Bring the number of bytes of a conversation up to date."""
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
