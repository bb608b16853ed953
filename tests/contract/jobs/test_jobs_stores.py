"""Jobs and files beside the contract: many workers, full disks, older databases."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from job_queues import ids, lease, new, queue_over
from postgres_server import fresh_database

from ashore.core.clock import ManualClock
from ashore.core.errors import DiskFull
from ashore.data.jobs import Done, SqlFiles, SqlJobs, StoredFile
from ashore.data.jobs.reserve import RESERVED_BYTES, SHARED_BYTES
from ashore.kit.state import Database, execute, open_database, open_postgres
from ashore.kit.state.schema import migrations


def test_many_workers_share_the_work_without_a_job_taken_twice(
    stores: tuple[SqlJobs, SqlFiles], clock: ManualClock
) -> None:
    queue = queue_over(stores[0], clock)
    for number in range(60):
        queue.submit(new(f"j{number:02}", tenant="ab"[number % 2]))
    taken: list[str] = []
    faults: list[Exception] = []

    def work(owner: str) -> None:
        try:
            for _ in range(100):
                if not (held := lease(queue, 3, owner=owner)):
                    if len(taken) >= 60:
                        return
                    continue
                for one in held:
                    if queue.settle(one, Done(result=owner.encode())) is not None:
                        taken.append(one.job.job_id)
        except Exception as fault:  # noqa: BLE001 - told by the main thread
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert sorted(taken) == [f"j{n:02}" for n in range(60)]


def test_files_come_back_piece_by_piece_and_only_when_whole(stores: tuple[SqlJobs, SqlFiles]) -> None:
    files = stores[1]
    file = StoredFile(
        file_id="file-1", tenant="a", filename="in.jsonl", purpose="batch", num_bytes=0, created_ms=1,
        expires_ms=100, complete=False, account="alice", models="m",
    )  # fmt: skip
    files.create(file)
    files.append("file-1", 0, b"abc")
    files.append("file-1", 1, b"de")
    files.append("file-1", 1, b"DE")
    assert files.get("file-1") is None and files.select(tenant="a", purpose=None, after=None, limit=9) == []
    whole = files.complete(StoredFile(**{**_fields(file), "num_bytes": 5}))
    assert whole is not None and whole.complete and whole.num_bytes == 5
    assert [files.piece("file-1", n) for n in range(3)] == [b"abc", b"DE", None]
    assert files.select(tenant="b", purpose=None, after=None, limit=9) == []
    assert [f.file_id for f in files.select(tenant="a", purpose="batch", after=None, limit=9)] == ["file-1"]
    assert files.select(tenant="a", purpose="vision", after=None, limit=9) == []
    assert files.select(tenant="a", account="abe", purpose=None, after=None, limit=9) == []
    [mine] = files.select(tenant="a", account="alice", purpose=None, after=None, limit=9)
    assert (mine.account, mine.models) == ("alice", "m")
    files.create(StoredFile(**{**_fields(file), "file_id": "file-2", "created_ms": 5, "expires_ms": None}))
    assert files.prune(now_ms=50, abandoned_before_ms=4, limit=9) == 0
    assert files.prune(now_ms=100, abandoned_before_ms=5, limit=9) == 2
    assert files.get("file-1") is None and files.piece("file-1", 0) is None
    files.append("file-1", 0, b"late")
    assert files.piece("file-1", 0) is None and not files.delete("file-1")


def test_ids_that_no_database_takes_are_not_there(stores: tuple[SqlJobs, SqlFiles]) -> None:
    jobs, files = stores
    for strange in ("a\0b", "' OR 1=1 --", "", "\U0001f4a9" * 4000):
        assert jobs.get(strange) is None
        assert files.get(strange) is None
        assert files.select(tenant="a", purpose=strange, after=None, limit=9) == []


def _fields(file: StoredFile) -> dict[str, object]:
    return {name: getattr(file, name) for name in StoredFile.__dataclass_fields__}


class Tight:
    """A database on a disk with little room."""

    def __init__(self, inner: Database) -> None:
        self.inner, self.free = inner, 1 << 40
        self.place, self.write, self.read, self.changes, self.close = (
            inner.place, inner.write, inner.read, inner.changes, inner.close
        )  # fmt: skip

    def free_bytes(self) -> int | None:
        return self.free


def test_new_work_leaves_room_for_the_end_of_what_runs(tmp_path: Path, clock: ManualClock) -> None:
    tight = Tight(open_database(tmp_path / "state.db", snapshots=tmp_path, clock=clock))
    files, queue = SqlFiles(tight), queue_over(SqlJobs(tight), clock)
    queue.submit(new("runs", webhook="https://hooks.example/"))
    batch = queue.submit(new("batch", kind="batch"))
    files.create(StoredFile(file_id="f", tenant="a", filename="x", purpose="batch", num_bytes=0, created_ms=1,
                            expires_ms=None, complete=False, account="p"))  # fmt: skip
    files.append("f", 0, b"x" * 1000)
    leases = {lease.job.job_id: lease for lease in queue.lease(kinds=("call", "batch"), limit=2, owner="w")}
    tight.free = RESERVED_BYTES + 500
    with pytest.raises(DiskFull, match="MiB free"):
        files.append("f", 1, b"x" * 1000)
    with pytest.raises(DiskFull):
        queue.store.check_room("a", 1000, None)
    queue.store.check_room("a", 100, None)
    with pytest.raises(DiskFull):
        queue.submit(new("more", payload=b"x" * 1000))
    with pytest.raises(DiskFull):
        queue.adopt(leases["batch"], [new("line", kind="line", parent_id=batch.job_id, payload=b"x" * 1000)], "{}")
    assert queue.get("batch", tenant="a").children_total == 0
    ended = queue.settle(leases["runs"], Done(result=b"{}"))
    assert ended is not None and ended.state == "succeeded"
    assert queue.get("hook_runs", tenant="a").kind == "webhook"
    assert files.delete("f")
    tight.close()


def test_a_full_disk_refuses_a_job_and_loses_none(tmp_path: Path, clock: ManualClock) -> None:
    database = open_database(tmp_path / "state.db", snapshots=tmp_path, clock=clock)
    queue = queue_over(SqlJobs(database), clock)
    queue.submit(new("kept", priority=1))
    with database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 4}")
    with pytest.raises(DiskFull):
        for number in range(100):
            queue.submit(new(f"big{number}", payload=b"x" * 4096))
    held = lease(queue, 1)
    assert ids(held) == ["kept"]
    assert queue.settle(held[0], Done(result=b"small")) is not None
    database.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_jobs_and_files_of_an_older_ashore_get_their_owners(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = fresh_database(request.getfixturevalue("postgres_url"), "jobs_owners") if kind == "postgres" else ""
    then = next(n for n, steps in enumerate(migrations()) if any("ADD COLUMN account" in step for step in steps))

    def opened(version: int) -> Database:
        steps = migrations()[:version]
        if url:
            return open_postgres(url, migrations=steps)
        return open_database(tmp_path / "state.db", snapshots=tmp_path, clock=ManualClock(), migrations=steps)

    old = opened(then)
    principals = {"j1": "alice#key=ash_1", "j2": "corp:b%23#groups=a%2Cc&roles=k", "j3": "first-key"}
    with old.write() as connection:
        for job_id, principal in principals.items():
            whole = ("priority", "created_ms", "not_before_ms", "max_attempts", "ttl_ms", "item", "attempts")
            zeros = (*whole, "lease_number", "lease_until_ms", "cancel_requested")
            zeros += ("children_total", "children_succeeded", "children_failed")
            empty = ("cancel_mode", "webhook", "parent_id", "owner", "progress", "error_code", "error_message")
            row: dict[str, object] = dict.fromkeys(zeros, 0) | dict.fromkeys(empty, "")
            row |= {"job_id": job_id, "kind": "batch", "tenant": "a", "principal": principal, "state": "succeeded"}
            row["idempotency_key"] = job_id
            columns = ", ".join(row)
            execute(connection, f"INSERT INTO job ({columns}) VALUES ({', '.join(':' + c for c in row)})", **row)
        for key_id, owner, tenant in (("k1", "alice", "a"), ("k2", "abe", "a"), ("k3", "eve", "b"), ("k4", "eve", "b")):
            execute(
                connection,
                "INSERT INTO access_key (key_id, digest, principal, tenant, scopes, created_s) "
                "VALUES (:id, :id, :owner, :tenant, '', 0)",
                id=key_id,
                owner=owner,
                tenant=tenant,
            )
        for file_id, tenant, filename, purpose in (
            ("out", "a", "j1_output.jsonl", "batch_output"),
            ("err", "a", "j2_error.jsonl", "batch_output"),
            ("forged", "a", "j1_output.jsonl", "user_data"),
            ("only", "b", "x", "batch"),
        ):
            execute(
                connection,
                "INSERT INTO stored_file (file_id, tenant, filename, purpose, num_bytes, created_ms, complete) "
                "VALUES (:id, :tenant, :filename, :purpose, 0, 0, 1)",
                id=file_id,
                tenant=tenant,
                filename=filename,
                purpose=purpose,
            )
    old.close()
    new_state = opened(len(migrations()))
    jobs, files = SqlJobs(new_state), SqlFiles(new_state)
    assert {job.job_id: job.account for job in jobs.select(limit=9)} == {
        "j1": "alice",
        "j2": "corp:b%23",
        "j3": "first-key",
    }
    owners = {name: file.account for name in ("out", "err", "forged", "only") if (file := files.get(name))}
    assert owners == {"out": "alice", "err": "corp:b%23", "forged": "", "only": "eve"}
    new_state.close()


def test_a_tenant_that_stores_much_leaves_the_last_room_to_others(tmp_path: Path, clock: ManualClock) -> None:
    tight = Tight(open_database(tmp_path / "state.db", snapshots=tmp_path, clock=clock))
    files, queue = SqlFiles(tight), queue_over(SqlJobs(tight), clock)
    large = StoredFile(file_id="f", tenant="a", filename="x", purpose="batch", num_bytes=SHARED_BYTES - 5, created_ms=1,
                       expires_ms=None, complete=False, account="p")  # fmt: skip
    files.create(large)
    files.complete(large)
    tight.free = RESERVED_BYTES + SHARED_BYTES
    queue.store.check_room("a", 5, None)
    with pytest.raises(DiskFull, match="tenant a stores 255 MiB"):
        queue.store.check_room("a", 6, None)
    with pytest.raises(DiskFull):
        files.append("f", 1, b"x" * 6)
    with pytest.raises(DiskFull):
        queue.submit(new("more", payload=b"x" * 6))
    queue.store.check_room("b", 1000, None)
    tight.free = RESERVED_BYTES + SHARED_BYTES + 6
    queue.store.check_room("a", 6, None)
    tight.close()
