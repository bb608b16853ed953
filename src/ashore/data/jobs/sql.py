"""Jobs in SQL: SQLite and Postgres by the same statements.

On Postgres several workers lease in parallel: each skips rows that another has locked.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final, cast

from ashore.data.jobs import rules
from ashore.data.jobs.fairness import Turns, choose
from ashore.data.jobs.model import FINAL, JOB_READ, Change, Job, JobBody, JobState, Lease, NewJob, resource_of
from ashore.data.jobs.operations.model import name_of
from ashore.data.jobs.paging import page_length
from ashore.data.jobs.quota import check_stored, stored_bytes, tenant_lock, too_many_bytes, too_many_jobs
from ashore.data.jobs.reserve import check_room
from ashore.data.jobs.rules import Rule
from ashore.kit.state import (
    Database,
    Event,
    Record,
    among,
    announce,
    execute,
    execute_many,
    insert,
    keep_event,
    row_lock,
    unrecorded,
    upsert,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection

_COLUMNS: Final = tuple(field.name for field in fields(Job))
_FIXED: Final = frozenset(
    (
        "job_id",
        "kind",
        "tenant",
        "principal",
        "account",
        "models",
        "created_ms",
        "idempotency_key",
        "parent_id",
        "item",
        "webhook",
    )
)
_CHANGING: Final = tuple(name for name in _COLUMNS if name not in _FIXED)
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM job"
_UPDATE: Final = f"UPDATE job SET {', '.join(f'{c} = :{c}' for c in _CHANGING)} WHERE job_id = :job_id"
_DEAD_CHILD: Final = (
    "parent_id <> '' AND NOT EXISTS (SELECT 1 FROM job p WHERE p.job_id = job.parent_id "
    "AND p.state IN ('queued', 'running'))"
)
_SUSPECT: Final = "deaths > 0"
BATCH: Final = "batch"
PRESENT: Final = ""
"""Row of `job_turn` that holds the present of the virtual time; no tenant has an empty name."""


class SqlJobs:
    """Jobs in the state. Every method is one blocking transaction; event loops call it on a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        jobs: Sequence[NewJob],
        now_ms: int,
        *,
        most_queued: int | None = None,
        most_bytes: int | None = None,
        record: Record = unrecorded,
    ) -> list[Job]:
        """Store new jobs, all or none. For a repeated id or idempotency key, the first job is returned.

        Durable on return, even against a power cut.

        Args:
            jobs: Of one tenant.
            now_ms: The time.
            most_queued: Most unfinished jobs of the tenant, including these, without lines of batches.
            most_bytes: Storage limit of the tenant.
            record: Called in the transaction.

        Raises:
            BudgetExceeded: a limit would be exceeded; nothing was stored.
        """
        with self._database.write() as connection:
            check_room(self._database, sum(len(job.payload) for job in jobs), of=(connection, jobs[0].tenant))
            if most_queued is not None:
                tenant_lock(connection, jobs[0].tenant)
                before = _queued(connection, jobs[0].tenant)
            if most_bytes is not None:
                tenant_lock(connection, jobs[0].tenant)
                held = stored_bytes(connection, jobs[0].tenant)
            kept = [_add(connection, job, now_ms) for job in jobs]
            if most_queued is not None and before < _queued(connection, jobs[0].tenant) > most_queued:
                raise too_many_jobs(jobs[0].tenant, before, most_queued)
            if most_bytes is not None and held < (stores := stored_bytes(connection, jobs[0].tenant)) > most_bytes:
                raise too_many_bytes(jobs[0].tenant, held, stores - held, most_bytes)
            announce(connection)
            record(connection)
            return kept

    def check_room(self, tenant: str, num_bytes: int, most_bytes: int | None) -> None:
        """Check that a tenant may store jobs of so many bytes now. Raises `DiskFull`, `BudgetExceeded`."""
        with self._database.read() as connection:
            check_room(self._database, num_bytes, of=(connection, tenant))
            check_stored(connection, tenant, num_bytes, most_bytes)

    def get(self, job_id: str) -> Job | None:
        """Return one job; None if it does not exist any more or never did."""
        if "\0" in job_id:  # Postgres rejects such a value even in a query
            return None
        with self._database.read() as connection:
            return _one(connection, job_id)

    def body(self, job_id: str) -> JobBody | None:
        """Return payload and result of one job."""
        with self._database.read() as connection:
            statement = "SELECT payload, result FROM job_body WHERE job_id = :id"
            row = execute(connection, statement, id=job_id).mappings().first()
            return None if row is None else _body(row["payload"], row["result"])

    def body_length(self, job_id: str) -> int:
        """Return the size in bytes of what `body` would return, 0 if there is no such job. Reads none of it."""
        statement = "SELECT LENGTH(payload) + COALESCE(LENGTH(result), 0) FROM job_body WHERE job_id = :id"
        with self._database.read() as connection:
            return int(execute(connection, statement, id=job_id).scalar() or 0)

    def asks(self, job_id: str, payload: bytes) -> bool:
        """Return whether a job has this payload, or is gone. A payload of another length is not read."""
        statement = "SELECT {} FROM job_body WHERE job_id = :id"
        with self._database.read() as connection:
            length = execute(connection, statement.format("LENGTH(payload)"), id=job_id).scalar()
            if length is None or length != len(payload):
                return length is None
            return bytes(execute(connection, statement.format("payload"), id=job_id).scalar_one()) == payload

    def ready(self, now_ms: int) -> set[str]:
        """Return the kinds of which a job may be leased now. Read-only."""
        with self._database.read() as connection:
            return set(_waiting(connection, "kind", now_ms))

    def has_suspects(self, kinds: Sequence[str], now_ms: int) -> bool:
        """Return whether a job of these kinds is ready that was running when a process died. Read-only."""
        values: dict[str, object] = {"now": now_ms}
        kind_in = among("kind", kinds, values)
        statement = f"SELECT 1 FROM job WHERE state = 'queued' AND {_SUSPECT} AND not_before_ms <= :now AND {kind_in}"
        with self._database.read() as connection:
            return execute(connection, f"{statement} LIMIT 1", **values).first() is not None

    def lease(
        self,
        *,
        kinds: Sequence[str],
        limit: int,
        owner: str,
        now_ms: int,
        lease_ms: int,
        suspects: bool | None = None,
    ) -> list[Lease]:
        """Lease the next jobs (`fairness.choose`), at most `limit`; no two callers get the same one. `suspects`: only
        those, or none of them; None: any.
        """
        with self._database.write() as connection:
            heads = {
                tenant: _heads(connection, tenant, kinds, now_ms, limit, suspects)
                for tenant in _tenants(connection, kinds, now_ms)
            }
            before = _turns(connection)
            chosen, turns = choose(heads, before, limit)
            _keep_turns(connection, before, turns)
            leases = []
            for job in chosen:
                taken = rules.take(job, owner=owner, now_ms=now_ms, lease_ms=lease_ms)
                execute(connection, _UPDATE, **_row(taken, _CHANGING))
                _tell(connection, taken, now_ms)
                payload = execute(
                    connection, "SELECT payload FROM job_body WHERE job_id = :id", id=job.job_id
                ).scalar_one()
                leases.append(Lease(job=taken, payload=bytes(payload)))
            return leases

    def update(self, job_ids: Sequence[str], rule: Rule, now_ms: int, *, record: Record = unrecorded) -> list[Job]:
        """Apply a rule to each job, and write all consequences, in one transaction; return the changed jobs.

        Consequences: its result, its spawned jobs, and the parent's count when the job has ended. The rule may be
        called again on a retry, so it must have no side effects. `record` is called in the transaction if a job
        changed.
        """
        if not job_ids:
            return []
        with self._database.write() as connection:
            changed = []
            for job_id in job_ids:
                job = _one(connection, job_id, lock=True)
                change = rule(job) if job is not None else None
                if job is not None and change is not None:
                    if change.spawn and change.spawn[0].parent_id:  # a notice of an end is small, and always has room
                        check_room(self._database, sum(len(new.payload) for new in change.spawn))
                    _apply(connection, job, change, now_ms)
                    changed.append(change.job)
            if any(job.state != "running" for job in changed):
                announce(connection)
            if changed:
                record(connection)
            return changed

    def due(self, *, now_ms: int, limit: int, owner: str | None = None) -> list[str]:
        """Return jobs that `rules.sweep` would change; with `owner`, the jobs leased by that owner instead."""
        with self._database.read() as connection:
            if owner is not None:
                statement = "SELECT job_id FROM job WHERE state = 'running' AND owner = :owner LIMIT :limit"
                return [str(row[0]) for row in execute(connection, statement, owner=owner, limit=limit)]
            statement = (
                "SELECT job_id FROM job WHERE state = 'running' AND lease_until_ms <= :now UNION "
                "SELECT job_id FROM job WHERE deadline_ms IS NOT NULL AND deadline_ms <= :now "
                "AND state IN ('queued', 'running') LIMIT :limit"
            )
            return [str(row[0]) for row in execute(connection, statement, now=now_ms, limit=limit)]

    def select(
        self,
        *,
        limit: int,
        tenant: str | None = None,
        account: str | None = None,
        kinds: Sequence[str] = (),
        states: Sequence[JobState] = (),
        parent_id: str | None = None,
        after: tuple[int, str] | None = None,
        oldest_first: bool = False,
    ) -> list[Job]:
        """Return jobs, newest first, or children by item.

        Args:
            parent_id: Children of this job, by item; "" for jobs without a parent; None for any.
            after: (created_ms, job_id) of the last one of an earlier page, or (item, "") of children.
        """
        where, values = ["1 = 1"], dict[str, object](limit=limit)
        if tenant is not None:
            where.append("tenant = :tenant")
            values["tenant"] = tenant
        if account is not None:
            where.append("account = :account")
            values["account"] = account
        where += [among("kind", kinds, values)] * bool(kinds) + [among("state", states, values)] * bool(states)
        if parent_id is not None:
            where.append("parent_id = :parent")
            values["parent"] = parent_id
        if parent_id:
            where.append("parent_id <> ''")  # so that SQLite uses the index `job_child`, which has no others
            order = "item"
            if after is not None:
                where.append("item > :item")
                values["item"] = after[0]
        else:
            way, beyond = ("ASC", ">") if oldest_first else ("DESC", "<")
            order = f"created_ms {way}, job_id {way}"
            if after is not None:
                where.append(f"(created_ms, job_id) {beyond} (:after_ms, :after_id)")
                values |= {"after_ms": after[0], "after_id": after[1]}
        with self._database.read() as connection:
            statement = f"{_SELECT} WHERE {' AND '.join(where)} ORDER BY {order} LIMIT :limit"
            return [_job(row) for row in execute(connection, statement, **values).mappings()]

    def bodies(self, parent_id: str, *, after_item: int, limit: int) -> list[tuple[Job, JobBody]]:
        """Return ended children by item, with their bodies: at most `limit`, and one page."""
        names = ", ".join(f"job.{name}" for name in _COLUMNS)
        where = (
            f"WHERE parent_id = :parent AND parent_id <> '' AND item > :item AND {_FINAL} ORDER BY item LIMIT :limit"
        )
        statement = f"SELECT {names}, payload, result FROM job JOIN job_body ON job_body.job_id = job.job_id {where}"
        with self._database.read() as connection:
            values: dict[str, object] = {"parent": parent_id, "item": after_item}
            lengths = [
                int(row[0]) for row in execute(connection, f"SELECT num_bytes FROM job {where}", limit=limit, **values)
            ]
            rows = execute(connection, statement, limit=page_length(lengths), **values).mappings()
            return [(_job(row), _body(row["payload"], row["result"])) for row in rows]

    def prune(self, *, now_ms: int, limit: int) -> int:
        """Delete jobs whose results have expired, and children of ended parents.

        Returns how many.
        """
        statement = (
            "SELECT job_id FROM job WHERE expires_ms IS NOT NULL AND expires_ms <= :now "
            f"UNION SELECT job_id FROM job WHERE {_DEAD_CHILD} LIMIT :limit"
        )
        with self._database.read() as connection:
            gone = [{"id": row[0]} for row in execute(connection, statement, now=now_ms, limit=limit)]
        if gone:
            with self._database.write() as connection:
                execute_many(connection, "DELETE FROM job_body WHERE job_id = :id", gone)
                execute_many(connection, "DELETE FROM job_event WHERE job_id = :id", gone)
                execute_many(connection, "DELETE FROM job WHERE job_id = :id", gone)
        return len(gone)

    def delete(self, job_id: str) -> bool:
        """Delete an ended job with its children; False if there is none."""
        with self._database.write() as connection:
            job = _one(connection, job_id, lock=True)
            if job is None or not job.final:
                return False
            execute(
                connection,
                "DELETE FROM job_body WHERE job_id = :id "
                "OR job_id IN (SELECT job_id FROM job WHERE parent_id = :id AND parent_id <> '')",
                id=job_id,
            )
            execute(connection, "DELETE FROM job_event WHERE job_id = :id", id=job_id)
            execute(
                connection, "DELETE FROM job WHERE job_id = :id OR (parent_id = :id AND parent_id <> '')", id=job_id
            )
            return True

    def counts(self) -> dict[tuple[str, JobState], int]:
        """Return the number of jobs by kind and state."""
        with self._database.read() as connection:
            statement = "SELECT kind, state, count(*) AS num FROM job GROUP BY kind, state"
            rows = execute(connection, statement).mappings()
            return {(str(row["kind"]), cast(JobState, row["state"])): int(row["num"]) for row in rows}


