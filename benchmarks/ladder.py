"""A burst on the real engine: the top alone, the lowest rung alone, and the ladder over one KV cache.

`python -m benchmarks.ladder HOME [SEEDS]` opens `smollm2@fp16` and `smollm2@int8` of the store. Time is the processor
time of this process divided by its threads, so that neighbours on the machine count for little; idle time is skipped.
Rates follow from what the lowest rung can do, measured first; the objective from what one stream takes at the top.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from ashore.core import OrderId, SystemClock
from ashore.engines import EngineOptions, Failed, GenerateOrder, ModelFiles, Rung, Sampling, Token
from ashore.engines.openvino.engine import OpenVinoEngine
from ashore.store import ModelStore

THREADS: Final = 2
SECONDS: Final = 40.0
BURST: Final = (10.0, 25.0)
CALM: Final = 0.15
"""Rates as shares of the capacity of the lowest rung."""
HOT: Final = 0.9
PROMPT: Final = 64
OUTPUT: Final = 48


class Clock:
    """Processor time for each thread, and the idle time that was skipped."""

    def __init__(self) -> None:
        self.skipped_s = 0.0

    def __call__(self) -> float:
        return time.process_time() / THREADS + self.skipped_s


def opened(store: ModelStore, reference: str) -> ModelFiles:
    """Return a model of the store."""
    found = store.open(reference)
    return ModelFiles(
        name=reference, digest=found.digest, directory=str(found.directory), format=found.format, weights=found.weights
    )


def order(name: str, source: random.Random, prompt: int, output: int) -> GenerateOrder:
    """Return an order with a prompt that no other has."""
    ids = [source.randrange(100, 40_000) for _ in range(prompt)]
    return GenerateOrder(
        order_id=OrderId(name),
        prompt_ids=ids,
        max_new_tokens=output,
        sampling=Sampling(temperature=0),
        ignore_eos=True,
    )


def capacity(engine: OpenVinoEngine, clock: Clock, at_once: int, number: int) -> tuple[float, float]:
    """Return requests a second of a closed loop, and the seconds for each of their tokens."""
    source, begun, left = random.Random(1), 0, number
    began_s = clock()
    while left:
        while begun < number and begun - (number - left) < at_once:
            engine.submit(order(f"c{at_once}.{begun}", source, PROMPT, OUTPUT))
            begun += 1
        for event in engine.step(0.0):
            left -= not isinstance(event, Token | Rung)
    took_s = clock() - began_s
    return number / took_s, took_s * at_once / number / OUTPUT


def burst(engine: OpenVinoEngine, clock: Clock, seed: int, per_s: float, ttft_s: float, tpot_s: float) -> str:
    """Answer a trace, and return what came of it as cells of a table."""
    source, arrivals, at_s = random.Random(seed), [], 0.0
    while at_s < SECONDS:
        at_s += source.expovariate(per_s * (HOT if BURST[0] <= at_s < BURST[1] else CALM))
        sizes = (source.lognormvariate(0, 0.5) * PROMPT, source.lognormvariate(0, 0.4) * OUTPUT)
        arrivals.append(
            (at_s, *(int(min(4 * mean, max(8, size))) for size, mean in zip(sizes, (PROMPT, OUTPUT), strict=True)))
        )
    zero_s, begun, live = clock(), 0, {}
    done = []
    while begun < len(arrivals) or live:
        if not live:
            clock.skipped_s += max(0.0, arrivals[begun][0] - (clock() - zero_s))
        while begun < len(arrivals) and arrivals[begun][0] <= clock() - zero_s:
            at_s, prompt, output = arrivals[begun]
            engine.submit(order(f"b{seed}.{begun}", source, prompt, output))
            live[f"b{seed}.{begun}"] = [at_s, 0.0, 0.0, 0, ""]
            begun += 1
        for event in engine.step(0.0):
            told, now_s = live[event.order_id], clock() - zero_s
            if isinstance(event, Token):
                told[1], told[2], told[3] = told[1] or now_s, now_s, told[3] + 1
            elif isinstance(event, Rung):
                told[4] = event.precision
            else:
                assert not isinstance(event, Failed), event
                done.append(live.pop(event.order_id))
    missed = [one for one in done if one[1] - one[0] > ttft_s or (one[2] - one[1]) / max(1, one[3] - 1) > tpot_s]
    calm = [one for one in done if one[0] < BURST[0]]
    top = sum(one[4] in ("", "fp16") for one in calm)
    stats = engine.stats()
    return (
        f"{len(missed)} of {len(done)} ({len(missed) / len(done):.1%}) | {top} of {len(calm)} | {stats.rung_switches}"
    )


def main(home: Path, seeds: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as run:
        store = ModelStore(home / "store", Path(run), SystemClock())
        top, lowest = opened(store, "smollm2@fp16"), opened(store, "smollm2@int8")
        options = EngineOptions(kind="openvino", kv_tokens=65_536, threads=THREADS, prefix_cache=False)
        engines, clocks = {}, {}
        for name, files in (("top", top), ("lowest", lowest)):
            clocks[name] = Clock()
            engines[name] = OpenVinoEngine(clock=clocks[name])
            engines[name].load(files, options)
            capacity(engines[name], clocks[name], 4, 8)
        alone_s = capacity(engines["top"], clocks["top"], 1, 4)[1]
        rates = {name: capacity(engines[name], clocks[name], 16, 32)[0] for name in engines}
        ttft_s, tpot_s = 16 * alone_s * 3, 3 * alone_s
        print(
            f"capacity, requests/s: top {rates['top']:.2f}, lowest {rates['lowest']:.2f}; one stream at the top "
            f"{alone_s * 1e3:.1f} ms a token; objective: first token {ttft_s:.2f} s, then {tpot_s * 1e3:.0f} ms",
            flush=True,
        )
        clocks["ladder"] = Clock()
        engines["ladder"] = OpenVinoEngine(clock=clocks["ladder"])
        extra = {"rung_ttft_ms": ttft_s * 1e3, "rung_tpot_ms": tpot_s * 1e3}
        engines["ladder"].load(replace(top, rungs=(lowest,)), replace(options, extra=extra))
        capacity(engines["ladder"], clocks["ladder"], 4, 8)
        print(
            "| seed | way | missed | wholly at the top before the burst | switches |\n|---|---|---|---|--:|", flush=True
        )
        for seed in range(seeds):
            for name, engine in engines.items():
                told = burst(engine, clocks[name], seed, rates["lowest"], ttft_s, tpot_s)
                print(f"| {seed} | {name} | {told} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2)
