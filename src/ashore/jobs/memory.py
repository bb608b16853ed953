"""Jobs and files in memory: the twin of the SQL stores, for tests and for a server without a state."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from ashore.jobs import rules
from ashore.jobs.fairness import Turns, choose
from ashore.jobs.model import FINAL, Change, Job, JobBody, JobState, Lease, NewJob, StoredFile
from ashore.jobs.quota import too_many_bytes, too_many_jobs
from ashore.jobs.rules import Rule


class MemoryJobs:
    """A `JobStore` that forgets everything when the process ends."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._bodies: dict[str, JobBody] = {}
        self._turns = Turns(present=0.0, finish={})

    def check_room(self, num_bytes: int) -> None:
        """Memory is not counted here."""

    def add(self, jobs: Sequence[NewJob], now_ms: int, *, most_queued: int | None = None) -> list[Job]:
        with self._lock:
            before = set(self._jobs)
            kept = [self._add(job, now_ms) for job in jobs]
            if most_queued is not None and set(self._jobs) != before:
                tenant = jobs[0].tenant
                found = sum(
                    job.tenant == tenant and not job.parent_id and job.state in ("queued", "running")
                    for job in self._jobs.values()
                )
                if found > most_queued:
                    for new in set(self._jobs) - before:
                        del self._jobs[new], self._bodies[new]
                    raise too_many_jobs(tenant, found - len(jobs), most_queued)
            return kept

    def _add(self, new: NewJob, now_ms: int) -> Job:
        if new.job_id in self._jobs:
            return self._jobs[new.job_id]
        job = rules.queued(new, now_ms)
        if new.idempotency_key:
            key = (job.tenant, job.account, job.kind, job.idempotency_key)
            for known in self._jobs.values():
                if (known.tenant, known.account, known.kind, known.idempotency_key) == key:
                    return known
        self._jobs[new.job_id] = job
        self._bodies[new.job_id] = JobBody(payload=new.payload, result=new.result)
        return job

    def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def body(self, job_id: str) -> JobBody | None:
        return self._bodies.get(job_id)

    def ready(self, now_ms: int) -> set[str]:
        with self._lock:
            return {j.kind for j in self._jobs.values() if j.state == "queued" and j.not_before_ms <= now_ms}

    def lease(self, *, kinds: Sequence[str], limit: int, owner: str, now_ms: int, lease_ms: int) -> list[Lease]:
        with self._lock:
            heads: dict[str, list[Job]] = {}
            ready = (
                j for j in self._jobs.values() if j.state == "queued" and j.kind in kinds and j.not_before_ms <= now_ms
            )
            for job in sorted(ready, key=lambda j: (-j.priority, j.created_ms, j.job_id)):
                heads.setdefault(job.tenant, []).append(job)
            chosen, self._turns = choose(heads, self._turns, limit)
            leases = []
            for job in chosen:
                taken = self._jobs[job.job_id] = rules.take(job, owner=owner, now_ms=now_ms, lease_ms=lease_ms)
                leases.append(Lease(job=taken, payload=self._bodies[job.job_id].payload))
            return leases

    def update(self, job_ids: Sequence[str], rule: Rule, now_ms: int) -> list[Job]:
        with self._lock:
            changed = []
            for job_id in job_ids:
                job = self._jobs.get(job_id)
                change = rule(job) if job is not None else None
                if job is not None and change is not None:
                    self._apply(job, change, now_ms)
                    changed.append(change.job)
            return changed

    def _apply(self, before: Job, change: Change, now_ms: int) -> None:
        job = self._jobs[before.job_id] = change.job
        if change.result is not None:
            self._bodies[job.job_id] = replace(self._bodies[job.job_id], result=change.result)
        if job.final and not before.final and job.parent_id in self._jobs:
            self._jobs[job.parent_id] = rules.child_ended(self._jobs[job.parent_id], job, now_ms)
        for new in change.spawn:
            self._add(new, now_ms)

    def due(self, *, now_ms: int, limit: int, owner: str | None = None) -> list[str]:
        with self._lock:
            if owner is not None:
                found = [j.job_id for j in self._jobs.values() if j.state == "running" and j.owner == owner]
            else:
                found = [j.job_id for j in self._jobs.values() if rules.sweep(j, now_ms, 0.0) is not None]
            return found[:limit]

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
        with self._lock:
            found = [
                job
                for job in self._jobs.values()
                if (tenant is None or job.tenant == tenant)
                and (account is None or job.account == account)
                and (not kinds or job.kind in kinds)
                and (not states or job.state in states)
                and (parent_id is None or job.parent_id == parent_id)
            ]
        if parent_id:
            found.sort(key=lambda job: job.item)
            return [job for job in found if after is None or job.item > after[0]][:limit]
        found.sort(key=lambda job: (job.created_ms, job.job_id), reverse=not oldest_first)
        if after is not None:
            found = [j for j in found if ((j.created_ms, j.job_id) > after) == oldest_first]
            found = [j for j in found if (j.created_ms, j.job_id) != after]
        return found[:limit]

    def bodies(self, parent_id: str, *, after_item: int, limit: int) -> list[tuple[Job, JobBody]]:
        found = self.select(limit=len(self._jobs), parent_id=parent_id, after=(after_item, ""))
        return [(job, self._bodies[job.job_id]) for job in found if job.final][:limit]

    def prune(self, *, now_ms: int, limit: int) -> int:
        with self._lock:
            gone = [
                j.job_id
                for j in self._jobs.values()
                if (j.expires_ms is not None and j.expires_ms <= now_ms)
                or (j.parent_id and (j.parent_id not in self._jobs or self._jobs[j.parent_id].final))
            ]
            for job_id in gone[:limit]:
                self._jobs.pop(job_id)
                self._bodies.pop(job_id)
            return len(gone[:limit])

    def delete(self, job_id: str) -> bool:
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None or job.state not in FINAL:
                return False
            for one in [job_id, *(j.job_id for j in self._jobs.values() if j.parent_id == job_id)]:
                self._jobs.pop(one, None)
                self._bodies.pop(one, None)
            return True

    def counts(self) -> dict[tuple[str, JobState], int]:
        with self._lock:
            found: dict[tuple[str, JobState], int] = {}
            for job in self._jobs.values():
                found[job.kind, job.state] = found.get((job.kind, job.state), 0) + 1
            return found


