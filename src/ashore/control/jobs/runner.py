"""The loop of a job worker: lease the next jobs, run them, record their outcomes, and do maintenance.

Every job of a lane runs as one task. A second task renews all leases; a job whose lease was lost, because it was
cancelled or taken over, is cancelled here too.

A suspect, which was running when a process died, starts only after `QUIET_S` without a death, and beside no other
suspect. During its first `ALONE_S` no other job starts, so a death in that time is its own. Then the other jobs have
their turn, for as long as they were held up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Final, TypeVar

from ashore.core.errors import AshoreError
from ashore.data.jobs import Again, CutOff, Done, Failed, JobQueue, Lease, Outcome, SqlConversations, SqlFiles
from ashore.data.jobs.ports import Handler
from ashore.kit.state import Changes

log = logging.getLogger("ashore.jobs")

T = TypeVar("T")

IDLE_LOOK_S: Final = 1.0
"""Between two looks for work whose time has come, when nothing was announced."""
CHANGES_LOOK_S: Final = 1.0
"""Longest wait for an announcement, and so for the end of a runner."""
CANCEL_LOOK_S: Final = 0.5
"""Between two looks whether a running job was cancelled."""
SWEEP_S: Final = 2.0
PRUNE_S: Final = 60.0
ABANDONED_UPLOAD_S: Final = 86_400.0
QUIET_S: Final = 10.0
"""Without a death before a suspect begins: while something else kills again and again, nothing is learnt of it."""
SETTLED_S: Final = 600.0
"""A job that ran so long is not waited for, and a suspect begins beside it. What hangs is killed sooner (`PATIENCE_S`
of the worker, `step_timeout_s` of an engine), so a job that kills has killed by then."""
ALONE_S: Final = 60.0
"""How long a suspect holds up the others. Those that begin beside it later die of it once."""
RECORD_PAUSE_S: Final = 1.0
RECORD_AT_END_S: Final = 3.0
"""How long a worker that stops waits for the ends that it is recording; less than until it is killed."""


@dataclass(slots=True, kw_only=True)
class Lane:
    """Kinds of job that share slots, so that slow ones of another kind cannot take them all."""

    kinds: tuple[str, ...]
    slots: int
    apart: bool = False
    """Its jobs run in processes of their own, and begin once: none of them is a suspect."""
    running: dict[str, tuple[Lease, asyncio.Task[None]]] = field(default_factory=dict)


@dataclass(slots=True)
class Runner:
    """Runs the jobs of a queue until it is stopped. Lives on one event loop; SQL happens on threads."""

    queue: JobQueue
    handlers: Mapping[str, Handler]
    """By job kind."""
    _: KW_ONLY
    lanes: Sequence[Lane]
    """Which kinds run side by side, and how many of them."""
    owner: str
    """Name of this worker; it takes over the leases of an earlier worker of the same name."""
    since_ms: int = 0
    """Start of its supervisor; leases from before ended together with it."""
    quiet_s: float = QUIET_S
    """Time without a death before a suspect starts."""
    changes: Callable[[], Changes]
    """Opens a listener for new work."""
    files: SqlFiles | None = None
    """Store to delete expired files from, if given; `conversations` likewise."""
    conversations: SqlConversations | None = None
    _quiet_from_s: float = field(default=0.0, init=False)
    """When nothing has died for long enough, by the clock of the loop."""
    _held_up_from_s: float | None = field(default=None, init=False)
    """Since when nothing begins because of a suspect."""
    _suspect_began: bool = field(default=False, init=False)
    _turn_until_s: float = field(default=0.0, init=False)
    """Until when the others have their turn."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _stop: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _said: str = field(default="", init=False)
    """Why the state could not be used at the last try."""
    _recording: set[asyncio.Task[None] | None] = field(default_factory=set, init=False)
    """Tasks whose job has ended, while that is being recorded."""

    def stop(self) -> None:
        """Stop leasing; `run` returns once every job was returned to the queue."""
        self._stop.set()
        self._wake.set()

    async def run(self) -> None:
        """Work until `stop`. Running jobs are then returned uncounted; ended ones are recorded first."""
        await self._try(lambda: self.queue.recover(self.owner, self.since_ms))
        self._noted_death()  # deaths before this start are unknown
        chores = [
            asyncio.create_task(work, name=name)
            for work, name in (
                (self._listen(), "announcements"),
                (self._every(SWEEP_S, self.queue.sweep), "sweep"),
                (self._every(PRUNE_S, self._prune), "prune"),
                (self._renew(), "renewal"),
                (self._watch_cancelled(), "cancellations"),
            )
        ]
        try:
            while not self._stop.is_set():
                self._wake.clear()
                if not await self._lease():
                    try:
                        async with asyncio.timeout(IDLE_LOOK_S):
                            await self._wake.wait()
                    except TimeoutError:
                        continue
        finally:
            for chore in chores:
                chore.cancel()
            await self._give_back()
            await asyncio.gather(*chores, return_exceptions=True)

    # --- work

    async def _lease(self) -> bool:
        """Lease for every lane with a free slot; return whether anything was leased."""
        ready = await self._try(self.queue.ready) or set()
        open_lanes = [
            lane for lane in self.lanes if len(lane.running) < lane.slots and not ready.isdisjoint(lane.kinds)
        ]
        shared = [lane for lane in open_lanes if not lane.apart]
        running = [lease for lane in self.lanes for lease, _ in lane.running.values() if not lane.apart]
        suspects = [lease for lease in running if lease.job.deaths]
        if any(self.queue.held_s(lease) < ALONE_S for lease in suspects):
            shared = []
        else:
            self._end_turn()
            if shared and not suspects and await self._suspects_wait(shared):
                if all(self.queue.held_s(lease) >= SETTLED_S for lease in running):
                    for lane in shared:
                        if await self._take(lane, limit=1, suspects=True):
                            self._suspect_began = True
                            return True
                shared = []
        found = [await self._take(lane, suspects=False) for lane in shared]
        found += [await self._take(lane) for lane in open_lanes if lane.apart]
        return any(found)

    def _end_turn(self) -> None:
        """Let the others begin for as long as a suspect has held them up, if one has."""
        if self._suspect_began and self._held_up_from_s is not None:
            now_s = asyncio.get_running_loop().time()
            self._turn_until_s = 2 * now_s - self._held_up_from_s
            self._held_up_from_s, self._suspect_began = None, False

    async def _suspects_wait(self, lanes: Sequence[Lane]) -> bool:
        """Return whether a suspect of these lanes should start now; from then on nothing else does."""
        now_s = asyncio.get_running_loop().time()
        if now_s < max(self._quiet_from_s, self._turn_until_s):
            return False
        kinds = tuple(kind for lane in lanes for kind in lane.kinds)
        if not await self._try(lambda: self.queue.has_suspects(kinds)):
            return False
        self._held_up_from_s = self._held_up_from_s or now_s
        return True

    async def _take(self, lane: Lane, *, limit: int | None = None, suspects: bool | None = None) -> bool:
        """Lease for a lane, up to its free slots, and start the jobs; return whether anything was leased."""
        most = lane.slots - len(lane.running) if limit is None else limit
        leases = await self._try(
            lambda: self.queue.lease(kinds=lane.kinds, limit=most, owner=self.owner, suspects=suspects)
        )
        for lease in leases or ():
            task = asyncio.create_task(self._work(lane, lease), name=lease.job.job_id)
            lane.running[lease.job.job_id] = (lease, task)
        return bool(leases)

    def _noted_death(self) -> None:
        self._quiet_from_s = asyncio.get_running_loop().time() + self.quiet_s

    async def _work(self, lane: Lane, lease: Lease) -> None:
        try:
            outcome = await self._attempt(lease)
            if isinstance(outcome, CutOff) and outcome.died:
                self._noted_death()
            self._recording.add(asyncio.current_task())
            await self._record(lease, outcome)
        finally:
            self._recording.discard(asyncio.current_task())
            held = lane.running.get(lease.job.job_id)
            if held is not None and held[0].number == lease.number:
                del lane.running[lease.job.job_id]
            self._wake.set()

    async def _attempt(self, lease: Lease) -> Outcome:
        try:
            return await self.handlers[lease.job.kind].run(lease)
        except AshoreError as fault:
            if fault.retryable:
                return CutOff(code=fault.code, message=fault.message)
            return Failed(code=fault.code, message=fault.message)
        except Exception as fault:  # outermost loop of a job: logged, and retried until it is a dead letter
            log.exception("job %s failed", lease.job.job_id)
            return Again(code="internal_error", message=f"{type(fault).__name__} in the handler of {lease.job.kind}")

    async def _record(self, lease: Lease, outcome: Outcome) -> None:
        """Record the outcome. If the state cannot be written, retry while the lease is renewed."""
        while True:
            try:
                job = await asyncio.to_thread(self.queue.settle, lease, outcome)
                break
            except AshoreError as fault:
                log.warning("cannot record the end of %s yet: %s", lease.job.job_id, fault.message)
                await asyncio.sleep(RECORD_PAUSE_S)
        if job is None:
            log.info(
                "job %s was taken over by another worker; the result of this attempt is discarded", lease.job.job_id
            )
        elif not isinstance(outcome, Done | Again | CutOff) or job.state == "dead":
            log.info("job %s ended as %s: %s %s", job.job_id, job.state, job.error_code, job.error_message)

    async def _give_back(self) -> None:
        held = [one for lane in self.lanes for one in lane.running.values()]
        for _, task in held:
            if task not in self._recording:
                task.cancel()
        ended = [task for _, task in held if task in self._recording]
        if ended:  # the writing thread continues anyway: what it is about to store must not be returned before
            await asyncio.wait(ended, timeout=RECORD_AT_END_S)
        for task in ended:
            task.cancel()
        await asyncio.gather(*(task for _, task in held), return_exceptions=True)
        for lease, _ in held:
            back = Again(after_s=0.0, counted=False, code="worker_stopped", message="the worker was stopped")
            await self._try(lambda lease=lease, back=back: self.queue.settle(lease, back))  # type: ignore[misc]

    # --- chores

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self.queue.lease_s / 3)
            held = [lease for lane in self.lanes for lease, _ in lane.running.values()]
            if held:
                kept = await self._try(lambda held=held: self.queue.renew(held))  # type: ignore[misc]
                if kept is not None:
                    self._drop_lost(held, kept)

    async def _watch_cancelled(self) -> None:
        while True:
            await asyncio.sleep(CANCEL_LOOK_S)
            held = [lease for lane in self.lanes for lease, _ in lane.running.values()]
            if held:
                kept = await self._try(lambda held=held: self.queue.holding(held))  # type: ignore[misc]
                if kept is not None:
                    self._drop_lost(held, kept)

    def _drop_lost(self, asked: Sequence[Lease], kept: set[str]) -> None:
        lost = {lease.job.job_id: lease.number for lease in asked if lease.job.job_id not in kept}
        for lane in self.lanes:
            for job_id, (lease, task) in list(lane.running.items()):
                if lost.get(job_id) == lease.number:
                    task.cancel()

    async def _listen(self) -> None:
        """Wake the loop on an announcement."""
        changes = await self._try(self.changes)
        while changes is None:
            await asyncio.sleep(IDLE_LOOK_S)
            changes = await self._try(self.changes)
        try:
            while True:
                if await self._try(lambda: changes.wait(CHANGES_LOOK_S)):
                    self._wake.set()
        finally:
            changes.close()

    async def _every(self, pause_s: float, work: Callable[[], int]) -> None:
        while True:
            if await self._try(work):
                self._wake.set()
            await asyncio.sleep(pause_s)

    def _prune(self) -> int:
        gone = self.queue.prune()
        now_ms = self.queue.now_ms()
        if self.conversations is not None:
            gone += self.conversations.prune(now_ms=now_ms, limit=100)
        if self.files is not None:
            abandoned_ms = now_ms - int(ABANDONED_UPLOAD_S * 1000)
            gone += self.files.prune(now_ms=now_ms, abandoned_before_ms=abandoned_ms, limit=100)
        return gone

    async def _try(self, work: Callable[[], T]) -> T | None:
        """Run a function on the state, on a thread; None if the state is unavailable or it failed. The caller
        continues: a chore that ended would only be noticed by the jobs that wait for it.
        """
        try:
            done = await asyncio.to_thread(work)
        except Exception as fault:  # outermost loop of a chore: logged and retried
            if str(fault) != self._said:
                trace = None if isinstance(fault, AshoreError) else fault
                log.warning("cannot use the state database now: %s", fault, exc_info=trace)
            self._said = str(fault)
        else:
            self._said = ""
            return done
        await asyncio.sleep(RECORD_PAUSE_S)
        return None
