"""What the queue stands on, and what it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ashore.jobs.model import Job, JobBody, JobState, Lease, NewJob, Outcome, StoredFile
from ashore.jobs.quota import QuotaKind
from ashore.jobs.rules import Rule


class JobStore(Protocol):
    """Where jobs are kept. Every method is one transaction, and blocks; an event loop calls it on a thread."""

    def add(self, jobs: Sequence[NewJob], now_ms: int, *, most_queued: int | None = None) -> list[Job]:
        """Keep new jobs, all or none. For one whose id or idempotency key is there already, the first one is returned.

        When it returns, they outlive a power cut.

        Args:
            jobs: Of one tenant, where there is a bound.
            now_ms: The time.
            most_queued: Jobs of the tenant that have not ended, these included, without the lines of batches.

        Raises:
            BudgetExceeded: there would be more; none was kept.
        """
        ...

    def check_room(self, num_bytes: int) -> None:
        """Return when jobs of so many bytes may be kept now. Raises `DiskFull`."""
        ...

    def get(self, job_id: str) -> Job | None:
        """Return one job; None where there is none, or no longer."""
        ...

    def body(self, job_id: str) -> JobBody | None:
        """Return payload and result of one job."""
        ...

    def ready(self, now_ms: int) -> set[str]:
        """Return the kinds of which a job may be leased now. Only reads."""
        ...

    def lease(self, *, kinds: Sequence[str], limit: int, owner: str, now_ms: int, lease_ms: int) -> list[Lease]:
        """Lease the jobs that go next (`fairness.choose`), at most `limit`; no two callers get the same one."""
        ...

    def update(self, job_ids: Sequence[str], rule: Rule, now_ms: int) -> list[Job]:
        """Apply a rule to each job, and keep all that follows from it, in one transaction; return the changed ones.

        What follows: its result, its spawn, and the count of the parent when the job has ended. The rule may be called
        again where the database asks for it, so it has no effects.
        """
        ...

    def due(self, *, now_ms: int, limit: int, owner: str | None = None) -> list[str]:
        """Return jobs that `rules.sweep` would change; with `owner`, those that this owner has leased instead."""
        ...

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
        """Return jobs by age, the newest first, or children by their item.

        Args:
            parent_id: Children of this job, by item; "" for jobs without a parent; None for any.
            after: (created_ms, job_id) of the last one of an earlier page, or (item, "") of children.
        """
        ...

    def bodies(self, parent_id: str, *, after_item: int, limit: int) -> list[tuple[Job, JobBody]]:
        """Return children that have ended, by item, with their bodies."""
        ...

    def prune(self, *, now_ms: int, limit: int) -> int:
        """Drop jobs whose results nobody may ask for any more, and the children of parents that have ended.

        Returns how many went.
        """
        ...

    def delete(self, job_id: str) -> bool:
        """Drop a job that has ended, with its children; False where there is none such."""
        ...

    def counts(self) -> dict[tuple[str, JobState], int]:
        """Return how many jobs there are, by kind and state."""
        ...


class Quotas(Protocol):
    """How much of the state a tenant may fill. Asked for every job and file; waits for nothing."""

    def most(self, kind: QuotaKind, tenant: str) -> int | None:
        """Return the cap, None where there is none."""
        ...


class FileStore(Protocol):
    """Where files lie, in pieces. Every method is one transaction, and blocks."""

    def create(self, file: StoredFile) -> None:
        """Begin a file; it is empty and not complete. The same id again begins it anew."""
        ...

    def append(self, file_id: str, number: int, piece: bytes) -> None:
        """Keep one piece; the same number again replaces it."""
        ...

    def complete(self, file: StoredFile, *, most_bytes: int | None = None) -> StoredFile | None:
        """Say that the file is whole, and what it is: purpose, name, length and expiry as given. None: it is gone.

        Raises:
            BudgetExceeded: the files of its tenant would be longer than `most_bytes` together; this one is dropped.
        """
        ...

    def get(self, file_id: str) -> StoredFile | None:
        """Return what is known of a file that is complete."""
        ...

    def piece(self, file_id: str, number: int) -> bytes | None:
        """Return one piece, None after the last."""
        ...

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
        """Return complete files of a tenant, or of one account in it, by age, the newest first."""
        ...

    def delete(self, file_id: str) -> bool:
        """Drop a file with its bytes; False where there was none."""
        ...

    def prune(self, *, now_ms: int, abandoned_before_ms: int, limit: int) -> int:
        """Drop files that have expired, and uploads that broke off before a moment; return how many went."""
        ...


class Handler(Protocol):
    """Does the work of one kind of job."""

    async def run(self, lease: Lease) -> Outcome:
        """Do it, and say how it ended. Cancelled when the lease is lost: what it did then has no effect.

        It may run more than once for one job, also at the same time on two machines when one of them hung; what it
        returns is recorded once.

        Raises:
            AshoreError: a retryable one is tried again, any other is the job's end.
        """
        ...
