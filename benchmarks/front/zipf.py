"""How much of what could be kept the cache keeps, on traces whose popularity follows Zipf's law."""

from __future__ import annotations

import hashlib
import heapq
import statistics
from collections import OrderedDict
from collections.abc import Callable

from benchmarks.front.cached import Effort
from benchmarks.front.load import Tools
from benchmarks.row import Row

from ashore.data.cache.tinylfu import TinyLfu

NUM_QUESTIONS, NUM_REQUESTS, NUM_KEPT = 10_000, 100_000, 1_000
WEIGHT_BYTES = 1_000
NEVER = 1 << 60


def steady(seed: int) -> list[int]:
    """Return a trace with exponent 1: question k is asked with a probability in proportion to 1/(k+1)."""
    import numpy as np

    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, NUM_QUESTIONS + 1)
    return [int(k) for k in random.choice(NUM_QUESTIONS, NUM_REQUESTS, p=weights / weights.sum())]


def turning(seed: int) -> list[int]:
    """Return a trace whose questions all change places half way."""
    import numpy as np

    places = np.random.default_rng(seed + 100).permutation(NUM_QUESTIONS)
    trace = steady(seed)
    half = len(trace) // 2
    return trace[:half] + [int(places[k]) for k in trace[half:]]


def drifting(seed: int) -> list[int]:
    """Return a trace in which a tenth of the questions changes places after every tenth of the requests."""
    import numpy as np

    random = np.random.default_rng(seed + 200)
    trace, places, out = steady(seed), np.arange(NUM_QUESTIONS), []
    for part in range(10):
        out += [int(places[k]) for k in trace[part * NUM_REQUESTS // 10 : (part + 1) * NUM_REQUESTS // 10]]
        some = random.choice(NUM_QUESTIONS, NUM_QUESTIONS // 10, replace=False)
        places[some] = places[random.permutation(some)]
    return out


def belady(trace: list[int]) -> float:
    """Return the best hit rate of any policy, even one that may refuse to keep: drop what is needed last."""
    following = [NEVER] * len(trace)
    last: dict[int, int] = {}
    for at in range(len(trace) - 1, -1, -1):
        following[at] = last.get(trace[at], NEVER)
        last[trace[at]] = at
    kept: dict[int, int] = {}
    heap: list[tuple[int, int]] = []
    hits = 0
    for at, key in enumerate(trace):
        if key in kept:
            hits += 1
        elif len(kept) >= NUM_KEPT:
            while (found := kept.get(heap[0][1])) is None or found != -heap[0][0]:
                heapq.heappop(heap)  # what it says was overtaken
            if -heap[0][0] <= following[at]:
                continue
            del kept[heapq.heappop(heap)[1]]
        kept[key] = following[at]
        heapq.heappush(heap, (-following[at], key))
    return hits / len(trace)


def lru(trace: list[int]) -> float:
    """Return the hit rate of least recently used."""
    kept: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in trace:
        if key in kept:
            kept.move_to_end(key)
            hits += 1
            continue
        kept[key] = None
        if len(kept) > NUM_KEPT:
            kept.popitem(last=False)
    return hits / len(trace)


def perfect_lfu(trace: list[int]) -> float:
    """Return the hit rate of one that counts every request ever made, and keeps what was asked for most."""
    counts = [0] * NUM_QUESTIONS
    kept: set[int] = set()
    heap: list[tuple[int, int]] = []
    hits = 0
    for key in trace:
        counts[key] += 1
        if key in kept:
            hits += 1
        elif len(kept) < NUM_KEPT:
            kept.add(key)
            heapq.heappush(heap, (counts[key], key))
        else:
            while heap[0][0] != counts[heap[0][1]]:
                heapq.heapreplace(heap, (counts[heap[0][1]], heap[0][1]))
            if counts[key] > heap[0][0]:
                kept.remove(heapq.heapreplace(heap, (counts[key], key))[1])
                kept.add(key)
    return hits / len(trace)


def oracle(trace: list[int]) -> float:
    """Return the hit rate of one that knows from the start which questions will be asked most, and keeps those."""
    counts: dict[int, int] = {}
    for key in trace:
        counts[key] = counts.get(key, 0) + 1
    best = set(sorted(counts, key=lambda key: -counts[key])[:NUM_KEPT])
    return sum(counts[key] - 1 for key in best) / len(trace)


def ours(trace: list[int]) -> float:
    """Return the hit rate of the cache of ashore."""
    names = [hashlib.blake2b(str(key).encode(), digest_size=32).digest() for key in range(NUM_QUESTIONS)]
    cache: TinyLfu[int] = TinyLfu(NUM_KEPT * WEIGHT_BYTES)
    hits = 0
    for key in trace:
        if cache.get(names[key]) is not None:
            hits += 1
        else:
            cache.put(names[key], key + 1, WEIGHT_BYTES)
    return hits / len(trace)


POLICIES: dict[str, Callable[[list[int]], float]] = {
    "Belady": belady,
    "LRU": lru,
    "perfect LFU": perfect_lfu,
    "oracle": oracle,
    "ashore": ours,
}
TRACES: tuple[tuple[str, Callable[[int], list[int]], float | None, float | None], ...] = (
    ("steady", steady, 0.90, 0.93),
    ("a tenth drifts ten times", drifting, None, None),
    ("all turns over half way", turning, None, None),
)


def zipf(tools: Tools, effort: Effort) -> list[Row]:
    """Compare policies as shares of Belady's hit rate. Only the steady trace has a bar."""
    seeds = 2 if effort.quick else 5
    rows = []
    for name, make, bar, aim in TRACES:
        rates: dict[str, list[float]] = {policy: [] for policy in POLICIES}
        for seed in range(seeds):
            trace = make(seed)
            for policy, run in POLICIES.items():
                rates[policy].append(run(trace))
        shares = {
            policy: statistics.mean(a / b for a, b in zip(found, rates["Belady"], strict=True))
            for policy, found in rates.items()
        }
        worst = min(a / b for a, b in zip(rates["ashore"], rates["Belady"], strict=True))
        others = ", ".join(f"{policy} {shares[policy]:.3f}" for policy in ("LRU", "perfect LFU", "oracle"))
        rows.append(
            Row(
                what=f"hit rate on Zipf(1.0), {name}, share of Belady's",
                value=shares["ashore"],
                unit="",
                bar=bar,
                aim=aim,
                detail=f"{seeds} seeds, worst {worst:.3f}; hit rate {statistics.mean(rates['ashore']):.3f} of Belady's "
                f"{statistics.mean(rates['Belady']):.3f}; {others}",
                readings={"hit_rates": rates},
            )
        )
    return rows
