"""What a tenant may fill of the state: the refusals, and the twin that bounds nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from ashore.errors import BudgetExceeded
from ashore.state import execute, is_postgres

if TYPE_CHECKING:
    from sqlalchemy import Connection

QuotaKind = Literal["queued_jobs", "stored_bytes"]
ROW_BYTES: Final = 512
"""What a row costs that may be empty: a conversation, an answer that may be voted on, a vote."""


class NoQuotas:
    """Nobody is bounded."""

    def most(self, kind: QuotaKind, tenant: str) -> int | None:
        return None


def too_many_jobs(tenant: str, found: int, most: int) -> BudgetExceeded:
    """Return the refusal of a job that would be one too many."""
    return BudgetExceeded(
        f"tenant {tenant} has {found:,} unfinished jobs; its queued_jobs budget is {most:,}",
        hint="wait until some end, cancel some, or ask an administrator to raise the budget",
        facts=(("x-ashore-budget-limit", str(most)), ("x-ashore-budget-remaining", str(max(0, most - found)))),
    )


def too_many_bytes(tenant: str, found: int, wanted: int, most: int) -> BudgetExceeded:
    """Return the refusal of what a tenant has no room for."""
    return BudgetExceeded(
        f"tenant {tenant} stores {found:,} bytes; its stored_bytes budget is {most:,}, and this adds {wanted:,}",
        hint="delete files, responses and conversations that are not needed, or ask an administrator to raise the "
        "budget",
        facts=(("x-ashore-budget-limit", str(most)), ("x-ashore-budget-remaining", str(max(0, most - found)))),
    )


def stored_bytes(connection: Connection, tenant: str, *, without_file: str = "") -> int:
    """Return the bytes that a tenant keeps in files, conversations, jobs, answers that may be voted on and votes;
    one file left out where given."""
    statement = (
        "SELECT (SELECT COALESCE(SUM(num_bytes), 0) FROM stored_file WHERE tenant = :tenant AND complete = 1 "
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
    """Return where a tenant may store so many bytes more, until the transaction ends. None: it is not bounded.

    Raises:
        BudgetExceeded: it may not.
    """
    if most_bytes is not None:
        tenant_lock(connection, tenant)
        if (held := stored_bytes(connection, tenant)) + added > most_bytes:
            raise too_many_bytes(tenant, held, added, most_bytes)


def tenant_lock(connection: Connection, tenant: str) -> None:
    """Let nobody else add to what a tenant has until the transaction ends. SQLite's writer is alone anyway."""
    if is_postgres(connection):
        name = f"quota {tenant}"
        execute(connection, "SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))", name=name)
