"""Port of the databases for the state."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Changes(Protocol):
    """Waits for commits announced with `announce`. Used by one thread."""

    def wait(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s`; return early if anything was announced since the last call, and whether it was.

        Raises:
            StateUnavailable: the database is unreachable now; the next call retries.
        """
        ...

    def close(self) -> None:
        """Close the connection. May be called twice."""
        ...


class Database(Protocol):
    """One open database. Thread-safe; each process opens its own."""

    @property
    def place(self) -> str:
        """Its location for operators: never a password."""
        ...

    def write(self) -> AbstractContextManager[Connection]:
        """Run a write transaction. It commits unless it raises.

        Raises:
            Overloaded: another process held the lock longer than the timeout.
            DiskFull: nothing was written.
            StateUnavailable: the database cannot be used.
        """
        ...

    def read(self) -> AbstractContextManager[Connection]:
        """Run a read transaction; it sees one snapshot and never waits."""
        ...

    def free_bytes(self) -> int | None:
        """Return how much may still be written, None if only the server knows."""
        ...

    def scrub(self) -> None:
        """Remove overwritten and deleted data from the database files, so that erased data cannot be read from an old
        page. May be called at any time, and twice. No-op on a server, whose files belong to its operator.

        Raises:
            Overloaded: a reader still uses the old data; call again.
        """
        ...

    def changes(self) -> Changes:
        """Return a new listener for announcements of any connection, of any process.

        Raises:
            StateUnavailable: the database cannot be reached.
        """
        ...

    def close(self) -> None:
        """Close every connection. May be called twice."""
        ...
