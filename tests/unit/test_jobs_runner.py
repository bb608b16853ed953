"""The loop of a job worker, over the queue in memory."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from ashore.control.jobs import Lane, Runner
from ashore.control.jobs.runner import ALONE_S
from ashore.core.clock import SystemClock
from ashore.core.errors import DiskFull, HostDied, InvalidRequest
from ashore.data.jobs import Again, CutOff, Done, Job, JobQueue, Lease, NewJob, Outcome, SqlFiles, SqlJobs
from ashore.kit.state import open_scratch

Work = Callable[[Lease], Coroutine[Any, Any, Outcome]]


class Quiet:
    """Announces nothing: the runner must find work by itself."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def wait(self, timeout_s: float) -> bool:
        self._closed.wait(min(timeout_s, 0.01))
        return True

    def close(self) -> None:
        self._closed.set()


class Doing:
    """A `Handler` that does what the test says."""

    def __init__(self, work: Work) -> None:
        self._work = work

    async def run(self, lease: Lease) -> Outcome:
        return await self._work(lease)


def run_jobs(
    work: Work,
    jobs: list[NewJob],
    until: Callable[[JobQueue], bool],
    *,
    queue: JobQueue | None = None,
    slots: int = 2,
    quiet_s: float = 0.0,
) -> JobQueue:
    """Run jobs until something holds, and stop the runner."""
    queue = queue or JobQueue(SqlJobs(open_scratch()), SystemClock(), lease_s=30, jitter=lambda: 0.0)
    for job in jobs:
        queue.submit(job)

    async def go() -> None:
        runner = Runner(
            queue,
            {"call": Doing(work)},
            lanes=(Lane(kinds=("call",), slots=slots),),
            owner="me",
            quiet_s=quiet_s,
            changes=Quiet,
            files=SqlFiles(open_scratch()),
        )
        task = asyncio.create_task(runner.run())
        async with asyncio.timeout(20):
            while not until(queue):
                await asyncio.sleep(0.01)
        runner.stop()
        async with asyncio.timeout(20):
            await task

    asyncio.run(go())
    return queue


def new(job_id: str, **options: Any) -> NewJob:
    return NewJob(job_id=job_id, kind="call", tenant="a", principal="p", payload=b"{}", **options)


def job_of(queue: JobQueue, job_id: str) -> Job:
    return queue.get(job_id, tenant="a")


def all_final(queue: JobQueue) -> bool:
    return all(job.final for job in queue.store.select(limit=100))


def test_jobs_run_side_by_side_up_to_their_slots() -> None:
    running, most = 0, 0

    async def work(lease: Lease) -> Outcome:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return Done(result=lease.job.job_id.encode())

    queue = run_jobs(work, [new(f"j{n}") for n in range(6)], all_final)
    assert most == 2
    assert [queue.body(f"j{n}").result for n in range(6)] == [f"j{n}".encode() for n in range(6)]


def test_errors_are_tried_again_or_end_the_job_by_their_kind() -> None:
    tries: dict[str, int] = {}

    async def work(lease: Lease) -> Outcome:
        name = lease.job.job_id
        tries[name] = tries.get(name, 0) + 1
        if name == "user":
            raise InvalidRequest("never right")
        if name == "host" and tries[name] == 1:
            raise HostDied("gone")
        if name == "bug":
            raise RuntimeError("ours")
        return Done(result=b"")

    queue = run_jobs(work, [new("user"), new("host", max_attempts=1), new("bug", max_attempts=2)], all_final)
    assert (job_of(queue, "user").state, tries["user"]) == ("failed", 1)
    assert (job_of(queue, "host").state, tries["host"]) == ("succeeded", 2)
    assert (job_of(queue, "host").attempts, job_of(queue, "host").takeovers) == (1, 1), "the host died, not the job"
    assert (job_of(queue, "bug").state, tries["bug"]) == ("dead", 2)
    assert job_of(queue, "user").error_code == "invalid_request"


