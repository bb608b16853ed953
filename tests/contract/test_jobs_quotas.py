"""What a tenant may fill of the queue and of the files, in every store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import fresh_state
from scratch import a_ledger

from ashore.core.clock import ManualClock
from ashore.core.errors import BudgetExceeded, InvalidRequest
from ashore.data.authority.budgets import BudgetRule, LedgerBudgets, check_rule
from ashore.data.jobs import Done, JobQueue, NewJob, SqlFiles, SqlJobs, StoredFile
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import open_state


@pytest.fixture(params=["sqlite", "postgres"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[SqlJobs, SqlFiles]]:
    url = ""
    if request.param == "postgres":
        url = fresh_state(request.getfixturevalue("postgres_url"))
    database = open_state(url, default=tmp_path / "state.db", snapshots=tmp_path, clock=ManualClock())
    yield SqlJobs(database), SqlFiles(database)
    database.close()


def quota(kind: str, cap: int, tenant: str = "*") -> BudgetRule:
    return check_rule(BudgetRule(kind=kind, window="now", cap=cap, tenant=tenant))  # type: ignore[arg-type]


def quotas(*rules: BudgetRule) -> LedgerBudgets:
    return LedgerBudgets(a_ledger(ManualClock()), MemoryRecorder(), rules=rules)


def new(job_id: str, *, tenant: str = "acme", **options: object) -> NewJob:
    values: dict[str, object] = {"kind": "call", "principal": "p", "payload": b"{}", **options}
    return NewJob(job_id=job_id, tenant=tenant, **values)  # type: ignore[arg-type]


def test_jobs_that_have_not_ended_are_bounded_for_each_tenant(stores: tuple[SqlJobs, SqlFiles]) -> None:
    bound = quotas(
        quota("queued_jobs", 3), quota("queued_jobs", 2, "acme"), BudgetRule(kind="tokens", window="day", cap=1)
    )
    queue = JobQueue(stores[0], ManualClock(), quotas=bound)
    for name in ("j1", "j2"):
        queue.submit(new(name, idempotency_key=name))
    with pytest.raises(BudgetExceeded, match=r"acme has 2 unfinished jobs; its queued_jobs budget is 2"):
        queue.submit(new("j3"))
    assert queue.submit(new("again", idempotency_key="j2")).job_id == "j2", "what is there already is no new one"
    for name in ("b1", "b2", "b3"):
        queue.submit(new(name, tenant="bank"))
    queue.submit(new("line", parent_id="j1"))
    [held] = queue.lease(kinds=("call",), limit=1, owner="w")
    with pytest.raises(BudgetExceeded):
        queue.submit(new("j3"))
    while held.job.tenant != "acme" or held.job.parent_id:
        queue.settle(held, Done(result=b"{}"))
        [held] = queue.lease(kinds=("call",), limit=1, owner="w")
    queue.settle(held, Done(result=b"{}"))
    queue.submit(new("j3"))


def stored(name: str, num_bytes: int, tenant: str = "acme") -> StoredFile:
    return StoredFile(
        file_id=name,
        tenant=tenant,
        filename=name,
        purpose="batch",
        num_bytes=num_bytes,
        created_ms=1,
        expires_ms=None,
        complete=False,
        account="p",
    )


def test_bytes_of_files_are_bounded_and_what_does_not_fit_is_dropped(stores: tuple[SqlJobs, SqlFiles]) -> None:
    files = stores[1]
    for name, num_bytes in (("f1", 60), ("f2", 40)):
        files.create(stored(name, 0))
        files.append(name, 0, b"x" * num_bytes)
        assert files.complete(stored(name, num_bytes), most_bytes=100) is not None
    files.create(stored("f3", 0))
    files.append("f3", 0, b"x")
    with pytest.raises(BudgetExceeded, match="stores 100 bytes"):
        files.complete(stored("f3", 1), most_bytes=100)
    assert files.get("f3") is None and files.piece("f3", 0) is None
    files.create(stored("g1", 0, "bank"))
    assert files.complete(stored("g1", 1, "bank"), most_bytes=100) is not None
    assert files.complete(stored("f2", 40), most_bytes=100) is not None, "the same file again is no more"
    files.delete("f1")
    files.create(stored("f4", 0))
    assert files.complete(stored("f4", 60), most_bytes=100) is not None


def test_two_that_submit_at_once_do_not_both_get_the_last_place(stores: tuple[SqlJobs, SqlFiles]) -> None:
    queue = JobQueue(stores[0], ManualClock(), quotas=quotas(quota("queued_jobs", 5)))
    refused: list[str] = []

    def submit(name: str) -> None:
        try:
            queue.submit(new(name))
        except BudgetExceeded:
            refused.append(name)

    threads = [threading.Thread(target=submit, args=(f"j{number}",)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 7


@pytest.mark.parametrize(
    "fields",
    [{"tenant": ""}, {"tenant": "a", "user": "u"}, {"tenant": "a", "model": "m"}, {"tenant": "a", "window": "day"}],
)
def test_a_quota_is_for_tenants_alone(fields: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        check_rule(BudgetRule(**{"kind": "stored_bytes", "window": "now", "cap": 1, **fields}))  # type: ignore[arg-type]
