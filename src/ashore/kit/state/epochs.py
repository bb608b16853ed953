"""Epochs: one number per kind of thing (`policy`, `keys`, `aliases`, `purges`) that signals changes to every process.

A change of something that others cache bumps its epoch in the same transaction. Nothing needs to be invalidated: cache
keys contain the epoch, so old ones are never requested again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from ashore.core.errors import AshoreError
from ashore.kit.state.ports import Changes, Database
from ashore.kit.state.statement import announce, execute

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = logging.getLogger("ashore.state")

LOOK_EVERY_S = 0.1
DEAF_S = 1.0
"""Longest time without a read, though nothing was heard: a network may have dropped the connection that listens, and
says so to nobody."""
"""Longest time between two looks; with the read that follows, a change is known within `IN_FORCE_S`."""
IN_FORCE_S = 0.2
"""Within this time every process of the state knows of a change."""
RETRY_S = 1.0
"""Pause after the database could not be asked."""

OnChange = Callable[[str, int], None]
"""Called with the kind and its new value. One that raises is called again until it does not."""


def bump(connection: Connection, kind: str) -> int:
    """Increment the epoch of `kind` and return it. Others see it when the transaction commits."""
    statement = (
        "INSERT INTO epoch (kind, value) VALUES (:kind, 1) "
        "ON CONFLICT (kind) DO UPDATE SET value = epoch.value + 1 RETURNING value"
    )
    value = int(execute(connection, statement, kind=kind).scalar_one())
    announce(connection)
    return value


def read_epochs(connection: Connection) -> dict[str, int]:
    """Return every epoch; a kind that was never bumped is absent and counts as 0."""
    rows = execute(connection, "SELECT kind, value FROM epoch").mappings()
    return {str(row["kind"]): int(row["value"]) for row in rows}


class EpochWatch:
    """Caches every epoch of a database: a thread polls for changes on its own connection."""

    def __init__(self, database: Database, *, look_every_s: float = LOOK_EVERY_S) -> None:
        self._database = database
        self._look_every_s = look_every_s
        self._known: Mapping[str, int] = MappingProxyType({})
        self._callbacks: list[OnChange] = []
        self._owed: dict[tuple[OnChange, str], int] = {}
        """What somebody is still to be told, for it could not be taken."""
        self._reading = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def on_change(self, callback: OnChange) -> None:
        """Call `callback` after each change, on the thread of the watch. Register before reading the data.

        It must return soon; in an event loop, pass the call on with `call_soon_threadsafe`. If it cannot handle the
        change now, because the database is busy or down, it raises: it is called again, and other callbacks are not
        delayed.
        """
        self._callbacks.append(callback)

    def get(self, kind: str) -> int:
        """Return the epoch of `kind` as last seen, 0 if never bumped. No I/O; thread-safe."""
        return self._known.get(kind, 0)

    def start(self) -> EpochWatch:
        """Read every epoch, start watching, and return itself. Call once.

        Raises:
            AshoreError: the database cannot be read.
        """
        changes = self._database.changes()
        try:
            self._read(tell=False)
        except BaseException:
            changes.close()
            raise
        self._thread = threading.Thread(target=self._watch, args=(changes,), name="epochs", daemon=True)
        self._thread.start()
        return self

    def look(self) -> None:
        """Take every change that is committed by now: on return all callbacks have been called. Waits for the database;
        for any thread.

        Raises:
            AshoreError: the database cannot be read, or a callback could not take a change; it is called again.
        """
        self._read(tell=True)

    def close(self) -> None:
        """Stop watching; `get` keeps returning the last seen values. May be called twice."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _watch(self, changes: Changes) -> None:
        failed, due_s = False, 0.0
        try:
            while not self._stop.is_set():
                try:
                    if changes.wait(self._look_every_s) or failed or time.monotonic() >= due_s:
                        due_s = time.monotonic() + DEAF_S
                        self._read(tell=True)
                    failed = False
                except Exception as fault:  # outermost loop: callbacks that missed a change are called again
                    if not failed:
                        trace = None if isinstance(fault, AshoreError) else fault
                        log.warning(
                            "cannot apply a change yet, so the old values stay in use: %s", fault, exc_info=trace
                        )
                    failed = True
                    self._stop.wait(RETRY_S)
        finally:
            changes.close()

    def _read(self, *, tell: bool) -> None:
        with self._reading:
            with self._database.read() as connection:
                found = read_epochs(connection)
            changed = [(kind, value) for kind, value in found.items() if value != self._known.get(kind, 0)]
            self._known = MappingProxyType(found)
            if tell:
                self._owed |= {(callback, kind): value for kind, value in changed for callback in self._callbacks}
                self._tell()

    def _tell(self) -> None:
        fault: Exception | None = None
        for (callback, kind), value in list(self._owed.items()):
            try:
                callback(kind, value)
            except Exception as caught:  # noqa: BLE001 - the others are called first, and then it is raised
                fault = caught
            else:
                del self._owed[callback, kind]
        if fault is not None:
            raise fault
