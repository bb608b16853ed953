"""A trace answered by a policy on a virtual clock.

Prices count work, not elapsed time: an idle device costs nothing, as if others used it meanwhile.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.dispatch.policies import Policy

from ashore.data.dispatch import EVERY_S, Backend, Device, Fleet, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Result of a policy on a trace."""

    cost: float
    answered: int
    missed: int
    """Answered late, or never begun."""
    refused: int
    """Of those: no back end could meet the deadline from its arrival on."""
    cost_by_backend: Mapping[str, float]
    answered_by_backend: Mapping[str, int]
    mean_s: float
    """From arrival to the whole answer."""
    p95_s: float


def simulate(trace: Sequence[Request], backends: Sequence[Backend], policy: Policy) -> Outcome:
    """Answer a trace, sorted by arrival, on a virtual clock.

    Args:
        trace: Requests, numbered by arrival.
        backends: The available back ends.
        policy: The policy to simulate.
    """
    fleet = Fleet(backends)
    cost = dict.fromkeys((one.name for one in backends), 0.0)
    answered = dict.fromkeys((one.name for one in backends), 0)
    took: list[float] = []
    missed = refused = 0
    waiting: dict[int, Request] = {}
    finishing: list[tuple[float, int, int, Device]] = []
    position, now_s, tick_s, serial = 0, 0.0, 0.0, 0

    def watch(at: int, device: Device) -> None:
        nonlocal serial
        serial += 1
        heapq.heappush(finishing, (device.next_s(), serial, at, device))

    while position < len(trace) or waiting or finishing:
        candidates = [tick_s if waiting or position < len(trace) else 1e18]
        if position < len(trace):
            candidates.append(trace[position].arrival_s)
        if finishing:
            candidates.append(finishing[0][0])
        fleet.now_s = now_s = max(now_s, min(candidates))
        while finishing and finishing[0][0] <= now_s:
            due_s, _, at, device = heapq.heappop(finishing)
            if due_s < device.next_s() - 1e-9:
                continue  # superseded: a later entry exists for it
            done = device.finish(now_s)
            for request in done:
                took.append(now_s - request.arrival_s)
                missed += now_s > request.deadline_s + 1e-6
                answered[backends[at].name] += 1
            if device.running:
                watch(at, device)
        while position < len(trace) and trace[position].arrival_s <= now_s:
            one = trace[position]
            position += 1
            if any(each.could_answer(one) for each in backends):
                waiting[one.number] = one
            else:
                missed, refused = missed + 1, refused + 1
        tick = now_s >= tick_s
        if tick:
            tick_s = now_s + EVERY_S
        if not waiting:
            continue
        for number, at in policy.decide(tuple(waiting.values()), fleet, now_s, tick=tick).items():
            request, device = waiting.pop(number), fleet.idlest(at)
            cost[backends[at].name] += backends[at].cost(request)
            device.begin(request, now_s)
            watch(at, device)
    took.sort()
    return Outcome(
        cost=sum(cost.values()),
        answered=len(took),
        missed=missed,
        refused=refused,
        cost_by_backend=cost,
        answered_by_backend=answered,
        mean_s=sum(took) / len(took) if took else 0.0,
        p95_s=took[min(len(took) - 1, int(len(took) * 0.95))] if took else 0.0,
    )
