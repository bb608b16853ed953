"""A schedule over a scratch state, whose jobs are done here as soon as they are queued."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from ashore.cli.bootstrap.operations import Shown
from ashore.control.jobs.office import JobOffice
from ashore.control.jobs.schedule import Entry, Schedule, Source
from ashore.core.clock import ManualClock
from ashore.core.errors import AshoreError, PermissionDenied
from ashore.core.ids import TenantId
from ashore.core.principal import Principal
from ashore.data.jobs import Done, Failed, Job, JobQueue, Lease, Outcome, SqlJobs
from ashore.data.jobs.operations.asks import LearnIn
from ashore.data.jobs.operations.model import NAMES, RESULT, Progress, Request, kind_of
from ashore.data.jobs.schedule import Turn, every, read_turns
from ashore.kit.call import Actor
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database

Do = Callable[[str, bytes], Shown]
"""Does an operation by its name and what it was asked, or raises."""
LEARN: Final = LearnIn(model="chat")
ERIN: Final = Actor(principal=Principal(id="erin", tenant=TenantId("acme")))


class Granted:
    """Rights of everybody but `denied` on everything."""

    denied = ""

    def decide(self, principal: Principal, action: str, resource: str) -> Any:
        raise AssertionError("the schedule requires rights, and decides nothing")

    def holds(self, principal: Principal, action: str) -> bool:
        return principal.id != self.denied

    def require(self, principal: Principal, action: str, resource: str) -> None:
        if principal.id == self.denied:
            raise PermissionDenied(f"{principal.id} may not {action} {resource}")


class Scheduled:
    """One home's schedule, and the worker that does its jobs."""

    def __init__(self, database: Database, clock: ManualClock, source: Source, do: Do, *, home: str = "") -> None:
        self.database, self.do, self.clock = database, do, clock
        self.recorder, self.rights = MemoryRecorder(), Granted()
        self.queue = JobQueue(SqlJobs(database), clock)
        self.office = JobOffice(queue=self.queue, rights=self.rights, recorder=self.recorder, home=home)
        self.schedule = Schedule()
        self.schedule.add(source)
        self.done: list[str] = []
        """Operations that were done, in order."""

    def look(self) -> float:
        """Queue what is due; return how long until the next look."""
        return self.schedule.step(self.database, self.office)

    def step(self) -> float:
        """Queue what is due, do it, and write down what came of it."""
        self.look()
        self.work()
        return self.look()

    def after(self, seconds: float) -> None:
        """Let time pass, and everything be done that is due then."""
        self.clock.advance(seconds)
        for _ in range(3):
            self.step()

    def lease(self) -> list[Lease]:
        kinds = [kind_of(name, self.office.home) for name in NAMES]
        return self.queue.lease(kinds=kinds, limit=10, owner="worker")

    def work(self) -> None:
        for lease in self.lease():
            self.settle(lease)

    def settle(self, lease: Lease) -> None:
        request = msgspec.json.decode(lease.payload, type=Request)
        self.done.append(request.name)
        outcome: Outcome
        try:
            shown = self.do(request.name, bytes(request.asked))
        except AshoreError as fault:
            outcome = Failed(code=fault.code, message=fault.message)
        else:
            said = Progress(stage=RESULT, says=shown.says or shown.lines[0])
            self.queue.report(lease, msgspec.json.encode(said).decode())
            outcome = Done(result=b"{}") if not shown.code else Failed(code="operation_failed", message="ended")
        self.queue.settle(lease, outcome)

    def turn(self, name: str) -> Turn:
        return next(one for one in read_turns(self.database, self.office.home) if one.name == name)

    def jobs(self) -> list[Job]:
        return self.queue.store.select(limit=100)


class Listed:
    """A source of given entries."""

    operations = ("learn run",)

    def __init__(self, *entries: Entry) -> None:
        self.given: Iterable[Entry] | None = entries

    def entries(self, now_ms: int) -> Iterable[Entry] | None:
        return self.given


def hourly(name: str = "learn run chat", *, actor: Actor = ERIN, ends_anyhow: bool = True) -> Entry:
    return Entry(
        name=name, operation="learn run", asked=LEARN, subject="model/chat", plan="every hour", shared=True,
        due=lambda turn, now_ms: every(turn, 3600, now_ms=now_ms), actor=lambda: actor, ends_anyhow=ends_anyhow,
    )  # fmt: skip


def good(name: str, asked: bytes) -> Shown:
    return Shown(document=None, lines=("it went well",))


def scheduled(state: Database, *entries: Entry, home: str = "", clock: ManualClock | None = None) -> Scheduled:
    return Scheduled(state, clock or ManualClock(), Listed(*entries), good, home=home)
