"""Shares of windows in the state, for several machines. On SQLite only tests have several machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from ashore.data.authority.budgets.layout import stored_subject
from ashore.data.authority.budgets.ports import Lease, Line, Part
from ashore.kit.state import Database, bump, execute, execute_many, is_postgres, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

WANT_EPOCH: Final = "budget_want"
"""Raised when a machine wants another's unused share."""
LEASE_S: Final = 10.0
"""A machine that is silent for so long counts as gone."""
WANT_LASTS_MS: Final = 1_000

_encode = msgspec.json.Encoder().encode
_subject = msgspec.json.Decoder(tuple[str, str, str, str]).decode


class SqlLeases:
    """Shares of windows, for several machines that have one authority. Each call is one transaction, on the
    database's clock."""

    def __init__(self, database: Database, *, lease_s: float = LEASE_S) -> None:
        self._database = database
        self._lease_ms = int(lease_s * 1000)

    def beat(self, source: str) -> bool:
        """Report that a machine is alive; return whether its lease never ran out since its last report."""
        with self._database.write() as connection:
            now_ms = _now_ms(connection)
            before = execute(
                connection, "SELECT expires_ms FROM budget_source WHERE source = :source", source=source
            ).scalar()
            row = {"source": source, "expires_ms": now_ms + self._lease_ms}
            upsert(connection, "budget_source", row, key="source")
            return before is not None and int(before) > now_ms

    def lease(self, source: str, line: Line, *, granted: int, wanted: int, asked_ms: int = 0) -> Lease:
        """Grant a machine at least `wanted` more of a count; if there is less, nothing.

        Args:
            source: The machine.
            line: The count.
            granted: Its current share.
            wanted: Amount beyond that.
            asked_ms: Time of its call to `want`; 0: none yet.
        """
        subject = _stored(line)
        with self._database.write() as connection:
            if is_postgres(connection):
                name = f"{line.rule_id} {line.starts_ms} {subject}"
                execute(connection, "SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))", name=name)
            now_ms = _now_ms(connection)
            rows = execute(
                connection,
                "SELECT c.source AS source, c.settled AS settled, c.opened AS opened, c.granted AS granted, "
                "c.answered_ms AS answered_ms, s.expires_ms AS expires_ms "
                "FROM budget_count c LEFT JOIN budget_source s ON s.source = c.source "
                "WHERE c.rule_id = :rule_id AND c.subject = :subject AND c.starts_ms = :starts_ms "
                "AND c.source <> :source",
                rule_id=line.rule_id,
                subject=subject,
                starts_ms=line.starts_ms,
                source=source,
            ).mappings()
            taken, others = 0, False
            for row in rows:
                settled, share = int(row["settled"]), int(row["granted"])
                if row["expires_ms"] is not None and int(row["expires_ms"]) > now_ms:
                    taken += max(settled, share)  # its open part is within its share, and its last report may be stale
                    silent = not asked_ms or int(row["answered_ms"]) < asked_ms
                    others = others or (silent and share > settled)
                elif line.part is not Part.CONCURRENCY:
                    taken += settled + int(row["opened"])
            free = line.cap - taken - granted
            if free >= wanted:
                granted += max(wanted, self._block(connection, line, subject, free, now_ms))
            execute(
                connection,
                "INSERT INTO budget_count (rule_id, subject, starts_ms, ends_ms, source, settled, opened, granted) "
                "VALUES (:rule_id, :subject, :starts_ms, :ends_ms, :source, 0, 0, :granted) "
                "ON CONFLICT (rule_id, subject, starts_ms, source) DO UPDATE SET granted = excluded.granted, "
                "answered_ms = CASE WHEN excluded.granted > budget_count.granted THEN 0 "
                "ELSE budget_count.answered_ms END",
                rule_id=line.rule_id,
                subject=subject,
                starts_ms=line.starts_ms,
                ends_ms=line.ends_ms,
                source=source,
                granted=granted,
            )
            return Lease(granted=granted, others=others)

    def _block(self, connection: Connection, line: Line, subject: str, free: int, now_ms: int) -> int:
        """Return the block size for a machine: a part of what is free; only what it needs if others wait."""
        tight = execute(
            connection,
            "SELECT 1 FROM budget_want WHERE rule_id = :rule_id AND subject = :subject AND starts_ms = :starts_ms "
            "AND asked_ms > :since",
            rule_id=line.rule_id,
            subject=subject,
            starts_ms=line.starts_ms,
            since=now_ms - WANT_LASTS_MS,
        ).first()
        if tight is not None:
            return 0
        count = "SELECT COUNT(*) FROM budget_source WHERE expires_ms > :now_ms"
        return free // (2 * max(1, int(execute(connection, count, now_ms=now_ms).scalar_one())))

    def want(self, source: str, line: Line) -> int:
        """Ask the other machines to return their unused part of a count; return the authority's time of the request."""
        with self._database.write() as connection:
            now_ms = _now_ms(connection)
            execute(connection, "DELETE FROM budget_want WHERE asked_ms < :old", old=now_ms - 10 * WANT_LASTS_MS)
            execute(
                connection,
                "INSERT INTO budget_want VALUES (:rule_id, :subject, :starts_ms, :part, :ends_ms, :source, :now_ms) "
                "ON CONFLICT (rule_id, subject, starts_ms, source) DO UPDATE SET asked_ms = excluded.asked_ms",
                rule_id=line.rule_id,
                subject=_stored(line),
                starts_ms=line.starts_ms,
                part=int(line.part),
                ends_ms=line.ends_ms,
                source=source,
                now_ms=now_ms,
            )
            bump(connection, WANT_EPOCH)
            return now_ms

    def wanted(self, source: str) -> tuple[int, Sequence[Line]]:
        """Return the authority's time, and the counts that other machines recently asked this one to return."""
        with self._database.read() as connection:
            now_ms = _now_ms(connection)
            rows = execute(
                connection,
                "SELECT * FROM budget_want WHERE asked_ms > :since AND source <> :source",
                since=now_ms - WANT_LASTS_MS,
                source=source,
            ).mappings()
            return now_ms, [
                Line(
                    rule_id=row["rule_id"],
                    subject=_subject(row["subject"]),
                    part=Part(int(row["part"])),
                    cap=0,
                    starts_ms=int(row["starts_ms"]),
                    ends_ms=int(row["ends_ms"]),
                )
                for row in rows
            ]

    def give_back(self, source: str, given: Iterable[tuple[Line, int]], *, heard_ms: int = 0) -> None:
        """Save what a machine keeps of counts, after it stopped using more.

        Args:
            source: The machine.
            given: By count, what it keeps.
            heard_ms: Time from `wanted`, taken before it read its usage: answers all requests up to then. 0: not an
                answer.
        """
        rows: list[dict[str, object]] = [
            {
                "granted": left,
                "heard_ms": heard_ms,
                "rule_id": line.rule_id,
                "subject": _stored(line),
                "starts_ms": line.starts_ms,
                "source": source,
            }
            for line, left in given
        ]
        if rows:
            with self._database.write() as connection:
                execute_many(
                    connection,
                    "UPDATE budget_count SET granted = :granted, "
                    "answered_ms = CASE WHEN :heard_ms > 0 THEN :heard_ms ELSE answered_ms END "
                    "WHERE rule_id = :rule_id AND subject = :subject "
                    "AND starts_ms = :starts_ms AND source = :source",
                    rows,
                )


def _stored(line: Line) -> str:
    return _encode(stored_subject(line.rule_id, line.subject)).decode()


def _now_ms(connection: Connection) -> int:
    """Return the database's own time, which all machines share."""
    if is_postgres(connection):
        return int(
            execute(connection, "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)").scalar_one()
        )
    return int(execute(connection, "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)").scalar_one())
