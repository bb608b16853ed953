"""Callbacks after a transaction has committed; dropped on a rollback."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlalchemy import Connection

_AFTER: Final = "ashore after commit"

Committed = Callable[[], None]


def after_commit(connection: Connection, do: Committed) -> None:
    """Call `do` once the transaction of `Database.write` has committed. It must return quickly and not raise."""
    connection.info[_AFTER].append(do)


def collect(connection: Connection) -> list[Committed]:
    """Return the list that `after_commit` fills in the transaction that starts now."""
    found: list[Committed] = []
    connection.info[_AFTER] = found
    return found


Record = Callable[["Connection"], None]
"""Records an act in the transaction that does it."""


def unrecorded(connection: Connection) -> None:
    """A `Record` that records nothing."""
