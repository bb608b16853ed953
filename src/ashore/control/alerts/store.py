"""Where a home keeps what it knows of its alerts: one row of the state, changed as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from ashore.control.alerts.model import Book
from ashore.kit.state import Database, execute, row_lock

if TYPE_CHECKING:
    from sqlalchemy import Connection

_decode: Final = msgspec.json.Decoder(Book).decode


class BookStore:
    """The book of one home. Thread-safe; blocks."""

    def __init__(self, database: Database, home: str) -> None:
        self.database = database
        self._home = home

    def read(self) -> Book:
        """Return the book; an empty one where there is none."""
        with self.database.read() as connection:
            return self._read(connection, lock=False)

    def change(self, how: Callable[[Book, Connection], Book], *, looked_s: float | None = None) -> Book:
        """Replace the book by `how(book, transaction)`, and return it. `how` may record an act in the transaction.

        Args:
            how: Returns the new book. What it raises leaves the old one.
            looked_s: When the home looked, in seconds since 1970; 0: it is stopped; None: as it was.
        """
        with self.database.write() as connection:
            book = how(self._read(connection, lock=True), connection)
            execute(
                connection,
                "INSERT INTO alert_book (home, looked_s, body) VALUES (:home, :looked_s, :body) ON CONFLICT (home) "
                "DO UPDATE SET body = excluded.body, looked_s = CASE WHEN :keeps = 1 THEN alert_book.looked_s "
                "ELSE excluded.looked_s END",
                home=self._home, looked_s=int(looked_s or 0), keeps=int(looked_s is None),
                body=msgspec.json.encode(book).decode(),
            )  # fmt: skip
            return book

    def homes(self) -> dict[str, float]:
        """Return when each home of the state last looked; those that were stopped are left out."""
        with self.database.read() as connection:
            rows = execute(connection, "SELECT home, looked_s FROM alert_book WHERE looked_s > 0").all()
        return {str(row.home): float(row.looked_s) for row in rows}

    def _read(self, connection: Connection, *, lock: bool) -> Book:
        select = "SELECT body FROM alert_book WHERE home = :home" + (row_lock(connection) if lock else "")
        body = execute(connection, select, home=self._home).scalar_one_or_none()
        return Book() if body is None else _decode(body)