_FINAL: Final = f"state IN ({', '.join(repr(state) for state in sorted(FINAL))})"


def _queued(connection: Connection, tenant: str) -> int:
    statement = "SELECT COUNT(*) FROM job WHERE tenant = :tenant AND parent_id = '' AND state IN ('queued', 'running')"
    return int(execute(connection, statement, tenant=tenant).scalar_one())


def _add(connection: Connection, new: NewJob, now_ms: int) -> Job:
    job = rules.queued(new, now_ms)
    if insert(connection, "job", _row(job, _COLUMNS), once=True):
        insert(connection, "job_body", _body_of(new), once=True)
        _tell(connection, job, now_ms)
        return job
    found = _one(connection, new.job_id)
    if found is None:
        once = ("tenant", "account", "kind", "idempotency_key")
        statement = f"{_SELECT} WHERE {' AND '.join(f'{name} = :{name}' for name in once)}"
        found = _job(execute(connection, statement, **{name: getattr(job, name) for name in once}).mappings().one())
    return found


def _apply(connection: Connection, before: Job, change: Change, now_ms: int) -> None:
    job = change.job
    if change.result is not None:
        job = replace(job, num_bytes=job.num_bytes + len(change.result))
    execute(connection, _UPDATE, **_row(job, _CHANGING))
    if job.state != before.state:
        _tell(connection, job, now_ms)
    if change.result is not None:
        statement = "UPDATE job_body SET result = :result WHERE job_id = :id"
        execute(connection, statement, result=change.result, id=job.job_id)
    if job.final and not before.final and job.parent_id:
        parent = _one(connection, job.parent_id, lock=True)
        if parent is not None:
            execute(connection, _UPDATE, **_row(rules.child_ended(parent, job, now_ms), _CHANGING))
    if change.spawn:
        assert not any(new.idempotency_key for new in change.spawn), "the id of a spawned job is its key"
        insert(connection, "job", *(_row(rules.queued(new, now_ms), _COLUMNS) for new in change.spawn), once=True)
        insert(connection, "job_body", *(_body_of(new) for new in change.spawn), once=True)


