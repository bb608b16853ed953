"""Models on demand in simulated time, decided by the `Demand` that the supervisor uses; hosts load as long as they say.

Requests wait for their model. Every load is a miss, and whoever waits for the same load has none. `clairvoyant_hits` is
Belady's bound: it evicts what is asked for last from now on, and knows the whole trace.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ashore.core.clock import ManualClock
from ashore.data.engines import EngineOptions, ModelPlan, OnDemand
from ashore.data.releases.keeper import Wanted
from ashore.data.releases.model import Course
from ashore.machine.deployment.demand import Demand, Phase

GIB: Final = 1 << 30
TICK_S: Final = 1.0


@dataclass(slots=True)
class Outcome:
    """What came of a trace."""

    requests: int = 0
    found_loaded: int = 0
    loads: int = 0
    evicted_busy: int = 0
    waits_s: list[float] = field(default_factory=list)


def plan_of(alias: str, number: int = 1) -> ModelPlan:
    return ModelPlan(
        alias=alias,
        release=f"{alias}-{number}",
        name=f"fake:{alias}",
        variant="",
        options=EngineOptions(kind="fake"),
        replicas=1,
        embedder=False,
        in_store=False,
    )


def wanted(alias: str, needed_bytes: int, *, load_s: float = 0.0, state: str = "live") -> Wanted:
    course = Course(release=f"{alias}-1", state=state, load_s=load_s)  # type: ignore[arg-type]
    return Wanted(plan=plan_of(alias), course=course, needed_bytes=needed_bytes)


def zipf_trace(num: int, *, models: int, alpha: float, per_s: float, seed: int) -> list[tuple[float, str]]:
    """Return arrivals of a Poisson process, each of a model drawn by Zipf's law, independent of all others."""
    draw = random.Random(seed)
    weights = [1 / (rank + 1) ** alpha for rank in range(models)]
    at_s, trace = 0.0, []
    for _ in range(num):
        at_s += draw.expovariate(per_s)
        trace.append((at_s, f"m{draw.choices(range(models), weights)[0]}"))
    return trace


def session_trace(
    num: int, *, models: int, alpha: float, per_s: float, seed: int, length: int = 8, gap_s: float = 20.0
) -> list[tuple[float, str]]:
    """Return conversations: each begins as in `zipf_trace` and goes on with the same model."""
    draw = random.Random(seed)
    trace = []
    for at_s, name in zipf_trace(num, models=models, alpha=alpha, per_s=per_s, seed=seed):
        for _ in range(1 + int(draw.expovariate(1 / (length - 1)))):
            trace.append((at_s, name))
            at_s += draw.expovariate(1 / gap_s)
    return sorted(trace)[:num]


def run(
    trace: Sequence[tuple[float, str]], *, models: int, places: int, load_s: float = 5.0, answer_s: float = 1.0
) -> Outcome:
    """Return what comes of a trace of models of one size, of which `places` fit into memory."""
    clock = ManualClock()
    demand = Demand(clock=clock)
    names = [f"m{number}" for number in range(models)]
    demand.take([OnDemand(alias=name, keep_alive_s=0) for name in names], places * GIB)
    demand.see([wanted(name, GIB, load_s=load_s) for name in names])
    phases: dict[str, Phase] = {}
    ready_at: dict[str, float] = {}
    answering: dict[str, list[float]] = {name: [] for name in names}
    waiting: dict[str, list[float]] = {name: [] for name in names}
    found = Outcome(requests=len(trace))
    arrivals = list(trace)
    position, now_s = 0, 0.0

    def busy(release: str) -> bool:
        alias = release.removesuffix("-1")
        return any(end > now_s for end in answering[alias])

    while position < len(arrivals) or any(waiting.values()):
        next_s = min([*ready_at.values(), *([arrivals[position][0]] if position < len(arrivals) else [math.inf])])
        step = min(next_s, now_s + TICK_S)
        clock.advance(step - now_s)
        now_s = step
        for release in [one for one, at in ready_at.items() if at <= now_s]:
            del ready_at[release]
            phases[release] = "ready"
            demand.loaded(release, load_s)
            alias = release.removesuffix("-1")
            found.waits_s += [now_s - began for began in waiting[alias]]
            answering[alias] += [now_s + answer_s] * len(waiting[alias])
            waiting[alias].clear()
        while position < len(arrivals) and arrivals[position][0] <= now_s:
            alias = arrivals[position][1]
            position += 1
            if phases.get(f"{alias}-1") == "ready":
                found.found_loaded += 1
                demand.used(f"{alias}-1", 1)
                answering[alias].append(now_s + answer_s)
            else:
                waiting[alias].append(now_s)
                demand.call(alias, uses=1)
        for _ in range(3):  # what goes makes room in the same turn here
            demand.decide(phases, taken_bytes=len(phases) * GIB, busy=busy)
            for one in demand.subjects:
                if one.asked and one.name not in phases:
                    phases[one.name] = "loading"
                    ready_at[one.name] = now_s + load_s
                    found.loads += 1
                elif not one.asked and phases.get(one.name) == "ready":
                    found.evicted_busy += busy(one.name)
                    del phases[one.name]
    return found


def clairvoyant_hits(trace: Sequence[tuple[float, str]], *, places: int) -> int:
    """Return the most hits that any rule has on a trace that must load what is asked for."""
    after: list[float] = [math.inf] * len(trace)
    last: dict[str, int] = {}
    for at in range(len(trace) - 1, -1, -1):
        after[at] = last.get(trace[at][1], math.inf)
        last[trace[at][1]] = at
    loaded: dict[str, float] = {}
    queue: list[tuple[float, str]] = []
    hits = 0
    for at, (_, name) in enumerate(trace):
        if name in loaded:
            hits += 1
        elif len(loaded) >= places:
            while loaded.get(queue[0][1]) != -queue[0][0]:
                heapq.heappop(queue)
            del loaded[heapq.heappop(queue)[1]]
        loaded[name] = after[at]
        heapq.heappush(queue, (-after[at], name))
    return hits
