"""The use cases of the queue: load, decide by a rule, write. All methods block; event loops call them on a thread."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from ashore.core.clock import Clock
from ashore.core.errors import Conflict, NotFound
from ashore.data.jobs import rules
from ashore.data.jobs.model import Change, Job, JobBody, JobState, Lease, NewJob, Outcome
from ashore.data.jobs.ports import Quotas
from ashore.data.jobs.quota import NoQuotas
from ashore.data.jobs.sql import SqlJobs
from ashore.kit.state import Record, unrecorded

LEASE_S: Final = 30.0
"""A worker that is silent for so long has lost its job."""
MOST_AT_ONCE: Final = 500
"""Jobs in one transaction."""


class JobQueue:
    """A durable queue over the state."""

    def __init__(
        self,
        store: SqlJobs,
        clock: Clock,
        *,
        lease_s: float = LEASE_S,
        jitter: Callable[[], float] = random.random,
        quotas: Quotas | None = None,
    ) -> None:
        self.store: Final = store
        self._clock = clock
        self._lease_ms = int(lease_s * 1000)
        self._jitter = jitter
        self._quotas = quotas or NoQuotas()
        self.lease_s: Final = lease_s

    def now_ms(self) -> int:
        """Return the current time, in milliseconds since the epoch."""
        return int(self._clock.now_s() * 1000)

    # --- submitters

    def submit(self, job: NewJob, *, record: Record = unrecorded) -> Job:
        """Store a job; once this returns it will run, whatever dies. A repeated id or idempotency key returns the first
        job. `record` is called in the transaction.

        Raises:
            Conflict: the idempotency key was used for something else.
            BudgetExceeded: the tenant has too many unfinished jobs, or stores too much.
        """
        most = None if job.parent_id else self._quotas.most("queued_jobs", job.tenant)
        is_done = job.result is not None  # it was checked before it was worked on
        most_bytes = None if job.parent_id or is_done else self._quotas.most("stored_bytes", job.tenant)
        kept = self.store.add([job], self.now_ms(), most_queued=most, most_bytes=most_bytes, record=record)[0]
        if kept.job_id != job.job_id and not self.store.asks(kept.job_id, job.payload):
            raise Conflict(
                f"the idempotency key was already used by {kept.job_id} for a different request",
                hint="use a new idempotency key for each new request",
            )
        return kept

    def get(self, job_id: str, *, tenant: str | None, kinds: Sequence[str] = ()) -> Job:
        """Return a job; optionally of one tenant and some kinds only.

        Raises:
            NotFound: it does not exist, or belongs to another tenant: the error is the same.
        """
        job = self.store.get(job_id)
        if job is None or (tenant is not None and job.tenant != tenant) or (kinds and job.kind not in kinds):
            raise NotFound(
                f"there is no job {job_id[:80]!r}", hint="check the id; results are deleted once they expire"
            )
        return job

    def body(self, job_id: str) -> JobBody:
        """Return payload and result.

        Raises:
            NotFound: it was deleted meanwhile.
        """
        body = self.store.body(job_id)
        if body is None:
            raise NotFound(f"{job_id[:80]!r} no longer exists")
        return body

    def cancel(self, job_id: str, *, record: Record = unrecorded) -> Job | None:
        """Cancel a job and its children, and return it; None if it had ended. May be called twice. `record` is called
        in the transaction.
        """
        now_ms = self.now_ms()
        changed = self.store.update([job_id], lambda job: rules.cancel(job, now_ms), now_ms, record=record)
        return changed[0] if changed else None

    def cancel_children(self, parent_id: str) -> int:
        """Cancel some unfinished children of a batch; return how many, 0 if none is left."""
        left = self.store.select(limit=MOST_AT_ONCE, parent_id=parent_id, states=("queued", "running"))
        now_ms = self.now_ms()
        return len(self.store.update([job.job_id for job in left], lambda job: rules.cancel(job, now_ms), now_ms))

    def delete(self, job_id: str) -> None:
        """Delete a job with its result; an unfinished one is cancelled first.

        Raises:
            Conflict: its handler must end it first.
        """
        self.cancel(job_id)
        if not self.store.delete(job_id) and self.store.get(job_id) is not None:
            raise Conflict(f"{job_id} has not ended yet", hint="cancel it, wait until it ends, then delete it")

    def counts(self) -> dict[tuple[str, JobState], int]:
        """Return the number of jobs by kind and state."""
        return self.store.counts()

    # --- workers

    def ready(self) -> set[str]:
        """Return the kinds of which `lease` would return a job, so that idle workers take no lock."""
        return self.store.ready(self.now_ms())

    def has_suspects(self, kinds: Sequence[str]) -> bool:
        """Return whether a job of these kinds is ready that was running when a process died."""
        return self.store.has_suspects(kinds, self.now_ms())

    def lease(self, *, kinds: Sequence[str], limit: int, owner: str, suspects: bool | None = None) -> list[Lease]:
        """Lease the next jobs to `owner` and return them. `suspects`: only those, or none of them; None: any."""
        return self.store.lease(
            kinds=kinds, limit=limit, owner=owner, now_ms=self.now_ms(), lease_ms=self._lease_ms, suspects=suspects
        )

    def held_s(self, lease: Lease) -> float:
        """Return how long a lease lasts."""
        return (self.now_ms() - lease.job.lease_until_ms + self._lease_ms) / 1000

    def renew(self, leases: Sequence[Lease]) -> set[str]:
        """Extend leases; return the ids that still hold. The others are lost."""
        numbers = {lease.job.job_id: lease.number for lease in leases}
        now_ms = self.now_ms()
        kept = self.store.update(
            list(numbers),
            lambda job: rules.renew(job, number=numbers[job.job_id], now_ms=now_ms, lease_ms=self._lease_ms),
            now_ms,
        )
        return {job.job_id for job in kept}

    def holding(self, leases: Sequence[Lease]) -> set[str]:
        """Return the ids of the leases that still hold. Read-only."""
        found = ((lease, self.store.get(lease.job.job_id)) for lease in leases)
        return {lease.job.job_id for lease, job in found if job is not None and rules.held(job, lease.number)}

    def report(self, lease: Lease, progress: str) -> bool:
        """Store progress; False if the lease is lost."""
        now_ms = self.now_ms()
        return bool(
            self.store.update(
                [lease.job.job_id],
                lambda job: rules.renew(
                    job, number=lease.number, now_ms=now_ms, lease_ms=self._lease_ms, progress=progress
                ),
                now_ms,
            )
        )

    def adopt(self, lease: Lease, children: Sequence[NewJob], progress: str) -> bool:
        """Add children and store progress, in one transaction; False if the lease is lost."""
        made = tuple(children)
        return bool(
            self.store.update(
                [lease.job.job_id],
                lambda job: rules.adopt(job, number=lease.number, children=made, progress=progress),
                self.now_ms(),
            )
        )

    def settle(self, lease: Lease, outcome: Outcome) -> Job | None:
        """Record how an attempt ended; None, and nothing recorded, if the lease was lost."""
        now_ms, jitter = self.now_ms(), self._jitter()
        changed = self.store.update(
            [lease.job.job_id],
            lambda job: rules.settle(job, number=lease.number, outcome=outcome, now_ms=now_ms, jitter=jitter),
            now_ms,
        )
        return changed[0] if changed else None

    # --- maintenance

    def sweep(self) -> int:
        """Reclaim expired leases and end jobs past their deadline; return how many changed."""
        now_ms = self.now_ms()
        found = self.store.due(now_ms=now_ms, limit=MOST_AT_ONCE)
        if not found:
            return 0
        return len(self.store.update(found, lambda job: rules.sweep(job, now_ms, self._jitter()), now_ms))

    def recover(self, owner: str, since_ms: int = 0) -> int:
        """Reclaim the leases of an earlier worker of this owner; return how many. Call at the start of the only worker,
        whose supervisor started at `since_ms`.
        """
        now_ms, total = self.now_ms(), 0

        def recover(job: Job) -> Change | None:
            return rules.recover(
                job, owner=owner, since_ms=since_ms, lease_ms=self._lease_ms, now_ms=now_ms, jitter=self._jitter()
            )

        while found := self.store.due(now_ms=now_ms, limit=MOST_AT_ONCE, owner=owner):
            total += len(self.store.update(found, recover, now_ms))
        return total

    def prune(self) -> int:
        """Delete expired jobs; return how many."""
        return self.store.prune(now_ms=self.now_ms(), limit=MOST_AT_ONCE)