def _tell(connection: Connection, job: Job, now_ms: int) -> None:
    """Store an event about a job that people follow: an operation, a batch."""
    what = name_of(job.kind) or (BATCH if job.kind == BATCH else "")
    if what:
        about: dict[str, str | int | float | None] = {"job": job.job_id, "what": what, "state": job.state}
        about["owner"] = job.account
        about |= {"error_code": job.error_code, "error_message": job.error_message} if job.final else {}
        event = Event(kind=f"job.{job.state}", resource=resource_of(job), reads=JOB_READ, about=about, at_ms=now_ms)
        keep_event(connection, event)


def _one(connection: Connection, job_id: str, *, lock: bool = False) -> Job | None:
    statement = f"{_SELECT} WHERE job_id = :id" + (row_lock(connection) if lock else "")
    row = execute(connection, statement, id=job_id).mappings().first()
    return None if row is None else _job(row)


def _tenants(connection: Connection, kinds: Sequence[str], now_ms: int) -> list[str]:
    """Return the tenants that have a ready job of these kinds, each once."""
    found = (_waiting(connection, "tenant", now_ms, kind=kind) for kind in kinds)
    return list(dict.fromkeys(itertools.chain.from_iterable(found)))


def _waiting(connection: Connection, column: str, now_ms: int, *, kind: str | None = None) -> list[str]:
    """Return the values of a column of `job_waiting` with ready jobs.

    Skips through the index from value to value: DISTINCT would read all 50,000 lines of a batch each time one of them
    ends.
    """
    among = "state = 'queued'" + ("" if kind is None else " AND kind = :kind")
    statement = (
        f"WITH RECURSIVE found (name) AS (SELECT MIN({column}) FROM job WHERE {among} UNION ALL "
        f"SELECT (SELECT MIN({column}) FROM job WHERE {among} AND {column} > found.name) "
        "FROM found WHERE found.name IS NOT NULL) SELECT name FROM found WHERE name IS NOT NULL AND EXISTS "
        f"(SELECT 1 FROM job WHERE {among} AND {column} = found.name AND not_before_ms <= :now)"
    )
    values: dict[str, object] = {"now": now_ms} | ({} if kind is None else {"kind": kind})
    return [str(row[0]) for row in execute(connection, statement, **values)]


