"""Disk reserve that client work must leave free: the state also holds keys, and results of running work.

SQLite keeps everything in one file. On a full disk it cannot even delete, because deletes are written first. So new
work is refused early, and existing work can still end, expire and be removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ashore.core.errors import DiskFull
from ashore.data.jobs.quota import stored_bytes
from ashore.kit.state import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection

RESERVED_BYTES: Final = 256 << 20
"""Room for the write-ahead log of some large transactions, and for results of what runs."""
SHARED_BYTES: Final = 256 << 20
"""Of the disk before the reserve: only tenants that store no more than this may fill it, so that one that stores all it
can stops nobody else."""


def check_room(database: Database, num_bytes: int, *, of: tuple[Connection, str] | None = None) -> None:
    """Check that `num_bytes` of new work fit.

    Args:
        database: Database on the disk.
        num_bytes: Of the new work.
        of: The transaction and the tenant: one that stores much leaves room for others.

    Raises:
        DiskFull: the rest of the disk is reserved, or left to tenants that store less.
    """
    free = database.free_bytes()
    if free is None or free >= RESERVED_BYTES + SHARED_BYTES + num_bytes:
        return
    hint = "free some space, or delete files and results that are not needed"
    if free < RESERVED_BYTES + num_bytes:
        raise DiskFull(
            f"the state disk has {free >> 20:,} MiB free; uploads and jobs must leave {RESERVED_BYTES >> 20} MiB",
            hint=hint,
        )
    if of is not None and (stores := stored_bytes(*of)) + num_bytes > SHARED_BYTES:
        raise DiskFull(
            f"the state disk has {free >> 20:,} MiB free, and tenant {of[1]} stores {stores >> 20:,} MiB; the last "
            f"{(RESERVED_BYTES + SHARED_BYTES) >> 20} MiB are left to tenants that store less than "
            f"{SHARED_BYTES >> 20} MiB",
            hint=hint,
        )
