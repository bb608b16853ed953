"""Where a worker leads requests, as its threads read it from the state."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ashore.core.clock import ManualClock
from ashore.data.releases import ALIASES_EPOCH, Alias, AliasRoute
from ashore.data.releases.model import Moved
from ashore.data.releases.room import RouteKeeper
from ashore.data.releases.sql import write_moved
from ashore.kit.state import Database, open_database

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass
class Slow:
    """A database whose first reader gets what it read only when `go` is set, or after a moment."""

    database: Database
    go: threading.Event = field(default_factory=threading.Event)
    has_read: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        is_first = not self.has_read.is_set()
        with self.database.read() as connection:
            yield connection
        self.has_read.set()
        if is_first:
            self.go.wait(0.3)


@dataclass
class Taken:
    """Twin of the request path and of the watch."""

    last: str = ""
    changed: Any = None

    def take_routes(self, routes: Mapping[str, AliasRoute]) -> None:
        self.last = routes["chat"].weights[0][0]

    def on_change(self, callback: Any) -> None:
        self.changed = callback


def lead(database: Database, release: str, version: int) -> None:
    alias = Alias(name="chat", weights=((release, 1000),), version=version)
    with database.write() as connection:
        write_moved(connection, Moved(aliases=(alias,)))


def test_what_a_slow_thread_read_before_a_move_does_not_stand_behind_it(tmp_path: Path) -> None:
    database = open_database(tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
    lead(database, "chat-1", 1)
    slow, taken = Slow(database), Taken()

    async def use() -> None:
        keeper = RouteKeeper(taken, slow)  # type: ignore[arg-type]
        starting = asyncio.create_task(keeper.start(taken))  # type: ignore[arg-type]
        await asyncio.to_thread(slow.has_read.wait)
        lead(database, "chat-2", 2)
        await asyncio.to_thread(taken.changed, ALIASES_EPOCH, 2)  # the thread of the watch
        slow.go.set()
        await starting

    asyncio.run(use())
    assert taken.last == "chat-2"
    database.close()
