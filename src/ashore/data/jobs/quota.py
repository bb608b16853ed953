"""Storage limits of tenants in the state: the errors, and the twin without limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from ashore.core.errors import BudgetExceeded
from ashore.kit.state import execute, is_postgres

if TYPE_CHECKING:
    from sqlalchemy import Connection

QuotaKind = Literal["queued_jobs", "stored_bytes"]
ROW_BYTES: Final = 512
"""What a row costs that may be empty: a conversation, an answer that may be voted on, a vote."""


class NoQuotas:
    """No limits."""

    def most(self, kind: QuotaKind, tenant: str) -> int | None:
        return None


def too_many_jobs(tenant: str, found: int, most: int) -> BudgetExceeded:
    """Return the error for one job too many."""
    return BudgetExceeded(
        f"tenant {tenant} has {found:,} unfinished jobs; its queued_jobs budget is {most:,}",
        hint="wait until some end, cancel some, or ask an administrator to raise the budget",
        facts=(("x-ashore-budget-limit", str(most)), ("x-ashore-budget-remaining", str(max(0, most - found)))),
    )


def too_many_bytes(tenant: str, found: int, wanted: int, most: int) -> BudgetExceeded:
    """Return the error for data that exceeds the tenant's limit."""
    return BudgetExceeded(
        f"tenant {tenant} stores {found:,} bytes; its stored_bytes budget is {most:,}, and this adds {wanted:,}",
        hint="delete files, responses and conversations that are not needed, or ask an administrator to raise the "
        "budget",
        facts=(("x-ashore-budget-limit", str(most)), ("x-ashore-budget-remaining", str(max(0, most - found)))),
    )


def stored_bytes(connection: Connection, tenant: str, *, without_file: str = "") -> int:
    """Return the bytes that a tenant stores in files, also in those on their way, conversations, jobs, answers open to
    votes, and votes; without one file if given."""
    statement = (
        "SELECT (SELECT COALESCE(SUM(num_bytes), 0) FROM stored_file WHERE tenant = :tenant "
        "AND file_id <> :without) "
        f"+ (SELECT COALESCE(SUM(num_bytes + LENGTH(metadata) + {ROW_BYTES}), 0) FROM conversation "
        "WHERE tenant = :tenant) + "
        + " + ".join(
            f"(SELECT COALESCE(SUM(num_bytes), 0) FROM {table} WHERE tenant = :tenant AND num_bytes > 0)"
            for table in ("job", "feedback_receipt", "feedback")
        )
    )
    return int(execute(connection, statement, tenant=tenant, without=without_file).scalar_one())


def check_stored(connection: Connection, tenant: str, added: int, most_bytes: int | None) -> None:
    """Check that a tenant may store so many more bytes, until the transaction ends. None: no limit.

    Raises:
        BudgetExceeded: it may not.
    """
    if most_bytes is not None:
        tenant_lock(connection, tenant)
        if (held := stored_bytes(connection, tenant)) + added > most_bytes:
            raise too_many_bytes(tenant, held, added, most_bytes)


def tenant_lock(connection: Connection, tenant: str) -> None:
    """Lock the tenant's usage until the transaction ends. SQLite has a single writer anyway."""
    if is_postgres(connection):
        name = f"quota {tenant}"
        execute(connection, "SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))", name=name)
