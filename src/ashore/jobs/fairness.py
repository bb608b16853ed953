"""Whose job goes next: start-time fair queueing over tenants, and within a tenant the highest priority first.

A client says itself how urgent its jobs are, so that orders its tenant's jobs and takes no turn of another tenant.

Each tenant has a virtual finish time that grows by one with every job it is given; whoever is furthest behind goes
next. A tenant that comes back after a pause starts at the present, so it neither pays for nor profits from its absence.

Source: Goyal, Vin, Cheng, "Start-time fair queueing" (SIGCOMM 1996), with equal weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ashore.jobs.model import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Where each tenant stands."""

    present: float
    """Virtual time: the start of the job given last."""
    finish: Mapping[str, float]
    """By tenant; one that is missing has never been given a job."""


def choose(heads: Mapping[str, Sequence[Job]], turns: Turns, limit: int) -> tuple[list[Job], Turns]:
    """Return the jobs that go next, at most `limit`, in their order, and where the tenants stand then.

    Args:
        heads: For each tenant, its first jobs in the order in which they would go (priority, then age).
    """
    finish = dict(turns.finish)
    present = turns.present
    at = dict.fromkeys(heads, 0)
    chosen: list[Job] = []
    while len(chosen) < limit:
        waiting = [tenant for tenant, jobs in heads.items() if at[tenant] < len(jobs)]
        if not waiting:
            break
        start, tenant = min((max(present, finish.get(t, 0.0)), t) for t in waiting)
        chosen.append(heads[tenant][at[tenant]])
        at[tenant] += 1
        present = start
        finish[tenant] = start + 1.0
    return chosen, Turns(present=present, finish=finish)
