"""Receipts and votes in SQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ashore.data.feedback.model import Receipt, Vote
from ashore.data.jobs import ROW_BYTES
from ashore.kit.state import Database, execute, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

_RECEIPT: Final = tuple(field.name for field in fields(Receipt))
_VOTE: Final = tuple(field.name for field in fields(Vote))
PAGE_ROWS: Final = 500
PRUNE_ROWS: Final = 1_000


def save_receipts(connection: Connection, receipts: Iterable[Receipt]) -> None:
    """Store receipts, each replacing an older one of the same account and id."""
    rows = [{**asdict(one), "num_bytes": one.num_bytes} for one in receipts]
    upsert(connection, "feedback_receipt", *rows, key="tenant, account, answer_id")


def find_receipts(connection: Connection, tenant: str, answer_id: str, *, account: str, now_ms: int) -> list[Receipt]:
    """Return the unexpired receipts of an answer, of one account; an empty account means all."""
    where = " AND account = :account" if account else ""
    rows = execute(
        connection,
        f"SELECT {', '.join(_RECEIPT)} FROM feedback_receipt WHERE tenant = :tenant AND answer_id = :id "
        f"AND expires_ms > :now{where} ORDER BY made_ms DESC",
        tenant=tenant,
        id=answer_id,
        account=account,
        now=now_ms,
    ).mappings()
    return [Receipt(**{name: row[name] for name in _RECEIPT}) for row in rows]


def save_vote(connection: Connection, vote: Vote) -> Vote:
    """Store a vote in place of the same voter's earlier one on the same answer, keeping its id and first time; return
    the stored vote. An identical vote changes nothing.
    """
    before = find_vote(connection, vote.tenant, vote.account, vote.answer_id, vote.voter)
    if before is not None and before.said == vote.said:
        return before
    row = {**asdict(vote), "tags": msgspec.json.encode(vote.tags).decode(), "num_bytes": vote.num_bytes}
    kept_columns = ("feedback_id", "created_ms")
    upsert(connection, "feedback", row, key="tenant, account, answer_id, voter", keep=kept_columns)
    kept = find_vote(connection, vote.tenant, vote.account, vote.answer_id, vote.voter)
    assert kept is not None
    return kept


def remove_vote(connection: Connection, tenant: str, account: str, answer_id: str, voter: str) -> bool:
    """Drop a vote; return whether there was one."""
    done = execute(
        connection,
        "DELETE FROM feedback WHERE tenant = :tenant AND account = :account AND answer_id = :id AND voter = :voter",
        tenant=tenant,
        account=account,
        id=answer_id,
        voter=voter,
    )
    return bool(done.rowcount)


def find_vote(connection: Connection, tenant: str, account: str, answer_id: str, voter: str) -> Vote | None:
    """Return a voter's vote on an answer; None if there is none."""
    row = (
        execute(
            connection,
            f"SELECT {', '.join(_VOTE)} FROM feedback WHERE tenant = :tenant AND account = :account "
            "AND answer_id = :id AND voter = :voter",
            tenant=tenant,
            account=account,
            id=answer_id,
            voter=voter,
        )
        .mappings()
        .first()
    )
    return None if row is None else _vote(row)


def votes_on(database: Database, model: str, *, since_ms: int = 0) -> Iterator[Vote]:
    """Yield the votes on a model's answers that were given or changed since a moment, oldest first. Each page is a
    transaction of its own, so that a slow reader blocks no one.
    """
    after = (since_ms - 1, "\U0010ffff")
    while True:
        with database.read() as connection:
            rows = (
                execute(
                    connection,
                    f"SELECT {', '.join(_VOTE)} FROM feedback WHERE model = :model "
                    "AND (changed_ms, feedback_id) > (:ms, :id) ORDER BY changed_ms, feedback_id LIMIT :most",
                    model=model,
                    ms=after[0],
                    id=after[1],
                    most=PAGE_ROWS,
                )
                .mappings()
                .all()
            )
        yield from (found := [_vote(row) for row in rows])
        if len(found) < PAGE_ROWS:
            return
        after = (found[-1].changed_ms, found[-1].feedback_id)


