"""What work that clients hand in leaves on the disk: the state also holds keys, and the ends of what already runs.

SQLite keeps everything in one file. One that has filled its disk cannot even delete, for that is written first too; so
new work stops early, and what is there can still end, expire and be removed.
"""

from __future__ import annotations

from typing import Final

from ashore.errors import DiskFull
from ashore.state import Database

RESERVED_BYTES: Final = 256 << 20
"""Room for the write-ahead log of some large transactions, and for results of what runs."""


def check_room(database: Database, num_bytes: int) -> None:
    """Return when `num_bytes` of new work may be kept.

    Raises:
        DiskFull: the rest of the disk is reserved.
    """
    free = database.free_bytes()
    if free is not None and free < RESERVED_BYTES + num_bytes:
        raise DiskFull(
            f"the state disk has {free >> 20:,} MiB free; uploads and jobs must leave {RESERVED_BYTES >> 20} MiB",
            hint="free some space, or delete files and results that are not needed",
        )
