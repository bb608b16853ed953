"""What the machine itself makes of a percentile: when it lets nothing run, and what a queue makes of that.

On a virtual machine somebody else takes a processor away now and then, for milliseconds, and no accounting of the
guest need show it. Beside a tail of 5 ms that is what decides, so it is measured: `stalls.c` reads the clock on every
processor without a pause. From its stalls `queued_p99_ms` reckons what requests would see if nothing but the work
itself and those stalls were in their way: no waking, no scheduler that errs, each process on a processor of its own.
It is no bound: a scheduler that moves a process away from a stalled processor can do better.
"""

from __future__ import annotations

import heapq
import random
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.front.load import Tools

LONG_S: Final = 1e-3
"""Of a stall that a percentile of milliseconds feels."""

Stall = tuple[float, float]
"""When it began and how long it was, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalls:
    """What was taken of each processor while somebody watched."""

    seconds: float
    by_processor: Mapping[int, Sequence[Stall]]

    def share(self, processor: int, least_s: float = LONG_S) -> float:
        """Return the share of the time that went to stalls of at least this length."""
        return sum(length for _, length in self.by_processor[processor] if length >= least_s) / self.seconds

    @property
    def worst_share(self) -> float:
        """Of the processor that lost most to long stalls."""
        return max(self.share(processor) for processor in self.by_processor)

    @property
    def longest_ms(self) -> float:
        """Of all."""
        return max((length for stalls in self.by_processor.values() for _, length in stalls), default=0.0) * 1e3


def measure_stalls(tools: Tools, seconds: float) -> Stalls:
    """Watch every processor for a while. To be called with nothing else running."""
    done = subprocess.run([str(tools.stalls), str(seconds)], capture_output=True, text=True, check=True)
    return read_stalls(done.stdout, seconds)


def read_stalls(text: str, seconds: float) -> Stalls:
    """Return what `stalls.c` printed in so many seconds."""
    found: dict[int, list[Stall]] = defaultdict(list)
    for line in text.splitlines():
        processor, begin, length = line.split()
        stalls = found[int(processor)]
        if float(length):
            stalls.append((float(begin), float(length)))
    return Stalls(seconds=seconds, by_processor=dict(found))


class _Processor:
    """Serves what comes, in the order in which it comes, except while it is stalled."""

    def __init__(self, stalls: Sequence[Stall]) -> None:
        self._stalls = stalls
        self._next = 0
        self._free_at = 0.0

    def serve(self, at: float, work_s: float) -> float:
        """Return when work that comes at `at` is done. Calls come in order of `at`."""
        now = max(at, self._free_at)
        while self._next < len(self._stalls):
            begin, length = self._stalls[self._next]
            if begin + length <= now:  # over before
                self._next += 1
            elif begin <= now:  # in it
                now, self._next = begin + length, self._next + 1
            elif begin < now + work_s:  # in the middle of the work
                work_s -= begin - now
                now, self._next = begin + length, self._next + 1
            else:
                break
        self._free_at = now + work_s
        return self._free_at


def queued_p99_ms(
    stalls: Stalls, *, edge_us: float, worker_us: float, generator_us: float, rate_per_s: float, seed: int = 1
) -> float:
    """Return the 99th percentile, ms, that requests at `rate_per_s` (Poisson) would see in these stalls.

    Edge and generator share one processor, the worker has another; which is which is what comes out better. A request
    is the generator's, the edge's, the worker's, the edge's and the generator's again, and waits for nothing else.

    Args:
        stalls: Of at least two processors.
        edge_us, worker_us, generator_us: Processor time that each takes for a request.
        rate_per_s: Of requests.
        seed: Of the arrivals.
    """
    first, second = sorted(stalls.by_processor)[:2]
    return min(
        _p99_ms(stalls, shared, alone, (generator_us / 2, edge_us / 2, worker_us), rate_per_s, seed)
        for shared, alone in ((first, second), (second, first))
    )


def _p99_ms(
    stalls: Stalls, shared: int, alone: int, parts_us: tuple[float, float, float], rate_per_s: float, seed: int
) -> float:
    generator_s, edge_s, worker_s = (us * 1e-6 for us in parts_us)
    front, back = (_Processor(stalls.by_processor[processor]) for processor in (shared, alone))
    stages = ((front, generator_s), (front, edge_s), (back, worker_s), (front, edge_s), (front, generator_s))
    arrivals = random.Random(seed)
    due, at = [], 0.0
    while (at := at + arrivals.expovariate(rate_per_s)) < stalls.seconds:
        due.append(at)
    waiting = [(came, 0, came) for came in due]  # in order already
    seen: list[float] = []
    while waiting:
        now, stage, came = heapq.heappop(waiting)
        if stage == len(stages):
            seen.append(now - came)
            continue
        processor, work_s = stages[stage]
        heapq.heappush(waiting, (processor.serve(now, work_s), stage + 1, came))
    return statistics.quantiles(seen, n=100)[98] * 1e3