def _heads(
    connection: Connection, tenant: str, kinds: Sequence[str], now_ms: int, limit: int, suspects: bool | None
) -> list[Job]:
    """Return the next jobs of a tenant. One query for each kind: that is the order of `job_waiting`."""
    among = "" if suspects is None else f"AND {_SUSPECT} " if suspects else f"AND NOT ({_SUSPECT}) "
    statement = (
        f"{_SELECT} WHERE state = 'queued' AND kind = :kind AND tenant = :tenant AND not_before_ms <= :now {among}"
        "ORDER BY priority DESC, created_ms, job_id LIMIT :limit"
    ) + row_lock(connection, skip_locked=True)
    found = [
        _job(row)
        for kind in kinds
        for row in execute(connection, statement, kind=kind, tenant=tenant, now=now_ms, limit=limit).mappings()
    ]
    return sorted(found, key=lambda job: (-job.priority, job.created_ms, job.job_id))[:limit]


def _turns(connection: Connection) -> Turns:
    found = execute(connection, "SELECT tenant, finish FROM job_turn").mappings()
    rows = {str(row["tenant"]): float(row["finish"]) for row in found}
    return Turns(present=rows.pop(PRESENT, 0.0), finish=rows)


def _keep_turns(connection: Connection, before: Turns, after: Turns) -> None:
    changed = {t: f for t, f in sorted(after.finish.items()) if before.finish.get(t) != f}
    if after.present != before.present:
        changed = {PRESENT: after.present, **changed}
    rows = ({"tenant": tenant, "finish": finish} for tenant, finish in changed.items())
    upsert(connection, "job_turn", *rows, key="tenant")


def _row(job: Job, columns: Sequence[str]) -> dict[str, object]:
    row = {name: getattr(job, name) for name in columns}
    row["job_id"] = job.job_id
    row["cancel_requested"] = int(job.cancel_requested)
    return row


def _body_of(new: NewJob) -> dict[str, object]:
    return {"job_id": new.job_id, "payload": new.payload, "result": new.result}


def _job(row: Mapping[Any, Any]) -> Job:
    values = {name: row[name] for name in _COLUMNS}
    values["cancel_requested"] = bool(values["cancel_requested"])
    return Job(**values)


def _body(payload: Any, result: Any) -> JobBody:
    return JobBody(payload=bytes(payload), result=None if result is None else bytes(result))
