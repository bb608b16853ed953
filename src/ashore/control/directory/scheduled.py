"""When a directory is synced by itself: once a look finds a change, and at an interval.

Looks are cheap and are no jobs: one would be queued every half minute. A sync is a job of the schedule, so that one
home of a state does it at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from ashore.control.directory.section import DirectoriesSection, DirectorySection
from ashore.control.directory.sql import failing
from ashore.control.directory.syncing import Syncing
from ashore.control.jobs.schedule import Entry
from ashore.core.clock import Clock
from ashore.core.errors import AshoreError
from ashore.core.timespan import human_seconds
from ashore.data.authority import SYSTEM
from ashore.data.jobs.operations.asks import SyncIn
from ashore.data.jobs.schedule import Next, Turn, every
from ashore.kit.egress import Allowed
from ashore.kit.recorder import Recorder
from ashore.kit.state import Database

SYNC: Final = "directory sync"
TICK_S: Final = 1.0

log = logging.getLogger("ashore.directory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed:
    """What a look found."""

    at_ms: int
    why: str
    back: bool = False
    """Whether the directory answers again after it did not."""


class DirectorySchedule:
    """Implements `jobs.schedule.Source` for directories."""

    operations = (SYNC,)

    def __init__(
        self, database: Database, recorder: Recorder, clock: Clock, wake: Callable[[], None]
    ) -> None:  # fmt: skip
        """Create it, without directories. `wake`: has the schedule look at once."""
        self.section = DirectoriesSection()
        self._database, self._recorder, self._clock = database, recorder, clock
        self._syncing = Syncing(database, recorder, clock, ())
        self._wake = wake
        self._due_s: dict[str, float] = {}
        self._silent: set[str] = set()
        self._noticed: dict[str, Noticed] = {}

    def take(self, section: DirectoriesSection, allow: Sequence[Allowed]) -> None:
        """Follow these directories from now on. Blocks."""
        self.section, self._syncing = section, Syncing(self._database, self._recorder, self._clock, allow)
        with self._database.write() as connection:
            self._silent = failing(connection, [one.name for one in section.all])
        self._wake()

    def entries(self, now_ms: int) -> Iterable[Entry]:
        """See `Source`."""
        return [
            Entry(
                name=f"{SYNC} {one.name}", operation=SYNC, asked=SyncIn(directory=one.name),
                subject=f"directory/{one.name}", actor=lambda: SYSTEM, shared=True, due=partial(self._due, one),
                plan=f"when something changed there, and every {human_seconds(one.whole_every_s)}",
            )
            for one in self.section.all
        ]  # fmt: skip

    def _due(self, section: DirectorySection, turn: Turn, now_ms: int) -> Next:
        noticed = self._noticed.get(section.name)
        fresh = noticed is not None and noticed.at_ms > turn.began_ms
        if noticed is not None and fresh and (turn.state == "done" or noticed.back):
            return Next(due_ms=now_ms, why=noticed.why)
        return every(turn, section.whole_every_s, now_ms=now_ms)

    async def keep_looking(self) -> None:
        """Look at each directory at its interval, until cancelled."""
        while True:
            now_s = self._clock.monotonic_s()
            due = [one for one in self.section.all if self._due_s.get(one.name, now_s) <= now_s]
            self._due_s |= {one.name: now_s + one.every_s for one in due}
            await asyncio.gather(*map(self.look, due))
            await asyncio.sleep(TICK_S)

    async def look(self, section: DirectorySection) -> None:
        """Look at one directory now. One that does not answer changes nothing."""
        try:
            why = await self._syncing.look(section)
        except AshoreError as fault:
            if section.name not in self._silent:
                log.warning("cannot look at the directory %s: %s", section.name, fault.in_one_line)
            self._silent.add(section.name)
            return
        back = section.name in self._silent
        self._silent.discard(section.name)
        if why or back:
            at_ms = int(1000 * self._clock.now_s())
            self._noticed[section.name] = Noticed(at_ms=at_ms, why=why or "it answers again", back=back)
            self._wake()
