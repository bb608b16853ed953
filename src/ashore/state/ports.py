"""What differs between the databases that ashore keeps its state in."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Changes(Protocol):
    """Tells that somebody committed what others wait for (`announce`). Used by one thread."""

    def wait(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s`; return, as soon as it is known, whether anything was announced since the last call.

        Raises:
            StateUnavailable: the database cannot be asked now; the next call tries again.
        """
        ...

    def close(self) -> None:
        """Give up the connection. May be called twice."""
        ...


class Database(Protocol):
    """One open database. Safe to use from several threads; each process opens its own."""

    @property
    def place(self) -> str:
        """Where it is, as an operator may read it: never a password."""
        ...

    def write(self) -> AbstractContextManager[Connection]:
        """Run one transaction that may write. It commits unless it raises.

        Raises:
            Overloaded: another process held the lock longer than the timeout.
            DiskFull: nothing was written.
            StateUnavailable: the database cannot be used.
        """
        ...

    def read(self) -> AbstractContextManager[Connection]:
        """Run one transaction that only reads; it sees one moment and waits for nobody."""
        ...

    def free_bytes(self) -> int | None:
        """Return how much may still be written, None where only the server knows."""
        ...

    def scrub(self) -> None:
        """Leave nothing in the files of the database that was overwritten or deleted before: what was erased shall not
        be read from an old page. May be called at any time, and twice. On a server, whose files are its operator's,
        nothing happens.

        Raises:
            Overloaded: somebody still reads what was there before; call it again.
        """
        ...

    def changes(self) -> Changes:
        """Return a new listener for what any connection announces, ours and those of other processes.

        Raises:
            StateUnavailable: the database cannot be reached.
        """
        ...

    def close(self) -> None:
        """Close every connection. May be called twice."""
        ...