class MemoryFiles:
    """A `FileStore` that forgets everything when the process ends."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._files: dict[str, StoredFile] = {}
        self._pieces: dict[str, dict[int, bytes]] = {}

    def create(self, file: StoredFile) -> None:
        with self._lock:
            self._files[file.file_id] = replace(file, complete=False)
            self._pieces[file.file_id] = {}

    def append(self, file_id: str, number: int, piece: bytes) -> None:
        with self._lock:
            if file_id in self._pieces:
                self._pieces[file_id][number] = piece

    def complete(self, file: StoredFile, *, most_bytes: int | None = None) -> StoredFile | None:
        with self._lock:
            if file.file_id not in self._files:
                return None
            others = sum(
                one.num_bytes
                for one in self._files.values()
                if one.tenant == file.tenant and one.complete and one.file_id != file.file_id
            )
            if most_bytes is not None and others + file.num_bytes > most_bytes:
                self.delete(file.file_id)
                raise too_many_bytes(file.tenant, others, file.num_bytes, most_bytes)
            self._files[file.file_id] = replace(file, complete=True)
            return self._files[file.file_id]

    def get(self, file_id: str) -> StoredFile | None:
        file = self._files.get(file_id)
        return file if file is not None and file.complete else None

    def piece(self, file_id: str, number: int) -> bytes | None:
        return self._pieces.get(file_id, {}).get(number)

    def select(
        self,
        *,
        tenant: str,
        purpose: str | None,
        after: tuple[int, str] | None,
        limit: int,
        account: str | None = None,
        oldest_first: bool = False,
    ) -> list[StoredFile]:
        with self._lock:
            found = [
                f
                for f in self._files.values()
                if f.complete
                and f.tenant == tenant
                and (account is None or f.account == account)
                and (purpose is None or f.purpose == purpose)
            ]
        found.sort(key=lambda f: (f.created_ms, f.file_id), reverse=not oldest_first)
        if after is not None:
            found = [f for f in found if (f.created_ms, f.file_id) != after]
            found = [f for f in found if ((f.created_ms, f.file_id) > after) == oldest_first]
        return found[:limit]

    def delete(self, file_id: str) -> bool:
        with self._lock:
            self._pieces.pop(file_id, None)
            return self._files.pop(file_id, None) is not None

    def prune(self, *, now_ms: int, abandoned_before_ms: int, limit: int) -> int:
        with self._lock:
            gone = [
                f.file_id
                for f in self._files.values()
                if (f.expires_ms is not None and f.expires_ms <= now_ms)
                or (not f.complete and f.created_ms <= abandoned_before_ms)
            ][:limit]
            for file_id in gone:
                self.delete(file_id)
            return len(gone)
