"""What the queue stands on, and what it runs."""

from __future__ import annotations

from typing import Protocol

from ashore.jobs.model import Lease, Outcome
from ashore.jobs.quota import QuotaKind


class Quotas(Protocol):
    """How much of the state a tenant may fill. Asked for every job and file; waits for nothing."""

    def most(self, kind: QuotaKind, tenant: str) -> int | None:
        """Return the cap, None where there is none."""
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