def count_votes(connection: Connection) -> list[Mapping[str, Any]]:
    """Return how many votes there are, by tenant, model and release: ups, downs, corrections, and with text."""
    rows = execute(
        connection,
        "SELECT tenant, model, release, COUNT(*) AS votes, "
        "SUM(CASE WHEN rating = 'up' THEN 1 ELSE 0 END) AS up, "
        "SUM(CASE WHEN rating = 'down' THEN 1 ELSE 0 END) AS down, "
        "SUM(CASE WHEN correction <> '' THEN 1 ELSE 0 END) AS corrections, "
        "SUM(CASE WHEN key_id <> '' THEN 1 ELSE 0 END) AS with_text, "
        "COUNT(DISTINCT voter) AS voters "
        "FROM feedback GROUP BY tenant, model, release ORDER BY tenant, model, release",
    ).mappings()
    return [dict(row) for row in rows]


def prune(connection: Connection, *, now_ms: int, votes_before_ms: int) -> tuple[int, int]:
    """Delete some expired receipts and votes older than a moment; return how many of both."""
    receipts = execute(
        connection,
        "DELETE FROM feedback_receipt WHERE (tenant, account, answer_id) IN (SELECT tenant, account, answer_id "
        "FROM feedback_receipt WHERE expires_ms <= :now ORDER BY expires_ms LIMIT :most)",
        now=now_ms,
        most=PRUNE_ROWS,
    ).rowcount
    votes = execute(
        connection,
        "DELETE FROM feedback WHERE feedback_id IN "
        "(SELECT feedback_id FROM feedback WHERE changed_ms < :before LIMIT :most)",
        before=votes_before_ms,
        most=PRUNE_ROWS,
    ).rowcount
    return int(receipts), int(votes)


def forget_person(connection: Connection, tenant: str, person: str) -> tuple[int, int]:
    """Delete a person's receipts, the votes on their answers, and their votes on answers of others; return how many
    receipts and votes.
    """
    given = {"tenant": tenant, "person": person}
    receipts = execute(
        connection, "DELETE FROM feedback_receipt WHERE tenant = :tenant AND account = :person", **given
    ).rowcount
    votes = execute(
        connection, "DELETE FROM feedback WHERE tenant = :tenant AND (account = :person OR voter = :person)", **given
    ).rowcount
    return int(receipts), int(votes)


def tenants_with_texts(connection: Connection) -> list[str]:
    """Return the tenants with stored texts, in votes or receipts."""
    rows = execute(
        connection,
        "SELECT tenant FROM feedback WHERE key_id <> '' UNION SELECT tenant FROM feedback_receipt WHERE key_id <> ''",
    )
    return sorted(str(row.tenant) for row in rows)


def forget_texts(connection: Connection, tenant: str, *, bare: bool) -> tuple[int, int]:
    """Delete a tenant's receipts (those without texts only if `bare`) and the texts of its votes; return how many of
    both.
    """
    which = "" if bare else " AND key_id <> ''"
    receipts = execute(
        connection, f"DELETE FROM feedback_receipt WHERE tenant = :tenant{which}", tenant=tenant
    ).rowcount
    votes = execute(
        connection,
        "UPDATE feedback SET key_id = '', question = '', answer = '', correction = '', preferred = '', digest = '', "
        "num_bytes = :row WHERE tenant = :tenant AND key_id <> ''",
        tenant=tenant,
        row=ROW_BYTES,
    ).rowcount
    return int(receipts), int(votes)


def _vote(row: Mapping[Any, Any]) -> Vote:
    values = {name: row[name] for name in _VOTE}
    return Vote(**{**values, "tags": tuple(msgspec.json.decode(values["tags"]))})