def test_a_result_that_is_being_recorded_when_the_worker_stops_is_kept() -> None:
    recording = threading.Event()

    class Slow(JobQueue):
        def settle(self, lease: Lease, outcome: Outcome) -> Job | None:
            if isinstance(outcome, Done):
                recording.set()
                time.sleep(0.3)  # on the thread of the state, which is busy
            return super().settle(lease, outcome)

    async def work(lease: Lease) -> Outcome:
        return Done(result=b"done")

    slow = Slow(SqlJobs(open_scratch()), SystemClock(), lease_s=30)
    queue = run_jobs(work, [new("j")], lambda queue: recording.is_set(), queue=slow)
    assert (job_of(queue, "j").state, queue.body("j").result) == ("succeeded", b"done")


def test_a_cancelled_job_stops_here_too() -> None:
    stopped: list[str] = []

    async def work(lease: Lease) -> Outcome:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.append(lease.job.job_id)
            raise
        return Done(result=b"")

    cancelled: list[Job | None] = []

    def until(queue: JobQueue) -> bool:
        if job_of(queue, "j").state == "running" and not cancelled:
            cancelled.append(queue.cancel("j"))
        return bool(stopped)

    queue = run_jobs(work, [new("j")], until)
    assert job_of(queue, "j").state == "cancelled"


def test_a_stop_gives_back_what_runs_uncounted() -> None:
    async def work(lease: Lease) -> Outcome:
        await asyncio.sleep(60)
        return Done(result=b"")

    queue = run_jobs(work, [new("j", max_attempts=1)], lambda q: job_of(q, "j").state == "running")
    job = job_of(queue, "j")
    assert (job.state, job.attempts, job.error_code) == ("queued", 0, "worker_stopped")


def test_what_an_earlier_worker_held_is_taken_over() -> None:
    queue = JobQueue(SqlJobs(open_scratch()), SystemClock(), lease_s=3600)
    queue.submit(new("j"))
    queue.lease(kinds=("call",), limit=1, owner="me")

    async def work(lease: Lease) -> Outcome:
        return Done(result=b"done")

    run_jobs(work, [], all_final, queue=queue)
    assert queue.body("j").result == b"done"


class FullForAWhile(SqlJobs):
    """A disk that is full when results are to be written."""

    def __init__(self) -> None:
        super().__init__(open_scratch())
        self.refusals = 0

    def update(self, job_ids: Any, rule: Any, now_ms: int) -> list[Job]:
        found = [job for job_id in job_ids if (job := self.get(job_id)) is not None]
        changes = [rule(job) for job in found]
        if any(change is not None and change.job.final for change in changes) and self.refusals < 1:
            self.refusals += 1
            raise DiskFull("no room left")
        return super().update(job_ids, rule, now_ms)


def test_a_result_waits_for_room_on_the_disk_and_the_work_is_not_done_twice() -> None:
    store, runs = FullForAWhile(), 0
    queue = JobQueue(store, SystemClock(), lease_s=30)

    async def work(lease: Lease) -> Outcome:
        nonlocal runs
        runs += 1
        return Done(result=b"kept")

    run_jobs(work, [new("j")], all_final, queue=queue)
    assert (store.refusals, runs) == (1, 1) and queue.body("j").result == b"kept"


