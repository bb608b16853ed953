"""Caps of what a tenant stores and queues, for a process that counts no requests."""

from __future__ import annotations

import threading

from ashore.data.authority.budgets.model import Kind
from ashore.data.authority.budgets.rulebook import RuleBook
from ashore.data.authority.budgets.sql import SqlAuthority


class Caps:
    """The caps in the state, in memory. Thread-safe."""

    def __init__(self, authority: SqlAuthority) -> None:
        self._authority = authority
        self._book = RuleBook(())
        self._reading = threading.Lock()

    def reread(self) -> None:
        """Read them again. Waits for the database."""
        with self._reading:  # the last read wins
            self._book = RuleBook(self._authority.rules())

    def most(self, kind: Kind, tenant: str) -> int | None:
        """Return a tenant's cap of a kind, None without one. Never blocks."""
        return self._book.most(kind, tenant)
