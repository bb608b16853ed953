"""Rules, counts and usage in the state, on SQLite and Postgres."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Final, cast

import msgspec

from ashore.data.authority.budgets.model import BudgetRule, Count, Kind, Usage, WindowName
from ashore.data.authority.budgets.ports import CountRow
from ashore.data.authority.budgets.usage import COLUMNS, NUMBERS, Column
from ashore.kit.state import Database, bump, execute, insert, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection


BUDGETS_EPOCH: Final = "budgets"
"""Bumped whenever a rule changes."""

_encode = msgspec.json.Encoder().encode
_subject = msgspec.json.Decoder(tuple[str, str, str, str]).decode


class SqlAuthority:
    """Durable rules, counts and usage. Each call is one transaction; all of them may be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def rules(self) -> tuple[BudgetRule, ...]:
        """Return every rule, sorted by name."""
        with self._database.read() as connection:
            rows = execute(connection, "SELECT * FROM budget_rule ORDER BY rule_id").mappings()
            return tuple(
                BudgetRule(
                    kind=cast(Kind, row["kind"]),
                    window=cast(WindowName, row["time_window"]),
                    cap=int(row["cap"]),
                    key=row["api_key"],
                    user=row["principal"],
                    tenant=row["tenant"],
                    model=row["model"],
                    offset_min=int(row["offset_min"]),
                )
                for row in rows
            )

    def put_rule(self, rule: BudgetRule, record: Callable[[Connection, bool], None] = lambda *_: None) -> bool:
        """Save a rule, and notify every process; return whether it is new. `record` is called in the transaction."""
        with self._database.write() as connection:
            known = execute(connection, "SELECT 1 FROM budget_rule WHERE rule_id = :name", name=rule.rule_id).first()
            row = {
                "rule_id": rule.rule_id,
                "kind": rule.kind,
                "time_window": rule.window,
                "cap": rule.cap,
                "api_key": rule.key,
                "principal": rule.user,
                "tenant": rule.tenant,
                "model": rule.model,
                "offset_min": rule.offset_min,
            }
            upsert(connection, "budget_rule", row, key="rule_id")
            bump(connection, BUDGETS_EPOCH)
            record(connection, known is None)
            return known is None

    def remove_rule(self, rule_id: str, record: Callable[[Connection], None] = lambda _: None) -> bool:
        """Remove a rule, and notify every process; return whether there was one. Its counts stay stored. `record` is
        called in the transaction, if there was one."""
        with self._database.write() as connection:
            gone = execute(connection, "DELETE FROM budget_rule WHERE rule_id = :name", name=rule_id).rowcount
            if gone:
                bump(connection, BUDGETS_EPOCH)
                record(connection)
            return bool(gone)

    def earlier(self, now_ms: int) -> tuple[CountRow, ...]:
        """Return the counts of earlier ledgers in windows that have not ended, open or settled.

        Open amounts are settled: no process is left that could release them.
        """
        with self._database.write() as connection:
            rows = execute(
                connection,
                "SELECT rule_id, subject, starts_ms, MAX(ends_ms) AS ends_ms, SUM(settled + opened) AS settled "
                "FROM budget_count GROUP BY rule_id, subject, starts_ms",
            ).mappings()
            merged = [dict(row) for row in rows if row["ends_ms"] == 0 or row["ends_ms"] > now_ms]
            execute(connection, "DELETE FROM budget_count")
            rest = {"source": "", "opened": 0}
            insert(connection, "budget_count", *({**row, **rest, "settled": int(row["settled"])} for row in merged))
        return tuple(
            CountRow(
                rule_id=row["rule_id"],
                subject=_subject(row["subject"]),
                starts_ms=int(row["starts_ms"]),
                ends_ms=int(row["ends_ms"]),
                settled=int(row["settled"]),
                open=0,
            )
            for row in merged
        )

    def report(self, source: str, counts: Iterable[CountRow], usages: Iterable[Usage]) -> None:
        """Save the counts of one ledger. The figures are totals of that ledger, so a repeated report is harmless."""
        count_rows: list[dict[str, object]] = [
            {
                "rule_id": row.rule_id,
                "subject": _encode(row.subject).decode(),
                "starts_ms": row.starts_ms,
                "ends_ms": row.ends_ms,
                "source": source,
                "settled": row.settled,
                "opened": row.open,
            }
            for row in counts
        ]
        usage_rows: list[dict[str, object]] = [
            {
                "day": usage.day,
                "tenant": usage.tenant,
                "principal": usage.user,
                "model": usage.model,
                "source": source,
                **{name: getattr(usage, name) for name in NUMBERS},
            }
            for usage in usages
        ]
        if not count_rows and not usage_rows:
            return
        with self._database.write() as connection:
            upsert(
                connection, "budget_count", *count_rows, key="rule_id, subject, starts_ms, source", keep=("ends_ms",)
            )
            upsert(connection, "usage_day", *usage_rows, key="day, tenant, principal, model, source")

    def forget(self, before_ms: int) -> None:
        """Delete the counts of windows that ended before a moment. Usage stays."""
        with self._database.write() as connection:
            execute(connection, "DELETE FROM budget_count WHERE ends_ms <> 0 AND ends_ms < :ms", ms=before_ms)

    def counts(self, rule_id: str, now_ms: int, *, least: float = 0) -> tuple[Count, ...]:
        """Return the counts of a rule in windows that have not ended, over all ledgers, from `least` on: a rule may
        count every user of a house."""
        with self._database.read() as connection:
            rows = execute(
                connection,
                "SELECT subject, starts_ms, MAX(ends_ms) AS ends_ms, SUM(settled) AS settled, SUM(opened) AS opened "
                "FROM budget_count WHERE rule_id = :rule_id AND (ends_ms = 0 OR ends_ms > :now_ms) "
                "GROUP BY subject, starts_ms HAVING SUM(settled) + SUM(opened) >= :least ORDER BY subject, starts_ms",
                rule_id=rule_id,
                now_ms=now_ms,
                least=math.ceil(least),
            ).mappings()
            return tuple(
                Count(
                    subject=_subject(row["subject"]),
                    starts_ms=int(row["starts_ms"]),
                    ends_ms=int(row["ends_ms"]),
                    settled=int(row["settled"]),
                    open=int(row["opened"]),
                )
                for row in rows
            )

    def usage(
        self, *, first_day: str, last_day: str, tenant: str = "", user: str = "", by: Collection[Column] = COLUMNS
    ) -> tuple[Usage, ...]:
        """Return usage by day, tenant, user and model or by some of them, both days included."""
        sums = ", ".join(f"SUM({name}) AS {name}" for name in NUMBERS)
        group = ", ".join("principal" if name == "user" else name for name in COLUMNS if name in by)
        with self._database.read() as connection:
            rows = execute(
                connection,
                f"SELECT {group}, {sums} FROM usage_day "
                "WHERE day >= :first_day AND day <= :last_day AND (:tenant = '' OR tenant = :tenant) "
                f"AND (:user = '' OR principal = :user) GROUP BY {group} ORDER BY {group}",
                first_day=first_day,
                last_day=last_day,
                tenant=tenant,
                user=user,
            ).mappings()
            return tuple(
                Usage(
                    day=row["day"] if "day" in by else "",
                    tenant=row["tenant"] if "tenant" in by else "",
                    user=row["principal"] if "user" in by else "",
                    model=row["model"] if "model" in by else "",
                    **{name: int(row[name]) for name in NUMBERS},
                )
                for row in rows
            )
