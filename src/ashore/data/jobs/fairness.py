"""Picks the next job: start-time fair queueing across tenants, and the highest priority first within a tenant.

Clients set the priority themselves, so it only orders jobs within their tenant.

Each tenant has a virtual finish time that grows by one with every job it gets; the tenant with the lowest goes next. A
tenant that comes back after a pause starts at the present, so it neither pays for nor profits from its absence.

Source: Goyal, Vin, Cheng, "Start-time fair queueing" (SIGCOMM 1996), with equal weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ashore.data.jobs.model import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Virtual time of each tenant."""

    present: float
    """Virtual time: the start of the job given last."""
    finish: Mapping[str, float]
    """By tenant; one that is missing has never been given a job."""


def choose(heads: Mapping[str, Sequence[Job]], turns: Turns, limit: int) -> tuple[list[Job], Turns]:
    """Return the next jobs, at most `limit`, in order, and the tenants' new virtual times.

    Args:
        heads: First jobs of each tenant, by priority, then age.
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
