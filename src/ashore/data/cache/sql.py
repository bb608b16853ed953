"""SQL of the cache: curated pairs, the secret of its hashes, and purges, which are epochs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ashore.core.errors import InvalidRequest
from ashore.data.cache.curated import plain
from ashore.data.cache.model import Pair
from ashore.data.cache.rules import ANY_PURGE_EPOCH, CURATED_EPOCH, PURGE_EPOCH, alias_epoch, entry_epoch, tenant_epoch
from ashore.kit.state import bump, execute, kept_secret, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

SECRET: Final = "cache"
ENTRY_ID_CHARS: Final = 16


def cache_secret(connection: Connection) -> bytes:
    """Return the key of every hash and signature of the cache, created at the first call. Needs a writing
    transaction."""
    return kept_secret(connection, SECRET)


def purge(connection: Connection, *, tenant: str = "", alias: str = "", entry_id: str = "") -> tuple[str, ...]:
    """Purge cached answers: of a tenant, of a model, one entry, or all; return the raised epoch.

    Takes effect in every process within 200 ms of the commit. Curated pairs stay. May be called twice.

    Raises:
        InvalidRequest: `entry_id` is not the name of an entry.
    """
    if entry_id and (len(entry_id) != ENTRY_ID_CHARS or not set(entry_id) <= set("0123456789abcdef")):
        raise InvalidRequest(
            f"{entry_id[:40]!r} is not the name of a cache entry",
            hint="use the 16 hexadecimal digits of the header x-ashore-cache-entry",
        )
    kinds = []
    if tenant:
        kinds.append(tenant_epoch(tenant))
    if alias:
        kinds.append(alias_epoch(alias))
    if entry_id:
        kinds.append(entry_epoch(entry_id))
    for kind in (*(kinds or [PURGE_EPOCH]), ANY_PURGE_EPOCH):
        bump(connection, kind)
    return tuple(kinds or [PURGE_EPOCH])


def save_pairs(connection: Connection, pairs: Iterable[Pair]) -> int:
    """Save curated pairs, each replacing an older one with the same question; return how many were given."""
    rows: list[dict[str, object]] = [
        {
            "tenant": pair.tenant,
            "alias": pair.alias,
            "plain": plain(pair.question),
            "question": pair.question,
            "answer": pair.text,
            "pinned": int(pair.pinned),
            "created_s": pair.created_s,
            "expires_s": None if pair.expires_at_s is None else int(pair.expires_at_s),
        }
        for pair in pairs
    ]
    upsert(connection, "curated_answer", *rows, key="tenant, alias, plain")
    bump(connection, CURATED_EPOCH)
    bump(connection, ANY_PURGE_EPOCH)
    return len(rows)


def remove_pairs(connection: Connection, *, tenant: str = "", alias: str = "", question: str = "") -> int:
    """Delete the curated pairs of a tenant, of an alias, of a question, or all; return how many there were."""
    named = {"tenant": tenant, "alias": alias, "plain": plain(question)}
    values = {name: value for name, value in named.items() if value}
    where = " AND ".join(f"{name} = :{name}" for name in values) or "1 = 1"
    removed = execute(connection, f"DELETE FROM curated_answer WHERE {where}", **values).rowcount
    bump(connection, CURATED_EPOCH)
    bump(connection, ANY_PURGE_EPOCH)
    return int(removed)


def load_pairs(connection: Connection) -> tuple[Pair, ...]:
    """Return every curated pair."""
    rows = execute(connection, "SELECT * FROM curated_answer").mappings()
    return tuple(
        Pair(
            tenant=row["tenant"],
            alias=row["alias"],
            question=row["question"],
            text=row["answer"],
            pinned=bool(row["pinned"]),
            created_s=int(row["created_s"]),
            expires_at_s=None if row["expires_s"] is None else float(row["expires_s"]),
        )
        for row in rows
    )