def test_a_chore_that_fails_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise the first bug in it would be its silent end, and a job that is cancelled would run on."""

    class Faulty(JobQueue):
        looks = 0

        def holding(self, leases: Sequence[Lease]) -> set[str]:
            self.looks += 1
            if self.looks == 1:
                raise ZeroDivisionError("a bug of ours")
            return super().holding(leases)

    queue = Faulty(SqlJobs(open_scratch()), SystemClock(), lease_s=30, jitter=lambda: 0.0)

    async def work(lease: Lease) -> Outcome:
        while queue.looks < 2:
            await asyncio.sleep(0.01)
        return Done(result=b"")

    run_jobs(work, [new("j")], all_final, queue=queue)
    assert queue.looks == 2 and caplog.text.count("Traceback") == 1


def test_a_job_that_makes_room_comes_back() -> None:
    tries = 0

    async def work(lease: Lease) -> Outcome:
        nonlocal tries
        tries += 1
        return Again(after_s=0.0, counted=False, code="preempted") if tries < 5 else Done(result=b"")

    queue = run_jobs(work, [new("j", max_attempts=1)], all_final)
    assert (job_of(queue, "j").state, tries, job_of(queue, "j").attempts) == ("succeeded", 5, 1)


@pytest.mark.parametrize("poisonous", [1, 3])
def test_a_job_that_kills_ends_at_its_second_death_and_what_ran_beside_it_does_not(poisonous: int) -> None:
    """The worker of this test loses every job that it has when a poisonous one runs for a moment."""
    worker: set[asyncio.Event] = set()
    deaths, beside = 0, list[set[str]]()
    running = set[str]()

    async def work(lease: Lease) -> Outcome:
        nonlocal deaths
        name, died = lease.job.job_id, asyncio.Event()
        running.add(name)
        worker.add(died)
        beside.append({*running} if lease.job.deaths else set())
        try:
            await asyncio.sleep(0.01)
            if name.startswith("poison") and not died.is_set():
                deaths += 1
                for one in tuple(worker):
                    one.set()
            await asyncio.sleep(0.01)
            return CutOff(code="cut_off", message="gone", died=True) if died.is_set() else Done(result=b"")
        finally:
            running.discard(name)
            worker.discard(died)

    jobs = [new(f"poison{n}") for n in range(poisonous)] + [new(f"j{n}") for n in range(9)]
    queue = run_jobs(work, jobs, all_final, slots=8)
    ended = {job.job_id: (job.state, job.deaths) for job in queue.store.select(limit=100)}
    assert all(ended[f"poison{n}"] == ("dead", 2) for n in range(poisonous))
    assert all(ended[f"j{n}"][0] == "succeeded" for n in range(9)), ended
    assert all(len(names) <= 1 for names in beside), "a suspect runs alone"
    assert deaths <= 2 * poisonous


def test_a_suspect_waits_until_nothing_dies_any_more() -> None:
    """While something else kills again and again, what is hit is hit once."""
    last_death, rested_s = 0.0, list[float]()

    async def work(lease: Lease) -> Outcome:
        nonlocal last_death
        if lease.job.deaths:
            rested_s.append(time.monotonic() - last_death)
            return Done(result=b"")
        await asyncio.sleep(0.01)
        last_death = time.monotonic()  # an outsider kills whatever runs
        return CutOff(code="cut_off", message="gone", died=True)

    queue = run_jobs(work, [new(f"j{n}") for n in range(8)], all_final, quiet_s=0.3)
    assert {(job.state, job.deaths) for job in queue.store.select(limit=10)} == {("succeeded", 1)}
    assert len(rested_s) == 8 and min(rested_s) >= 0.3


def test_suspects_take_turns_with_the_others() -> None:
    """A death with all slots full held up every job of every tenant for ten minutes times the slots."""
    begun = list[str]()

    async def work(lease: Lease) -> Outcome:
        if lease.job.job_id.startswith("hit") and not lease.job.deaths:
            return CutOff(code="cut_off", message="gone", died=True)
        begun.append(lease.job.job_id)
        await asyncio.sleep(0.05)
        return Done(result=b"")

    run_jobs(work, [new(f"hit{n}") for n in range(4)] + [new(f"j{n}") for n in range(4)], all_final, slots=4)
    last, first = max(begun.index(f"hit{n}") for n in range(4)), min(begun.index(f"j{n}") for n in range(4))
    assert first < last, begun


def test_a_suspect_that_runs_long_holds_up_other_suspects_alone() -> None:
    clock = TurnedClock()
    queue = JobQueue(SqlJobs(open_scratch()), clock, lease_s=3600, jitter=lambda: 0.0)
    begun = list[str]()

    async def work(lease: Lease) -> Outcome:
        if lease.job.job_id.startswith("hit") and not lease.job.deaths:
            return CutOff(code="cut_off", message="gone", died=True)
        begun.append(lease.job.job_id)
        if begun == [lease.job.job_id]:
            queue.submit(new("other"))
            while "other" not in begun:
                clock.turn_s += 1
                await asyncio.sleep(0.01)
            assert clock.turn_s >= ALONE_S and begun[1:] == ["other"]
        return Done(result=b"")

    run_jobs(work, [new("hit1"), new("hit2")], all_final, queue=queue)
    assert sorted(begun) == ["hit1", "hit2", "other"]


class TurnedClock(SystemClock):
    turn_s = 0.0

    def now_s(self) -> float:
        return super().now_s() + self.turn_s
