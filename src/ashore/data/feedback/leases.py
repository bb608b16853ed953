"""One run at a time across all nodes of a state: a lease in SQL.

A thread renews the lease. A node that fails to renew it before it expires loses it, and its run ends after the current
step.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, Conflict
from ashore.kit.state import Database, execute

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = logging.getLogger("ashore.learning")

LEASE_S: Final = 60.0
AHEAD_S: Final = 600.0
"""A lease that runs out later than this is of a node whose clock was wrong, and holds up nobody."""
RENEW_S: Final = 15.0
_NAME: Final = "run"


class Lease:
    """The right to run. Thread-safe."""

    def __init__(self, database: Database, clock: Clock, *, owner: str, until_ms: int) -> None:
        self._database, self._clock, self._owner = database, clock, owner
        self._until_s = clock.monotonic_s() + (until_ms / 1000 - clock.now_s())
        """By the clock that nobody sets."""
        self._ended = threading.Event()
        self._gone = False

    @property
    def is_lost(self) -> bool:
        """Whether another node may run by now."""
        return self._gone or self._clock.monotonic_s() >= self._until_s

    def renew(self) -> None:
        """Extend the lease by `LEASE_S`; it is lost if another node has it."""
        until_s, until_ms = self._clock.monotonic_s() + LEASE_S, int((self._clock.now_s() + LEASE_S) * 1000)
        with self._database.write() as connection:
            done = execute(
                connection,
                "UPDATE learning_lease SET until_ms = :until WHERE name = :name AND owner = :owner",
                until=until_ms,
                name=_NAME,
                owner=self._owner,
            )
        if done.rowcount:
            self._until_s = until_s
        else:
            self._gone = True

    def keep(self) -> None:
        """Renew it until `end`."""
        while not self._ended.wait(RENEW_S):
            try:
                self.renew()
            except AshoreError as fault:
                log.warning("cannot renew the lease of learning: %s", fault.message)

    def end(self) -> None:
        self._ended.set()


@contextmanager
def leased(database: Database, clock: Clock, *, owner: str, holder: str) -> Iterator[Lease]:
    """Hold the lease of learning while the block runs.

    Args:
        database: The state that nodes share.
        clock: Of this node; those of all nodes agree to some seconds.
        owner: Name of this home; it may take over a lease that it left when it was killed.
        holder: Its name in errors.

    Raises:
        Conflict: another node has it.
    """
    now_ms = int(clock.now_s() * 1000)
    until_ms = now_ms + int(LEASE_S * 1000)
    with database.write() as connection:
        done = execute(
            connection,
            "INSERT INTO learning_lease (name, owner, holder, until_ms) VALUES (:name, :owner, :holder, :until) "
            "ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, holder = excluded.holder, "
            "until_ms = excluded.until_ms WHERE learning_lease.until_ms <= :now OR learning_lease.until_ms > :ahead "
            "OR learning_lease.owner = :owner",
            name=_NAME,
            owner=owner,
            holder=holder,
            until=until_ms,
            now=now_ms,
            ahead=now_ms + int(AHEAD_S * 1000),
        )
        if not done.rowcount:
            raise Conflict(
                f"another run is under way on {holder_of(connection, now_ms=now_ms)}",
                hint="wait for it to end, or `ashore learn pause` its model",
            )
    lease = Lease(database, clock, owner=owner, until_ms=until_ms)
    keeping = threading.Thread(target=lease.keep, name="lease of learning", daemon=True)
    keeping.start()
    try:
        yield lease
    finally:
        lease.end()
        keeping.join()
        with database.write() as connection:
            execute(connection, "DELETE FROM learning_lease WHERE name = :name AND owner = :owner", name=_NAME,
                    owner=owner)  # fmt: skip


def holder_of(connection: Connection, *, now_ms: int) -> str:
    """Return where a run is active; empty if none is."""
    row = execute(connection, "SELECT holder, until_ms FROM learning_lease WHERE name = :name", name=_NAME).first()
    is_held = row is not None and now_ms < row.until_ms <= now_ms + AHEAD_S * 1000
    return str(row.holder) if row is not None and is_held else ""


def num_fresh(connection: Connection, model: str, *, since_ms: int) -> int:
    """Return how many votes with texts were given or changed since a moment."""
    return int(
        execute(
            connection,
            "SELECT COUNT(*) FROM feedback WHERE model = :model AND changed_ms >= :since AND key_id <> ''",
            model=model,
            since=since_ms,
        ).scalar_one()
    )


def models_with_votes(connection: Connection) -> list[str]:
    """Return the aliases whose answers were voted on with texts."""
    rows = execute(connection, "SELECT DISTINCT model FROM feedback WHERE key_id <> '' ORDER BY model")
    return [str(row.model) for row in rows]
