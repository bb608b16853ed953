"""Queues what is due, follows its job, and writes down what came of it.

One process of a home keeps the schedule; homes on one state take turns by the rows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

import msgspec

from ashore.control.jobs.office import JobOffice
from ashore.control.jobs.operations.calls import BY_NAME, submit
from ashore.core.errors import AshoreError, HomeBusy, NotFound, Overloaded
from ashore.data.jobs import Job, new_id
from ashore.data.jobs.operations.model import RESULT, kind_of, progress_of
from ashore.data.jobs.schedule.rows import Turn, claim, end, note_plan, read_turns, see
from ashore.data.jobs.schedule.rules import AGAIN_S, Next
from ashore.kit.call import Actor
from ashore.kit.state import Database

log = logging.getLogger("ashore.schedule")

LOOK_S: Final = 30.0
"""Longest time between two looks: votes come, nodes come back."""
FOLLOW_S: Final = 1.0
"""Between two looks at a job that is under way."""
UNTAKEN_S: Final = 3600.0
"""A job that no worker took for so long is cancelled, and its turn is due again: its home may be gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something that is queued by itself."""

    name: str
    """Of its row."""
    operation: str
    """NOUN WORD."""
    asked: msgspec.Struct
    subject: str
    """On what: `model/chat`."""
    plan: str
    """When, in words: `every 24 h`."""
    due: Callable[[Turn, int], Next]
    """Returns when it begins after this turn, which is not under way, by the time in milliseconds."""
    actor: Callable[[], Actor]
    """Returns in whose name it is queued. Its rights are checked as if it had asked, but for those of ashore itself."""
    shared: bool = False
    """Whether all homes of the state take turns."""
    ends_anyhow: bool = True
    """Whether a turn counts as done if its result is that something is wrong; else it is repeated as one that failed.
    """


class Source(Protocol):
    """What a room has queued."""

    @property
    def operations(self) -> Sequence[str]:
        """The operations of its entries."""
        ...

    def entries(self, now_ms: int) -> Iterable[Entry] | None:
        """Return what is scheduled; None if it cannot run here, but another home of the state may run it. May block."""
        ...


class Schedule:
    """The one schedule of a server."""

    def __init__(self) -> None:
        self._sources: list[Source] = []
        self._news = asyncio.Event()

    def add(self, source: Source) -> None:
        """Add what a room has queued. Before `keep`."""
        self._sources.append(source)

    def wake(self) -> None:
        """Look at once: ashore.toml was read again."""
        self._news.set()

    async def keep(self, database: Database, office: JobOffice) -> None:
        """Queue what is due until cancelled. What cannot be queued now is tried again."""
        while True:
            self._news.clear()
            try:
                left_s = await asyncio.to_thread(self.step, database, office)
            except AshoreError as fault:
                log.warning("cannot look what is due: %s; again in %g s", fault.message, AGAIN_S)
                left_s = AGAIN_S
            try:
                async with asyncio.timeout(left_s):
                    await self._news.wait()
            except TimeoutError:
                continue

    def step(self, database: Database, office: JobOffice) -> float:
        """Queue what is due, and return the seconds until the next look. Blocks."""
        now_ms, left_s = office.queue.now_ms(), LOOK_S
        due: list[tuple[int, Entry, Turn, Next]] = []
        for source in self._sources:
            entries = source.entries(now_ms)
            if entries is None:
                continue
            listed = {(_home(entry, office), entry.name): entry for entry in entries}
            for turn in read_turns(database, office.home):
                if turn.operation in source.operations and (turn.home, turn.name) not in listed:
                    if self._settle(database, office, turn, None).state == "running":
                        _cancel_own(office, turn)
                    note_plan(database, turn, "", None)
            for (home, _), entry in listed.items():
                first = Turn(name=entry.name, home=home, operation=entry.operation, seen_ms=now_ms)
                turn = self._settle(database, office, see(database, first), entry)
                if turn.state == "running":
                    left_s = min(left_s, FOLLOW_S)
                    continue
                found = entry.due(turn, now_ms)
                note_plan(database, turn, entry.plan, found.due_ms)
                if found.due_ms is not None and found.due_ms <= now_ms:
                    due.append((found.due_ms, entry, turn, found))
                elif found.due_ms is not None:
                    left_s = min(left_s, (found.due_ms - now_ms) / 1000)
        for _, entry, turn, found in sorted(due, key=lambda one: (one[0], one[1].name)):
            left_s = min(left_s, FOLLOW_S)
            self._begin(database, office, entry, turn, found)
        return left_s

    def _begin(self, database: Database, office: JobOffice, entry: Entry, seen: Turn, found: Next) -> None:
        """Queue a turn. It is written down first, with the id of its job, so that nobody queues it twice."""
        now_ms, tries = office.queue.now_ms(), seen.tries + 1 if seen.state == "interrupted" else 1
        begun = replace(seen, began_ms=now_ms, state="running", tries=tries, job_id=new_id("op_"), says="")
        if not claim(database, seen, begun):
            return None
        if found.skip:
            return end(database, replace(begun, state="done", ended_ms=now_ms, says=found.skip))
        call = BY_NAME[entry.operation]
        try:
            actor = entry.actor()
            if actor.principal.kind != "internal":
                office.rights.require(actor.principal, call.action, entry.subject)
            submit(office, actor, entry.operation, call.action, entry.subject, entry.asked, job_id=begun.job_id)
        except Overloaded as fault:
            log.info("%s waits: %s", entry.name, fault.message)
            end(database, replace(begun, state="interrupted", says=fault.message))
        except AshoreError as fault:
            log.error("%s cannot be queued: %s", entry.name, fault.in_one_line)
            end(database, _ended(begun, now_ms, failed=True, says=fault.in_one_line))
        else:
            log.info("%s (%s): ashore job show %s --follow", entry.name, found.why or entry.plan, begun.job_id)

    def _settle(self, database: Database, office: JobOffice, turn: Turn, entry: Entry | None) -> Turn:
        """Return a turn as it is now: ended, if its job has."""
        if turn.state != "running":
            return turn
        now_ms = office.queue.now_ms()
        try:
            job = office.queue.get(turn.job_id, tenant=None)
        except NotFound:
            if 0 <= now_ms - turn.began_ms < AGAIN_S * 1000 and turn.job_id:
                return turn  # another home has written it down, and is queueing it
            ended = replace(turn, state="interrupted", says="it was cut off")
        else:
            if not job.final:
                if job.state == "queued" and now_ms - turn.began_ms > UNTAKEN_S * 1000:
                    office.queue.cancel(job.job_id)
                return turn
            ended = outcome_of(turn, job, ends_anyhow=entry is None or entry.ends_anyhow)
            log.log(logging.WARNING if ended.state == "failed" else logging.INFO, "%s: %s", turn.name, ended.says)
        end(database, ended)
        return ended


def _cancel_own(office: JobOffice, turn: Turn) -> None:
    """Cancel the job of what was switched off, unless it is that of another home."""
    with suppress(NotFound):
        if office.queue.get(turn.job_id, tenant=None).kind == kind_of(turn.operation, office.home):
            office.queue.cancel(turn.job_id)


def outcome_of(turn: Turn, job: Job, *, ends_anyhow: bool = True) -> Turn:
    """Return a turn with the end of its job."""
    at_ms, progress = job.finished_ms or 0, progress_of(job.progress)
    if progress.stage == RESULT and (job.state == "succeeded" or job.error_code == "operation_failed"):
        return _ended(turn, at_ms, failed=job.state != "succeeded" and not ends_anyhow, says=progress.says)
    says = f"{job.job_id} {job.state}" + (f": {job.error_message}" if job.error_message else "")
    if job.state == "cancelled":
        is_untaken = job.started_ms is None and at_ms - turn.began_ms > UNTAKEN_S * 1000
        return replace(turn, state="interrupted" if is_untaken else "done", ended_ms=at_ms, says=says)
    if job.state == "interrupted" or job.error_code == HomeBusy.code:
        return replace(turn, state="interrupted", ended_ms=at_ms, says=says)
    return _ended(turn, at_ms, failed=job.state != "succeeded", says=says)


def _ended(turn: Turn, at_ms: int, *, failed: bool, says: str) -> Turn:
    return replace(
        turn,
        state="failed" if failed else "done",
        ended_ms=at_ms,
        good_ms=turn.good_ms if failed else at_ms,
        failures=turn.failures + 1 if failed else 0,
        says=says,
    )


def _home(entry: Entry, office: JobOffice) -> str:
    return "" if entry.shared else office.home
