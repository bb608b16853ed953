"""Ports of the queue: its store, and its handlers."""

from __future__ import annotations

from typing import Protocol

from ashore.data.jobs.model import Lease, Outcome
from ashore.data.jobs.quota import QuotaKind


class Quotas(Protocol):
    """Storage limits of tenants. Called for every job and file; never blocks."""

    def most(self, kind: QuotaKind, tenant: str) -> int | None:
        """Return the limit, None if there is none."""
        ...


class Handler(Protocol):
    """Runs jobs of one kind."""

    async def run(self, lease: Lease) -> Outcome:
        """Run a job and return its outcome. Cancelled when the lease is lost: later effects are ignored.

        It may run more than once for one job, even on two machines at once if one hung; only one outcome is recorded.

        Raises:
            AshoreError: a retryable one is tried again, any other is the job's end.
        """
        ...
