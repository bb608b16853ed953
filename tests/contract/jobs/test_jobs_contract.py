"""One contract for every store of jobs, and a machine that drives two of them side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from job_queues import ids, lease, new, queue_over

from ashore.core.clock import ManualClock
from ashore.core.errors import Conflict, NotFound
from ashore.data.jobs import Again, Cancelled, CutOff, Done, Failed, Job, JobQueue, Lease, Outcome, SqlJobs
from ashore.data.jobs.rules import MOST_DEATHS
from ashore.kit.processes.restart import RestartPolicy
from ashore.kit.state import Database, open_database


def test_a_job_runs_once_and_its_result_is_kept(queue: JobQueue) -> None:
    queue.submit(new("j1", payload=b"work"))
    [held] = lease(queue)
    assert held.payload == b"work" and held.job.state == "running" and lease(queue) == []
    ended = queue.settle(held, Done(result=b"answer"))
    assert ended is not None and ended.state == "succeeded"
    assert queue.body("j1").result == b"answer"
    assert queue.settle(held, Done(result=b"other")) is None, "a job ends once"
    assert queue.body("j1").result == b"answer"


def test_what_may_be_leased_is_told_by_kind(queue: JobQueue, clock: ManualClock) -> None:
    assert queue.ready() == set()
    queue.submit(new("j1"))
    queue.submit(new("b1", kind="batch"))
    assert queue.ready() == {"call", "batch"}
    [held] = lease(queue)
    assert queue.ready() == {"batch"}
    queue.settle(held, Again(after_s=60))
    assert queue.ready() == {"batch"}
    clock.advance(3600)
    assert queue.ready() == {"call", "batch"}


def test_the_same_id_or_key_gives_the_first_job_and_another_payload_is_refused(queue: JobQueue) -> None:
    queue.submit(new("j1", idempotency_key="k", payload=b"one"))
    assert queue.submit(new("j1", idempotency_key="k", payload=b"one")).job_id == "j1"
    assert queue.submit(new("j2", idempotency_key="k", payload=b"one")).job_id == "j1"
    assert queue.submit(new("j3", idempotency_key="k", payload=b"one", tenant="b")).job_id == "j3"
    for name, key, first in (("j5", "1", "j5"), ("j6", "2", "j5")):  # of another account, whichever of its keys
        one = new(name, idempotency_key="k", payload=b"one", principal=f"abe#key=ash_{key}")
        assert queue.submit(one).job_id == first
    assert {job.job_id for job in queue.store.select(limit=9, account="abe")} == {"j5"}
    with pytest.raises(Conflict, match="j1"):
        queue.submit(new("j4", idempotency_key="k", payload=b"two"))


def test_a_lease_that_ran_out_goes_to_another_and_the_first_one_has_no_effect(
    queue: JobQueue, clock: ManualClock
) -> None:
    queue.submit(new("j1"))
    [first] = lease(queue, owner="slow")
    clock.advance(20)
    assert queue.renew([first]) == {"j1"}
    clock.advance(29)
    assert queue.sweep() == 0
    clock.advance(2)
    assert queue.sweep() == 1
    clock.advance(1)
    [second] = lease(queue, owner="quick")
    assert second.number > first.number
    assert queue.renew([first]) == set() and queue.holding([first]) == set() and queue.holding([second]) == {"j1"}
    assert queue.settle(first, Done(result=b"late")) is None
    assert queue.settle(second, Done(result=b"good")) is not None
    assert queue.body("j1").result == b"good"


def test_retries_back_off_and_end_as_a_dead_letter(queue: JobQueue, clock: ManualClock) -> None:
    queue.submit(new("j1", max_attempts=3))
    pauses = []
    for _ in range(3):
        [held] = lease(queue)
        job = queue.settle(held, Again(code="internal_error", message="bad"))
        assert job is not None
        pauses.append(job.not_before_ms - queue.now_ms())
        assert job.state == "dead" or lease(queue) == []
        clock.advance(600)
    assert pauses[:2] == [250, 500]
    dead = queue.get("j1", tenant="a")
    assert (dead.state, dead.attempts, dead.error_code) == ("dead", 3, "internal_error")


def test_what_made_room_is_not_counted(queue: JobQueue, clock: ManualClock) -> None:
    queue.submit(new("j1", max_attempts=1))
    for _ in range(5):
        [held] = lease(queue)
        queue.settle(held, Again(after_s=0.1, counted=False, code="preempted"))
        clock.advance(0.2)
    assert queue.get("j1", tenant="a").state == "queued" and queue.get("j1", tenant="a").attempts == 0


def test_priority_goes_first_and_tenants_take_turns(queue: JobQueue, clock: ManualClock) -> None:
    for number in range(4):
        queue.submit(new(f"a{number}", tenant="a"))
        clock.advance(0.01)
    queue.submit(new("b0", tenant="b"))
    queue.submit(new("b1", tenant="b"))
    queue.submit(new("urgent", tenant="a", priority=5))
    assert ids(lease(queue, 3)) == ["urgent", "b0", "a0"]
    assert ids(lease(queue, 4)) == ["b1", "a1", "a2", "a3"]


def test_what_one_tenant_calls_urgent_takes_no_turn_of_another(queue: JobQueue) -> None:
    for number in range(6):
        queue.submit(new(f"a{number}", tenant="a", priority=100))
    queue.submit(new("b0", tenant="b", priority=-100))
    queue.submit(new("b1", tenant="b"))
    assert ids(lease(queue, 4)) == ["a0", "b1", "a1", "b0"]


def test_who_comes_back_after_a_pause_has_not_saved_up_turns(queue: JobQueue, clock: ManualClock) -> None:
    for number in range(20):
        queue.submit(new(f"a{number:02}", tenant="a"))
    lease(queue, 10)
    for number in range(10):
        queue.submit(new(f"b{number:02}", tenant="b"))
    assert [one[0] for one in ids(lease(queue, 8))].count("a") == 4


def test_only_asked_kinds_and_only_jobs_whose_time_has_come_are_leased(queue: JobQueue, clock: ManualClock) -> None:
    queue.submit(new("hook", kind="webhook"))
    assert lease(queue) == []
    [held] = lease(queue, kinds=("webhook", "call"))
    queue.settle(held, Again(after_s=60, counted=False))
    assert lease(queue, kinds=("webhook",)) == []
    clock.advance(61)
    assert ids(lease(queue, kinds=("webhook",))) == ["hook"]


def test_a_cancelled_job_ends_at_once_and_its_worker_changes_nothing(queue: JobQueue) -> None:
    queue.submit(new("j1"))
    queue.submit(new("j2"))
    held = lease(queue)[0]
    assert queue.cancel("j1").state == "cancelled"  # type: ignore[union-attr]
    assert queue.cancel("j2").state == "cancelled"  # type: ignore[union-attr]
    assert queue.cancel("j1") is None and lease(queue) == []
    assert queue.settle(held, Done(result=b"x")) is None


def test_a_job_that_ends_itself_is_told_and_woken(queue: JobQueue, clock: ManualClock) -> None:
    queue.submit(new("j1", cancel_mode="by_handler"))
    [held] = lease(queue)
    queue.settle(held, Again(after_s=3600, counted=False))
    job = queue.cancel("j1")
    assert job is not None and job.state == "queued" and job.cancel_requested
    [held] = lease(queue)
    assert held.job.cancel_requested
    assert queue.settle(held, Cancelled(result=b"part")).state == "cancelled"  # type: ignore[union-attr]


def test_a_deadline_ends_what_waits_and_what_runs(queue: JobQueue, clock: ManualClock) -> None:
    queue.submit(new("waits", deadline_ms=queue.now_ms() + 1000))
    queue.submit(new("runs", deadline_ms=queue.now_ms() + 1000, priority=1))
    [held] = lease(queue)
    clock.advance(1.5)
    assert queue.sweep() == 2
    assert {queue.get(j, tenant="a").state for j in ("waits", "runs")} == {"expired"}
    assert queue.settle(held, Done(result=b"x")) is None


def test_the_next_worker_of_an_owner_takes_over_at_once(queue: JobQueue) -> None:
    queue.submit(new("j1"))
    queue.submit(new("j2", max_attempts=1))
    queue.submit(new("other"))
    lease(queue, 2, owner="me")
    lease(queue, 1, owner="you")
    assert queue.recover("me") == 2 and queue.recover("me") == 0
    again = lease(queue, 5, owner="me")
    assert ids(again) == ["j1", "j2"] and [one.job.attempts for one in again] == [1, 1]


def cut_off(queue: JobQueue, clock: ManualClock, held: Lease, how: str, *, died: bool = False) -> None:
    match how:
        case "worker killed":
            assert queue.recover("w", since_ms=0 if died else queue.now_ms() + 1) == 1
        case "machine away":
            clock.advance(31)
            assert queue.sweep() == 1
        case "API killed":
            assert queue.settle(held, CutOff(code="cut_off", message="gone", died=died)) is not None


@pytest.mark.parametrize("how", ["worker killed", "API killed"])
def test_a_job_under_way_at_two_deaths_ends(queue: JobQueue, clock: ManualClock, how: str) -> None:
    queue.submit(new("j1", max_attempts=1))
    for deaths in (0, 1):
        [held] = lease(queue)
        assert (held.job.attempts, held.job.deaths) == (1, deaths)
        cut_off(queue, clock, held, how, died=True)
    job = queue.get("j1", tenant="a")
    assert (job.state, job.deaths, job.takeovers) == ("dead", 2, 2)
    assert "2 processes died while it was under way" in job.error_message


def test_deaths_are_fewer_than_the_exits_that_end_a_child() -> None:
    assert RestartPolicy().most_failures > MOST_DEATHS


def test_what_ended_with_its_supervisor_is_not_blamed(queue: JobQueue, clock: ManualClock) -> None:
    """A power cut, or `kill -9` of the whole tree, says nothing about any job."""
    queue.submit(new("j1"))
    for _ in range(5):
        lease(queue, owner="me")
        clock.advance(20)  # the lease was last renewed before the supervisor that asks had started
        assert queue.recover("me", since_ms=queue.now_ms()) == 1
        clock.advance(600)
    assert (queue.get("j1", tenant="a").deaths, queue.get("j1", tenant="a").takeovers) == (0, 5)
    [held] = lease(queue, owner="me")
    started_ms = queue.now_ms()
    clock.advance(20)
    assert queue.renew([held]) == {"j1"}
    assert queue.recover("me", since_ms=started_ms) == 1
    assert queue.get("j1", tenant="a").deaths == 1, "its worker lived under this supervisor, and died alone"


def test_suspects_are_leased_by_themselves(queue: JobQueue, clock: ManualClock) -> None:
    for name in ("j1", "j2"):
        queue.submit(new(name))
    kinds = ("call",)
    assert not queue.has_suspects(kinds)
    [held] = lease(queue)
    queue.settle(held, CutOff(code="cut_off", message="gone", died=True))
    assert queue.has_suspects(kinds) and not queue.has_suspects(("other",))
    assert ids(queue.lease(kinds=kinds, limit=5, owner="w", suspects=True)) == ["j1"]
    assert not queue.has_suspects(kinds), "it is running"
    assert ids(queue.lease(kinds=kinds, limit=5, owner="w", suspects=False)) == ["j2"]


def test_a_parent_that_gave_out_children_is_cleared(queue: JobQueue) -> None:
    queue.submit(new("b", kind="batch"))
    [parent] = lease(queue, kinds=("batch",))
    queue.settle(parent, CutOff(code="cut_off", message="gone", died=True))
    [parent] = lease(queue, kinds=("batch",))
    assert parent.job.deaths == 1
    assert queue.adopt(parent, [new("c", parent_id="b")], "1 of 1")
    assert queue.get("b", tenant="a").deaths == 0


@pytest.mark.parametrize("how", ["worker killed", "machine away", "API killed"])
def test_ends_of_what_it_runs_on_are_no_attempts_and_a_job_still_ends(
    queue: JobQueue, clock: ManualClock, how: str
) -> None:
    queue.submit(new("j1", max_attempts=1))
    pauses, job = [], queue.get("j1", tenant="a")
    while not job.final and len(pauses) < 200:
        clock.advance(max(0, job.not_before_ms - queue.now_ms()) / 1000)
        [held] = lease(queue)
        assert held.job.attempts == 1
        cut_off(queue, clock, held, how)
        job = queue.get("j1", tenant="a")
        pauses.append(job.not_before_ms - queue.now_ms())
    assert pauses[:4] == [0, 250, 500, 1000] and max(pauses) == 300_000
    assert len(pauses) == 31 and 3600 <= sum(pauses[:-1]) / 1000 <= 4 * 3600
    assert (job.state, job.takeovers) == ("dead", 31) and "the job itself may be the cause" in job.error_message


def test_a_job_that_was_cut_off_often_still_has_all_its_attempts(queue: JobQueue, clock: ManualClock) -> None:
    queue.submit(new("j1", max_attempts=2))
    for _ in range(10):
        [held] = lease(queue)
        queue.settle(held, CutOff(code="cut_off", message="gone"))
        clock.advance(600)
    for _ in range(2):
        [held] = lease(queue)
        queue.settle(held, Again(code="internal_error", message="bad"))
        clock.advance(600)
    dead = queue.get("j1", tenant="a")
    assert (dead.state, dead.attempts, dead.takeovers) == ("dead", 2, 10)


def test_children_are_counted_in_the_transaction_that_ends_them_and_wake_their_parent(
    queue: JobQueue, clock: ManualClock
) -> None:
    queue.submit(new("b", kind="batch"))
    [parent] = lease(queue, kinds=("batch",))
    children = [new(f"b.{n}", parent_id="b", item=n) for n in range(3)]
    assert queue.adopt(parent, children, '{"fanned":3}')
    assert queue.adopt(parent, [], '{"fanned":3}')
    queue.settle(parent, Again(after_s=3600, counted=False))
    outcomes: list[Outcome] = [Done(result=b"0"), Failed(code="bad", message="", result=b"1"), Done(result=b"2")]
    for held, outcome in zip(lease(queue, 3), outcomes, strict=True):
        assert lease(queue, kinds=("batch",)) == []
        queue.settle(held, outcome)
    [parent] = lease(queue, kinds=("batch",))
    job = parent.job
    assert (job.children_total, job.children_succeeded, job.children_failed) == (3, 2, 1)
    assert job.progress == '{"fanned":3}'
    page = queue.store.bodies("b", after_item=0, limit=10)
    assert [(child.item, body.result) for child, body in page] == [(1, b"1"), (2, b"2")]
    assert [one.item for one in queue.store.select(limit=2, parent_id="b")] == [0, 1]


def test_a_lost_lease_adopts_nothing(queue: JobQueue, clock: ManualClock) -> None:
    queue.submit(new("b", kind="batch"))
    [parent] = lease(queue, kinds=("batch",))
    queue.cancel("b")
    assert not queue.adopt(parent, [new("b.0", parent_id="b")], "")
    assert queue.store.get("b.0") is None


def test_a_webhook_is_spawned_once_with_the_end(queue: JobQueue) -> None:
    queue.submit(new("resp_1", kind="response", webhook="https://hooks.example/x"))
    [held] = lease(queue, kinds=("response",))
    queue.settle(held, Done(result=b"{}"))
    [hook] = lease(queue, kinds=("webhook",))
    assert hook.job.job_id == "hook_resp_1"
    assert b'"type":"response.completed"' in hook.payload and b'"id":"resp_1"' in hook.payload


def test_a_response_that_nobody_wants_any_more_is_told_as_failed(queue: JobQueue, clock: ManualClock) -> None:
    for kind in ("response", "call"):
        queue.submit(new(kind, kind=kind, webhook="https://hooks.example/x", deadline_ms=queue.now_ms() + 1))
    clock.advance(1)
    queue.sweep()
    told = {hook.job.job_id: hook.payload for hook in lease(queue, 2, kinds=("webhook",))}
    assert b'"type":"response.failed"' in told["hook_response"]
    assert b'"type":"job.expired"' in told["hook_call"]


def test_results_are_dropped_when_they_expire_and_children_with_their_parent(
    queue: JobQueue, clock: ManualClock
) -> None:
    queue.submit(new("short", ttl_ms=1000))
    queue.submit(new("b", kind="batch"))
    [held] = lease(queue)
    queue.settle(held, Done(result=b"x"))
    [parent] = lease(queue, kinds=("batch",))
    queue.adopt(parent, [new("b.0", parent_id="b")], "")
    assert queue.prune() == 0
    queue.settle(parent, Done(result=b"{}"))
    assert queue.prune() == 1, "the child of a parent that has ended"
    clock.advance(2)
    assert queue.prune() == 1
    with pytest.raises(NotFound):
        queue.get("short", tenant="a")
    assert queue.get("b", tenant="a").final


def test_another_tenant_sees_nothing(queue: JobQueue) -> None:
    queue.submit(new("j1"))
    with pytest.raises(NotFound):
        queue.get("j1", tenant="b")
    with pytest.raises(NotFound):
        queue.get("j1", tenant="a", kinds=("batch",))


def test_a_recorded_result_never_runs(queue: JobQueue) -> None:
    assert queue.submit(new("resp_1", result=b"done")).state == "succeeded"
    assert lease(queue) == [] and queue.body("resp_1").result == b"done"


def test_pages_go_through_all_jobs_once_in_both_directions(queue: JobQueue, clock: ManualClock) -> None:
    for number in range(7):
        queue.submit(new(f"j{number}"))
        clock.advance(0.001 * (number % 2))
    for oldest_first in (False, True):
        seen: list[str] = []
        after = None
        while page := queue.store.select(limit=2, tenant="a", after=after, oldest_first=oldest_first):
            seen += [job.job_id for job in page]
            after = (page[-1].created_ms, page[-1].job_id)
        assert sorted(seen) == [f"j{n}" for n in range(7)]
        assert (seen[0] == "j0") == oldest_first


def test_deleting_takes_the_children_along_and_waits_for_a_handler(queue: JobQueue) -> None:
    queue.submit(new("b", kind="batch", cancel_mode="by_handler"))
    [parent] = lease(queue, kinds=("batch",))
    queue.adopt(parent, [new("b.0", parent_id="b")], "")
    with pytest.raises(Conflict):
        queue.delete("b")
    queue.settle(parent, Cancelled())
    queue.delete("b")
    assert queue.store.get("b") is None and queue.store.get("b.0") is None
    queue.delete("b")


class AnyOrder(RuleBasedStateMachine):
    """Whatever is asked of a queue in whatever order: no job ends twice, none is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.folder = tempfile.TemporaryDirectory()
        self.database: Database = open_database(
            Path(self.folder.name) / "state.db", snapshots=Path(self.folder.name), clock=self.clock
        )
        self.queue = queue_over(SqlJobs(self.database), self.clock)
        self.accepted: set[str] = set()
        self.ended: dict[str, int] = {}
        self.leases: list[list[Lease]] = []

    @rule(
        tenant=st.sampled_from("abc"), priority=st.integers(0, 1), attempts=st.integers(1, 3),
        deadline=st.none() | st.integers(1, 90), key=st.sampled_from(["", "", "k"]),
        mode=st.sampled_from(["at_once", "by_handler"]),
    )  # fmt: skip
    def submit(self, tenant: str, priority: int, attempts: int, deadline: int | None, key: str, mode: str) -> None:
        job = new(
            f"j{len(self.accepted):03}", tenant=tenant, priority=priority, max_attempts=attempts, cancel_mode=mode,
            deadline_ms=None if deadline is None else self.queue.now_ms() + deadline * 1000, idempotency_key=key,
        )  # fmt: skip
        kept = self.queue.submit(job)
        assert isinstance(kept, Job)
        self.accepted.add(kept.job_id)

    @rule(limit=st.integers(1, 3), owner=st.sampled_from(["w1", "w2"]))
    def take(self, limit: int, owner: str) -> None:
        held = lease(self.queue, limit, owner)
        assert isinstance(held, list)
        self.leases += [[one] for one in held]

    @rule(
        at=st.integers(0, 50),
        outcome=st.sampled_from(
            [
                Done(result=b"r"),
                Failed(code="bad", message="m"),
                Again(),
                Again(after_s=1, counted=False),
                CutOff(code="cut_off", message="gone"),
                CutOff(code="cut_off", message="gone", died=True),
            ]
        ),
    )
    def settle(self, at: int, outcome: Outcome) -> None:
        if not self.leases:
            return
        held = self.leases[at % len(self.leases)][0]
        job = self.queue.settle(held, outcome)
        if isinstance(job, Job) and job.final:
            self.ended[job.job_id] = self.ended.get(job.job_id, 0) + 1

    @rule(at=st.integers(0, 50))
    def renew(self, at: int) -> None:
        if self.leases:
            held = self.leases[at % len(self.leases)]
            self.queue.renew(held)

    @rule(at=st.integers(0, 50))
    def cancel(self, at: int) -> None:
        if self.accepted:
            name = sorted(self.accepted)[at % len(self.accepted)]
            self.queue.cancel(name)

    @rule(seconds=st.sampled_from([0.5, 5, 31]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.queue.sweep()

    @rule(owner=st.sampled_from(["w1", "w2"]))
    def restart(self, owner: str) -> None:
        self.queue.recover(owner)

    @invariant()
    def same_jobs_none_lost_none_twice(self) -> None:
        jobs = {job.job_id: job for job in self.queue.store.select(limit=1000)}
        assert isinstance(jobs, dict)
        assert set(jobs) == self.accepted
        assert all(count == 1 for count in self.ended.values())
        for job in jobs.values():
            assert job.attempts <= job.max_attempts
            assert (job.finished_ms is not None) == job.final
            assert (job.state == "running") == (job.lease_until_ms > 0) == bool(job.owner)

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()


TestAnyOrder = AnyOrder.TestCase

TestAnyOrder.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def steps_of(database: Database, work: Callable[[], object]) -> int:
    """Return how many steps SQLite takes for what `work` asks it, on this thread."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with database.read() as connection:
        raw = connection.connection.driver_connection
    assert raw is not None
    raw.set_progress_handler(count, 1)
    work()
    raw.set_progress_handler(None, 1)
    return steps


def test_who_goes_next_is_found_in_as_many_steps_however_many_wait(tmp_path: Path, clock: ManualClock) -> None:
    """A long batch made every lease read and sort all of its lines, under the one lock there is for writing."""
    database = open_database(tmp_path / "state.db", snapshots=tmp_path, clock=clock)
    queue = queue_over(SqlJobs(database), clock)
    queue.store.add([new("b1", kind="batch"), new("c1", tenant="b")], queue.now_ms())

    def steps_of_each() -> dict[str, int]:
        asked: dict[str, Callable[[], object]] = {
            "ready": queue.ready,
            "lease": lambda: lease(queue, 1, kinds=("line", "call")),
            "sweep": queue.sweep,
            "cancel": lambda: queue.store.select(limit=9, parent_id="c1", states=("queued", "running")),
            "submit": lambda: queue.store.add([new("b1", kind="batch")], queue.now_ms(), most_queued=9),
        }
        return {name: steps_of(database, work) for name, work in asked.items()}

    counted = []
    for so_many in range(0, 4000, 1000):
        lines = [
            new(f"b1.{so_many + at:06}", kind="line", parent_id="b1", item=so_many + at, deadline_ms=1 << 50)
            for at in range(1000)
        ]
        queue.store.add(lines, queue.now_ms())
        counted.append(steps_of_each())
    first, last = counted[0], counted[-1]
    assert all(0 < last[name] < 2 * first[name] for name in first), (first, last)
    database.close()
